"""Token sequences that begin alike, written down once.

A user's history with the candidates behind it and the rollouts behind each is a tree of three levels; a batch of users
is a forest. Sampling, scoring and training all take a forest and compute every node once.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

_WORTH_SHARING = 4
"""Tokens below which a common root costs more than it saves."""


@dataclass(frozen=True)
class PrefixTree:
    """Hold trees of token ids; a node has the tokens between two branchings, and a leaf ends one sequence.

    Attributes:
        ids: the tokens of each node; a node may be empty, a whole sequence may not.
        parents: the node each one continues, -1 for a root. A parent stands before its children.

    Raises:
        ValueError: if the two differ in length, a parent does not stand before its child, or a sequence is empty.
    """

    ids: tuple[tuple[int, ...], ...]
    parents: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.parents):
            raise ValueError(f"a forest of {len(self.ids)} nodes names {len(self.parents)} parents")
        for node, parent in enumerate(self.parents):
            if not -1 <= parent < node:
                raise ValueError(f"node {node} has the parent {parent}, which does not stand before it")
        for leaf in self.leaves:
            if self.ends[leaf] == 0:
                raise ValueError(f"the sequence that ends in node {leaf} has no token")

    @classmethod
    def rows(cls, sequences: Iterable[Sequence[int]]) -> "PrefixTree":
        """Take sequences that share nothing: each is a root and a leaf."""
        ids = tuple(tuple(sequence) for sequence in sequences)
        return cls(ids, (-1,) * len(ids))

    @classmethod
    def groups(cls, groups: Iterable[tuple[Sequence[int], Sequence[Sequence[int]]]]) -> "PrefixTree":
        """Make a tree of two levels per (beginning, continuations); a group without continuations is one sequence."""
        ids: list[tuple[int, ...]] = []
        parents: list[int] = []
        for beginning, continuations in groups:
            root = len(ids)
            ids += [tuple(beginning), *(tuple(continuation) for continuation in continuations)]
            parents += [-1, *(root for _ in continuations)]
        return cls(tuple(ids), tuple(parents))

    @classmethod
    def neighbours(cls, sequences: Sequence[Sequence[int]]) -> "PrefixTree":
        """Share what sequences that stand beside one another begin with, such as those about a history that grows.

        Each ends in a leaf of at least one token; the leaves stand in the order of the sequences.
        """
        ids: list[tuple[int, ...]] = []
        parents: list[int] = []
        common = [*(common_length(one, other) for one, other in pairwise(sequences)), 0]

        def plant(first: int, stop: int, parent: int, length: int) -> None:
            """Put neighbours below a node whose sequence of this length they begin with."""
            start = first
            for at in range(first, stop):
                if at + 1 < stop and common[at] >= length + _WORTH_SHARING:
                    continue
                shared = min(common[start:at], default=len(sequences[at]))
                ids.append(tuple(sequences[at][length:shared]))
                parents.append(parent)
                if start < at:
                    plant(start, at + 1, len(ids) - 1, shared)
                start = at + 1

        plant(0, len(sequences), -1, 0)
        return cls(tuple(ids), tuple(parents))

    def share(self) -> "PrefixTree":
        """Give trees that begin alike one common root, if it holds at least as many tokens as it takes to pay.

        Only what *all* roots begin with is shared, and every root keeps at least its last token.
        """
        roots = [node for node, parent in enumerate(self.parents) if parent < 0]
        common = 0
        shortest = min((len(self.ids[root]) for root in roots), default=0)
        first = self.ids[roots[0]] if roots else ()
        while common < shortest - 1 and all(self.ids[root][common] == first[common] for root in roots):
            common += 1
        if len(roots) < 2 or common < _WORTH_SHARING:
            return self
        rest = (ids[common:] if parent < 0 else ids for ids, parent in zip(self.ids, self.parents, strict=True))
        return PrefixTree((first[:common], *rest), (-1, *(parent + 1 for parent in self.parents)))

    def grow(self, continuations: Sequence[Sequence[Sequence[int]]]) -> "PrefixTree":
        """Put continuations under the leaves, in the order of `leaves`; a leaf that gets none stays a leaf.

        Raises:
            ValueError: if there is not one list of continuations per leaf.
        """
        grown = [(leaf, tuple(c)) for leaf, many in zip(self.leaves, continuations, strict=True) for c in many]
        return PrefixTree(self.ids + tuple(ids for _, ids in grown), self.parents + tuple(leaf for leaf, _ in grown))

    @cached_property
    def leaves(self) -> tuple[int, ...]:
        """Return the nodes that nothing continues, in the order they were given."""
        inner = set(self.parents)
        return tuple(node for node in range(len(self.ids)) if node not in inner)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Return the position of each node's first token in the sequences it belongs to."""
        starts: list[int] = []
        for parent in self.parents:
            starts.append(0 if parent < 0 else starts[parent] + len(self.ids[parent]))
        return tuple(starts)

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """Count the tokens of each node and everything above it."""
        return tuple(start + len(ids) for start, ids in zip(self.starts, self.ids, strict=True))

    @cached_property
    def depths(self) -> tuple[int, ...]:
        """Count the nodes above each node."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(0 if parent < 0 else depths[parent] + 1)
        return tuple(depths)

    def path(self, node: int) -> tuple[int, ...]:
        """Return the nodes from the root down to this one."""
        return (*self.path(self.parents[node]), node) if node >= 0 else ()

    def sequence(self, node: int) -> tuple[int, ...]:
        """Join all tokens from the root to the end of this node."""
        return tuple(token for step in self.path(node) for token in self.ids[step])

    def sequences(self) -> Iterator[tuple[int, ...]]:
        """Yield the sequence of each leaf."""
        return (self.sequence(leaf) for leaf in self.leaves)

    @property
    def num_tokens(self) -> int:
        """Count the tokens that have to be computed, shared ones once."""
        return sum(len(ids) for ids in self.ids)


def common_length(one: Sequence[int], other: Sequence[int]) -> int:
    """Count the tokens that two sequences begin with alike, the last one of each left out."""
    pairs = zip(one[:-1], other[:-1], strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)) - 1)
