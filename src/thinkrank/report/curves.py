"""The section of learning curves: small plots of every figure that the trainings of a run logged."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from thinkrank.report.facts import share
from thinkrank.report.html import Html, tag, text
from thinkrank.report.panels import MORE, Panel, grouped_panels
from thinkrank.report.plots import Point, curves, is_noisy, running_mean

Rows = Sequence[Mapping[str, Any]]

X_AXES = ("step", "examples", "tokens", "epoch", "seconds", "cpu_seconds")
"""Keys that tell how far training was. The first one present is the x axis; the others are not drawn."""

NOISE = "A faint line is what was logged; the firm line over it, and the figure beside its name, are a running mean."


def curves_section(phases: Mapping[str, Rows]) -> Html | None:
    """Draw every numeric key of the metrics rows of each phase of training; None if there is nothing to draw.

    A key may be missing from some rows (validation comes less often than the loss): its curve joins those that have it.
    NaN and infinity are left out of the curve and counted below it.
    """
    drawn = [part for title, rows in phases.items() for part in _phase(title, rows)]
    if not drawn:
        return None
    noise = tag("p", NOISE, class_="facts") if any(map(_has_noise, phases.values())) else None
    return tag("section", tag("h2", "Learning curves"), noise, *drawn, id="curves")


def _has_noise(rows: Rows) -> bool:
    keys = {key for row in rows for key in row if key not in X_AXES}
    return any(is_noisy(_finite(_numbers(rows, key, None))) for key in keys)


def _phase(title: str, rows: Rows) -> list[Html]:
    """Draw a heading and the groups of panels that have something to show."""
    x_axis = next((key for key in X_AXES if any(key in row for row in rows)), None)
    keys = dict.fromkeys(key for row in rows for key in row if key not in X_AXES)
    groups = []
    for group, panels in grouped_panels(keys).items():
        figures = [figure for panel in panels if (figure := panel_figure(rows, panel, x_axis)) is not None]
        if figures:
            grid = tag("div", *figures, class_="panels")
            folded = tag("details", tag("summary", group), grid, class_="more")
            groups += [folded] if group == MORE else [tag("h4", group), grid]
    return [tag("h3", title), *groups] if groups else []


def panel_figure(rows: Rows, panel: Panel, x_axis: str | None) -> Html | None:
    """Draw one plot of the rows that have its keys, over a key or their order; None if none has."""
    logged = {key: _numbers(rows, key, x_axis) for key in panel.lines}
    lines = {key: points for key, numbers in logged.items() if (points := _finite(numbers))}
    if not lines:
        return None
    lost = sum(map(len, logged.values())) - sum(map(len, lines.values()))
    last = {key: _value(running_mean(points)[-1][1], panel) for key, points in lines.items()}
    named = len(panel.lines) > 1
    return tag(
        "figure",
        tag("figcaption", tag("b", panel.title), None if named else tag("span", *last.values(), class_="last")),
        tag("div", *_plot(lines, panel, x_axis or "row"), class_="plot"),
        _legend(panel, last) if named else None,
        tag("p", f"{lost} not finite, left out", class_="facts warning") if lost else None,
        class_="card panel",
    )


def _plot(lines: Mapping[str, Sequence[Point]], panel: Panel, x_axis: str) -> list[Html]:
    xs, ys = zip(*(point for points in lines.values() for point in points), strict=True)
    described = [
        f"{f'{panel.lines[key]} ' if len(panel.lines) > 1 else ''}{_described(points, panel)}"
        for key, points in lines.items()
    ]
    label = f"{panel.title} over {x_axis} {min(xs):g} to {max(xs):g}: {'; '.join(described)}"
    lowest, highest = _tick(min(ys), panel), _tick(max(ys), panel)
    ticks = [("top", highest), ("bottom", lowest)] if lowest != highest else [("middle", lowest)]
    return [
        *(tag("span", text(value), class_=f"tick {place}") for place, value in ticks),
        curves({_stroke(panel, key): points for key, points in lines.items()}, label=label),
        tag("div", tag("span", f"{x_axis} {min(xs):,g}"), tag("span", f"{max(xs):,g}"), class_="ends"),
    ]


def _described(points: Sequence[Point], panel: Panel) -> str:
    line, ys = running_mean(points), [y for _, y in points]
    first, last, lowest, highest = (_value(y, panel) for y in (line[0][1], line[-1][1], min(ys), max(ys)))
    return f"from {first} to {last}, lowest {lowest}, highest {highest}"


def _legend(panel: Panel, last: Mapping[str, str]) -> Html:
    lines = [
        tag("li", panel.lines[key], " ", tag("b", value), class_=_stroke(panel, key)) for key, value in last.items()
    ]
    return tag("ul", *lines, class_="plain legend")


def _stroke(panel: Panel, key: str) -> str:
    """Name the class of a line, the same whichever lines of its panel there are."""
    return f"line-{list(panel.lines).index(key)}"


def _numbers(rows: Rows, key: str, x_axis: str | None) -> list[Point]:
    logged = [(row.get(x_axis, index) if x_axis else index, row[key]) for index, row in enumerate(rows) if key in row]
    return [(float(x), float(y)) for x, y in logged if _is_number(x) and _is_number(y)]


def _finite(points: Sequence[Point]) -> list[Point]:
    return sorted(((x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)), key=lambda point: point[0])


def _value(value: float, panel: Panel) -> str:
    return share(value) if panel.is_share else f"{value:.4g}"


def _tick(value: float, panel: Panel) -> str:
    return share(value) if panel.is_share else f"{value:.3g}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
