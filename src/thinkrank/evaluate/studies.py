"""What several arms of a study came to, each with several seeds, compared on the same samples.

Shape legend: S samples, K seeds, X = K S, W places.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64

from thinkrank import metrics
from thinkrank.errors import ThinkrankError
from thinkrank.evaluate.results import TIES
from thinkrank.evaluate.significance import PairedTest, paired_test
from thinkrank.evaluate.trainings import MIN_TRAININGS, trainings_test

TieRule = Literal["expected", "pessimistic", "answered"]
"""How equal scores are judged; "answered" takes the order of the answer, as files did that do not tell ties."""

TIE_RULES: dict[TieRule, str] = {
    "expected": TIES["expected"],
    "pessimistic": TIES["pessimistic"],
    "answered": "as answered, whatever tied",
}

Groups = Mapping[str, Sequence[Sequence[int]]]
"""By sample, from 0, as text: first and last place of each group of equal scores that holds something relevant."""


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
        users_S: whose each sample is; None in files that do not tell, and then nothing is tested.
        groups: for each seed the groups of equal scores.
        tie_rule: how they are judged.
        seedless: whether no seed has a part in it, as in counting.
        shared: what the trainings of all seeds began with in common, such as "warm start"; empty if nothing.
        kept: for each seed the step of the training whose weights were kept; None where it was not told.
        code: commits, or versions, of the code that made the results.
    """

    arm: str
    mode: str
    about: str
    seeds: tuple[int, ...]
    places: tuple[tuple[tuple[int, ...], ...], ...]
    measured: Mapping[str, Float64[np.ndarray, "K S"]]
    seconds: tuple[float, ...]
    users_S: Int64[np.ndarray, "S"] | None = None
    groups: tuple[Groups, ...] = ()
    tie_rule: TieRule = "answered"
    seedless: bool = False
    shared: str = ""
    kept: tuple[int | None, ...] = ()
    code: tuple[str, ...] = ()

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
        if name not in _CUT or (k == "") != (name == "mrr") or not (k.isdigit() or k == ""):
            known = ", ".join(["hit@k", "ndcg@k", "map@k", "mrr", *self.measured])
            raise ThinkrankError(f"studies know {known}, not {metric!r}")
        relevance_XW, tied_XW = self._relevance
        values_X = _CUT[name](relevance_XW, int(k) if k else None, tied_BN=tied_XW)
        return np.asarray(values_X, dtype=np.float64).reshape(len(self.places), -1)

    def spread(self, metric: str) -> tuple[float, float]:
        """Return the lowest and the highest mean of a seed."""
        means_K = self.values(metric).mean(axis=1)
        return float(means_K.min()), float(means_K.max())

    @cached_property
    def _relevance(self) -> tuple[Bool[np.ndarray, "X W"], Bool[np.ndarray, "X W"] | None]:
        """Tell what stands on each place, a row for every seed and sample, and what ties with the place before."""
        rows = [sample for seed in self.places for sample in seed]
        ends = [last for groups in self.groups for group in groups.values() for _, last in group]
        width = max((row[-1] for row in rows if row), default=1)
        relevance_XW = np.zeros((len(rows), max(width, *ends, 1)), dtype=np.bool_)
        for row, places in zip(relevance_XW, rows, strict=True):
            row[np.array(places, dtype=np.int64) - 1] = True
        if not ends:
            return relevance_XW, None
        tied_XW = np.zeros(relevance_XW.shape, dtype=np.bool_)
        for seed, groups in enumerate(self.groups):
            for sample, group in groups.items():
                for first, last in group:
                    tied_XW[seed * self.num_samples + int(sample), first:last] = True
        return relevance_XW, tied_XW


_CUT: Mapping[str, Any] = {
    "hit": metrics.hit,
    "ndcg": metrics.ndcg,
    "map": metrics.average_precision,
    "mrr": metrics.reciprocal_rank,
}


def read_study(folder: Path) -> list[ArmAnswers]:
    """Read the results of a study, one file per arm and seed; arms in order of their names.

    A file says under ``ranks``, for each mode and sample, on which place the one relevant item came to stand, or on
    which places the several; under ``ties`` which places are shared by equal scores; under ``users`` whose each sample
    is; and under ``values`` what else was measured of each sample.

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
    users = [result.get("users") for result in results]
    if len({len(of_seed) for of_seed in ranks}) > 1 or any(other != users[0] for other in users):
        raise ThinkrankError(f"the seeds of arm {arm!r} judged different samples: run them again")
    if users[0] is not None and len(users[0]) != len(ranks[0]):
        raise ThinkrankError(f"arm {arm!r} tells {len(users[0])} users of {len(ranks[0])} samples: run it again")
    measured = [result.get("values", {}).get(mode, {}) for result in results]
    told = all("ties" in result for result in results)
    single = all(isinstance(of_seed[0], int) for of_seed in ranks if of_seed)
    return ArmAnswers(
        arm=arm,
        mode=mode,
        about=results[0]["about"],
        seeds=tuple(int(result["seed"]) for result in results),
        places=tuple(tuple(tuple(np.atleast_1d(sample).tolist()) for sample in of_seed) for of_seed in ranks),
        measured={name: np.array([of_seed[name] for of_seed in measured], dtype=np.float64) for name in measured[0]},
        seconds=tuple(float(result["seconds"]) for result in results),
        users_S=None if users[0] is None else np.array(users[0], dtype=np.int64),
        groups=tuple(result["ties"].get(mode, {}) for result in results) if told else (),
        tie_rule="expected" if told else "pessimistic" if single else "answered",
        seedless=all(mode in result.get("seedless", ()) for result in results),
        shared=next((result["shared"] for result in results if result.get("shared")), ""),
        kept=tuple(result.get("kept_step") for result in results),
        code=tuple(dict.fromkeys(result["code"] for result in results if "code" in result)),
    )


@dataclass(frozen=True)
class StudyTest:
    """Hold how two arms compare.

    Attributes:
        test: None where users are not known.
        scope: what the p-value speaks of: the ways of training ("trainings"), or only the models that were trained,
            for want of trainings ("models"); "systems" where nothing was trained by a seed.
    """

    test: PairedTest | None
    scope: Literal["trainings", "models", "systems"]


def study_test(answers: ArmAnswers, reference: ArmAnswers, metric: str, *, level: float = 0.05) -> StudyTest:
    """Test whether two arms differ on the same samples, users as clusters and trainings counted, if there are enough.

    Trainings with the same seed are a pair, and only pairs are compared where there are any: what one arm has more of
    says nothing of the other. Something no seed has a part in is the same in every pair.

    Args:
        answers: of the one.
        reference: of the other.
        metric: to compare in.
        level: at which the smallest visible difference is told.

    Raises:
        ThinkrankError: if they judged different samples.
    """
    ours, theirs = answers.users_S, reference.users_S
    if answers.num_samples != reference.num_samples or (
        ours is not None and theirs is not None and not np.array_equal(ours, theirs)
    ):
        raise ThinkrankError(f"{answers.arm} and {reference.arm} judged different samples")
    ours_KS, theirs_KS = answers.values(metric), reference.values(metric)
    trained = [arm for arm in (answers, reference) if not arm.seedless]
    pairs = sorted(set.intersection(*(set(arm.seeds) for arm in trained))) if trained else []
    scope: Literal["trainings", "models", "systems"] = "models" if trained else "systems"
    if ours is None or theirs is None:
        return StudyTest(None, scope)
    if pairs:
        ours_KS, theirs_KS = _of_seeds(answers, ours_KS, pairs), _of_seeds(reference, theirs_KS, pairs)
    if len(pairs) >= MIN_TRAININGS:
        return StudyTest(trainings_test(ours_KS - theirs_KS, ours, level=level), "trainings")
    return StudyTest(paired_test(ours_KS.mean(axis=0), theirs_KS.mean(axis=0), ours, level=level), scope)


def _of_seeds(
    arm: ArmAnswers, values_KS: Float64[np.ndarray, "K S"], seeds: Sequence[int]
) -> Float64[np.ndarray, "N S"]:
    """Pick the trainings with these seeds; what has none is the same under each."""
    if arm.seedless:
        return np.broadcast_to(values_KS.mean(axis=0), (len(seeds), arm.num_samples))
    return values_KS[[arm.seeds.index(seed) for seed in seeds]]
