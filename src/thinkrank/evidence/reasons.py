"""Reasons for an item in sentences with true counts; where counts are too small to tell, nothing is said.

- together: of the people who chose an item of the history, so many chose this one, clearly more than of all people.
- next: for so many of them it was the very next choice, clearly more than its share of all choices.
- attributes and decade: so many of the last items have them too, clearly more than their share of all choices.
- popularity: so many of all people chose it, if few items have more.

"Clearly" is the lower end of a Wilson interval: wide for what is picked as the best of many items of a history.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from thinkrank.data.catalogue import Catalogue
from thinkrank.data.history import History
from thinkrank.data.interactions import newest_distinct
from thinkrank.data.popularity import log_popularity
from thinkrank.data.requests import Requests
from thinkrank.data.splits import Split
from thinkrank.evidence import wording
from thinkrank.evidence.crowd import Crowd
from thinkrank.teachers.attributes import plain
from thinkrank.teachers.evidence import Facts, decade

ReasonKind = Literal["together", "next", "attributes", "decade", "popularity"]

FEWEST_PEOPLE = 3
"""People of whom something is said together; fewer tell little, and something about each of them."""

WINDOW = 20
"""Newest items of a history that reasons speak of."""

_WIDE, _NARROW = 3.0, 1.645  # standard errors: the best of many items; one share
_LEAST_RATIO = 1.25
_POPULAR = 1.0  # log of the train count against the catalogue's mean, as in `data.popularity.LEVELS`


@dataclass(frozen=True)
class Reason:
    """Hold one sentence for an item.

    Attributes:
        kind: what it is about.
        text: the sentence.
        weight: lower bound of the log of how much oftener this holds than for all people; of popularity, its log.
        item: catalogue row of the history's item that it names; None if it names none.
    """

    kind: ReasonKind
    text: str
    weight: float
    item: int | None = None


class Reasons:
    """Know the crowd and the texts, and say what speaks for an item after a history.

    Args:
        crowd: what was counted.
        catalogue: the items.
        noun: what the catalogue holds, in the singular.
    """

    def __init__(self, crowd: Crowd, catalogue: Catalogue, noun: str = "item") -> None:
        self.crowd, self.catalogue, self.nouns = crowd, catalogue, plain(noun) + "s"
        self.facts = Facts(catalogue, crowd.events())

    @classmethod
    def of(cls, split: Split, noun: str = "item") -> "Reasons":
        """Count a split's train part."""
        return cls(Crowd.of(split), split.dataset.catalogue, noun)

    def within(self, catalogue: Catalogue) -> "Reasons":
        """Count the same people in rows of another catalogue; items that it lacks are left out."""
        if catalogue is self.catalogue:
            return self
        histories = Requests(self.crowd.histories).within(catalogue).histories
        return Reasons(Crowd(histories, len(catalogue)), catalogue, self.nouns.removesuffix("s"))

    def reasons(self, history: History, item: int, without: int | None = None, *, most: int = 3) -> list[Reason]:
        """Say what speaks for an item, the best first: at most one reason of each kind, popularity behind all others.

        Args:
            history: oldest first; may be empty.
            item: catalogue row.
            without: number of the user who is left out of all counts.
            most: how many.
        """
        rows = newest_distinct(history, WINDOW).tolist()
        found = [
            *self._together(rows, item, without),
            *self._next(rows, item, without),
            *self._shares(history, item),
            *self._popularity(item, without),
        ]
        found.sort(key=lambda reason: (reason.kind == "popularity", -reason.weight))
        return found[:most]

    def together(self, rows: Sequence[int], item: int, without: int | None = None) -> list[tuple[float, int, int, int]]:
        """Find the items of a history whose choosers clearly chose this one more than all people did.

        Returns:
            lower bound of the log-ratio, row, people who chose both, people who chose the row; the clearest first.
        """
        people_I, num_people = self.crowd.people(without), max(1, self.crowd.num_people(without))
        expected, found = people_I[item] / num_people, []
        for row in rows:
            of, both = int(people_I[row]), int(self.crowd.together(row, without)[item])
            told = both >= FEWEST_PEOPLE and both / of >= _LEAST_RATIO * expected
            told = told and self.title(row) != self.title(item)
            if told and (bound := math.log(_lowest(both, of, _WIDE) / expected)) > 0:
                found.append((bound, row, both, of))
        return sorted(found, key=lambda one: (-one[0], one[1]))

    def _together(self, rows: Sequence[int], item: int, without: int | None) -> list[Reason]:
        expected = self.crowd.people(without)[item] / max(1, self.crowd.num_people(without))
        return [
            Reason("together", wording.together(both, of, self.title(row), both / of / expected), bound, row)
            for bound, row, both, of in self.together(rows, item, without)[:1]
        ]

    def _next(self, rows: Sequence[int], item: int, without: int | None) -> list[Reason]:
        people_I, events_I = self.crowd.people(without), self.crowd.events(without)
        expected, found = events_I[item] / max(1, events_I.sum()), []
        for row in rows:
            went, of = int(self.crowd.next_after(row, without)[item]), int(people_I[row])
            told = went >= FEWEST_PEOPLE and went / of >= _LEAST_RATIO * expected
            told = told and self.title(row) != self.title(item)
            if told and (bound := math.log(_lowest(went, of, _WIDE) / expected)) > 0:
                text = wording.next_choice(went, of, self.title(row), went / of / expected)
                found.append(Reason("next", text, bound, row))
        return sorted(found, key=lambda reason: -reason.weight)[:1]

    def _shares(self, history: History, item: int) -> list[Reason]:
        """Say the attributes that most of the last items share with this one, and its decade."""
        last, facts = history.last(WINDOW).items.tolist(), self.facts
        found: list[tuple[float, int, tuple[str, ...]]] = []
        for value in facts.values[item]:
            have = sum(value in facts.values[row] for row in last)
            if have >= 2 and (bound := math.log(_lowest(have, len(last), _NARROW) / facts.share(value))) > 0:
                found.append((bound, have, (value,)))
        reasons: list[Reason] = []
        if found:
            bound, have, values = max(found, key=lambda one: one[0])
            alike = facts.specific(value for _, other, (value,) in found if other == have)
            same = [
                value
                for value in alike
                if all((value in facts.values[row]) == (values[0] in facts.values[row]) for row in last)
            ]
            what = facts.nominal(same or values)
            reasons.append(Reason("attributes", wording.like_share(what, have, len(last), self.nouns), bound))
        year = facts.years[item]
        if year and year >= 1000:
            when = decade(year)
            have = sum(bool(other) and decade(other) == when for other in (facts.years[row] for row in last))
            if have >= 2 and (bound := math.log(_lowest(have, len(last), _NARROW) / facts.decade_share(when))) > 0:
                reasons.append(
                    Reason("decade", wording.like_share(f"from the {when}", have, len(last), self.nouns), bound)
                )
        return reasons

    def _popularity(self, item: int, without: int | None) -> list[Reason]:
        level, chose = float(log_popularity(self.crowd.events(without))[item]), int(self.crowd.people(without)[item])
        if level < _POPULAR or chose < FEWEST_PEOPLE:
            return []
        return [Reason("popularity", wording.people(chose, self.crowd.num_people(without)), level)]

    def title(self, row: int) -> str:
        """Return the short title of an item, by which sentences name it."""
        return self.facts.titles[row] or "(no title)"


def _lowest(hits: int, of: int, errors: float) -> float:
    """Return the lower end of Wilson's interval for a share.

    Source: Wilson 1927.
    """
    share, squared = hits / of, errors**2
    centre = share + squared / (2 * of)
    half = errors * math.sqrt(share * (1 - share) / of + squared / (4 * of**2))
    return max(1e-9, (centre - half) / (1 + squared / of))
