"""The section of the data: what it is, and how it was divided."""

from collections.abc import Mapping, Sequence
from typing import Any

from thinkrank.report.html import Html, item_text, join, tag
from thinkrank.report.tables import table

TILES = ("users", "items", "interactions", "density")
"""Figures of a data card that everybody looks for first, in this order, where they are known."""

SHORT = 60
"""Values with up to this much markup may stand side by side."""

PART_KEYS = {
    "samples": "samples",
    "users": "users",
    "items": "target items",
    "dates": "dates",
    "cold_target_share": "never seen in training",
}


def data_section(data_card: Mapping[str, Any], manifest: Mapping[str, Any]) -> Html | None:
    """Show a data card and a split manifest, as `describe` and `manifest` give them; None if both are empty.

    Any other keys are shown as well: nothing is hidden for being unknown here.
    """
    if not data_card and not manifest:
        return None
    tiles = [_tile(key, data_card[key]) for key in TILES if key in data_card]
    parts = manifest.get("parts")
    card = {key: value for key, value in data_card.items() if key not in TILES}
    split = {key: value for key, value in manifest.items() if key != "parts" and manifest[key] != data_card.get(key)}
    return tag(
        "section",
        tag("h2", "Data"),
        tag("div", *tiles, class_="tiles") if tiles else None,
        _parts_table(parts) if isinstance(parts, Mapping) else None,
        _details("How it was split", split) if split else None,
        _details("The whole data card", card) if card else None,
        id="data",
    )


def facts_list(facts: Mapping[str, Any]) -> Html:
    """List names and values, nested where the values are."""
    return tag("dl", *(tag("div", tag("dt", label(key)), tag("dd", fact(key, facts[key]))) for key in facts))


def fact(key: str, value: Any) -> Html:
    """Write one value of a data card for people."""
    if value is None or value == "":
        return join("–")
    if key == "dates" and isinstance(value, Mapping) and {"first", "last"} <= value.keys():
        return join(f"{str(value['first'])[:10]} to {str(value['last'])[:10]}")
    if isinstance(value, Mapping):
        pairs = [tag("span", f"{label(name)} ", tag("b", fact(name, part))) for name, part in value.items()]
        return tag("span", *pairs, class_="pairs") if pairs else join("–")
    if isinstance(value, Sequence) and not isinstance(value, str):
        return _listed([fact(key, part) for part in value])
    if key == "fingerprint":
        return tag("code", str(value))
    if key in ("density", "cold_target_share") or key.endswith("_coverage"):
        return join(share(value))
    return join(number(value)) if isinstance(value, int | float) else item_text(str(value))


def _listed(parts: Sequence[Html]) -> Html:
    """Write a few short values in one line, anything longer as a list."""
    if not parts:
        return join("–")
    if max(map(len, parts)) > SHORT:
        return tag("ul", *(tag("li", part) for part in parts))
    return join(parts[0], *(join(", ", part) for part in parts[1:]))


def label(key: str) -> str:
    """Write a key of a dictionary for people."""
    return key.replace("_", " ")


def number(value: int | float) -> str:
    """Write a count with separators, anything else with four digits, a truth value as a word."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def share(value: int | float) -> str:
    """Write a share as a percentage."""
    return f"{100 * value:.3g} %"


def _tile(key: str, value: Any) -> Html:
    return tag("div", tag("b", fact(key, value)), tag("span", label(key)), class_="tile card")


def _parts_table(parts: Mapping[str, Mapping[str, Any]]) -> Html:
    keys = [key for key in PART_KEYS if any(key in part for part in parts.values())]
    lines = [(name, [fact(key, part.get(key)) for key in keys]) for name, part in parts.items()]
    return table("Parts of the split", "part", [PART_KEYS[key] for key in keys], lines)


def _details(title: str, facts: Mapping[str, Any]) -> Html:
    return tag("details", tag("summary", title), facts_list(facts), class_="card")
