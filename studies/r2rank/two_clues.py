"""Two clues: a world where a thought looks up one of two facts about a pair, and only one of them is worth it.

The histories are those of `RelayWorld`: from each item a chain of two look-ups leads to another, over the item that
shares its style to the one that shares that one's kind. A thought begins a chain at one of the newest two items and
says what its end means for the candidate:

- the **telling** clue begins at the second newest: the next item has the style of the chain's end, always. With five
  styles a fifth of the other items has it too, so it speaks for four of nineteen negatives as well;
- the **timid** clue begins at the newest: for `kind_share` of the users the next item has the kind of the chain's end,
  for the others it has not. With 24 kinds hardly another item has it, so this clue nearly always says no, and is nearly
  always right.

Both are true, and neither can be told without look-ups. In expectation the telling clue makes the better list.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import polars as pl
from jaxtyping import Int32

from thinkrank.data import Dataset, History
from thinkrank.data.splits import Split
from thinkrank.data.synthetic import RelayWorld, relay_split
from thinkrank.language import Backbone, encode_text
from thinkrank.prompts.options import PairPromptOptions
from thinkrank.prompts.pairs import PairPrompts
from thinkrank.rank.r2rank.groups import TrainingGroup
from thinkrank.stages.answers import Thought

Clue = Literal["timid", "telling"]
CLUES: tuple[Clue, ...] = get_args(Clue)
VERDICTS: dict[Clue, tuple[str, str]] = {
    "telling": ("of another style", "of that style"),
    "timid": ("of another kind", "of that kind"),
}
"""The last words of a thought: no and yes."""

BEGINNINGS = 4
"""Chains begin at so many of the newest items, counted from the newest; every second asks for the style."""


@dataclass(frozen=True, eq=False)
class TwoClues:
    """The world.

    Attributes:
        relay: whose histories they are, in another order.
        kind_share: of the users take an item of the kind that the timid clue names.
    """

    relay: RelayWorld
    kind_share: float

    @property
    def words(self) -> list[str]:
        """What the language has beside the titles."""
        ages = [_age(place) for place in range(2 * self.relay.options.relay_length)]
        return ["next: ", *ages, *(word for pair in VERDICTS.values() for word in pair)]

    @cached_property
    def events_UE(self) -> Int32[np.ndarray, "U E"]:
        """Each user's history, oldest first, and then what the user takes."""
        random = np.random.default_rng([self.relay.options.seed, 1])
        kinds = self.relay.options.kinds
        events = []
        for history_L in self.relay.histories_UL:
            items = history_L.tolist()
            named, kind = self._end(items, items[-1])
            styles = (items[-1] // kinds, named)  # those have the kind already, in the history
            second = random.choice([i for i, item in enumerate(items) if self._end(items, item)[0] not in styles])
            items[second], items[-2] = items[-2], items[second]
            style, _ = self._end(items, items[-2])
            others = [row for row in self._of_style(style) if row not in items and row % kinds != kind]
            follows = random.random() < self.kind_share
            events.append([*items, style * kinds + kind if follows else int(random.choice(others))])
        return np.array(events, dtype=np.int32)

    def split(self) -> Split:
        """Users divided into train, valid and test; the last event of each is the only sample."""
        relay = self.relay.dataset()
        items = np.array(relay.catalogue.ids)[self.events_UE.ravel()]
        options = {"kind_share": self.kind_share, **self.relay.options.model_dump()}
        source = {"source": "two-clues", "files": [], "options": options}
        interactions = pl.DataFrame(
            {
                "user": np.repeat(relay.users, self.events_UE.shape[1]),
                "item": items,
                "timestamp": relay.times_E,
            }
        )
        return relay_split(Dataset("two-clues", interactions, relay.catalogue, source=source))

    def thought(self, items: Sequence[int], candidate: int, begin: int) -> str:
        """What a chain says of a candidate: where it begins (a place from the newest), its items, and a verdict."""
        chain, clue, kinds = self.relay.chain(items, items[-1 - begin]), CLUES[begin % 2], self.relay.options.kinds
        yes = candidate % kinds == chain[2] % kinds if clue == "timid" else candidate // kinds == chain[2] // kinds
        return _age(begin) + ", ".join([*(self.relay.catalogue.titles[row] for row in chain), VERDICTS[clue][yes]])

    def traces(self, lists: Sequence[TrainingGroup], seed: int) -> dict[tuple[int, int], str]:
        """A thought about each pair of the lists, by position and candidate, after a clue drawn with equal chances."""
        random = np.random.default_rng(seed)
        return {
            (one.position, row): self.thought(one.history.items.tolist(), row, int(random.integers(2)))
            for one in lists
            for row in one.rows
        }

    def shares(
        self, histories: Sequence[History], thoughts: Sequence[Mapping[int, Thought]]
    ) -> dict[Clue | Literal["neither"], float]:
        """Which clue thoughts follow, word for word; the others, of no clue or with a slip, follow neither.

        Args:
            histories: of the users.
            thoughts: per user, about each candidate by its row.
        """
        counts: Counter[Clue | Literal["neither"]] = Counter({"telling": 0, "timid": 0, "neither": 0})
        for history, of_user in zip(histories, thoughts, strict=True):
            items = history.items.tolist()
            for row, thought in of_user.items():
                right = {self.thought(items, row, begin): clue for begin, clue in enumerate(CLUES)}
                counts[right.get(thought.text.strip(), "neither")] += 1
        return {clue: count / counts.total() for clue, count in counts.items()}

    def _end(self, items: Sequence[int], start: int) -> tuple[int, int]:
        """Style and kind of the last item of the chain from a start."""
        return divmod(self.relay.chain(items, start)[2], self.relay.options.kinds)

    def _of_style(self, style: int) -> range:
        kinds = self.relay.options.kinds
        return range(style * kinds, (style + 1) * kinds)


class Language:
    """What the world's small language model reads: a history, an item, and thoughts about it from any beginning.

    The item is drawn so that both verdicts of both clues are met often; it has nothing to do with what the user takes.
    """

    def __init__(
        self, backbone: Backbone, world: TwoClues, histories: Sequence[History], prompt: PairPromptOptions
    ) -> None:
        self._tokenizer, self._world, self._histories = backbone.tokenizer, world, histories
        self._prompts = PairPrompts(backbone, world.relay.catalogue, prompt, thinks=True)

    def __call__(self, random: np.random.Generator, count: int) -> list[tuple[list[int], int]]:
        chosen = [self._histories[i] for i in random.integers(len(self._histories), size=count)]
        return [self._text(history, random) for history in chosen]

    def _text(self, history: History, random: np.random.Generator) -> tuple[list[int], int]:
        items = history.items.tolist()
        row = self._item(items, random)
        ids = [*self._prompts.prefix(history), *self._prompts.candidate(row)]
        given = len(ids)
        for begin in random.permutation(BEGINNINGS).tolist():
            ids += encode_text(self._tokenizer, self._world.thought(items, row, begin) + "\n")
        return ids, given

    def _item(self, items: list[int], random: np.random.Generator) -> int:
        """One of the style of the end of a chain from one of the newest, one of its kind, or any, a third each."""
        world, kinds = self._world, self._world.relay.options.kinds
        start = items[-1 - random.integers(BEGINNINGS)]
        style, kind = world._end(items, start)
        everything = range(len(world.relay.catalogue))
        rows = (world._of_style(style), everything[kind::kinds], everything)
        return int(random.choice(rows[random.integers(3)]))


def _age(place: int) -> str:
    """How a line begins that shows the item at a place from the newest: events are a minute apart."""
    return f"0h {place}.0min ago "
