"""Runs against runs: paired tests on the samples on which all of them were judged."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thinkrank.errors import ThinkrankError
from thinkrank.evaluate.per_sample import PerSample, paired_with


@dataclass(frozen=True)
class Compared:
    """Hold how one run compares with the first.

    Attributes:
        run: folder.
        system: in its table.
        value: mean of the metric.
        difference: from the first; None for the first itself, and so the rest.
        low: lower end of its 95 % interval.
        high: upper end.
        p_value: of the paired test.
        corrected: by Holm, for all runs that are compared with the first.
        visible: difference that such a test sees at .05, uncorrected, with 80 % power.
    """

    run: str
    system: str
    value: float
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    corrected: float | None = None
    visible: float | None = None


def compared(runs: Sequence[str], metric: str = "ndcg@10") -> tuple[list[Compared], Mapping[str, Any]]:
    """Compare runs with the first one on a metric.

    Args:
        runs: folders that were judged; `folder:system` names a system of its table, such as runs/ml:EASE.
        metric: such as ndcg@10, hit@10 or mrr.

    Returns:
        a line for each run, and on what they were judged.

    Raises:
        ThinkrankError: with fewer than two, if one was not judged, or on other data, another part or other samples.
    """
    if len(runs) < 2:
        raise ThinkrankError("give two runs at least: the others are compared with the first")
    sides = [_side(run) for run in runs]
    first, (_, found, _) = sides[0][0], sides[0]
    for folder, other, _ in sides[1:]:
        for what in found.about.keys() | other.about.keys():
            if found.about.get(what) != other.about.get(what):
                raise ThinkrankError(
                    f"{folder} was judged on other {what} than {first} ({other.about.get(what)}, not "
                    f"{found.about.get(what)}): evaluate both with the same options"
                )
    columns = [side.values(system, metric) for _, side, system in sides]
    tests = paired_with(columns[0], columns[1:], found.users_S)
    lines = [Compared(str(first), sides[0][2], float(np.nanmean(columns[0])))]
    for (folder, _, system), values_S, (test, corrected) in zip(sides[1:], columns[1:], tests, strict=True):
        interval = test.difference
        lines.append(
            Compared(
                str(folder),
                system,
                float(np.nanmean(values_S)),
                interval.value,
                interval.low,
                interval.high,
                test.p_value,
                corrected,
                test.visible,
            )
        )
    return lines, {**found.about, "metric": metric, "users": len(np.unique(found.users_S))}


def per_sample(split: Any, questions: Any, evaluation: Any, *, own: str, part: str) -> PerSample:
    """Collect what an evaluation found for every sample, and on which samples.

    Args:
        split: the data.
        questions: what systems were asked.
        evaluation: what they answered.
        own: the system that is meant where none is named.
        part: of the split.
    """
    policy = evaluation.policy
    candidates, unseen = policy.get("candidates", "displayed lists"), policy.get("seen items left out", False)
    return PerSample.of(
        evaluation, own, judged_on(split, questions, len(evaluation.users_S), candidates, unseen=unseen, part=part)
    )


def judged_on(
    split: Any, questions: Any, count: int, candidates: object, *, unseen: object, part: str
) -> dict[str, Any]:
    """Say what must be the same for two runs to be compared.

    Args:
        split: the data.
        questions: what was asked.
        count: how many they are.
        candidates: what was chosen from.
        unseen: whether items of the history were left out.
        part: of the split.
    """
    told = split.manifest()
    return {
        "data": f"{told['dataset']} {told['fingerprint'][:16]}",
        "part": part,
        "samples": f"{count:,} ({_digest(questions)})",
        "candidates": str(candidates),
        "seen items left out": bool(unseen),
    }


def _side(run: str) -> tuple[Path, PerSample, str]:
    """Read one side of a comparison: its folder, its figures, the system that is meant."""
    folder, _, system = run.rpartition(":") if not Path(run).is_dir() and ":" in run else (run, "", "")
    if not Path(folder).is_dir():
        raise ThinkrankError(f"{folder}: no such folder; give the --out folder of a run")
    found = PerSample.read(Path(folder))
    return Path(folder), found, system or found.own


def _digest(questions: Any) -> str:
    """Name what was asked, so that equal names mean equal questions."""
    digest = hashlib.sha256()
    for name in ("positions", "items_BN", "times_L", "lengths_L"):
        values = getattr(questions, name, None)
        if values is not None:
            digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()[:12]
