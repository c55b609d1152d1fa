"""Finding what a text claims of an item and a history, and telling whether it is true.

Counts are found by the wordings of `wording` and of the teacher of rules; titles, attributes, years, decades and words
for popularity wherever they stand. What is said in other words is not found, so a text without false claims may still
be wrong. Each claim is compared with the data:

- title: it is in the history, or the item itself.
- together, next, people: both counts, and the ratio where one is told, without the user who is left out.
- share: so many of the last items have all attributes that stand beside it.
- attribute, year: behind the teacher's "This one:" the item has it, else an item of the history has, or the item; after
  "is not" the item has it not; after no and none nothing in the history has, after few, little and only a quarter at
  most; after mostly half, or a third where only one other attribute is as common.
- popularity: the item's train count is of that level.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from thinkrank.data.history import History
from thinkrank.data.popularity import LEVELS, log_popularity, ways_to_say
from thinkrank.evidence import wording
from thinkrank.evidence.reasons import Reasons
from thinkrank.teachers.attributes import plain, short_title
from thinkrank.teachers.evidence import decade
from thinkrank.teachers.leak_filter import title_forms
from thinkrank.teachers.phrases import Form, Phrases, words_of
from thinkrank.teachers.templates import LEADS

ClaimKind = Literal["title", "together", "next", "people", "share", "attribute", "year", "popularity"]

_YEAR = re.compile(r"(?<!\d)((?:1[89]|20)\d\d)(s?)(?!\w)")
_ARTICLE = re.compile(r"(.+), (The|A|An|Les?|La|Der|Die|Das|El|Il)")
_PARENTHESES = re.compile(r"(.{3,}?)\s*\(([^()]{3,})\)")
_LEAD = re.compile("|".join(map(re.escape, LEADS)))
_SENTENCE = re.compile(r"[^.!?]+[.!?]*")
_NOT = r"not\b(?! (?:only|just|merely)\b)"
_NONE = re.compile(rf"\b(?:no\b|none\b|{_NOT})[^,;:]*$", re.IGNORECASE)
_NOT_IT = re.compile(rf"\b(?:is|it['’]s|was) {_NOT}[^,;:]*$|\b(?:is|was)n['’]t\b[^,;:]*$", re.IGNORECASE)
_FEW = re.compile(r"\b(?:few|little|(?<!not )only)\b[^,;:]*$", re.IGNORECASE)
_MOST = re.compile(r"\b(?:mostly|mainly|largely)\b[^,;:]*$", re.IGNORECASE)
_POPULARITY = re.compile(
    r"\b(?:" + "|".join(sorted((way for _, ways in LEVELS for way in ways), key=len, reverse=True)) + r")\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Claim:
    """Hold one thing that a text says.

    Attributes:
        kind: what it is about.
        said: the words.
        is_true: whether the data say so too.
    """

    kind: ClaimKind
    said: str
    is_true: bool


def num_true(claims: Sequence[Claim]) -> int:
    """Count the true ones."""
    return sum(claim.is_true for claim in claims)


class ClaimChecker:
    """Find and check the claims of texts about items of one catalogue.

    Args:
        reasons: the counts and texts to check against.
        words_I: how popular each item is, in words of `data.popularity`, where nothing was counted; words for
            popularity are then judged by these, and not at all of an item that has None.
    """

    def __init__(self, reasons: Reasons, words_I: Sequence[str | None] | None = None) -> None:
        self.reasons, self._words_I, facts = reasons, words_I, reasons.facts
        values = {value for present in facts.values for value in present}
        brands, kinds = values & facts.brand_names, values - facts.brand_names
        self._named = {words_of(value, folded=value in kinds): value for value in sorted(values)}
        # What may be a title or an attribute is read as the attribute.
        self._forms = [_spoken(title) - self._named.keys() for title in reasons.catalogue.titles]
        self._titles = Phrases(form for forms in self._forms for form in forms)
        self._brands = Phrases(words_of(value) for value in brands)
        self._kinds = Phrases((words_of(value, folded=True) for value in kinds), folded=True)

    def claims(self, text: str, history: History, item: int | None = None, without: int | None = None) -> list[Claim]:
        """List the claims of a text, counts first.

        Args:
            text: any text; what is no claim that is known here is passed over.
            history: that it speaks of, oldest first.
            item: catalogue row of the candidate; None for a text about the history alone.
            without: number of the user who is left out of all counts.
        """
        return _Reading(self, plain(text), history, item, without).claims()

    def names(self, text: str) -> list[tuple[int, int]]:
        """List where a text, without control characters, names titles and attributes of the catalogue."""
        found = [*self._titles.find(text, sentence_starts=False), *self._brands.find(text), *self._kinds.find(text)]
        return [(begin, end) for begin, end, _ in found]

    def is_name_of(self, claim: Claim, item: int | None) -> bool:
        """Tell whether a claim only names the item that the text is about."""
        return item is not None and claim.kind == "title" and words_of(claim.said) in self._forms[item]

    def attributes(self, text: str) -> set[str]:
        """Return the attributes of the catalogue that a text names."""
        text = plain(text)
        return {self._named[form] for _, _, form in (*self._brands.find(text), *self._kinds.find(text))}

    def _popular(self, item: int, without: int | None) -> tuple[str, ...]:
        """Return the words that are true of an item's popularity; none if that is not known."""
        if self._words_I is None:
            return ways_to_say(float(log_popularity(self.reasons.crowd.events(without))[item]))
        return next((ways for _, ways in LEVELS if self._words_I[item] in ways), ())


class _Reading:
    """Read one text; what has been understood is blanked."""

    def __init__(
        self,
        checker: ClaimChecker,
        text: str,
        history: History,
        item: int | None,
        without: int | None,
    ) -> None:
        self._checker, self._reasons, self._text = checker, checker.reasons, text
        self._rows, self._item, self._without = history.items.tolist(), item, without
        self._found: list[Claim] = []

    def claims(self) -> list[Claim]:
        if self._item is not None:
            self._counts(self._item)
        self._named_titles()
        for sentence in list(_SENTENCE.finditer(self._text)):
            self._shares(*sentence.span())
        for sentence in list(_SENTENCE.finditer(self._text)):
            self._attributes(*sentence.span())
        return self._found

    def _claim(self, kind: ClaimKind, begin: int, end: int, is_true: bool) -> None:
        self._found.append(Claim(kind, self._text[begin:end].strip(), bool(is_true)))

    def _blank(self, begin: int, end: int) -> None:
        self._text = self._text[:begin] + " " * (end - begin) + self._text[end:]

    def _counts(self, item: int) -> None:
        """Check sentences of counts; the title in them is read from the history, longest first."""
        crowd, without = self._reasons.crowd, self._without
        people_I, events_I, num_people = crowd.people(without), crowd.events(without), crowd.num_people(without)
        by_title: dict[str, list[int]] = {}
        for row in dict.fromkeys(self._rows):
            by_title.setdefault(self._reasons.title(row), []).append(row)

        def both(row: int) -> int:
            return int(crowd.together(row, without)[item])

        def went(row: int) -> int:
            return int(crowd.next_after(row, without)[item])

        ways: tuple[tuple[ClaimKind, re.Pattern[str], re.Pattern[str], Callable[[int], int], float], ...] = (
            ("together", wording.TOGETHER, wording.AS_OFTEN, both, people_I[item] / max(1, num_people)),
            ("next", wording.NEXT, wording.AS_AFTER, went, events_I[item] / max(1, events_I.sum())),
        )
        for kind, pattern, ratio, count, expected in ways:
            while match := pattern.search(self._text):
                rest = self._text[match.end() :]
                title = max((title for title in by_title if rest.startswith(title)), key=len, default="")
                end = match.end() + len(title)
                told = tuple(map(wording.number, match.groups()))
                rows = [row for row in by_title.get(title, ()) if (count(row), int(people_I[row])) == told]
                is_true = bool(rows)
                if as_often := ratio.match(self._text, end):
                    end = as_often.end()
                    shares = [count(row) / people_I[row] / expected for row in rows if expected]
                    is_true = any(share >= 1.25 and wording.times(share) == as_often[1].lower() for share in shares)
                self._claim(kind, match.start(), end, is_true)
                self._blank(match.start(), end)
        while match := wording.PEOPLE.search(self._text):
            told = tuple(map(wording.number, match.groups()))
            self._claim("people", *match.span(), told == (int(people_I[item]), num_people))
            self._blank(*match.span())

    def _named_titles(self) -> None:
        shown = {*self._rows, *(() if self._item is None else (self._item,))}
        known = {form for row in shown for form in self._checker._forms[row]}
        for begin, end, form in list(self._checker._titles.find(self._text, sentence_starts=False)):
            self._claim("title", begin, end, form in known)
            self._blank(begin, end)

    def _shares(self, begin: int, end: int) -> None:
        """Check counts of the last items that have what the sentence names: before "like", else behind the count."""
        like = wording.LIKE_SHARE.search(self._text, begin, end)
        match = like or wording.SHARE.search(self._text, begin, end)
        if match is None:
            return
        tests = self._tests(begin, match.start()) if like else self._tests(match.end(), end)
        if not tests:
            return
        have, last = map(wording.number, match.groups())
        rows = self._rows[max(0, len(self._rows) - last) :]
        held = sum(all(has(row) for _, _, has in tests) for row in rows)
        of_item = like is None or self._item is None or all(has(self._item) for _, _, has in tests)
        self._claim("share", begin, end, len(rows) == last and held == have and of_item)
        self._blank(begin, end)

    def _attributes(self, begin: int, end: int) -> None:
        """Check attributes, years and words for popularity, one by one."""
        of_item = self._item is not None and _LEAD.match(self._text[begin:end].lstrip()) is not None
        if self._item is not None:
            ways = self._checker._popular(self._item, self._without)
            for match in _POPULARITY.finditer(self._text, begin, end) if ways else ():
                self._claim("popularity", *match.span(), match.group().lower() in ways)
            blanked = _POPULARITY.sub(lambda match: " " * len(match.group()), self._text[begin:end])
            self._text = self._text[:begin] + blanked + self._text[end:]
        for first, last, has in self._tests(begin, end):
            before = self._text[begin:first]
            held, num = sum(map(has, self._rows)), len(self._rows)
            if self._item is not None and _NOT_IT.search(before):
                is_true = not has(self._item)
            elif _NONE.search(before):
                is_true = held == 0
            elif _FEW.search(before):
                is_true = 4 * held <= num
            elif _MOST.search(before):
                is_true = 2 * held >= num > 0 or (3 * held >= num > 0 and self._more_common(held) < 2)
            elif self._item is None:
                is_true = held > 0
            else:
                is_true = has(self._item) or (held > 0 and not of_item)
            kind: ClaimKind = "year" if self._text[first:last][0].isdigit() else "attribute"
            self._claim(kind, first, last, is_true)

    def _more_common(self, held: int) -> int:
        """Count the attributes that more items of the history have."""
        counts = Counter(value for row in self._rows for value in self._reasons.facts.values[row])
        return sum(count > held for count in counts.values())

    def _tests(self, begin: int, end: int) -> list[tuple[int, int, Callable[[int], bool]]]:
        """List what is named in a part of the text, each with a test of a catalogue row."""
        facts, checker, part = self._reasons.facts, self._checker, self._text[begin:end]
        tests: list[tuple[int, int, Callable[[int], bool]]] = []
        spans = [*checker._brands.find(part), *checker._kinds.find(part)]
        taken: list[tuple[int, int]] = []
        for first, last, form in sorted(spans, key=lambda span: (span[0] - span[1], span[0])):
            if all(last <= other or first >= until for other, until in taken):
                taken.append((first, last))
                tests.append((begin + first, begin + last, _has_value(facts.values, checker._named[form])))
        tests += [
            (begin + match.start(), begin + match.end(), _has_year(facts.years, match[1], bool(match[2])))
            for match in _YEAR.finditer(part)
        ]
        return sorted(tests, key=lambda test: test[0])


def _spoken(title: str) -> set[Form]:
    """Return the words of a title in the ways it is named.

    In full, cut short, "The Shining" of "Shining, The", and what stands before and in parentheses; no single word in
    small letters, which could be any word of a sentence.
    """
    forms = title_forms(title)
    if behind := _ARTICLE.fullmatch(short_title(title)):
        forms |= title_forms(f"{behind[2]} {behind[1]}")
    if inside := _PARENTHESES.fullmatch(short_title(title)):
        forms |= title_forms(inside[1]) | title_forms(inside[2])
    return {form for form in forms if len(form) > 1 or not form[0].islower()}


def _has_value(values: Sequence[Sequence[str]], value: str) -> Callable[[int], bool]:
    return lambda row: value in values[row]


def _has_year(years: Sequence[int | None], said: str, is_decade: bool) -> Callable[[int], bool]:
    def has(row: int) -> bool:
        year = years[row]
        return year is not None and (decade(year) == f"{said}s" if is_decade else year == int(said))

    return has
