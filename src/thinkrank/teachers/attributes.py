"""What items have in common, in words few enough to be written into a thought.

An item's attributes are the values of the catalogue's ``categories``, ``brand`` and further text columns. Values that
more than half of the catalogue share, or that only one item has (ids, links), say nothing and are left out. A catalogue
with nothing but titles gets attributes from them, which suits shops: how a title begins, mostly the maker, and the noun
that ends its first phrase, mostly the kind of product.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import TypeAlias

import polars as pl

from thinkrank.data.catalogue import TEXT_COLUMNS, Catalogue

Column: TypeAlias = list[tuple[str, ...]]
"""One attribute: the values of each catalogue row."""

RECENCY = 0.9
"""What an interaction weighs relative to the one after it."""

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


def plain(text: str) -> str:
    """Write one line without control characters: those that separate become spaces, invisible ones vanish."""
    if text.isprintable():
        return " ".join(text.split())
    kinds = ((character, unicodedata.category(character)) for character in text)
    kept = (" " if kind in ("Cc", "Zl", "Zp") else character for character, kind in kinds if kind not in _INVISIBLE)
    return " ".join("".join(kept).split())


def short_title(title: str) -> str:
    """Cut a title to its first words, without a year in parentheses; it ends before a comma where it can."""
    title = plain(title)
    return _cut(_YEAR_BEHIND.sub("", title) or title, _TITLE_WORDS, at_comma=True)


def attribute_columns(catalogue: Catalogue) -> dict[str, Column]:
    """Find the attributes that say something, under the names of their columns.

    Returns:
        ``categories`` (in lower case), ``brand`` and the further columns of text, in the catalogue's order; if none
        of them says anything, ``brand`` and ``categories`` as the titles show them.
    """
    columns: dict[str, Column] = {}
    for name in catalogue.frame.columns:
        series = catalogue.frame[name]
        if name in ("categories", "brand"):
            columns[name] = _column(series, lower=name == "categories")
        elif name not in TEXT_COLUMNS and series.dtype in (pl.String, pl.Enum, pl.Categorical, pl.List(pl.String)):
            columns[name] = _column(series)
    return {name: column for name, column in columns.items() if any(column)} or _title_attributes(catalogue.titles)


def reasoned_columns(catalogue: Catalogue) -> tuple[str, ...]:
    """Return the columns whose values the teacher of rules reasons about; none where titles alone tell something."""
    return tuple(name for name in attribute_columns(catalogue) if name in catalogue.frame.columns)


def joined(columns: Iterable[Column], num_items: int) -> Column:
    """Join all values of each item, in the order of the columns, each once."""
    columns = list(columns)
    return [tuple(dict.fromkeys(value for column in columns for value in column[row])) for row in range(num_items)]


def implied_values(values: Column) -> dict[str, set[str]]:
    """Find for each value those that every item with it has too, itself included."""
    implied: dict[str, set[str]] = {}
    for present in values:
        for value in present:
            implied[value] = implied[value] & set(present) if value in implied else set(present)
    return implied


def listed(parts: Sequence[str]) -> str:
    """List parts, at least one, as in "a, b and c"."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def sentence(text: str) -> str:
    """End the text with a full stop, unless it has one."""
    return text if text.endswith(".") else f"{text}."


def recency_weights(values: Sequence[Sequence[str]]) -> dict[str, float]:
    """Weigh the values of a history: every occurrence counts `RECENCY` to the power of its age.

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


def _cut(text: str, num_words: int, *, at_comma: bool = False) -> str:
    """Return the first words, less what they leave unfinished: an open parenthesis, a preposition and a word behind."""
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


def _column(series: pl.Series, *, lower: bool = False) -> Column:
    texts = [[cell] if isinstance(cell, str) else cell or [] for cell in series.to_list()]
    return _telling([[_short_value(text, lower) for text in cell if text] for cell in texts], least=2)


def _short_value(text: str, lower: bool) -> str:
    words = plain(text).split()
    cased = (word if word.isupper() and len(word) > 1 else word.lower() for word in words) if lower else words
    return _cut(" ".join(cased), _VALUE_WORDS)


def _telling(column: Iterable[Sequence[str]], *, least: int) -> Column:
    """Drop the values of a column that fewer than `least` items or more than half of the catalogue have."""
    rows = [tuple(dict.fromkeys(filter(None, values))) for values in column]
    counts = Counter(value for values in rows for value in values)
    return [tuple(value for value in values if least <= counts[value] <= len(rows) / 2) for values in rows]


def _title_attributes(titles: Sequence[str]) -> dict[str, Column]:
    """Find makers and kinds, as far as titles in the way of shops show them.

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
    names = ([" ".join(maker)] if _is_name(maker) else [] for maker in makers)
    nouns = ([*kind[:1], " ".join(reversed(kind))] for kind in kinds)
    return {"brand": _telling(names, least=_LEAST_TITLES), "categories": _telling(nouns, least=_LEAST_TITLES)}


def _bound(phrases: Sequence[Sequence[str]], num_words: int) -> list[Sequence[str]]:
    """Return the first words of each phrase, and one more if at least four in five phrases that begin so go on so."""
    shorter, longer = (Counter(tuple(phrase[:n]) for phrase in phrases) for n in (num_words, num_words + 1))
    return [
        phrase[: num_words + (5 * longer[tuple(phrase[: num_words + 1])] >= 4 * shorter[tuple(phrase[:num_words])])]
        for phrase in phrases
    ]


def _is_noun(word: str) -> bool:
    return _NOUN.fullmatch(word) is not None and _NO_NOUN.fullmatch(word) is None and word not in _UNFINISHED


def _is_name(words: Sequence[str]) -> bool:
    return any(character.isalpha() for word in words[:1] for character in word) and words[0].lower() not in _UNFINISHED
