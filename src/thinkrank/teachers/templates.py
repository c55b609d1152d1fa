"""Evidence in words: one to three short sentences, drawn from a few ways to say each thing."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from thinkrank.data.popularity import ways_to_say
from thinkrank.teachers.attributes import listed, sentence
from thinkrank.teachers.evidence import Evidence, Facts, Profile

_T = TypeVar("_T")

MATCH = ("A match.", "A good fit.", "Likely next.", "Fits well.")
NO_MATCH = ("Not a match.", "A poor fit.", "Unlikely next.", "Does not fit.")
NOTHING = "Nothing is known yet."
LEADS = ("This one:", "Here:", "On offer:", "Now:")
_RICHNESS = ((2, 3), (2, 2), (1, 2), (1, 1), (0, 1), (0, 0))  # titles named, asides; the first that is short enough
_PIECE = re.compile(r"[^\W\d_]{1,7}|\d|[^\w\s]")


def num_pieces(text: str) -> int:
    """Estimate how many tokens a small model's tokenizer makes of a text: count short words, digits, marks."""
    return len(_PIECE.findall(text))


@dataclass(frozen=True)
class Choice:
    """Draw words by a hash of the question, the same in every process."""

    digest: bytes

    @classmethod
    def by(cls, key: str) -> "Choice":
        """Return the draws for one key."""
        return cls(hashlib.blake2b(key.encode(), digest_size=8).digest())

    def __call__(self, place: int, options: Sequence[_T]) -> _T:
        """Choose one of the options; equal places, in 0 to 7, draw equally."""
        return options[self.digest[place] % len(options)]


@dataclass(frozen=True)
class Templates:
    """Put one question into words.

    Attributes:
        facts: what is known about items.
        profile: what the history shows.
        item: the candidate's row.
        nouns: what items are called, in the plural.
        choice: which words are drawn.
    """

    facts: Facts
    profile: Profile
    item: int
    nouns: str
    choice: Choice

    def write(self, reasons: Sequence[Evidence], doubts: Sequence[Evidence], *, likely: bool, max_pieces: int) -> str:
        """Say what the history shows, what the item is with what speaks for and against the verdict, and the verdict.

        Args:
            reasons: what the verdict rests on, the weightiest first; may be empty.
            doubts: what speaks against the verdict, the weightiest first.
            likely: the verdict.
            max_pieces: titles and asides are left out as long as there are more.
        """
        leading = next((piece for piece in reasons if piece.kind != "popularity"), None)
        if leading and leading.kind == "taste" and not likely and self.choice(2, (True, False)):
            leading = None  # what is missing is told behind the item, not before
        for_it = [self._aside(piece) for piece in reasons if piece is not leading]
        if not reasons:
            for_it = ["with nothing that speaks for it"]
        but = [f"though {self._aside(piece)}" for piece in doubts[:1]]
        lead, verdict = self.choice(0, LEADS), self.choice(1, MATCH if likely else NO_MATCH)
        text = ""
        for num_titles, num_asides in _RICHNESS:
            asides = [*for_it[: max(1, num_asides - len(but))], *but][:num_asides]
            opening = self._opening(leading, likely, num_titles)
            text = f"{opening} {lead} {sentence(', '.join([self._item(), *asides]))} {verdict}"
            if num_pieces(text) <= max_pieces:
                break
        return text

    def _opening(self, leading: Evidence | None, likely: bool, num_titles: int) -> str:
        """Say what the history shows, as far as it bears on the verdict."""
        if not self.profile.rows:
            return NOTHING
        if leading is None:
            return (likely and self._overlap(num_titles)) or self._summary(num_titles)
        match leading.kind:
            case "repeat":
                return "Chose this one before."
            case "title":
                return f"Chose {self.facts.titles[leading.rows[0]]}; this title too has {_quoted(leading.values)}."
            case "era":
                return self._era(leading, num_titles)
        return self._liked(leading, num_titles) if likely else self._missed(leading)

    def _liked(self, taste: Evidence, num_titles: int) -> str:
        shared, rows = self._shared(taste)
        what, titles = self.facts.nominal(shared), self._titles(rows)[:num_titles]
        count, last = len(rows), len(self.profile.rows)
        if count == 1 and last > 2:
            return _with_titles(f"Already chose {what}", titles)
        ways = [_with_titles(f"Likes {what}", titles)]
        if titles and count > 1:
            ways.append(f"{listed(titles)} {'show' if len(titles) > 1 else 'shows'} a taste for {what}.")
            ways.append(f"Keeps choosing {what}, such as {titles[0]}.")
        if 2 < count < last:
            ways.append(self._counted(count, what, titles))
        if len(titles) == 2 and set(self.profile.rows[:2]) <= set(rows):
            ways.append(f"Lately {listed(titles)}, both {what}.")
        return self.choice(2, ways)

    def _missed(self, taste: Evidence) -> str:
        what, count, last = self.facts.nominal(taste.values[:1]), len(taste.rows), len(self.profile.rows)
        if count:
            return f"Only {self._counted(count, what)}"
        main, _ = self._main_taste()
        return f"No {what} among the last {last} {self.nouns}{f', {main}' if main else ''}."

    def _era(self, era: Evidence, num_titles: int) -> str:
        count, when = len(era.rows), f"from the {era.values[0]}"
        titles = self._titles(era.rows)[:num_titles]
        if count == len(self.profile.rows):
            return _with_titles(f"All {self.nouns} so far are {when}", titles)
        if not count:
            return f"None of the last {len(self.profile.rows)} {self.nouns} is {when}."
        return f"{'' if era.weight > 0 else 'Only '}{self._counted(count, when, titles)}"

    def _overlap(self, num_titles: int) -> str:
        """Say how many items of the history have the item's most frequent value, if more than a few do."""
        rows = max((self.profile.holding([v]) for v in self.facts.values[self.item]), key=len, default=())
        if not 5 * len(rows) >= len(self.profile.rows) > 2 or len(rows) < 2:
            return ""
        shared = [v for v in self.facts.values[self.item] if self.profile.holding([v]) == rows]
        what = self.facts.nominal(self.facts.specific(shared))
        return self._counted(len(rows), what, self._titles(rows)[:num_titles])

    def _counted(self, count: int, what: str, titles: Sequence[str] = ()) -> str:
        such_as = f", such as {titles[0]}" if titles else ""
        are = "are" if count > 1 else "is"
        return f"{count} of the last {len(self.profile.rows)} {self.nouns} {are} {what}{such_as}."

    def _summary(self, num_titles: int) -> str:
        """Say the taste of a history, or its newest titles where it shows none."""
        main, rows = self._main_taste()
        if main:
            return _with_titles(main[0].upper() + main[1:], self._titles(rows)[:num_titles])
        titles = self._titles(self.profile.rows)[: max(1, num_titles)]
        return f"{self.choice(3, ('Lately', 'Recently', 'So far'))} {listed(titles)}." if titles else NOTHING

    def _main_taste(self) -> tuple[str, tuple[int, ...]]:
        """Say the one or two values that half of the history has, or a quarter; return the items that have them all."""
        weights, last = self.profile.tastes, len(self.profile.rows)
        top = self.facts.specific(sorted(weights, key=lambda value: (-weights[value], value))[:3])
        for values in filter(None, (top[:2], top[:1])):
            rows = self.profile.holding(values)
            if last == 1:
                return f"so far {self.facts.nominal(values)}", rows
            if 4 * len(rows) >= last and len(rows) > 1:
                often = self.choice(3, ("mostly", "mainly", "largely")) if 2 * len(rows) >= last else "often"
                return f"{often} {self.facts.nominal(values)}", rows
        return "", ()

    def _item(self) -> str:
        """Say what the item is, by its attributes and year, or by its title where it has none."""
        facts, values = self.facts, self._item_values()
        if set(values) <= facts.brand_names:
            what = facts.titles[self.item] or self.facts.nominal(values) or "something without a title"
        else:
            what = self.facts.nominal(values[:4])
        year = facts.years[self.item]
        return f"{what} from {year}" if year else what

    def _item_values(self) -> tuple[str, ...]:
        return self.facts.specific(self.facts.values[self.item])

    def _aside(self, piece: Evidence) -> str:
        favours = piece.weight > 0
        match piece.kind:
            case "popularity":
                return self.choice(4, ways_to_say(piece.weight))
            case "repeat":
                return "chosen before"
            case "title":
                return f"sharing {_quoted(piece.values)} with {self.facts.titles[piece.rows[0]]}"
            case "era":
                few = "few" if piece.rows else "none"
                return "of the usual years" if favours else f"{few} from the {piece.values[0]} so far"
        shared, rows = self._shared(piece)
        if favours:
            titles = self._titles(rows)[:1]
            what = "" if set(shared) == set(self._item_values()) else f"{self.facts.nominal(shared)} "
            return f"{what}like {titles[0]}" if titles else f"{what}as before"
        return f"{'little' if piece.rows else 'no'} {self.facts.nominal(piece.values[:1])} so far"

    def _shared(self, taste: Evidence) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Return a taste's weightiest value and the items that have it; and the next, if most of these have it too."""
        values = self.facts.specific(taste.values)
        one, both = self.profile.holding(values[:1]), self.profile.holding(values[:2])
        return (values[:2], both) if 2 * len(both) > len(one) else (values[:1], one)

    def _titles(self, rows: Sequence[int]) -> list[str]:
        """Return the titles of the rows, each once."""
        return list(dict.fromkeys(filter(None, (self.facts.titles[row] for row in rows))))


def _with_titles(text: str, titles: Sequence[str]) -> str:
    return sentence(f"{text}: {', '.join(titles)}" if titles else text)


def _quoted(words: Sequence[str]) -> str:
    return listed([f'"{word}"' for word in words[:2]])
