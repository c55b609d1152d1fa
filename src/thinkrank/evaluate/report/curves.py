"""The section of learning curves: one small plot for every figure that training logged."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from thinkrank.evaluate.report.html import Html, tag, text
from thinkrank.evaluate.report.plots import Point, curve, thin

X_AXES = ("step", "examples", "tokens", "epoch", "seconds")
"""Keys that tell how far training was. The first one present is the x axis; the others are not drawn."""


def curves_section(rows: Sequence[Mapping[str, Any]]) -> Html | None:
    """Draw every numeric key of metrics rows; None if there is nothing to draw.

    A key may be missing from some rows (validation comes less often than the loss): its curve joins those that have it.
    NaN and infinity are left out of the curve and counted below it.
    """
    x_axis = next((key for key in X_AXES if any(key in row for row in rows)), None)
    keys = [key for key in dict.fromkeys(key for row in rows for key in row) if key not in X_AXES]
    panels = [panel for key in keys if (panel := _panel(rows, key, x_axis)) is not None]
    if not panels:
        return None
    return tag("section", tag("h2", "Learning curves"), tag("div", *panels, class_="panels"), id="curves")


def _panel(rows: Sequence[Mapping[str, Any]], key: str, x_axis: str | None) -> Html | None:
    logged = [(row.get(x_axis, index) if x_axis else index, row[key]) for index, row in enumerate(rows) if key in row]
    numbers = [(float(x), float(y)) for x, y in logged if _is_number(x) and _is_number(y)]
    points = sorted(((x, y) for x, y in numbers if math.isfinite(x) and math.isfinite(y)), key=lambda point: point[0])
    if not points:
        return None
    lost = len(numbers) - len(points)
    return tag(
        "figure",
        tag("figcaption", tag("b", key), tag("span", f"{points[-1][1]:.4g}", class_="last")),
        tag("div", *_plot(points, key, x_axis or "row"), class_="plot"),
        tag("p", f"{lost} not finite, left out", class_="facts warning") if lost else None,
        class_="card panel",
    )


def _plot(points: Sequence[Point], key: str, x_axis: str) -> list[Html]:
    lowest, highest = min(y for _, y in points), max(y for _, y in points)
    first, last = points[0], points[-1]
    label = (
        f"{key} over {x_axis} {first[0]:g} to {last[0]:g}: "
        f"from {first[1]:.4g} to {last[1]:.4g}, lowest {lowest:.4g}, highest {highest:.4g}"
    )
    ends = tag("span", f"{x_axis} {first[0]:,g}"), tag("span", f"{last[0]:,g}")
    return [
        tag("span", text(f"{highest:.3g}"), class_="tick top"),
        tag("span", text(f"{lowest:.3g}"), class_="tick bottom"),
        curve(thin(points), label=label),
        tag("div", *ends, class_="ends"),
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
