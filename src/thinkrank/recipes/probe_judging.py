"""How an arm of a probe answers: the places of all targets, the tokens that are written, the seconds that pass."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from thinkrank.cascade.gate import entropies
from thinkrank.data import Samples
from thinkrank.language import Completion
from thinkrank.recipes.probe_arms import SEVERAL, Arm
from thinkrank.retrieve import R2ec
from thinkrank.retrieve.r2ec.controls import control_thoughts
from thinkrank.retrieve.r2ec.trainer import sample_ranks
from thinkrank.training.progress import Advance, Progress, no_progress

_BATCH = 256
_SHOWN = 20
"""Thoughts that are kept to be read."""


def judged(
    model: R2ec, samples: Samples, arm: Arm, *, title: str = "judging", progress: Progress = no_progress
) -> dict[str, Any]:
    """Ask a model in every way of its arm.

    Args:
        model: what is asked.
        samples: histories and what came next.
        arm: says how.
        title: of the progress.
        progress: how to show the work.

    Returns:
        by way of asking the 1-based `ranks` of the targets, and `tokens` (written ones and latent positions) and
        `answer_seconds` of an answer, means over samples; and some thoughts to be read, `shown`.
    """
    ranks: dict[str, list[int]] = {}
    tokens: dict[str, float] = {}
    seconds: dict[str, float] = {}
    thoughts: list[Completion] = []
    writing = 0.0
    with progress(title, len(samples) * len(arm.asked)) as advance:
        if set(arm.asked) - {"no thought", "several"}:
            began = time.perf_counter()
            for _, requests in samples.requests().batches(_BATCH):
                thoughts += model.think(requests)
                advance(0, note=f"{len(thoughts):,} thoughts")
            writing = time.perf_counter() - began
        for how in arm.asked:
            if how == "several":
                began = time.perf_counter()
                ranks[how], tokens[how] = _averaged(model, samples, advance)
                seconds[how] = (time.perf_counter() - began) / len(samples)
                continue
            given = {"no thought": None, "thought": thoughts}.get(how)
            if how in ("other", "filler"):
                given = control_thoughts(model, thoughts, how)
            began = time.perf_counter()
            ranks[how] = sample_ranks(model, samples, given).tolist()
            took = time.perf_counter() - began + (writing if how == "thought" else 0.0)
            seconds[how] = took / len(samples)
            written = sum(len(one.ids) for one in given or ()) / len(samples)
            tokens[how] = written + model.config.latent.steps
            advance(len(samples))
    return {"ranks": ranks, "tokens": tokens, "answer_seconds": seconds, "shown": _shown(samples, thoughts, ranks)}


def joined(answers: Sequence[Mapping[str, Any]], arm: Arm) -> dict[str, Any]:
    """Join answers of one model in the ways that an arm is asked; see `judged` for what they hold."""
    found: dict[str, Any] = {}
    for name in ("ranks", "tokens", "answer_seconds"):
        known = {how: value for one in answers for how, value in one[name].items()}
        found[name] = {how: known[how] for how in arm.asked if how in known}
    found["shown"] = next((one["shown"] for one in answers if one["shown"]), [])
    return found


def _averaged(model: R2ec, samples: Samples, advance: Advance) -> tuple[list[int], float]:
    """Answer by the mean over thoughts: the place of each target, and the tokens written for an answer."""
    ranks: list[int] = []
    tokens = 0
    for part, requests in samples.requests().batches(_BATCH):
        ranking, ranks_B = model.retrieve_with_ranks(
            requests,
            1,
            samples.targets[part],
            filter_seen=not samples.dataset.repeats,
            think=True,
            samples=SEVERAL,
        )
        ranks += ranks_B.tolist()
        tokens += 0 if ranking.cost is None else ranking.cost.tokens
        advance(len(requests))
    return ranks, tokens / len(samples)


def gate_features(model: R2ec, samples: Samples) -> dict[str, list[float]]:
    """Tell of each request what a gate may choose by before a thought is written.

    Returns:
        `entropy` of the answer without a thought in nats, `lead` of its best item over the second in nats, and
        `length` of the history, as its logarithm.
    """
    found: dict[str, list[float]] = {"entropy": [], "lead": [], "length": []}
    for _, requests in samples.requests().batches(_BATCH):
        scores_BI = model.scores(requests)
        best_B2 = np.sort(np.partition(scores_BI, -2, axis=1)[:, -2:], axis=1).astype(np.float64)
        found["entropy"] += entropies(scores_BI).round(4).tolist()
        found["lead"] += (best_B2[:, 1] - best_B2[:, 0]).round(4).tolist()
        found["length"] += [round(math.log1p(len(history)), 4) for history in requests.histories]
    return found


def _shown(
    samples: Samples, thoughts: Sequence[Completion], ranks: Mapping[str, Sequence[int]]
) -> list[dict[str, Any]]:
    """Pick thoughts to be read: of samples that are the same for every arm."""
    places = [i * len(thoughts) // _SHOWN for i in range(_SHOWN)] if len(thoughts) >= _SHOWN else range(len(thoughts))
    titles = samples.dataset.catalogue.titles
    return [
        {
            "newest": [titles[row] for row in samples.histories()[at].items[-3:].tolist()],
            "next": titles[int(samples.targets[at])],
            "thought": thoughts[at].text.strip(),
            "places": {how: places_S[at] for how, places_S in ranks.items()},
        }
        for at in places
    ]
