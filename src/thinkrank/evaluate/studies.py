"""What several arms of a study came to, each with several seeds, compared on the same samples.

Shape legend: S samples, K seeds.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from thinkrank.errors import ThinkrankError
from thinkrank.evaluate.significance import Interval, PairedTest, bootstrap_intervals, paired_test

METRICS = ("ndcg@10", "hit@1", "hit@5", "hit@10", "hit@20")


@dataclass(frozen=True)
class Answers:
    """How one arm answered in one way, with every seed.

    Attributes:
        arm: its name.
        way: with its own thought, without one, or after a control.
        about: what the arm is.
        seeds: K of them.
        ranks_KS: 1-based place of each sample's target.
        seconds: of training, per seed.
    """

    arm: str
    way: str
    about: str
    seeds: tuple[int, ...]
    ranks_KS: Int64[np.ndarray, "K S"]
    seconds: tuple[float, ...]

    def values(self, metric: str) -> Float64[np.ndarray, "K S"]:
        """Hit@k or NDCG@k of every sample under every seed.

        Raises:
            ThinkrankError: for another metric.
        """
        name, _, k = metric.partition("@")
        if name not in ("hit", "ndcg") or not k.isdigit():
            raise ThinkrankError(f"studies know hit@k and ndcg@k, not {metric!r}")
        found_KS = self.ranks_KS <= int(k)
        return np.where(found_KS, 1.0 if name == "hit" else 1 / np.log2(self.ranks_KS + 1.0), 0.0)

    def spread(self, metric: str) -> tuple[float, float]:
        """Lowest and highest mean of a seed."""
        means_K = self.values(metric).mean(axis=1)
        return float(means_K.min()), float(means_K.max())


def read_study(folder: Path) -> list[Answers]:
    """Read the results of a study, one file per arm and seed; arms in order of their names.

    Raises:
        ThinkrankError: if there are none, or files of one arm judged different samples.
    """
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for file in sorted(folder.glob("*.json")):
        result = json.loads(file.read_text(encoding="utf-8"))
        for way in result["ranks"]:
            if way != "thought_tokens":
                found.setdefault((result["arm"], way), []).append(result)
    if not found:
        raise ThinkrankError(f"{folder}: no results of a study here")
    return [_answers(arm, way, results) for (arm, way), results in found.items()]


def _answers(arm: str, way: str, results: Sequence[dict[str, Any]]) -> Answers:
    ranks = [result["ranks"][way] for result in results]
    if len({len(of_seed) for of_seed in ranks}) > 1:
        raise ThinkrankError(f"the seeds of arm {arm!r} judged different numbers of samples: run them again")
    return Answers(
        arm=arm,
        way=way,
        about=results[0]["about"],
        seeds=tuple(int(result["seed"]) for result in results),
        ranks_KS=np.array(ranks, dtype=np.int64),
        seconds=tuple(float(result["seconds"]) for result in results),
    )


def study_interval(answers: Answers, metric: str) -> Interval:
    """Mean over seeds and samples with its bootstrap interval, samples drawn and seeds averaged."""
    return bootstrap_intervals(answers.values(metric).mean(axis=0)[:, None])[0]


def study_test(answers: Answers, reference: Answers, metric: str) -> PairedTest:
    """Whether two arms differ on the same samples, their seeds averaged.

    Raises:
        ThinkrankError: if they judged different numbers of samples.
    """
    if answers.ranks_KS.shape[1] != reference.ranks_KS.shape[1]:
        raise ThinkrankError(f"{answers.arm} and {reference.arm} judged different numbers of samples")
    return paired_test(answers.values(metric).mean(axis=0), reference.values(metric).mean(axis=0))


def study_markdown(study: Sequence[Answers], reference: tuple[str, str], metrics: Sequence[str] = METRICS) -> str:
    """A table of all arms and ways: means with intervals, spread of the seeds, and a test against a reference.

    A way that was not judged under every seed of its arm is left out.

    Args:
        study: what `read_study` gave.
        reference: arm and way that the others are compared with, in the first metric.
        metrics: columns.
    """
    against = next((answers for answers in study if (answers.arm, answers.way) == reference), None)
    header = ["arm", "answer after", *metrics, f"seeds' {metrics[0]}", "p", "seeds", "minutes"]
    lines = [header, ["---"] * 2 + ["---:"] * (len(header) - 2)]
    num_seeds = {answers.arm: 0 for answers in study}
    for answers in study:
        num_seeds[answers.arm] = max(num_seeds[answers.arm], len(answers.seeds))
    for answers in study:
        if len(answers.seeds) < num_seeds[answers.arm]:
            continue
        cells = []
        for metric in metrics:
            interval = study_interval(answers, metric)
            cells.append(f"{_figure(interval.value)} [{_figure(interval.low)}–{_figure(interval.high)}]")
        low, high = answers.spread(metrics[0])
        p_value = "–" if against is None or answers is against else _p(study_test(answers, against, metrics[0]).p_value)
        minutes = f"{np.mean(answers.seconds) / 60:.1f}"
        lines.append(
            [
                answers.arm,
                answers.way,
                *cells,
                f"{_figure(low)}–{_figure(high)}",
                p_value,
                str(len(answers.seeds)),
                minutes,
            ]
        )
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _figure(value: float) -> str:
    return f"{value:.4f}".replace("0.", ".", 1) if value < 1 else f"{value:.3f}"


def _p(value: float) -> str:
    return "< .001" if value < 0.001 else f"{value:.3f}".replace("0.", ".", 1)
