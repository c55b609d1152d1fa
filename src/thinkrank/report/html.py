"""Building markup from data that may hold anything: every text and attribute is escaped where it enters.

Titles and thoughts come from logs and models. None of them can open an element, leave an attribute or turn the
direction of the text around it, and characters that do not show are made to show.
"""

import html
import unicodedata

UNSEEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
"""Unicode categories: control, format (direction overrides, zero-width space), lone surrogate, private, separators."""

VISIBLE_JOINERS = "\u200c\u200d"
"""Zero-width characters that Persian, Indic scripts and emoji need to look right; they cannot hide anything."""


class Html(str):
    """Hold markup that is complete and escaped. Made only by the functions of this module."""

    __slots__ = ()


def tag(name: str, /, *children: Html | str | None, **attributes: str | int | None) -> Html:
    """Write one element. A `str` child is text and is escaped; an `Html` child stands as it is; None is left out.

    `class_` gives class and `aria_label` aria-label; an attribute that is None is left out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(visible(str(value)), quote=True)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{written}>{join(*children)}</{name}>")


def join(*parts: Html | str | None) -> Html:
    """Write parts one after the other, texts escaped, None left out."""
    return Html("".join(part if isinstance(part, Html) else text(part) for part in parts if part is not None))


def text(content: str, keep: str = "") -> Html:
    """Escape text, and make control characters show.

    Those in `keep` may stay what they are, such as the line breaks of a paragraph.
    """
    return Html(html.escape(visible(content, keep), quote=True))


def item_text(title: str) -> Html:
    """Write a title or the like, isolated from its neighbours and running in the direction of its text."""
    return tag("bdi", title if title.strip() else "(no title)", dir="auto")


def visible(content: str, keep: str = "") -> str:
    """Replace characters that do not show by signs that do: a line break by ␊, a right-to-left override by ‹U+202E›."""
    return "".join(char if char in keep or _shows(char) else _sign(char) for char in content)


def _shows(char: str) -> bool:
    return unicodedata.category(char) not in UNSEEN or char in VISIBLE_JOINERS


def _sign(char: str) -> str:
    code = ord(char)
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"‹U+{code:04X}›"
