"""Thoughts written by rules: the cold start for training thoughts by reward.

A writer says in one short line what a history shows: its newest titles, its taste, how the taste moved, its decades, or
which of its items belong together. It sees nothing but the history, so what it writes can't give a target away. Which
of these are worth writing is for the reward to decide; the writer's task is to be varied and easy to imitate, hence few
words, always the same, and a form drawn anew at each call.

What items have in common is what `thinkrank.teachers.attributes` makes of the catalogue.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeVar, get_args

import numpy as np

from thinkrank.data import Catalogue, History
from thinkrank.data.catalogue import TEXT_COLUMNS
from thinkrank.errors import ThinkrankError
from thinkrank.teachers.attributes import (
    attribute_columns,
    implied_values,
    joined,
    listed,
    plain,
    recency_weights,
    sentence,
    short_title,
)

Form = Literal["recent", "taste", "shift", "era", "links"]
ALL_FORMS: tuple[Form, ...] = get_args(Form)

NOTHING = "Nothing is known yet."
"""What is written about a history that shows nothing."""

LEAST_SHIFT = 0.2
"""What is called a shift: this difference in the share of items with a value, between the halves of a history."""

_STARTS = 3
"""How many of the newest items a chain or a pair may begin with, if they belong with others at all."""

_INSTEAD: dict[Form, Form] = {"taste": "recent", "shift": "taste", "era": "taste", "links": "recent"}
"""What is written where a form finds nothing to say."""

_T = TypeVar("_T")


class RuleWriter:
    """Write thoughts by rules, each one line of at most some thirty words without control characters.

    Args:
        catalogue: the items.
        forms: which forms are drawn from, uniformly; one that is named twice is drawn twice as often.
        noun: what the catalogue holds, in the singular.

    Raises:
        ThinkrankError: if there are no forms.
    """

    def __init__(self, catalogue: Catalogue, *, forms: Sequence[Form] = ALL_FORMS, noun: str = "item") -> None:
        if not forms:
            raise ThinkrankError(f"no form to write thoughts in. Use some of: {', '.join(ALL_FORMS)}.")
        self._forms = tuple(forms)
        self._nouns = plain(noun) + "s"
        self._titles = [short_title(title) for title in catalogue.titles]
        columns = attribute_columns(catalogue)
        further = [column for name, column in columns.items() if name not in TEXT_COLUMNS]
        self._chain = (further[0], further[1]) if len(further) > 1 else None
        self._values = joined(columns.values(), len(catalogue))
        self._counts = Counter(value for values in self._values for value in values)
        self._implied = implied_values(self._values)
        self._decades = [(f"{year // 10}0s",) if year and year >= 1000 else () for year in catalogue.years]
        self._writers: dict[Form, Callable[[list[int], np.random.Generator], str | None]] = {
            "recent": self._recent,
            "taste": self._taste,
            "shift": self._shift,
            "era": self._era,
            "links": self._links,
        }

    def write(self, history: History, random: np.random.Generator) -> str:
        """Write about a history in a form drawn at random; a form with nothing to say gives way to a simpler one.

        Args:
            history: what the reader of the thought is shown too, oldest first; the whole of it is used.
            random: equal states give equal texts.

        Returns:
            one line; `NOTHING` if the history is empty.
        """
        rows = history.items.tolist()
        form: Form | None = self._forms[random.integers(len(self._forms))]
        while rows and form:
            if written := self._writers[form](rows, random):
                return written
            form = _INSTEAD.get(form)
        return NOTHING

    def about(self, row: int) -> str:
        """Write what a single item is, its first three attributes: what an oracle would forecast of a target.

        Args:
            row: in the catalogue.

        Returns:
            one line; `NOTHING` if the item has no attribute.
        """
        values = self._values[row][:3]
        return sentence(f"Next {listed(values)}") if values else NOTHING

    def _recent(self, rows: list[int], random: np.random.Generator) -> str | None:
        shown = [self._titles[row] for row in self._newest_first(rows)[: random.integers(1, 4)]]
        return sentence(f"{_one_of(random, 'Lately', 'Recently')} {listed(shown)}") if shown else None

    def _taste(self, rows: list[int], random: np.random.Generator) -> str | None:
        top = self._top(recency_weights([self._values[row] for row in rows]), 3)
        if not top:
            return None
        text = f"{_one_of(random, 'Mostly', 'Likes')} {listed(top[:2])}"
        return sentence(text if len(top) < 3 else f"{text}, next {top[2]}")

    def _shift(self, rows: list[int], random: np.random.Generator) -> str | None:
        middle = len(rows) // 2
        older, newer = (self._shares(half) for half in (rows[:middle], rows[middle:]))
        rise = {value: round(newer.get(value, 0) - older.get(value, 0), 9) for value in older | newer}
        before = self._top({value: -change for value, change in rise.items() if change <= -LEAST_SHIFT}, 1)
        after = self._top({value: change for value, change in rise.items() if change >= LEAST_SHIFT}, 2)
        if not before or not after:
            return None
        earlier, lately = _one_of(random, ("Earlier", "lately"), ("Before", "now"))
        return sentence(f"{earlier} {before[0]}, {lately} {listed(after)}")

    def _era(self, rows: list[int], random: np.random.Generator) -> str | None:
        weights = recency_weights([self._decades[row] for row in rows])
        if not weights:
            return None
        decades = sorted(weights, key=lambda decade: (-weights[decade], decade))[:2]
        decades = [decade for decade in decades if 2 * weights[decade] >= weights[decades[0]]]
        inside = [self._values[row] if set(self._decades[row]) & set(decades) else () for row in rows]
        top = self._top(recency_weights(inside), 1)
        nouns, when = self._nouns, listed(decades)
        text = _one_of(random, f"{nouns[:1].upper()}{nouns[1:]} of the {when}", f"{when} {nouns}")
        return sentence(f"{text}, mostly {top[0]}" if top else text)

    def _links(self, rows: list[int], random: np.random.Generator) -> str | None:
        distinct = self._newest_first(rows)
        starts = [int(row) for part in (distinct[:_STARTS], distinct[_STARTS:]) for row in random.permutation(part)]
        chains = (self._chain_from(start, distinct) for start in starts)
        pairs = (self._pair_from(start, distinct, random) for start in starts)
        return next(filter(None, chains), None) or next(filter(None, pairs), None)

    def _chain_from(self, start: int, rows: list[int]) -> str | None:
        """Chain the start, the newest item that shares its first attribute, and the newest that shares its second."""
        if self._chain is None:
            return None
        firsts, seconds = self._chain
        for second in rows:
            if second != start and set(firsts[second]) & set(firsts[start]):
                for third in rows:
                    if third not in (start, second) and set(seconds[third]) & set(seconds[second]):
                        return ", ".join(self._titles[row] for row in (start, second, third))
        return None

    def _pair_from(self, start: int, rows: list[int], random: np.random.Generator) -> str | None:
        """Pair the start with the newest item that shares a value with it, by the rarest value that is shared."""
        for value in sorted(self._values[start], key=lambda value: (self._counts[value], value)):
            for row in rows:
                if row != start and value in self._values[row]:
                    pair = f"{self._titles[start]} and {self._titles[row]}"
                    return sentence(_one_of(random, f"{pair}, both {value}", f"Both {value}: {pair}"))
        return None

    def _newest_first(self, rows: list[int]) -> list[int]:
        """Return the items that have a title, each title once, newest first."""
        by_title: dict[str, int] = {}
        for row in reversed(rows):
            by_title.setdefault(self._titles[row], row)
        return [row for title, row in by_title.items() if title]

    def _shares(self, rows: list[int]) -> dict[str, float]:
        counts = Counter(value for row in rows for value in self._values[row])
        return {value: count / len(rows) for value, count in counts.items()}

    def _top(self, weights: Mapping[str, float], n: int) -> list[str]:
        """Return the n values of most weight, of equals rarer ones first, without those that repeat one above.

        Of "writing supplies" and "gel pens", where all gel pens are writing supplies, only the first to come is named.
        """
        top: list[str] = []
        for value in sorted(weights, key=lambda value: (-weights[value], self._counts[value], value)):
            if not any(value in self._implied[above] or above in self._implied[value] for above in top):
                top.append(value)
            if len(top) == n:
                break
        return top


def _one_of(random: np.random.Generator, *choices: _T) -> _T:
    return choices[random.integers(len(choices))]
