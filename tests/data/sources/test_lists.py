import numpy as np
import pytest

from thinkrank.data import LIST_SOURCES, ListWorld, ListWorldOptions, load_impressions
from thinkrank.errors import ThinkrankError


def test_the_sources_are_these():
    assert LIST_SOURCES == ("trivago", "mind", "kuairand", "ebnerd", "table", "synthetic")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (("trivgo", "here"), "unknown source 'trivgo'; nearest: trivago"),
        (("mind",), "mind: where are the files"),
        (("mind", "nowhere"), "nowhere: no such file or folder"),
        (("synthetic", "here"), "here: synthetic lists are made, not read"),
    ],
)
def test_sources_that_lead_nowhere_are_refused(call, message):
    with pytest.raises(ThinkrankError, match=message):
        load_impressions(*call)


def test_an_unknown_option_names_the_nearest():
    with pytest.raises(ThinkrankError, match="mind: unknown option 'min_candidate'; nearest: min_candidates"):
        load_impressions("mind", "here", min_candidate=3)
    with pytest.raises(ThinkrankError, match=r"option candidates=20: .*only 12 items"):
        load_impressions("synthetic", items=12, events=5, candidates=20)


def test_the_synthetic_source_is_the_world_of_its_options():
    options = {"users": 5, "items": 20, "events": 4, "days": 3, "lists": 7, "candidates": 4}
    lists = load_impressions("synthetic", **options)
    assert lists.fingerprint == ListWorld(ListWorldOptions(**options)).lists.fingerprint


def reciprocal_ranks(lists, scores_LN):
    order_LN = np.argsort(-np.where(lists.mask_LN, scores_LN, -np.inf), axis=1, kind="stable")
    return 1 / (1 + np.take_along_axis(lists.feedback(), order_LN, axis=1).argmax(axis=1))


@pytest.mark.shared_data
def test_trivago_comes_out_as_its_note_says(shared_data):
    lists = load_impressions("trivago", shared_data / "trivago-rsc19-100k", min_candidates=5)
    assert (len(lists), lists.items_LN.shape[1]) == (13_413, 25)
    assert lists.feedback()[:, 0].mean() == pytest.approx(0.31, abs=0.01)
    assert reciprocal_ranks(lists, np.zeros(lists.items_LN.shape)).mean() == pytest.approx(0.445, abs=0.001)
    lately_LN = lists.numeric_LNF[:, :, lists.numeric_names.index("seen_lately")]
    assert reciprocal_ranks(lists, lately_LN).mean() == pytest.approx(0.600, abs=0.001)


@pytest.mark.shared_data
def test_mind_comes_out_as_its_note_says(shared_data):
    lists = load_impressions("mind", shared_data / "mind-demo-impressions")
    assert (len(lists), len(lists.users), int(lists.lengths_L.sum())) == (4_532, 2_629, 187_758)
    assert lists.feedback().sum() == 7_377
    rate_LN = lists.numeric_LNF[:, :, lists.numeric_names.index("rate_before")]
    areas = []
    for row, clicked, there in zip(rate_LN, lists.feedback() > 0, lists.mask_LN, strict=True):
        if not (clicked | ~there).all():
            pairs = row[clicked][:, None] - row[there & ~clicked]
            areas.append(((pairs > 0) + 0.5 * (pairs == 0)).mean())
    assert np.mean(areas) == pytest.approx(0.629, abs=0.001)
