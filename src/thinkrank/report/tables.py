"""Tables that are never cut: on a narrow screen each line becomes a block, in which every cell says its head."""

from collections.abc import Sequence
from typing import TypeAlias

from thinkrank.report.html import Html, tag

Cell: TypeAlias = Html | str


def table(
    caption: Cell,
    corner: str,
    heads: Sequence[str],
    lines: Sequence[tuple[Cell, Sequence[Cell]]],
    *,
    label: str | None = None,
    class_: str = "figures",
) -> Html:
    """Write one table in a card.

    Args:
        caption: above it.
        corner: head of the first column, which names the lines.
        heads: of the other columns.
        lines: name and cells of each.
        label: of the region, for screen readers; the caption if None.
        class_: of the table.
    """
    header = tag("tr", tag("th", corner, scope="col"), *(tag("th", name, scope="col") for name in heads))
    body = [
        tag(
            "tr",
            tag("th", name, scope="row"),
            *(tag("td", cell, data_label=head) for head, cell in zip(heads, cells, strict=True)),
        )
        for name, cells in lines
    ]
    inside = tag("table", tag("caption", caption), tag("thead", header), tag("tbody", *body), class_=class_)
    return tag("div", inside, class_="scroll card", tabindex="0", role="region", aria_label=label or str(caption))
