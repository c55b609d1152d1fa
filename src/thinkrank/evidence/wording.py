"""How evidence is said, and how what was said is found again: each sentence beside its pattern.

Titles and attributes stand in sentences, never in patterns.
"""

import re

_WORDS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_MANY = 20
_TIMES = rf"more than {_MANY} times|one and a half times|twice|(?:" + "|".join(_WORDS[1:]) + r"|\d[\d,]*) times"
_COUNT = r"(\d[\d,]*)"

TOGETHER = re.compile(rf"chosen by {_COUNT} of the {_COUNT} people who chose ", re.IGNORECASE)
AS_AFTER = re.compile(rf", ({_TIMES}) as often as after any choice", re.IGNORECASE)
NEXT = re.compile(rf"the next choice of {_COUNT} of the {_COUNT} people who chose ", re.IGNORECASE)
AS_OFTEN = re.compile(rf", ({_TIMES}) as often as by all", re.IGNORECASE)
PEOPLE = re.compile(rf"chosen by {_COUNT} of all {_COUNT} people", re.IGNORECASE)
SHARE = re.compile(rf"{_COUNT} of the last {_COUNT} [^\W\d_]+(?: (?:are|is)\b)?", re.IGNORECASE)
LIKE_SHARE = re.compile(rf"like {_COUNT} of the last {_COUNT} [^\W\d_]+", re.IGNORECASE)
"""Behind the words that it is about, where `SHARE` stands before them."""


def number(text: str) -> int:
    """Read a count as it is written."""
    return int(text.replace(",", ""))


def times(ratio: float) -> str:
    """Write a ratio, at least 1.25: one and a half times, twice, three times, 12 times; few people make a large one."""
    if ratio < 1.75:
        return "one and a half times"
    whole = int(ratio + 0.5)
    if ratio > _MANY:
        return f"more than {_MANY} times"
    if whole == 2:
        return "twice"
    return f"{_WORDS[whole - 2] if whole <= 10 else whole} times"


def together(both: int, of: int, title: str, ratio: float) -> str:
    """Say how many of those who chose one item chose this one too, and how that compares with all people."""
    return f"Chosen by {both:,} of the {of:,} people who chose {title}, {times(ratio)} as often as by all."


def next_choice(went: int, of: int, title: str, ratio: float) -> str:
    """Say for how many of those who chose one item this one came next, and how that compares with all choices."""
    return (
        f"The next choice of {went:,} of the {of:,} people who chose {title}, "
        f"{times(ratio)} as often as after any choice."
    )


def people(chose: int, of: int) -> str:
    """Say how many of all people chose it."""
    return f"Chosen by {chose:,} of all {of:,} people."


def like_share(what: str, have: int, last: int, nouns: str) -> str:
    """Say what it is, and how many of the last items are so too."""
    return f"{what[:1].upper()}{what[1:]}, like {have:,} of the last {last:,} {nouns}."
