"""One check of every thought and reason before people see it: does it loop, does it name nothing, do its claims hold?

A text may be shown if all of this is so:

- it says something in words, to the end of a sentence, and not the same again and again (`thinkrank.evidence.loops`);
- what it names as a title is an item: a quoted phrase, or a run of capitalised words and numbers, stands in the texts
  of the history, of the item, or of the catalogue at least;
- it claims something that can be checked, more than the name of the item, and every such claim holds
  (`thinkrank.evidence.claims`).

Names are found by their looks, so a place ("Hong Kong") may be taken for a title: the check is meant to hide a harmless
text now and then rather than to show a bad one. Scripts without capital letters are checked by quotation marks alone.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from thinkrank.data.catalogue import Catalogue
from thinkrank.data.history import History
from thinkrank.data.popularity import COLUMN, WITHOUT_OWN
from thinkrank.evidence.claims import ClaimChecker, num_true
from thinkrank.evidence.crowd import Crowd
from thinkrank.evidence.loops import STOP, circle
from thinkrank.evidence.reasons import Reasons
from thinkrank.language.options import FinishReason
from thinkrank.stages.answers import Check, Ranking, Thought
from thinkrank.teachers.attributes import plain
from thinkrank.teachers.phrases import Form, words_of

UNCHECKED = "says nothing that could be checked"
_QUOTED = re.compile(r"[\"“„«《「]([^\"“”„»》」]{2,80})[\"”“»》」]")
_TOKEN = re.compile(r"[^\W_]+(?:['’&.\-][^\W_]+)*|[.!?]")
_SMALL = frozenset(["a", "an", "and", "at", "de", "for", "in", "la", "of", "on", "the", "to"])
_ENDS = (".", "!", "?", "…", '"', "”", "»", "。", "！", "？")


class TextChecker:
    """Check texts about items of one catalogue.

    Args:
        reasons: the counts and texts to check against.
        words_I: how popular each item is, in words, where nothing was counted; see `of_catalogue`.
    """

    def __init__(self, reasons: Reasons, words_I: Sequence[str | None] | None = None) -> None:
        self.claims, self._reasons = ClaimChecker(reasons, words_I), reasons

    @classmethod
    def of_catalogue(cls, catalogue: Catalogue, noun: str = "item") -> "TextChecker":
        """Check by the catalogue alone: titles, attributes and years, and popularity where a column tells it.

        What is said of other people's choices can then not be confirmed.
        """
        words_I: list[str | None] = [None] * len(catalogue)
        if COLUMN in catalogue.frame.columns:
            words_I = catalogue.frame[COLUMN].to_list()
        bare = Catalogue(catalogue.frame.drop(COLUMN, WITHOUT_OWN, strict=False))
        return cls(Reasons(Crowd([], len(bare)), bare, noun), words_I)

    def check(
        self,
        text: str,
        history: History,
        item: int | None = None,
        without: int | None = None,
        *,
        finish_reason: FinishReason = "closed",
    ) -> Check:
        """Check one text.

        Args:
            text: what was written.
            history: that it speaks of, oldest first.
            item: catalogue row of the candidate; None for a text about the history alone.
            without: number of the user who is left out of all counts.
            finish_reason: why its writer ended.
        """
        text = plain(text)
        if not any(len(word) > 1 and not word.isdigit() for word in words_of(text)):
            return Check(0, 0, ("says nothing in words",))
        claims = self.claims.claims(text, history, item, without)
        faults = []
        if finish_reason == "length" and not text.endswith(_ENDS):
            faults.append("stops in the middle of a sentence")
        if repeated := circle(self._units(text)):
            faults.append(f"repeats itself: {repeated}")
        faults += [f"names no item of the catalogue: {name}" for name in self._invented(text, history, item)]
        faults += [f"not true, {claim.kind}: {claim.said}" for claim in claims if not claim.is_true]
        if not faults and all(self.claims.is_name_of(claim, item) for claim in claims):
            faults.append(UNCHECKED)
        return Check(len(claims), num_true(claims), tuple(dict.fromkeys(faults)))

    def marked(
        self, ranking: Ranking, histories: Sequence[History], without: Sequence[int | None] | None = None
    ) -> Ranking:
        """Return the answer with every thought and reason in it checked.

        Args:
            ranking: what was answered.
            histories: of whom, one per request.
            without: per request the number of the user who is left out of all counts; None for nobody.
        """
        left_out = [None] * len(histories) if without is None else list(without)
        thoughts, reasons = ranking.thoughts, ranking.reasons
        if thoughts is not None:
            thoughts = tuple(
                self._checked(thought, history, None, user)
                for thought, history, user in zip(thoughts, histories, left_out, strict=True)
            )
        if reasons is not None:
            reasons = tuple(
                tuple(
                    self._checked(thought, history, int(item), user)
                    for thought, item in zip(many, items[items >= 0], strict=True)
                )
                for many, items, history, user in zip(reasons, ranking.items_BK, histories, left_out, strict=True)
            )
        return replace(ranking, thoughts=thoughts, reasons=reasons)

    def _checked(self, thought: Thought, history: History, item: int | None, without: int | None) -> Thought:
        check = self.check(thought.text, history, item, without, finish_reason=thought.finish_reason)
        return replace(thought, check=check)

    def _units(self, text: str) -> list[str]:
        """List what a text says, a title or an attribute as one word, in lower case."""
        spans = sorted(self.claims.names(text), key=lambda span: (span[0], -span[1]))
        units, end = [], 0
        for begin, until in spans:
            if begin >= end:
                units += [*_tokens(text[end:begin]), text[begin:until].casefold()]
                end = until
        return [*units, *_tokens(text[end:])]

    def _invented(self, text: str, history: History, item: int | None) -> Iterator[str]:
        """Yield what looks like a title and stands in no text of the history, of the item or of the catalogue."""
        shown = {*history.items.tolist(), *(() if item is None else (item,))}
        near = [self._texts[row] for row in shown]
        for begin, end in self.claims.names(text):
            text = text[:begin] + "|" * (end - begin) + text[end:]
        for name in (*_quoted(text), *_runs(text)):
            words = words_of(name, folded=True)
            if words and not any(_holds(texts, words) for texts in near) and not self._is_known(words):
                yield name

    def _is_known(self, words: Form) -> bool:
        """Tell whether words stand in a row in the texts of any item."""
        rows = self._rows_by_word.get(max(words, key=lambda word: -self._frequency[word]), ())
        return any(_holds(self._texts[row], words) for row in rows)

    @cached_property
    def _texts(self) -> list[list[Form]]:
        facts, titles = self._reasons.facts, self._reasons.catalogue.titles
        return [
            [words_of(title, folded=True), *(words_of(value, folded=True) for value in facts.values[row])]
            for row, title in enumerate(titles)
        ]

    @cached_property
    def _frequency(self) -> Counter[str]:
        return Counter(word for texts in self._texts for words in texts for word in words)

    @cached_property
    def _rows_by_word(self) -> dict[str, list[int]]:
        rows: dict[str, list[int]] = {}
        for row, texts in enumerate(self._texts):
            for word in {word for words in texts for word in words}:
                rows.setdefault(word, []).append(row)
        return rows


def checks_of(ranking: Ranking) -> list[Check]:
    """List what came of checking the thoughts and reasons of an answer."""
    thoughts = [*(ranking.thoughts or ()), *(thought for many in ranking.reasons or () for thought in many)]
    return [thought.check for thought in thoughts if thought.check is not None]


def summed(checks: Sequence[Check]) -> str:
    """Say of some checked texts how many may be shown, and how many of their claims hold."""
    shown = sum(check.may_be_shown for check in checks)
    checked, true = (int(np.sum([getattr(check, name) for check in checks])) for name in ("checked", "true"))
    texts = "text" if len(checks) == 1 else "texts"
    return f"{shown} of {len(checks)} {texts} may be shown; claims: checked {checked}, true {true}"


def _tokens(text: str) -> list[str]:
    return [STOP if found in ".!?" else found.casefold() for found in _TOKEN.findall(text)]


def _quoted(text: str) -> Iterator[str]:
    return (match[1] for match in _QUOTED.finditer(text) if "|" not in match[1])


def _runs(text: str) -> Iterator[str]:
    """Yield runs of at least two capitalised words or numbers, what a sentence begins with left out."""
    run: list[str] = []
    end, is_start, text = 0, True, _QUOTED.sub(lambda match: "|" * len(match.group()), text)
    for token in [*_TOKEN.finditer(text), None]:
        word = "" if token is None else token.group()
        apart = token is None or bool(text[end : token.start()].strip()) or word in ".!?"
        if apart:
            yield from _name(run)
            run = []
        if token is None:
            return
        end = token.end()
        if word in ".!?":
            is_start = True
        elif is_start:
            is_start = False  # a sentence begins with a capital letter whatever it speaks of
        elif word[0].isupper() or (run and (word in _SMALL or word.isdigit())):
            run.append(word)
        else:
            yield from _name(run)
            run = []


def _name(run: list[str]) -> Iterator[str]:
    while run and (run[-1] in _SMALL or run[0].lower() in {"the", "a", "an", "i"}):
        run = run[:-1] if run[-1] in _SMALL else run[1:]
    if len(run) > 1:
        yield " ".join(run)


def _holds(texts: Sequence[Form], words: Form) -> bool:
    """Tell whether words stand in a row in one of some texts."""
    size = len(words)
    return any(words == text[start : start + size] for text in texts for start in range(len(text) - size + 1))
