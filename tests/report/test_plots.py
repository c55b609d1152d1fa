"""Plots say in their label what they draw, and draw it inside their area."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkrank.report import plots

finite = st.floats(-1e6, 1e6)
point_lists = st.lists(st.tuples(finite, finite), min_size=1, max_size=30, unique_by=lambda point: point[0]).map(sorted)


def coordinates(markup: str) -> list[tuple[float, float]]:
    path = re.search(r'd="(M[^"]*)"', markup)
    assert path is not None
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([-\d.]+) ([-\d.]+)", path.group(1))]


@given(points=point_lists)
def test_a_curve_stays_in_its_area_and_rises_where_the_values_rise(points):
    drawn = coordinates(plots.curves({"line-0": points}, label="x"))
    assert len(drawn) == len(points)
    assert all(0 <= x <= 100 and 0 <= y <= plots.CURVE_HEIGHT for x, y in drawn)
    for (_, before), (_, after), (_, high), (_, next_high) in zip(points, points[1:], drawn, drawn[1:], strict=False):
        assert (next_high <= high) if after >= before else (next_high >= high)


def test_a_flat_curve_and_a_single_point_are_drawn_in_the_middle():
    assert coordinates(plots.curves({"line-0": [(0.0, 7.0), (1.0, 7.0)]}, label="x")) == [(0, 20), (100, 20)]
    assert coordinates(plots.curves({"line-0": [(3.0, 7.0)]}, label="x")) == [(50, 20)]


def test_a_long_curve_is_thinned_and_keeps_its_ends_and_spikes():
    points = [(float(x), 1e6 if x == 7_777 else float(x % 13)) for x in range(20_000)]
    thinned = plots.thin(points, most=400)
    assert len(thinned) <= 402
    assert thinned == sorted(thinned)
    assert {points[0], points[7_777], points[-1]} <= set(thinned)


def test_a_short_curve_is_left_alone():
    assert plots.thin([(0.0, 1.0), (1.0, 2.0)]) == [(0.0, 1.0), (1.0, 2.0)]


def test_lines_of_one_plot_share_its_axes():
    markup = plots.curves({"a": [(0.0, 0.0), (10.0, 4.0)], "b": [(5.0, 2.0)]}, label="x")
    paths = re.findall(r'd="M([-\d.]+) ([-\d.]+)[^"]*" class="(\w+ \w+)"', markup)
    assert ("50", "20", "dot b") in paths
    assert ("100", "0", "dot a") in paths


def noise(count: int) -> list[plots.Point]:
    return [(float(x), 5.0 + 3.0 * (-1) ** x) for x in range(count)]


def test_a_noisy_line_is_drawn_under_its_running_mean_and_a_schedule_is_not():
    assert 'class="raw a"' in plots.curves({"a": noise(100)}, label="x")
    schedule = [(float(x), min(x / 20, 1 - x / 200)) for x in range(100)]
    assert 'class="raw a"' not in plots.curves({"a": schedule}, label="x")
    assert plots.running_mean(schedule) == schedule
    assert plots.running_mean(noise(plots.LONG - 1)) == noise(plots.LONG - 1)


def test_a_running_mean_is_the_mean_of_the_neighbours_there_are():
    points = [(float(x), float((7 * x) % 13)) for x in range(60)]
    values = [y for _, y in points]
    expected = [sum(near) / len(near) for near in (values[max(0, i - 3) : i + 4] for i in range(60))]
    assert [x for x, _ in plots.running_mean(points)] == [x for x, _ in points]
    assert [y for _, y in plots.running_mean(points)] == pytest.approx(expected)


def test_an_interval_is_a_dot_on_a_whisker():
    markup = plots.interval_plot(0.2, 0.1, 0.4, top=0.4, label="knn: ndcg .2000")
    assert 'd="M25 5H100"' in markup
    assert 'd="M50 5H50"' in markup
    assert 'aria-label="knn: ndcg .2000"' in markup


def test_without_an_interval_there_is_a_dot_alone():
    assert "whisker" not in plots.interval_plot(0.2, None, None, top=0.4, label="x")


def test_all_zero_results_can_be_drawn():
    assert "svg" in plots.interval_plot(0.0, 0.0, 0.0, top=0.0, label="x")
