"""The names a user may have meant, for error messages."""

import difflib
from collections.abc import Sequence

# Comparing with every name of a large catalogue takes seconds; names that begin alike are the likely ones.
_COMPARABLE = 20_000


def nearest(text: str, names: Sequence[str], n: int = 5) -> list[str]:
    """Return up to n names that resemble the text, best first, ignoring case.

    Args:
        text: what was asked for.
        names: what exists.
        n: how many to return at most.
    """
    folded = text.casefold()
    if len(names) > _COMPARABLE:
        names = [name for name in names if name[:2].casefold() == folded[:2]][:_COMPARABLE]
    spelled = {name.casefold(): name for name in reversed(names)}
    matches = difflib.get_close_matches(folded, spelled, n=n, cutoff=0.5)
    within = (name for name in spelled if len(folded) > 2 and folded in name and name not in matches)
    matches += [name for name, _ in zip(within, range(n - len(matches)), strict=False)]
    return [spelled[name] for name in matches]


def did_you_mean(text: str, names: Sequence[str], n: int = 5) -> str:
    """Return ``; nearest: a, b`` for the end of an error message, or nothing if no name comes near."""
    found = nearest(text, names, n)
    return f"; nearest: {', '.join(found)}" if found else ""
