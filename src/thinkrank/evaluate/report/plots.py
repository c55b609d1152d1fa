"""Small plots as inline SVG, without text, so that they can stretch to any width; their label says what they show.

The drawing area is always 100 wide. Stretching it would turn circles into ellipses; a line of length 0 with a round cap
and `non-scaling-stroke` (in the style sheet) stays a circle.
"""

from collections.abc import Sequence

from thinkrank.evaluate.report.html import Html, tag

Point = tuple[float, float]

CURVE_HEIGHT = 40.0


def interval_plot(value: float, low: float | None, high: float | None, *, top: float, label: str) -> Html:
    """A dot at a value and a line over its interval, on an axis from 0 to `top`."""
    children = [_line("axis", 0.0, 100.0)]
    if low is not None and high is not None:
        children.append(_line("whisker", _share(low, top), _share(high, top)))
    children.append(_line("dot", _share(value, top), _share(value, top)))
    return _svg("interval", 10.0, label, *children)


def curve(points: Sequence[Point], *, label: str) -> Html:
    """A line through points, stretched to fill the area; x must ascend. One point is drawn as a dot."""
    xs, ys = zip(*points, strict=True)
    placed = [
        (_share(x - xs[0], xs[-1] - xs[0]), CURVE_HEIGHT - _share(y - min(ys), max(ys) - min(ys)) * CURVE_HEIGHT / 100)
        for x, y in points
    ]
    path = "M" + "L".join(f"{_number(x)} {_number(y)}" for x, y in placed)
    last_x, last_y = (_number(part) for part in placed[-1])
    line = tag("path", d=path, class_="line")
    return _svg("curve", CURVE_HEIGHT, label, line, tag("path", d=f"M{last_x} {last_y}h0", class_="dot"))


def thin(points: Sequence[Point], most: int = 400) -> list[Point]:
    """At most about `most` points that look the same: of each stretch its lowest and highest, so that spikes stay."""
    if len(points) <= most:
        return list(points)
    kept: list[Point] = []
    stretches = most // 2
    for index in range(stretches):
        stretch = points[index * len(points) // stretches : (index + 1) * len(points) // stretches]
        extremes = {min(stretch, key=lambda point: point[1]), max(stretch, key=lambda point: point[1])}
        kept += sorted(extremes)
    return [points[0], *(point for point in kept if points[0][0] < point[0] < points[-1][0]), points[-1]]


def _svg(class_: str, height: float, label: str, *children: Html) -> Html:
    box = f"0 0 100 {_number(height)}"
    return tag("svg", *children, class_=class_, viewBox=box, preserveAspectRatio="none", role="img", aria_label=label)


def _line(class_: str, start: float, end: float) -> Html:
    return tag("path", d=f"M{_number(start)} 5H{_number(end)}", class_=class_)


def _share(part: float, whole: float) -> float:
    """Per cent, held within 0 and 100; the middle if there is no extent to be a part of."""
    return min(100.0, max(0.0, 100 * part / whole)) if whole > 0 else 50.0


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
