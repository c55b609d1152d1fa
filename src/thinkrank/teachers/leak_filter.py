"""What a reasoning must not say: how it went, and titles that nobody showed.

Both are searched for by their words, so both are heuristics: they are meant to drop a harmless trace now and then
rather than to keep a bad one.
"""

import re
from collections.abc import Iterable, Iterator

from thinkrank.data import Catalogue
from thinkrank.teachers.attributes import short_title
from thinkrank.teachers.phrases import Form, Phrases, words_of

_CHOSE = (
    r"(?:b(?:ought|uy)|purchased?|watch(?:ed)?|saw|see|ch(?:o|oo)se|pick(?:ed)?|select(?:ed)?|click(?:ed)?|order(?:ed)?"
    r"|took|take|skip(?:ped)?|reject(?:ed)?)"
)
LEAKS: dict[str, str] = {
    "what really happened": rf"(?:actually|really|indeed|eventually|ultimately|in fact|did(?: not|n['’]t)?) {_CHOSE}\b",
    "how it went on": r"(?:went on to|ended up|wound up|turn(?:s|ed) out|(?:did not|didn['’]t) go on to)\b",
    "the truth": r"(?:ground[- ]truth|(?:true|correct|right|real|gold) (?:label|answer|verdict|choice))\b",
    "what the label says": r"label (?:is|was|says|said|shows|showed|confirms|confirmed|indicates|indicated)\b",
    "the label": r"label(?=s?\b|l?ed\b)",
    "the outcome": r"(?:outcome|in (?:hindsight|retrospect)|with hindsight|answer key|the (?:actual|final) choice)\b",
    "the test": (
        r"(?:target item|held[- ]out|test (?:item|set)|(?:positive|negative) (?:sample|example|candidate|pair))\b"
    ),
    "an earlier verdict": (
        r"(?:(?:earlier|previous|prior|first|initial|original) (?:verdict|answer|judge?ment|assessment|attempt)"
        r"|on (?:second thought|reflection)|re-?examin\w*|reconsider\w*"
        r"|(?:was|were) (?:wrong|mistaken|incorrect|right|correct))\b"
    ),
    "being told": r"(?:(?:was|am|been|were) told|th(?:e|is) (?:feedback|correction|remark|hint)|did not hold)\b",
}
"""Wordings that give a label away, by what they speak of; whole words in any case."""

_PATTERNS = {name: re.compile(rf"\b{pattern}", re.IGNORECASE) for name, pattern in LEAKS.items()}
_LEAST_LETTERS = 3
_FURTHER = ("categories", "brand")


class LeakFilter:
    """Find what a reasoning must not say: the label, and titles of a catalogue that nobody showed.

    Args:
        catalogue: the items.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._texts = list(_item_texts(catalogue))
        self._titles = Phrases(form for title in catalogue.titles for form in title_forms(title))

    def leak(self, reasoning: str, shown: Iterable[int]) -> str | None:
        """Find what a reasoning gives away, by its name in `LEAKS`, or None.

        Args:
            reasoning: any text.
            shown: rows of the items it may speak of; wordings that stand in their texts are no leak.
        """
        shown_text = self._shown_text(shown)
        for name, pattern in _PATTERNS.items():
            for match in pattern.finditer(reasoning):
                if " ".join(words_of(match.group())).casefold() not in shown_text:
                    return name
        return None

    def foreign_title(self, reasoning: str, shown: Iterable[int]) -> str | None:
        """Find a title in the reasoning that stands in none of the texts of the items shown, or None.

        Titles count in full or cut short, as `short_title` cuts them, letter for letter but for punctuation. One word
        does not count where a sentence begins with it: "Money is no object" names no film.

        Args:
            reasoning: any text.
            shown: rows of the items it may speak of.
        """
        shown_text = self._shown_text(shown)
        found = (" ".join(form) for _, _, form in self._titles.find(reasoning, sentence_starts=False))
        return next((title for title in found if f" {title} ".casefold() not in shown_text), None)

    def _shown_text(self, shown: Iterable[int]) -> str:
        return "\n".join(self._texts[row] for row in shown)


def title_forms(title: str) -> set[Form]:
    """Return the words of a title, in full and cut short, but for those too short to tell a title by."""
    forms = {words_of(title), words_of(short_title(title))}
    return {form for form in forms if sum(map(len, form)) >= _LEAST_LETTERS and not all(map(str.isdigit, form))}


def _item_texts(catalogue: Catalogue) -> Iterator[str]:
    """Yield the words of each item's title, categories and brand, in lower case, apart from each other."""
    columns = [catalogue.frame[name].to_list() for name in _FURTHER if name in catalogue.frame.columns]
    for row, title in enumerate(catalogue.titles):
        cells = (column[row] for column in columns)
        texts = [title, short_title(title)]
        texts += (text for cell in cells for text in ([cell] if isinstance(cell, str) else cell or []) if text)
        yield "|".join(f" {' '.join(words_of(text))} " for text in texts).casefold()
