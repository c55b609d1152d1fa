"""What a probe says of gates: whether the requests for which a thought helps can be told before it is written."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from thinkrank import metrics
from thinkrank.evaluate.gates import Gated, gates, headroom
from thinkrank.evaluate.results import format_value

BUDGET = 0.5
"""Share of the requests that may think."""


def gates_of(results: Sequence[Mapping[str, Any]], way: str, control: str) -> dict[str, Any]:
    """Return what gates of a way in words reach in its first training, in NDCG@10; nothing where it was not asked.

    A gate chooses between two answers of the way's own model. The headroom of noise is that of two trainings without a
    thought, each from a start of its own, or, where there is one training, that of filler in the place of the thought.

    Args:
        results: answers of all arms, as the probe keeps them.
        way: its name.
        control: name of its control.
    """
    mine = sorted((one for one in results if one["arm"] == way), key=lambda one: int(one["seed"]))
    if not mine or "features" not in mine[0]:
        return {}
    first = mine[0]
    valid, test = (_gated(first["valid"]["ranks"], first, "valid"), _gated(first["ranks"], first, "test"))
    found = gates(valid, test, np.array(first["users"]), budget=BUDGET)
    same = (one for one in results if one["arm"] == control and one["seed"] == first["seed"])
    against = next(
        (float(_ndcg(one["ranks"]["no thought"]).mean()) for one in same if "no thought" in one["ranks"]), None
    )
    other = mine[1]["ranks"]["no thought"] if len(mine) > 1 else first["ranks"].get("filler")
    noise = None if other is None else headroom(test.plain_S, _ndcg(other))
    offered_by = (
        "a second training, from a start of its own," if len(mine) > 1 else "filler in the place of the thought"
    )
    return {
        "budget": BUDGET,
        "never": float(test.plain_S.mean()),
        "always": float(test.thinking_S.mean()),
        "control": against,
        "trainings": len(mine),
        "perfect headroom": headroom(test.plain_S, test.thinking_S),
        "noise headroom": noise,
        "noise": offered_by,
        "gates": [
            {
                "name": gate.name,
                "rate": gate.rate,
                "value": gate.value,
                "share of headroom": gate.share,
                "p against chance": gate.test.p_value if gate.test else None,
            }
            for gate in found
        ],
    }


def gates_words(told: Mapping[str, Any], about: str) -> str:
    """Say what gates of a way reach; empty where nothing is known of them."""
    if not told or not told["perfect headroom"]:
        return ""
    gates = {gate["name"]: gate for gate in told["gates"]}
    parts = [
        f"{name} {100 * gates[name]['share of headroom']:.0f} % (thinking in {100 * gates[name]['rate']:.0f} %)"
        for name in ("entropy", "predicted gain", "random")
    ]
    never, always, control, most = (
        format_value(told[name]) for name in ("never", "always", "control", "perfect headroom")
    )
    when = ", in the first training" if told["trainings"] > 1 else ""
    noise = told["noise headroom"]
    beside = "" if noise is None else f", beside {format_value(noise)} that {told['noise']} would offer"
    return (
        f"{about}{when}: the model has {never} without them and {always} with them (its control {control}). Thinking "
        f"only where it helps could add {most} to the former at most{beside}; of that, gates reach: {', '.join(parts)}."
    )


def _gated(ranks: Mapping[str, Sequence[int]], result: Mapping[str, Any], part: str) -> Gated:
    features = result["features"][part]
    columns = np.stack([np.array(features[name], dtype=np.float64) for name in sorted(features)], axis=1)
    return Gated(
        _ndcg(ranks["no thought"]), _ndcg(ranks["thought"]), np.array(features["entropy"], dtype=np.float64), columns
    )


def _ndcg(ranks: Sequence[int]) -> Float64[np.ndarray, "S"]:
    relevance_SN = metrics.relevance_from_ranks(np.array(ranks, dtype=np.int64), 10)
    return np.asarray(metrics.ndcg(relevance_SN, 10), dtype=np.float64)
