"""What several arms of a study came to, each with several seeds, compared on the same samples.

Shape legend: S samples, K seeds, X = K S, W places.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from thinkrank import metrics
from thinkrank.errors import ThinkrankError
from thinkrank.evaluate.significance import Interval, PairedTest, bootstrap_intervals, paired_test


@dataclass(frozen=True, eq=False)
class ArmAnswers:
    """Hold how one arm answered in one mode, with every seed.

    Attributes:
        arm: its name.
        mode: with its own thought, without one, after a control, greedily, ...
        about: what the arm is.
        seeds: K of them.
        places: for each seed and sample the 1-based places on which what is relevant came to stand, rising.
        measured: what else was measured of each sample, by name, K x S values.
        seconds: of training, per seed.
    """

    arm: str
    mode: str
    about: str
    seeds: tuple[int, ...]
    places: tuple[tuple[tuple[int, ...], ...], ...]
    measured: Mapping[str, Float64[np.ndarray, "K S"]]
    seconds: tuple[float, ...]

    @property
    def num_samples(self) -> int:
        """Count the samples, S."""
        return len(self.places[0])

    def values(self, metric: str) -> Float64[np.ndarray, "K S"]:
        """Return Hit@k, NDCG@k, MAP@k, MRR, or what else was measured, of every sample under every seed.

        Raises:
            ThinkrankError: for another metric.
        """
        if metric in self.measured:
            return self.measured[metric]
        name, _, k = metric.partition("@")
        if metric == "mrr":
            return self._per_seed(metrics.reciprocal_rank(self._relevance))
        if name not in _CUT or not k.isdigit():
            known = ", ".join(["hit@k", "ndcg@k", "map@k", "mrr", *self.measured])
            raise ThinkrankError(f"studies know {known}, not {metric!r}")
        return self._per_seed(_CUT[name](self._relevance, int(k)))

    def spread(self, metric: str) -> tuple[float, float]:
        """Return the lowest and the highest mean of a seed."""
        means_K = self.values(metric).mean(axis=1)
        return float(means_K.min()), float(means_K.max())

    @cached_property
    def _relevance(self) -> Bool[np.ndarray, "X W"]:
        """Tell what stands on each place, a row for every seed and sample."""
        rows = [sample for seed in self.places for sample in seed]
        relevance_XW = np.zeros((len(rows), max((row[-1] for row in rows if row), default=1)), dtype=np.bool_)
        for row, places in zip(relevance_XW, rows, strict=True):
            row[np.array(places, dtype=np.int64) - 1] = True
        return relevance_XW

    def _per_seed(self, values_X: Float64[np.ndarray, "X"]) -> Float64[np.ndarray, "K S"]:
        return np.asarray(values_X, dtype=np.float64).reshape(len(self.places), -1)


_CUT = {"hit": metrics.hit, "ndcg": metrics.ndcg, "map": metrics.average_precision}


def read_study(folder: Path) -> list[ArmAnswers]:
    """Read the results of a study, one file per arm and seed; arms in order of their names.

    A file says under ``ranks``, for each mode and sample, on which place the one relevant item came to stand, or on
    which places the several, and under ``values`` what else was measured of each sample.

    Raises:
        ThinkrankError: if there are none, or files of one arm judged different samples.
    """
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for file in sorted(folder.glob("*.json")):
        result = json.loads(file.read_text(encoding="utf-8"))
        for mode in result["ranks"]:
            if mode != "thought_tokens":
                found.setdefault((result["arm"], mode), []).append(result)
    if not found:
        raise ThinkrankError(f"{folder}: no results of a study here")
    return [_answers(arm, mode, results) for (arm, mode), results in found.items()]


def _answers(arm: str, mode: str, results: Sequence[dict[str, Any]]) -> ArmAnswers:
    ranks = [result["ranks"][mode] for result in results]
    if len({len(of_seed) for of_seed in ranks}) > 1:
        raise ThinkrankError(f"the seeds of arm {arm!r} judged different numbers of samples: run them again")
    measured = [result.get("values", {}).get(mode, {}) for result in results]
    return ArmAnswers(
        arm=arm,
        mode=mode,
        about=results[0]["about"],
        seeds=tuple(int(result["seed"]) for result in results),
        places=tuple(tuple(tuple(np.atleast_1d(sample).tolist()) for sample in of_seed) for of_seed in ranks),
        measured={name: np.array([of_seed[name] for of_seed in measured], dtype=np.float64) for name in measured[0]},
        seconds=tuple(float(result["seconds"]) for result in results),
    )


def study_interval(answers: ArmAnswers, metric: str) -> Interval:
    """Return the mean over seeds and samples with its bootstrap interval, samples drawn and seeds averaged."""
    return bootstrap_intervals(answers.values(metric).mean(axis=0)[:, None])[0]


def study_test(answers: ArmAnswers, reference: ArmAnswers, metric: str) -> PairedTest:
    """Test whether two arms differ on the same samples, their seeds averaged.

    Raises:
        ThinkrankError: if they judged different numbers of samples.
    """
    if answers.num_samples != reference.num_samples:
        raise ThinkrankError(f"{answers.arm} and {reference.arm} judged different numbers of samples")
    return paired_test(answers.values(metric).mean(axis=0), reference.values(metric).mean(axis=0))


def study_markdown(study: Sequence[ArmAnswers], reference: tuple[str, str], shown: Sequence[str]) -> str:
    """Make a table of all arms and modes: means with intervals, spread of the seeds, and a test against a reference.

    A mode that was not judged under every seed of its arm is left out.

    The others are compared with `reference`, an arm and mode, in the first metric of `shown`.
    """
    against = next((answers for answers in study if (answers.arm, answers.mode) == reference), None)
    header = ["arm", "mode", *shown, f"seeds' {shown[0]}", "p", "seeds", "minutes"]
    lines = [header, ["---"] * 2 + ["---:"] * (len(header) - 2)]
    num_seeds = {answers.arm: 0 for answers in study}
    for answers in study:
        num_seeds[answers.arm] = max(num_seeds[answers.arm], len(answers.seeds))
    for answers in study:
        if len(answers.seeds) < num_seeds[answers.arm]:
            continue
        cells = []
        for metric in shown:
            interval = study_interval(answers, metric)
            cells.append(f"{_figure(interval.value)} [{_figure(interval.low)}–{_figure(interval.high)}]")
        low, high = answers.spread(shown[0])
        p_value = "–" if against is None or answers is against else _p(study_test(answers, against, shown[0]).p_value)
        minutes = f"{np.mean(answers.seconds) / 60:.1f}"
        spread = f"{_figure(low)}–{_figure(high)}"
        lines.append([answers.arm, answers.mode, *cells, spread, p_value, str(len(answers.seeds)), minutes])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _figure(value: float) -> str:
    return f"{value:.4f}".replace("0.", ".", 1) if value < 1 else f"{value:.3f}"


def _p(value: float) -> str:
    return "< .001" if value < 0.001 else f"{value:.3f}".replace("0.", ".", 1)
