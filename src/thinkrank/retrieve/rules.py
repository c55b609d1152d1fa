"""Thoughts written by rules: the cold start for training thoughts by reward.

A writer says in one short line what a history shows: its newest titles, its taste, how the taste moved, its decades, or
which of its items belong together. It sees nothing but the history, so what it writes can't give a target away. Which
of these are worth writing is for the reward to decide; the writer's task is to be varied and easy to imitate, hence few
words, always the same, and a form drawn anew at each call.

An item's attributes are the values of the catalogue's ``categories``, ``brand`` and further text columns. Values that
more than half of the catalogue share, or that only one item has (ids, links), say nothing and are left out. A catalogue
with nothing but titles gets attributes from them, which suits shops: how a title begins, mostly the maker, and the noun
that ends its first phrase, mostly the kind of product.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Literal, TypeAlias, TypeVar, get_args

import numpy as np
import polars as pl

from thinkrank.data import Catalogue, History
from thinkrank.data.catalogue import TEXT_COLUMNS
from thinkrank.errors import ThinkrankError

Form = Literal["recent", "taste", "shift", "era", "links"]
ALL_FORMS: tuple[Form, ...] = get_args(Form)

NOTHING = "Nothing is known yet."
"""What is written about a history that shows nothing."""

RECENCY = 0.9
"""What an interaction weighs relative to the one after it."""

LEAST_SHIFT = 0.2
"""What is called a shift: this difference in the share of items with a value, between the halves of a history."""

_STARTS = 3
"""How many of the newest items a chain or a pair may begin with, if they belong with others at all."""

_INSTEAD: dict[Form, Form] = {"taste": "recent", "shift": "taste", "era": "taste", "links": "recent"}
"""What is written where a form finds nothing to say."""

_TITLE_WORDS, _VALUE_WORDS, _CHARACTERS = 6, 4, 60
_LEAST_TITLES = 5  # that must share a beginning or a noun before it counts as an attribute
_YEAR_BEHIND = re.compile(r"\s*\((?:18|19|20)\d\d\)$")
_PHRASE_END = re.compile(r"[,(;:|\[–—]|\s-\s|\s(?:with|for|in|by|w/|to|from|of|and|&)\s", re.IGNORECASE)
_NOUN = re.compile(r"[^\W\d_]{3,}(?:-[^\W\d_]+)*")
_UNFINISHED = frozenset(["a", "an", "and", "at", "by", "for", "from", "in", "of", "on", "or", "the", "to", "with", "&"])
_NO_NOUN = re.compile(
    r"(?:black|white|blue|red|green|assorted|colou?r|count|box|pack|package|set|size|inch|new|series|compatible"
    r"|replacement|weekly|collection|plus)(?:e?s)?"
)
_INVISIBLE = ("Cf", "Cs", "Co", "Cn")
_ENDS = " ,;:-–—(&/+|["
_T = TypeVar("_T")
_Column: TypeAlias = list[tuple[str, ...]]  # one attribute: the values of each catalogue row


class RuleWriter:
    """Writes thoughts by rules, each one line of at most some thirty words without control characters.

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
        columns, self._chain = _attributes(catalogue)
        self._values = _joined(columns, len(catalogue))
        self._counts = Counter(value for values in self._values for value in values)
        self._implied = _implied(self._values)
        years = catalogue.frame["year"].to_list() if "year" in catalogue.frame.columns else [None] * len(catalogue)
        self._decades = [(f"{year // 10}0s",) if year and year >= 1000 else () for year in years]
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

    def _recent(self, rows: list[int], random: np.random.Generator) -> str | None:
        shown = [self._titles[row] for row in self._newest_first(rows)[: random.integers(1, 4)]]
        return _sentence(f"{_one_of(random, 'Lately', 'Recently')} {_listed(shown)}") if shown else None

    def _taste(self, rows: list[int], random: np.random.Generator) -> str | None:
        top = self._top(recency_weights([self._values[row] for row in rows]), 3)
        if not top:
            return None
        text = f"{_one_of(random, 'Mostly', 'Likes')} {_listed(top[:2])}"
        return _sentence(text if len(top) < 3 else f"{text}, next {top[2]}")

    def _shift(self, rows: list[int], random: np.random.Generator) -> str | None:
        middle = len(rows) // 2
        older, newer = (self._shares(half) for half in (rows[:middle], rows[middle:]))
        rise = {value: round(newer.get(value, 0) - older.get(value, 0), 9) for value in older | newer}
        before = self._top({value: -change for value, change in rise.items() if change <= -LEAST_SHIFT}, 1)
        after = self._top({value: change for value, change in rise.items() if change >= LEAST_SHIFT}, 2)
        if not before or not after:
            return None
        earlier, lately = _one_of(random, ("Earlier", "lately"), ("Before", "now"))
        return _sentence(f"{earlier} {before[0]}, {lately} {_listed(after)}")

    def _era(self, rows: list[int], random: np.random.Generator) -> str | None:
        weights = recency_weights([self._decades[row] for row in rows])
        if not weights:
            return None
        decades = sorted(weights, key=lambda decade: (-weights[decade], decade))[:2]
        decades = [decade for decade in decades if 2 * weights[decade] >= weights[decades[0]]]
        inside = [self._values[row] if set(self._decades[row]) & set(decades) else () for row in rows]
        top = self._top(recency_weights(inside), 1)
        nouns, when = self._nouns, _listed(decades)
        text = _one_of(random, f"{nouns[:1].upper()}{nouns[1:]} of the {when}", f"{when} {nouns}")
        return _sentence(f"{text}, mostly {top[0]}" if top else text)

    def _links(self, rows: list[int], random: np.random.Generator) -> str | None:
        distinct = self._newest_first(rows)
        starts = [int(row) for part in (distinct[:_STARTS], distinct[_STARTS:]) for row in random.permutation(part)]
        chains = (self._chain_from(start, distinct) for start in starts)
        pairs = (self._pair_from(start, distinct, random) for start in starts)
        return next(filter(None, chains), None) or next(filter(None, pairs), None)

    def _chain_from(self, start: int, rows: list[int]) -> str | None:
        """The start, the newest item that shares its first attribute, and the newest that shares that one's second."""
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
        """The start, the newest item that shares a value with it, and that value: the rarest that is shared."""
        for value in sorted(self._values[start], key=lambda value: (self._counts[value], value)):
            for row in rows:
                if row != start and value in self._values[row]:
                    pair = f"{self._titles[start]} and {self._titles[row]}"
                    return _sentence(_one_of(random, f"{pair}, both {value}", f"Both {value}: {pair}"))
        return None

    def _newest_first(self, rows: list[int]) -> list[int]:
        """The items that have a title, each title once."""
        by_title: dict[str, int] = {}
        for row in reversed(rows):
            by_title.setdefault(self._titles[row], row)
        return [row for title, row in by_title.items() if title]

    def _shares(self, rows: list[int]) -> dict[str, float]:
        counts = Counter(value for row in rows for value in self._values[row])
        return {value: count / len(rows) for value, count in counts.items()}

    def _top(self, weights: Mapping[str, float], n: int) -> list[str]:
        """The n values of most weight, rarer ones first where it ties, without those that repeat one above.

        Of "writing supplies" and "gel pens", where all gel pens are writing supplies, only the first to come is named.
        """
        top: list[str] = []
        for value in sorted(weights, key=lambda value: (-weights[value], self._counts[value], value)):
            if not any(value in self._implied[above] or above in self._implied[value] for above in top):
                top.append(value)
            if len(top) == n:
                break
        return top


def recency_weights(values: Sequence[Sequence[str]]) -> dict[str, float]:
    """How much of each value there is in a history: every occurrence counts `RECENCY` to the power of its age.

    Args:
        values: of each interaction, oldest first; the newest one has age 0.
    """
    weights: dict[str, float] = {}
    weight = 1.0
    for present in reversed(values):
        for value in present:
            weights[value] = weights.get(value, 0.0) + weight
        weight *= RECENCY
    return weights


def plain(text: str) -> str:
    """One line without control characters: those that separate become spaces, invisible ones vanish."""
    if text.isprintable():
        return " ".join(text.split())
    kinds = ((character, unicodedata.category(character)) for character in text)
    kept = (" " if kind in ("Cc", "Zl", "Zp") else character for character, kind in kinds if kind not in _INVISIBLE)
    return " ".join("".join(kept).split())


def short_title(title: str) -> str:
    """The first words of a title, without a year in parentheses behind it; ends before a comma where it can."""
    title = plain(title)
    return _cut(_YEAR_BEHIND.sub("", title) or title, _TITLE_WORDS, at_comma=True)


def _cut(text: str, num_words: int, *, at_comma: bool = False) -> str:
    """The first words, without what they leave unfinished: an open parenthesis, a preposition and a word behind it."""
    words = text.split()
    if len(words) > num_words:
        commas = (i for i in range(1, num_words) if at_comma and words[i].endswith(","))
        whole = num_words - (words[num_words - 2].lower() in _UNFINISHED)
        text = " ".join(words[: next(commas, whole - 1) + 1])
        for opening, closing in ("()", "[]"):
            if (opened := text.rfind(opening)) > max(0, text.rfind(closing)):
                text = text[:opened]
        words = text.split()
        while len(words) > 1 and (words[-1].lower() in _UNFINISHED or not words[-1].strip(_ENDS)):
            words.pop()
        text = " ".join(words).rstrip(_ENDS)
    return text[:_CHARACTERS].rstrip()


def _attributes(catalogue: Catalogue) -> tuple[list[_Column], tuple[_Column, _Column] | None]:
    """All columns of attributes, and the two that chains of links go by: the first two further columns of text."""
    fixed, further = [], []
    for name in catalogue.frame.columns:
        series = catalogue.frame[name]
        if name in ("categories", "brand"):
            fixed.append(_column(series, lower=name == "categories"))
        elif name not in TEXT_COLUMNS and series.dtype in (pl.String, pl.Enum, pl.Categorical, pl.List(pl.String)):
            further.append(_column(series))
    fixed, further = ([column for column in columns if any(column)] for columns in (fixed, further))
    if not fixed and not further:
        return _title_attributes(catalogue.titles), None
    return fixed + further, (further[0], further[1]) if len(further) > 1 else None


def _column(series: pl.Series, *, lower: bool = False) -> _Column:
    texts = [[cell] if isinstance(cell, str) else cell or [] for cell in series.to_list()]
    return _telling([[_short_value(text, lower) for text in cell if text] for cell in texts], least=2)


def _short_value(text: str, lower: bool) -> str:
    words = plain(text).split()
    cased = (word if word.isupper() and len(word) > 1 else word.lower() for word in words) if lower else words
    return _cut(" ".join(cased), _VALUE_WORDS)


def _telling(column: Iterable[Sequence[str]], *, least: int) -> _Column:
    """A column without the values that fewer than `least` items or more than half of the catalogue have."""
    rows = [tuple(dict.fromkeys(filter(None, values))) for values in column]
    counts = Counter(value for values in rows for value in values)
    return [tuple(value for value in values if least <= counts[value] <= len(rows) / 2) for values in rows]


def _title_attributes(titles: Sequence[str]) -> list[_Column]:
    """Makers and kinds, as far as titles in the way of shops show them.

    The maker is the first word. The kind is the noun before the first comma, parenthesis or preposition, in the plural
    if any title has it so, alone and with the word before ("pens", "gel pens"). Where there is hardly a choice, a word
    more is taken: "Paper" is "Paper Mate", "erase markers" are "dry erase markers".
    """
    phrases = [_PHRASE_END.split(plain(title), maxsplit=1)[0].split() for title in titles]
    makers = _bound([phrase[:-1] for phrase in phrases], 1)
    rests = [phrase[max(1, len(maker)) :] for phrase, maker in zip(phrases, makers, strict=True)]
    seen = {word for title in titles for word in _NOUN.findall(title.lower())}
    backwards = []
    for rest in rests:
        noun, *before = [word.lower() for word in reversed(rest)] or [""]
        backwards.append([f"{noun}s" if f"{noun}s" in seen else noun, *before])
    kinds = [list(takewhile(_is_noun, kind)) for kind in _bound(backwards, 2)]
    return [
        _telling(([" ".join(maker)] if _is_name(maker) else [] for maker in makers), least=_LEAST_TITLES),
        _telling(([*kind[:1], " ".join(reversed(kind))] for kind in kinds), least=_LEAST_TITLES),
    ]


def _bound(phrases: Sequence[Sequence[str]], num_words: int) -> list[Sequence[str]]:
    """The first words of each phrase, and one more if at least four in five phrases that begin so go on so."""
    shorter, longer = (Counter(tuple(phrase[:n]) for phrase in phrases) for n in (num_words, num_words + 1))
    return [
        phrase[: num_words + (5 * longer[tuple(phrase[: num_words + 1])] >= 4 * shorter[tuple(phrase[:num_words])])]
        for phrase in phrases
    ]


def _is_noun(word: str) -> bool:
    return _NOUN.fullmatch(word) is not None and _NO_NOUN.fullmatch(word) is None and word not in _UNFINISHED


def _is_name(words: Sequence[str]) -> bool:
    return any(character.isalpha() for word in words[:1] for character in word) and words[0].lower() not in _UNFINISHED


def _joined(columns: Sequence[_Column], num_items: int) -> _Column:
    return [tuple(dict.fromkeys(value for column in columns for value in column[row])) for row in range(num_items)]


def _implied(values: _Column) -> dict[str, set[str]]:
    """For each value those that every item with it has too, itself included."""
    implied: dict[str, set[str]] = {}
    for present in values:
        for value in present:
            implied[value] = implied[value] & set(present) if value in implied else set(present)
    return implied


def _listed(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


def _one_of(random: np.random.Generator, *choices: _T) -> _T:
    return choices[random.integers(len(choices))]
