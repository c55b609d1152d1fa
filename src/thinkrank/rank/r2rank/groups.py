"""Short lists to train on: what a user chose next, among items the user never met."""

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import SupportsIndex, overload

from thinkrank.data import History, Samples
from thinkrank.data.candidates import candidate_sets
from thinkrank.language.trajectories import Given
from thinkrank.prompts.pairs import PairPrompts


@dataclass(frozen=True)
class TrainingGroup:
    """One list.

    Attributes:
        position: of the positive, among the events of the data set.
        history: before it.
        rows: catalogue rows, the positive first.
        traces: what to write about each of them; None if nothing is given.
    """

    position: int
    history: History
    rows: tuple[int, ...]
    traces: tuple[Given, ...] | None = None


class TrainingGroups(Sequence[TrainingGroup]):
    """One list per training sample, made on demand; its negatives depend on the seed and the sample alone.

    Args:
        samples: of the training part.
        negatives: per list, uniform among the items that the user never met, later ones included.
        seed: of the negatives.
    """

    def __init__(self, samples: Samples, *, negatives: int, seed: int) -> None:
        self.samples, self.negatives, self.seed = samples, negatives, seed

    def __len__(self) -> int:
        return len(self.samples)

    @overload
    def __getitem__(self, index: SupportsIndex) -> TrainingGroup: ...
    @overload
    def __getitem__(self, index: slice) -> list[TrainingGroup]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> TrainingGroup | list[TrainingGroup]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = range(len(self))[operator.index(index)]
        one = self.samples[place : place + 1]
        drawn = candidate_sets(one, self.negatives + 1, seed=self.seed).items_BN[0].tolist()
        target = int(one.targets[0])
        rows = (target, *(row for row in drawn if row not in (target, -1)))
        return TrainingGroup(int(one.positions[0]), one[0].history, rows)

    def __iter__(self) -> Iterator[TrainingGroup]:
        return (self[index] for index in range(len(self)))


def with_traces(
    lists: Sequence[TrainingGroup], reasonings: Mapping[tuple[int, int], str], prompts: PairPrompts
) -> list[TrainingGroup]:
    """Give lists what is to be written about their pairs.

    A pair without a reasoning leaves its list; a list without its positive, or without any negative, is left out.

    Args:
        lists: to be trained on.
        reasonings: by position and catalogue row.
        prompts: whose closing ends a trace.
    """
    kept = []
    for one in lists:
        rows = tuple(row for row in one.rows if (one.position, row) in reasonings)
        if len(rows) > 1 and rows[0] == one.rows[0]:
            written = (tuple(prompts.text(reasonings[one.position, row])) for row in rows)
            traces = tuple(Given((*ids, *prompts.closing_ids), len(ids)) for ids in written)
            kept.append(replace(one, rows=rows, traces=traces))
    return kept
