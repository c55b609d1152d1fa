"""Which events a model may learn from, and which it is judged on.

Every event of a user but the first is a sample: what came before is the history, the event is the target. Of events at
the target's own time a history holds none (ties are ``strict``) or those before it in the file (``before``).

Shape legend: S samples, E events (interactions), U users.
"""

import math
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, SupportsIndex, overload

import numpy as np
from jaxtyping import Bool, Int32, Int64

from thinkrank.data._nearest import did_you_mean
from thinkrank.data.dataset import Dataset
from thinkrank.data.history import History
from thinkrank.data.requests import Requests
from thinkrank.data.ties import Ties, check_order, cut_between, granularity
from thinkrank.data.timestamps import date_range
from thinkrank.errors import ThinkrankError

SplitKind = Literal["temporal", "leave-last-out"]

TIE_RULE = "targets at the same second are ordered by user id, then by their order in the user's history"


@dataclass(frozen=True, eq=False)
class Sample:
    """Hold one thing to predict.

    Attributes:
        user: the user's number in `Dataset.users`.
        history: what the user did before, as a view.
        target: the catalogue row the user chose next.
        time: when, in seconds since 1970, UTC.
        rating: the user's rating of the target; None if unknown.
    """

    user: int
    history: History
    target: int
    time: int
    rating: float | None


class Samples(Sequence[Sample]):
    """Hold samples in order of (target time, user, position), each made on demand as a view of the data set.

    Args:
        dataset: where the events are.
        positions: the events that are targets, as indices into the arrays over E; any order.
        ties: whether histories may hold events at their target's time; None for the data set's own rule.
    """

    dataset: Dataset
    ties: Ties
    positions: Int64[np.ndarray, "S"]
    users: Int32[np.ndarray, "S"]
    targets: Int32[np.ndarray, "S"]
    times: Int64[np.ndarray, "S"]

    def __init__(self, dataset: Dataset, positions: Int64[np.ndarray, "S"], ties: Ties | None = None) -> None:
        # Positions ascend by user and then by order in the history, so a stable sort by time gives the tie rule.
        positions = np.sort(positions)
        self.dataset, self.ties = dataset, ties or dataset.ties
        self.positions = positions[np.argsort(dataset.times_E[positions], kind="stable")]
        self.users = (np.searchsorted(dataset.offsets, self.positions, side="right") - 1).astype(np.int32)
        self.targets = dataset.items_E[self.positions]
        self.times = dataset.times_E[self.positions]

    def __len__(self) -> int:
        return len(self.positions)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> "Samples": ...
    def __getitem__(self, index: SupportsIndex | slice) -> "Sample | Samples":
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        index = operator.index(index)
        position, user = int(self.positions[index]), int(self.users[index])
        ratings_E = self.dataset.ratings_E
        rating = None if ratings_E is None or np.isnan(ratings_E[position]) else float(ratings_E[position])
        history = self.dataset.events(int(self.dataset.offsets[user]), int(self.history_ends[index]), self.ties)
        return Sample(user, history, int(self.targets[index]), int(self.times[index]), rating)

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    @cached_property
    def history_ends(self) -> Int64[np.ndarray, "S"]:
        """Return the event that each history ends before; the target's own, or the first one at its time."""
        return self.positions - self.dataset.tied_E[self.positions] if self.ties == "strict" else self.positions

    @cached_property
    def seen_S(self) -> Bool[np.ndarray, "S"]:
        """Return True where the history holds the target already."""
        seen_S, offsets, items_E = np.zeros(len(self), bool), self.dataset.offsets, self.dataset.items_E
        order_S = np.argsort(self.users, kind="stable")
        bounds = np.searchsorted(self.users[order_S], np.unique(self.users)).tolist()
        for start, end in pairwise([*bounds, len(self)]):  # one person after the other
            places_n = order_S[start:end]
            own = items_E[slice(*offsets[self.users[places_n[0]] :][:2])]
            items, first_events = np.unique(own, return_index=True)
            first_n = first_events[np.searchsorted(items, self.targets[places_n])] + offsets[self.users[places_n[0]]]
            seen_S[places_n] = first_n < self.history_ends[places_n]
        return seen_S

    def __repr__(self) -> str:
        return f"Samples({len(self):,} of {self.dataset.name})"

    def histories(self) -> list[History]:
        """Return the history of each sample, as views."""
        starts, ends = self.dataset.offsets[self.users].tolist(), self.history_ends.tolist()
        return [self.dataset.events(start, end, self.ties) for start, end in zip(starts, ends, strict=True)]

    def requests(self) -> Requests:
        """Return who asks and when, without what came next."""
        users = tuple(self.dataset.users.series.gather(self.users).to_list())
        return Requests(self.histories(), users, self.times if self.dataset.has_times else None)

    def take(self, indices: Int64[np.ndarray, "n"]) -> "Samples":
        """Return some of the samples, in their usual order."""
        return Samples(self.dataset, self.positions[indices], self.ties)

    def subset(self, n: int, seed: int) -> "Samples":
        """Return n samples drawn uniformly without replacement, in their usual order; all of them if n is enough.

        Args:
            n: how many, at least 0.
            seed: equal seeds give equal subsets.
        """
        if n >= len(self):
            return self
        chosen = np.random.default_rng(seed).choice(len(self), size=n, replace=False)
        return self.take(chosen)


class EventRanges(Sequence[History]):
    """View ranges of a data set's events as histories, each made on demand: a million users are two numbers each.

    Args:
        dataset: where the events are.
        ranges_L2: first event and the one behind the last, of one user each.
        ties: what events may know of each other.
    """

    def __init__(self, dataset: Dataset, ranges_L2: Int64[np.ndarray, "L 2"], ties: Ties) -> None:
        self.dataset, self.ranges_L2, self.ties = dataset, ranges_L2, ties

    def __len__(self) -> int:
        return len(self.ranges_L2)

    @overload
    def __getitem__(self, index: SupportsIndex) -> History: ...
    @overload
    def __getitem__(self, index: slice) -> "EventRanges": ...

    def __getitem__(self, index: SupportsIndex | slice) -> "History | EventRanges":
        if isinstance(index, slice):
            return EventRanges(self.dataset, self.ranges_L2[index], self.ties)
        start, end = self.ranges_L2[operator.index(index)].tolist()
        return self.dataset.events(start, end, self.ties)


@dataclass(frozen=True, eq=False)
class Split:
    """Hold three disjoint parts of a data set's samples.

    Attributes:
        dataset: what was split.
        kind: the rule it was split by.
        fractions: of the samples, in order; only for a temporal split.
        train: samples to learn from.
        valid: samples to choose settings by.
        test: samples to report.
    """

    dataset: Dataset
    kind: SplitKind
    fractions: tuple[float, float, float] | None
    train: Samples
    valid: Samples
    test: Samples

    @cached_property
    def train_ranges(self) -> Int64[np.ndarray, "U 2"]:
        """Return the events [start, end) of each user that train samples cover; empty if there are none.

        They cover them as history or as target. In both kinds of split a user's train samples come before the user's
        other samples, so they cover one range.
        """
        starts = self.dataset.offsets[:-1]
        ends = starts.copy()
        np.maximum.at(ends, self.train.users, self.train.positions + 1)
        return np.stack([starts, ends], axis=1)

    def train_histories(self, ties: Ties | None = None) -> "EventRanges":
        """Return what training may see of each user, as views made on demand; users without train samples are left out.

        Args:
            ties: what events may know of each other; None for the rule of the train part.
        """
        ranges = self.train_ranges
        return EventRanges(self.dataset, ranges[ranges[:, 0] < ranges[:, 1]], ties or self.train.ties)

    @cached_property
    def train_counts(self) -> Int64[np.ndarray, "I"]:
        """Count how often training may see each item chosen."""
        offsets, items_E = self.dataset.offsets, self.dataset.items_E
        is_seen_E = np.arange(len(items_E)) < np.repeat(self.train_ranges[:, 1], np.diff(offsets))
        return np.bincount(items_E[is_seen_E], minlength=len(self.dataset.catalogue))

    def manifest(self) -> dict[str, Any]:
        """Return what a reader needs to reproduce and judge this split, ready for JSON."""
        trained = self.train_counts > 0
        return {
            "dataset": self.dataset.name,
            "fingerprint": self.dataset.fingerprint,
            "source": dict(self.dataset.source),
            "filters": [dict(applied) for applied in self.dataset.filters],
            "kind": self.kind,
            "fractions": None if self.fractions is None else list(self.fractions),
            "tie_rule": TIE_RULE,
            "ties": self.train.ties,
            "time_granularity": granularity(self.dataset.times_E) if self.dataset.has_times else None,
            "parts": {
                name: _part_manifest(part, trained)
                for name, part in (("train", self.train), ("valid", self.valid), ("test", self.test))
            },
        }


def split_dataset(
    dataset: Dataset,
    kind: SplitKind | str = "temporal",
    *,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    ties: Ties | None = None,
) -> Split:
    """Divide the samples of a data set into train, valid and test.

    Args:
        dataset: what to split.
        kind: ``temporal`` sorts all samples by target time and cuts twice, so nothing is learnt from what came after a
            test target, and test histories may hold what users did in the train period. ``leave-last-out`` takes each
            user's last target for test and the one before for valid; users with fewer than three events only train. It
            needs no times, only an order.
        fractions: of the samples for train, valid and test in a temporal split; the first two are rounded down, and
            moved to the nearest place where the time changes.
        ties: whether a history may hold events at its target's time (``before``) or not (``strict``: a target of the
            user's first day then has an empty history); None for what the times suggest, see `Dataset.ties`.

    Raises:
        ThinkrankError: if the kind is unknown, the fractions are no partition of 1, no user has two events, or times
            that do not order the events are to be cut.
    """
    if kind == "temporal":
        train, valid, test = _temporal(dataset, fractions, ties)
        return Split(dataset, "temporal", fractions, train, valid, test)
    if kind == "leave-last-out":
        train, valid, test = _leave_last_out(dataset, ties)
        return Split(dataset, "leave-last-out", None, train, valid, test)
    kinds = ["temporal", "leave-last-out"]
    raise ThinkrankError(f"unknown split {kind!r}{did_you_mean(kind, kinds)}. Use one of: {', '.join(kinds)}.")


def _temporal(
    dataset: Dataset, fractions: tuple[float, float, float], ties: Ties | None
) -> tuple[Samples, Samples, Samples]:
    if min(fractions) < 0 or not math.isclose(sum(fractions), 1.0):
        raise ThinkrankError(f"fractions {fractions} must be at least 0 and sum to 1")
    if not dataset.has_times:
        raise ThinkrankError(
            f"{dataset.name}: has no times to cut by, only each user's order. Use the split leave-last-out."
        )
    samples = Samples(dataset, _target_positions(dataset), ties)
    if fractions.count(0) < 2:
        users_E = np.repeat(np.arange(len(dataset.offsets) - 1, dtype=np.int32), np.diff(dataset.offsets))
        check_order(dataset.name, users_E, dataset.items_E, dataset.times_E)
    # The small addition keeps 0.29 * 100 from counting as 28.
    sizes = [math.floor(fraction * len(samples) + 1e-9) for fraction in fractions[:2]]
    wanted = (sizes[0], sum(sizes))
    ends = [0, *(cut_between(samples.times, place) for place in wanted), len(samples)]
    for size, (start, end) in zip(np.diff([0, *wanted, len(samples)]), pairwise(ends), strict=True):
        if size and start == end:
            raise ThinkrankError(
                f"{dataset.name}: its {len(np.unique(samples.times)):,} different times are too few to cut between, "
                "which would leave a part empty. Use the split leave-last-out, or other fractions (the settings "
                "data.valid_share and data.test_share)."
            )
    train, valid, test = (samples[start:end] for start, end in pairwise(ends))
    return train, valid, test


def _leave_last_out(dataset: Dataset, ties: Ties | None) -> tuple[Samples, Samples, Samples]:
    targets = _target_positions(dataset)
    lengths = np.diff(dataset.offsets)
    ends = dataset.offsets[1:][lengths >= 3]
    test, valid = ends - 1, ends - 2
    return (
        Samples(dataset, np.setdiff1d(targets, np.concatenate([valid, test]), assume_unique=True), ties),
        Samples(dataset, valid, ties),
        Samples(dataset, test, ties),
    )


def _target_positions(dataset: Dataset) -> Int64[np.ndarray, "S"]:
    is_target = np.ones(len(dataset.items_E), dtype=bool)
    is_target[dataset.offsets[:-1]] = False
    if not is_target.any():
        raise ThinkrankError(f"{dataset.name}: no user has two interactions, so there is nothing to predict")
    return np.flatnonzero(is_target)


def _part_manifest(part: Samples, trained: Bool[np.ndarray, "I"]) -> dict[str, Any]:
    cold = int((~trained[part.targets]).sum())
    return {
        "samples": len(part),
        "users": len(np.unique(part.users)),
        "items": len(np.unique(part.targets)),
        "dates": date_range(part.times) if part.dataset.has_times else None,
        "cold_target_share": cold / max(1, len(part)),
        "tied_target_share": float((part.dataset.tied_E[part.positions] > 0).mean()) if len(part) else 0.0,
        "empty_history_share": float((part.history_ends == part.dataset.offsets[part.users]).mean())
        if len(part)
        else 0.0,
    }
