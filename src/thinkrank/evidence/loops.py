"""Telling a text that runs in a circle from one that says something."""

from collections import Counter
from collections.abc import Sequence

_LONG = 5
"""Words that no short text says twice in the same order by chance."""
_LONGEST_CIRCLE = 8
_MANY, _FEWEST_DISTINCT = 12, 0.5
_TOO_OFTEN = 3
"""Times that one title of several words is too much for a short text."""
_JOINING = frozenset(["and", "or", "the", "a", "an", "then"])
_MAY_FOLLOW_ITSELF = frozenset(["again", "had", "more", "on", "over", "really", "so", "that", "very"])
STOP = "."
"""Stands for the end of a sentence among words."""


def circle(words: Sequence[str]) -> str | None:
    """Find what a text says again and again, in its own words; None if it does not.

    That is: the same words twice in a row, joining words apart; five words without a number that return anywhere; one
    title of several words three times; or a text of twelve words of which half are repetitions. Reconstructed: no
    source defines when a thought loops.

    Args:
        words: of the text in one case, a title or an attribute counting as one word, `STOP` at the end of a sentence.
    """
    joined = [word for word in words if word not in _JOINING]
    for size in range(1, min(_LONGEST_CIRCLE, len(joined) // 2) + 1):
        for start in range(len(joined) - 2 * size + 1):
            found = joined[start : start + size]
            if found == joined[start + size : start + 2 * size] and not set(found) <= {*_MAY_FOLLOW_ITSELF, STOP}:
                return " ".join(word for word in found if word != STOP)
    spoken = [word for word in words if word != STOP]
    grams = Counter(tuple(spoken[start : start + _LONG]) for start in range(len(spoken) - _LONG + 1))
    returning = next((gram for gram, count in grams.items() if count > 1 and not any(map(str.isdigit, gram))), None)
    if returning:
        return " ".join(returning)
    names = Counter(word for word in spoken if " " in word)
    named = next((name for name, count in names.items() if count >= _TOO_OFTEN), None)
    if named:
        return named
    if len(spoken) >= _MANY and len(set(spoken)) < _FEWEST_DISTINCT * len(spoken):
        return Counter(spoken).most_common(1)[0][0]
    return None
