"""Clicks to expect are the world's own, whatever system wrote the lists."""

import numpy as np
import pytest

from thinkrank.data import load_impressions
from thinkrank.evaluate import evaluate_reranking
from thinkrank.recipes.synthetic_world import BEST, expected_click_rows, expected_clicks, told_clicks
from thinkrank.rerank import InitialOrder
from thinkrank.stages import order_candidates
from thinkrank.testing import random_lists


class Reversed:
    """Turn every displayed list round."""

    def rerank(self, requests, candidates, k):
        scores = np.broadcast_to(np.arange(candidates.items_BN.shape[1], dtype=np.float32), candidates.items_BN.shape)
        return order_candidates(candidates, scores, k)


@pytest.fixture(scope="module")
def world():
    lists = load_impressions("synthetic", lists=60, users=8, candidates=6, score_noise=0.0)
    return lists, evaluate_reranking({"displayed order": InitialOrder(), "EGLR": Reversed()}, lists)


def test_the_best_order_has_most_clicks_and_a_reversed_good_one_fewer(world):
    lists, evaluation = world
    clicks = expected_clicks(evaluation, lists)
    assert (clicks[BEST] >= clicks["displayed order"] - 1e-9).all()
    assert clicks["EGLR"].mean() < clicks["displayed order"].mean()
    rows = expected_click_rows(evaluation, lists, "test", {"EGLR": [3]})
    assert {row.system: row.seeds for row in rows} == {"displayed order": (), "EGLR": (3,), BEST: ()}
    assert all(row.metric == "expected clicks@10" and row.low <= row.value <= row.high for row in rows)
    told = told_clicks(evaluation, lists, "EGLR", "displayed order")
    assert "fewer than the displayed order" in told
    same = told_clicks(evaluation, lists, "EGLR", "EGLR")
    assert "no sure difference from the EGLR" in same


def test_lists_of_no_synthetic_world_have_none():
    lists = random_lists()
    evaluation = evaluate_reranking({"EGLR": InitialOrder()}, lists)
    assert expected_click_rows(evaluation, lists, "test", {}) == []
    assert told_clicks(evaluation, lists, "EGLR", "EGLR") == ""
