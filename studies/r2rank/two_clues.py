"""Two clues: a world where a thought looks up one of two facts about a pair, and only one of them is worth it.

The histories are those of `RelayWorld`: from each item a chain of two look-ups leads to another, over the item that
shares its style to the one that shares that one's kind. A thought begins a chain at one of the newest two items and
says what its end means for the candidate:

- the **telling** clue begins at the second newest: the next item has the style of the chain's end, always. One in
  `styles` of the other items has it too, so it speaks for two or three of nineteen negatives as well;
- the **timid** clue begins at the newest: what it names is one item, of the style of the chain's end and the kind of
  the newest item. For `exact_share` of the users that is the next one; for the others it never is. So it nearly always
  says no, and is nearly always right.

Both are true, and neither can be told without two look-ups.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import polars as pl
from jaxtyping import Int32

from thinkrank.data import Dataset, History
from thinkrank.data.splits import Split
from thinkrank.data.synthetic import RelayWorld, relay_split
from thinkrank.language import Backbone, encode_text
from thinkrank.rank.config import PairPromptOptions
from thinkrank.rank.lists import TrainingList
from thinkrank.rank.prompts import PairPrompts

Clue = Literal["telling", "timid"]
VERDICTS: dict[Clue, tuple[str, str]] = {
    "telling": ("of another style", "of that style"),
    "timid": ("not the one", "the very one"),
}
"""The last words of a thought: no and yes."""

_READ_FROM = 6
"""The language has chains from so many of the newest items, with either clue's words, each once in a text."""


@dataclass(frozen=True, eq=False)
class TwoClues:
    """The world.

    Attributes:
        relay: whose histories they are, in another order.
        exact_share: of the users take what the timid clue names.
    """

    relay: RelayWorld
    exact_share: float

    @property
    def words(self) -> list[str]:
        """What the language has beside the titles."""
        return ["next", *(word for pair in VERDICTS.values() for word in pair)]

    @cached_property
    def events_UE(self) -> Int32[np.ndarray, "U E"]:
        """Each user's history, oldest first, and then what the user takes."""
        random = np.random.default_rng([self.relay.options.seed, 1])
        kinds = self.relay.options.kinds
        events = []
        for history_L in self.relay.histories_UL:
            items = history_L.tolist()
            newest = self.relay.answer(items)
            leads = [i for i, item in enumerate(items[:-1]) if self._end(items, item) // kinds == newest // kinds]
            if random.random() < self.exact_share:
                (lead,) = leads
                items[lead], items[-2] = items[-2], items[lead]
                target = newest
            else:
                if leads == [len(items) - 2]:
                    items[-3], items[-2] = items[-2], items[-3]
                style = self._end(items, items[-2]) // kinds
                target = int(random.choice([row for row in self._of_style(style) if row not in items]))
            events.append([*items, target])
        return np.array(events, dtype=np.int32)

    def split(self) -> Split:
        """Users divided into train, valid and test; the last event of each is the only sample."""
        told = self.relay.dataset()
        items = np.array(told.catalogue.ids)[self.events_UE.ravel()]
        source = {"source": "two-clues", "files": [], "options": {"exact_share": self.exact_share}}
        source["options"] |= self.relay.options.model_dump()
        interactions = pl.DataFrame(
            {
                "user": np.repeat(told.users, self.events_UE.shape[1]),
                "item": items,
                "timestamp": told.times_E,
            }
        )
        return relay_split(Dataset("two-clues", interactions, told.catalogue, source=source))

    def thought(self, items: Sequence[int], candidate: int, clue: Clue, start: int | None = None) -> str:
        """What a clue says of a candidate: the chain's three items and a verdict."""
        if start is None:
            start = int(items[-1 if clue == "timid" else -2])
        kinds = self.relay.options.kinds
        chain = self.relay.chain(items, start)
        named = chain[2] // kinds * kinds + start % kinds
        yes = candidate == named if clue == "timid" else candidate // kinds == named // kinds
        return ", ".join([*(self.relay.catalogue.titles[row] for row in chain), VERDICTS[clue][yes]])

    def traces(self, lists: Sequence[TrainingList], seed: int) -> dict[tuple[int, int], str]:
        """A thought about each pair of the lists, by position and candidate, after a clue drawn with equal chances."""
        random = np.random.default_rng(seed)
        clues: tuple[Clue, ...] = ("telling", "timid")
        return {
            (one.position, row): self.thought(one.history.items.tolist(), row, clues[random.integers(2)])
            for one in lists
            for row in one.rows
        }

    def _end(self, items: Sequence[int], start: int) -> int:
        return self.relay.chain(items, start)[2]

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
        for start in random.permutation(items[-_READ_FROM:]).tolist():
            clue: Clue = "timid" if random.random() < 0.5 else "telling"
            ids += encode_text(self._tokenizer, self._world.thought(items, row, clue, start) + "\n")
        return ids, given

    def _item(self, items: list[int], random: np.random.Generator) -> int:
        """What the chain from one of the newest names, another of its style, or any, a third each."""
        world, kinds = self._world, self._world.relay.options.kinds
        start = items[-1 - random.integers(_READ_FROM)]
        style = world._end(items, start) // kinds
        rows = ([style * kinds + start % kinds], world._of_style(style), range(len(world.relay.catalogue)))
        return int(random.choice(rows[random.integers(3)]))
