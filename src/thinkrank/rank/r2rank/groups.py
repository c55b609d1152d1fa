"""Groups to train on: the item that a user chose next, among some that the user had not met by then."""

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import SupportsIndex, overload

import numpy as np

from thinkrank.data import History, Samples
from thinkrank.data.candidate_lists import CandidateLists
from thinkrank.data.candidates import candidate_sets
from thinkrank.errors import ThinkrankError
from thinkrank.language.trajectories import Given
from thinkrank.prompts.pairs import PairPrompts


@dataclass(frozen=True)
class TrainingGroup:
    """Hold the candidates of one training sample.

    Attributes:
        position: of the positive, among the events of the data set.
        user: whose it is, by number.
        history: before it.
        rows: catalogue rows, the positive first.
        traces: what to write about each of them; None if nothing is given.
    """

    position: int
    user: int
    history: History
    rows: tuple[int, ...]
    traces: tuple[Given, ...] | None = None


class TrainingGroups(Sequence[TrainingGroup]):
    """Make one group per training sample, on demand; its negatives depend on the seed and the sample alone.

    Args:
        samples: of the training part; those whose target was seen before are left out, unless data repeat.
        negatives: per group, uniform among the items that are neither in the history nor the target; where data repeat,
            of the history, too. What the user takes later may be among them: to leave it out would tell the future.
        seed: of the negatives.
        lists: of a first stage: where one serves a sample, its items are drawn before others; None for none.
    """

    def __init__(self, samples: Samples, *, negatives: int, seed: int, lists: CandidateLists | None = None) -> None:
        if not samples.dataset.repeats and samples.seen_S.any():  # it would be known by standing in the history
            samples = samples.take(np.flatnonzero(~samples.seen_S))
            if not len(samples):
                raise ThinkrankError(
                    f"{samples.dataset.name}: every training target stands in its own history, so nothing else is to "
                    "be learnt: set data.repeats = true"
                )
        self.samples, self.negatives, self.seed, self.lists = samples, negatives, seed, lists

    def __len__(self) -> int:
        return len(self.samples)

    def full(self) -> "TrainingGroups":
        """Return those that have all their negatives: who has met nearly everything leaves too few items to draw."""
        samples = self.samples
        most_S = samples.positions - samples.dataset.offsets[samples.users] + 1  # items that may have been met
        doubted = np.flatnonzero(len(samples.dataset.catalogue) - most_S < self.negatives).tolist()
        short = [place for place in doubted if len(self[place].rows) <= self.negatives]
        if not short:
            return self
        kept = samples.take(np.delete(np.arange(len(samples)), short))
        return TrainingGroups(kept, negatives=self.negatives, seed=self.seed, lists=self.lists)

    @overload
    def __getitem__(self, index: SupportsIndex) -> TrainingGroup: ...
    @overload
    def __getitem__(self, index: slice) -> list[TrainingGroup]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> TrainingGroup | list[TrainingGroup]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = range(len(self))[operator.index(index)]
        one = self.samples[place : place + 1]
        drawn = candidate_sets(one, self.negatives + 1, seed=self.seed, later=True).items_BN[0].tolist()
        target = int(one.targets[0])
        sample = one[0]
        if self.lists is not None:
            met = {target} if self.samples.dataset.repeats else {target, *sample.history.items.tolist()}
            (offered,) = self.lists.offered(one)
            found = [row for row in offered.tolist() if row not in met]
            random = np.random.default_rng([self.seed, int(one.positions[0])])
            drawn = [*(found[place] for place in random.permutation(len(found))), *drawn]
        others = [row for row in dict.fromkeys(drawn) if row not in (target, -1)]
        return TrainingGroup(int(one.positions[0]), sample.user, sample.history, (target, *others[: self.negatives]))

    def __iter__(self) -> Iterator[TrainingGroup]:
        return (self[index] for index in range(len(self)))


def with_traces(
    groups: Sequence[TrainingGroup], reasonings: Mapping[tuple[int, int], str], prompts: PairPrompts
) -> list[TrainingGroup]:
    """Give groups what is to be written about their pairs.

    A pair without a reasoning leaves its group; a group without its positive, or without any negative, is left out.

    Args:
        groups: to be trained on.
        reasonings: by position and catalogue row.
        prompts: whose closing ends a trace.
    """
    kept = []
    for group in groups:
        rows = tuple(row for row in group.rows if (group.position, row) in reasonings)
        if len(rows) > 1 and rows[0] == group.rows[0]:
            written = (tuple(prompts.text(reasonings[group.position, row])) for row in rows)
            traces = tuple(Given((*ids, *prompts.closing_ids), len(ids)) for ids in written)
            kept.append(replace(group, rows=rows, traces=traces))
    return kept
