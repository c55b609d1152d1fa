"""What a probe says of gates: whether the requests for which a thought helps can be told before it is written."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from thinkrank import metrics
from thinkrank.evaluate.gates import Gated, gates, headroom

BUDGET = 0.5
"""Share of the requests that may think."""


def gates_of(results: Sequence[Mapping[str, Any]], way: str) -> dict[str, Any]:
    """Return what gates of a way in words reach in its first training, in NDCG@10; nothing where it was not asked.

    The headroom of noise is that of two trainings without a thought or, where there is one training, that of filler in
    the place of the thought.

    Args:
        results: answers of all arms, as the probe keeps them.
        way: its name.
    """
    mine = sorted((one for one in results if one["arm"] == way), key=lambda one: int(one["seed"]))
    if not mine or "features" not in mine[0]:
        return {}
    first = mine[0]
    valid, test = (_gated(first["valid"]["ranks"], first, "valid"), _gated(first["ranks"], first, "test"))
    found = gates(valid, test, np.array(first["users"]), budget=BUDGET)
    other = mine[1]["ranks"]["no thought"] if len(mine) > 1 else first["ranks"].get("filler")
    noise = None if other is None else headroom(test.plain_S, _ndcg(other))
    return {
        "budget": BUDGET,
        "never": float(test.plain_S.mean()),
        "always": float(test.thinking_S.mean()),
        "perfect headroom": headroom(test.plain_S, test.thinking_S),
        "noise headroom": noise,
        "noise": "a second training without a thought" if len(mine) > 1 else "filler in the place of the thought",
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


def gates_words(told: Mapping[str, Any]) -> str:
    """Say in one sentence what gates reach; empty where nothing is known of them."""
    if not told or not told["perfect headroom"]:
        return ""
    shares = {gate["name"]: gate["share of headroom"] for gate in told["gates"]}
    parts = [f"{name} {100 * shares[name]:.0f} %" for name in ("entropy", "predicted gain", "random")]
    noise = told["noise headroom"]
    beside = "" if noise is None else f", beside {noise:.4f} that {told['noise']} would offer"
    return (
        f"Thinking only where it helps could add {told['perfect headroom']:.4f} at most{beside}; of that, gates that "
        f"think in about half of the cases reach: {', '.join(parts)}."
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
