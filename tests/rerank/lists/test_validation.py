import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkrank import metrics
from thinkrank.evaluate import evaluate_reranking
from thinkrank.rerank.lists import list_ndcg, list_reciprocal_rank
from thinkrank.stages.order import order_candidates
from thinkrank.testing import random_lists


@given(seed=st.integers(0, 60), k=st.integers(1, 9), grades=st.integers(1, 3))
def test_validation_is_the_table_of_the_evaluation(seed, k, grades):
    lists = random_lists(seed, grades=grades)
    scores_LN = np.random.default_rng(seed).integers(0, 4, lists.items_LN.shape).astype(np.float32)
    ranking = order_candidates(lists.candidates, scores_LN)
    table = evaluate_reranking({"it": ranking}, lists, cutoffs=[k])
    feedback_LN = lists.feedback()
    given = ranking.columns_BK, feedback_LN
    np.testing.assert_array_equal(list_ndcg(*given, k, ranking.tied_BK), table.values("it", f"ndcg@{k}"))
    np.testing.assert_array_equal(list_reciprocal_rank(*given, ranking.tied_BK), table.values("it", "mrr"))


@pytest.fixture(scope="module")
def judged():
    """Feedback with grades, lists without any, and orders of them of which some end early."""
    random = np.random.default_rng(0)
    feedback = random.integers(0, 3, (30, 7)) * (random.random((30, 7)) < 0.4)
    feedback[:3] = 0
    columns = np.argsort(random.random((30, 7)), axis=1)[:, :5]
    columns[10:15, 3:] = -1
    relevance = np.where(columns >= 0, np.take_along_axis(feedback, np.maximum(columns, 0), axis=1), 0)
    return columns, feedback.astype(np.float32), relevance


def test_the_ideal_of_a_list_that_ends_early_is_made_of_all_its_feedback(judged):
    columns, feedback, relevance = judged
    for row, value in enumerate(list_ndcg(columns, feedback, 5)):
        gains = [2**grade - 1 for grade in relevance[row]]
        best = sorted((2**grade - 1 for grade in feedback[row]), reverse=True)[:5]
        found, ideal = (sum(gain / np.log2(place + 2) for place, gain in enumerate(some)) for some in (gains, best))
        assert value == pytest.approx(found / ideal if ideal else 0)


def test_a_list_that_ends_early_has_nothing_beyond_its_end(judged):
    columns, feedback, relevance = judged
    np.testing.assert_array_equal(list_reciprocal_rank(columns, feedback), metrics.reciprocal_rank(relevance, 5))
