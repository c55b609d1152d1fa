"""Text between items, as the layers below items read it.

Each run of text between items is read alone behind the text before the first item. So what is said in the same words of
many things, such as counts between the items they are of, is read once for all of them.
"""

from collections.abc import Iterable
from itertools import groupby
from typing import NamedTuple

from thinkrank.errors import ThinkrankError
from thinkrank.language.prefix_tree import PrefixTree


class TextToken(NamedTuple):
    """Name a token of text in a forest, and where the text alone has it.

    Attributes:
        node: of the forest.
        place: in that node.
        text_node: of the text.
        text_place: in that node.
    """

    node: int
    place: int
    text_node: int
    text_place: int


def text_runs(forest: PrefixTree, first_item: int) -> tuple[PrefixTree, list[TextToken]]:
    """Take the text out of a forest: what stands before the first item, and behind it each run of text by itself.

    Args:
        forest: sequences of text and items.
        first_item: token id of the first item; text lies below it.

    Returns:
        the text, equal runs once; and for each token of text in the forest, node by node, where it is there.
    """
    ids: list[tuple[int, ...]] = []
    parents: list[int] = []
    known: dict[tuple[int, tuple[int, ...]], int] = {}
    ends: list[tuple[int, int, bool]] = []  # by node: end of the beginning, of the run it ends in, whether it saw items
    tokens: list[TextToken] = []
    for node, parent in enumerate(forest.parents):
        beginning, end, is_behind = ends[parent] if parent >= 0 else (-1, -1, False)
        place = 0
        for is_text, some in groupby(forest.ids[node], lambda token: token < first_item):
            segment = tuple(some)
            if not is_text:
                end, is_behind = beginning, True
            else:
                key = end, segment
                if key not in known:
                    known[key] = len(ids)
                    ids.append(segment)
                    parents.append(end)
                end = known[key]
                beginning = beginning if is_behind else end
                tokens += (TextToken(node, place + at, end, at) for at in range(len(segment)))
            place += len(segment)
        ends.append((beginning, end, is_behind))
    return PrefixTree(tuple(ids), tuple(parents)), tokens


def part_of(forest: PrefixTree, wanted: Iterable[int]) -> tuple[PrefixTree, list[int]]:
    """Return the part of a forest that some nodes need, with all above them, and the number each node had before."""
    needed = {step for node in wanted for step in forest.path(node)}
    before = sorted(needed)
    now = {node: number for number, node in enumerate(before)} | {-1: -1}
    part = PrefixTree(tuple(forest.ids[n] for n in before), tuple(now[forest.parents[n]] for n in before))
    return part, before


def text_alone(forest: PrefixTree, first_item: int) -> PrefixTree:
    """Return the same nodes without their items, where no sequence has a second run of text behind items.

    Raises:
        ThinkrankError: if one has: its nodes would then not be what the layers below items see of it.
    """
    behind: list[str] = []  # by node: what came last, of "" (no item yet), "item" and "run"
    for ids, parent in zip(forest.ids, forest.parents, strict=True):
        last = behind[parent] if parent >= 0 else ""
        for token in ids:
            if token >= first_item and last == "run":
                raise ThinkrankError("what is written must not stand behind items with text between them")
            last = "item" if token >= first_item else last and "run"
        behind.append(last)
    return PrefixTree(tuple(tuple(token for token in ids if token < first_item) for ids in forest.ids), forest.parents)
