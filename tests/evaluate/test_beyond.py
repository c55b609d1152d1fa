"""What a system recommends, right or wrong."""

import numpy as np
import pytest

from thinkrank.evaluate import beyond

ITEMS = np.array([[0, 1, 2], [0, 1, -1]], dtype=np.int32)
COUNTS = np.array([8, 4, 4, 0, 0])


def test_coverage_counts_each_recommended_item_once():
    assert beyond.coverage(ITEMS, 5) == 3 / 5
    assert beyond.coverage(ITEMS, 5, k=1) == 1 / 5


def test_recommending_everything_once_has_the_middle_percentile_whatever_the_ties():
    assert beyond.popularity_percentile(np.arange(5, dtype=np.int32)[None], COUNTS) == pytest.approx(0.5)


def test_the_percentile_counts_items_below_and_half_of_those_alike():
    assert beyond.popularity_percentile(ITEMS, COUNTS, k=1) == pytest.approx((4 + 0.5) / 5)


def test_average_popularity_is_the_mean_count_of_the_filled_places():
    assert beyond.average_popularity(ITEMS, COUNTS) == pytest.approx((8 + 4 + 4 + 8 + 4) / 5)


def test_novelty_is_self_information_in_bits():
    uniform = np.full(8, 3)
    assert beyond.novelty(np.array([[1, 5]], dtype=np.int32), uniform) == pytest.approx(3)
    assert np.isfinite(beyond.novelty(np.array([[4]], dtype=np.int32), COUNTS))


def test_recommending_nothing_has_a_value():
    nothing = np.full((2, 3), -1, dtype=np.int32)
    assert beyond.coverage(nothing, 5) == 0
    for figure in (beyond.popularity_percentile, beyond.average_popularity, beyond.novelty):
        assert figure(nothing, COUNTS) == 0


def test_a_list_of_nothing_is_refused():
    with pytest.raises(ValueError, match="k must be"):
        beyond.coverage(ITEMS, 5, k=0)
