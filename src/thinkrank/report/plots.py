"""Small plots as inline SVG, without text, so that they can stretch to any width; their label says what they show.

The drawing area is always 100 wide. Stretching it would turn circles into ellipses; a line of length 0 with a round cap
and `non-scaling-stroke` (in the style sheet) stays a circle.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from thinkrank.report.html import Html, tag

Point = tuple[float, float]
Area = tuple[float, float, float, float]
"""Left, right, lowest, highest."""

CURVE_HEIGHT = 40.0
LONG = 40
"""From so many points on, a line that is noise is drawn as its running mean."""


def interval_plot(value: float, low: float | None, high: float | None, *, top: float, label: str) -> Html:
    """Draw a dot at a value and a line over its interval, on an axis from 0 to `top`."""
    children = [_line("axis", 0.0, 100.0)]
    if low is not None and high is not None:
        children.append(_line("whisker", _share(low, top), _share(high, top)))
    children.append(_line("dot", _share(value, top), _share(value, top)))
    return _svg("interval", 10.0, label, *children)


def curves(lines: Mapping[str, Sequence[Point]], *, label: str) -> Html:
    """Draw lines through points on common axes, stretched to fill the area, by the class that gives a line its colour.

    The x of each line must ascend. A line of one point is drawn as a dot, a noisy one faintly under its running mean.
    """
    xs, ys = zip(*(point for line in lines.values() for point in line), strict=True)
    area = (min(xs), max(xs), min(ys), max(ys))
    drawn = [path for class_, line in lines.items() for path in _drawn(line, area, class_)]
    return _svg("curve", CURVE_HEIGHT, label, *drawn)


def scatter(points: Sequence[Point], *, label: str) -> Html:
    """Draw dots, in the order given joined by a faint line, on axes that begin at 0 across and fit upwards."""
    ys = [y for _, y in points]
    area = (0.0, max(x for x, _ in points), min(ys), max(ys))
    placed = [_placed(point, area) for point in sorted(points)]
    dots = [tag("path", d=f"M{_number(x)} {_number(y)}h0", class_="dot") for x, y in placed]
    return _svg("curve", CURVE_HEIGHT, label, _path(sorted(points), area, "raw"), *dots)


def is_noisy(points: Sequence[Point]) -> bool:
    """Tell whether a line is long and turns at over every fifth point, which a schedule or a slow trend does not."""
    steps = np.sign(np.diff([y for _, y in points]))
    turns = np.count_nonzero(np.diff(steps[steps != 0]))
    return len(points) >= LONG and bool(turns > len(points) / 5)


def running_mean(points: Sequence[Point]) -> list[Point]:
    """Average each value with its neighbours, about a tenth of the line in all; a line without noise is left alone."""
    if not is_noisy(points):
        return list(points)
    half = len(points) // 20
    sums = np.cumsum([0.0, *(y for _, y in points)])
    places = np.arange(len(points))
    starts, ends = np.maximum(places - half, 0), np.minimum(places + half + 1, len(points))
    means = (sums[ends] - sums[starts]) / (ends - starts)
    return [(x, float(mean)) for (x, _), mean in zip(points, means, strict=True)]


def thin(points: Sequence[Point], most: int = 400) -> list[Point]:
    """Keep about `most` points that look the same: of each stretch its lowest and highest, so that spikes stay."""
    if len(points) <= most:
        return list(points)
    kept: list[Point] = []
    stretches = most // 2
    for index in range(stretches):
        stretch = points[index * len(points) // stretches : (index + 1) * len(points) // stretches]
        extremes = {min(stretch, key=lambda point: point[1]), max(stretch, key=lambda point: point[1])}
        kept += sorted(extremes)
    return [points[0], *(point for point in kept if points[0][0] < point[0] < points[-1][0]), points[-1]]


def _drawn(line: Sequence[Point], area: Area, class_: str) -> list[Html]:
    mean = running_mean(line)
    faint = [_path(thin(line), area, f"raw {class_}")] if is_noisy(line) else []
    x, y = _placed(mean[-1], area)
    dot = tag("path", d=f"M{_number(x)} {_number(y)}h0", class_=f"dot {class_}")
    return [*faint, _path(thin(mean), area, f"line {class_}"), dot]


def _path(line: Sequence[Point], area: Area, class_: str) -> Html:
    placed = [_placed(point, area) for point in line]
    return tag("path", d="M" + "L".join(f"{_number(x)} {_number(y)}" for x, y in placed), class_=class_)


def _placed(point: Point, area: Area) -> Point:
    left, right, lowest, highest = area
    height = _share(point[1] - lowest, highest - lowest) * CURVE_HEIGHT / 100
    return _share(point[0] - left, right - left), CURVE_HEIGHT - height


def _svg(class_: str, height: float, label: str, *children: Html) -> Html:
    box = f"0 0 100 {_number(height)}"
    return tag("svg", *children, class_=class_, viewBox=box, preserveAspectRatio="none", role="img", aria_label=label)


def _line(class_: str, start: float, end: float) -> Html:
    return tag("path", d=f"M{_number(start)} 5H{_number(end)}", class_=class_)


def _share(part: float, whole: float) -> float:
    """Express in per cent, held within 0 and 100; the middle if there is no extent to be a part of."""
    return min(100.0, max(0.0, 100 * part / whole)) if whole > 0 else 50.0


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
