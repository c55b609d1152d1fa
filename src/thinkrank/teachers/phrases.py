"""Finding phrases in a text by their words. A phrase is data: no pattern is ever made of it."""

import re
from collections.abc import Iterable, Iterator

from thinkrank.teachers.attributes import plain

Form = tuple[str, ...]
"""The words of a phrase."""

_WORD = re.compile(r"[^\W_]+")


def words_of(text: str, *, folded: bool = False) -> Form:
    """List the words of a text: letters and digits, punctuation left out."""
    found = _WORD.findall(plain(text))
    return tuple(word.casefold() for word in found) if folded else tuple(found)


class Phrases:
    """Know phrases by their words; each form stands for the phrases that have it.

    Args:
        forms: to be found.
        folded: whether upper and lower case make no odds; the forms are folded already.
    """

    def __init__(self, forms: Iterable[Form], *, folded: bool = False) -> None:
        self._folded = folded
        self._by_first: dict[str, set[Form]] = {}
        for form in forms:
            if form:
                self._by_first.setdefault(form[0], set()).add(form)

    def find(self, text: str, *, sentence_starts: bool = True) -> Iterator[tuple[int, int, Form]]:
        """Yield begin, end and form of each phrase in a text, from left to right, the longest where several begin.

        Args:
            text: any text.
            sentence_starts: whether a phrase of one word counts where a sentence begins with it.
        """
        found = list(_WORD.finditer(text))
        words = [match.group().casefold() if self._folded else match.group() for match in found]
        index = 0
        while index < len(found):
            begin = found[index].start()
            alone = sentence_starts or not _begins_sentence(text, begin)
            here = (
                form
                for form in self._by_first.get(words[index], ())
                if form == tuple(words[index : index + len(form)]) and (alone or len(form) > 1)
            )
            if form := max(here, key=len, default=()):
                yield begin, found[index + len(form) - 1].end(), form
            index += max(1, len(form))


def _begins_sentence(text: str, place: int) -> bool:
    before = text[:place].rstrip()
    return not before or before[-1] in ".!?"
