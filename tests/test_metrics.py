"""The metrics are those of trec_eval, as `ir-measures` computes them."""

from functools import partial
from itertools import chain, permutations, product

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import AP, RR, R, Success, nDCG

from thinkrank import metrics

METRICS = [metrics.hit, metrics.recall, metrics.reciprocal_rank, metrics.average_precision, metrics.ndcg]


@st.composite
def relevance_lists(draw, max_grade: int = 3, max_users: int = 4) -> np.ndarray:
    users, width = draw(st.integers(1, max_users)), draw(st.integers(1, 8))
    grades = st.lists(st.integers(0, max_grade), min_size=width, max_size=width)
    return np.array(draw(st.lists(grades, min_size=users, max_size=users)))


def by_ir_measures(measure, relevance_BN: np.ndarray, unranked_B: np.ndarray | None = None) -> list[float]:
    """One value per user; `unranked_B` more items of relevance 1 exist that the list does not show."""
    users, width = relevance_BN.shape
    qrels = [
        ir_measures.Qrel(f"u{user}", f"d{place}", int(relevance_BN[user, place]))
        for user in range(users)
        for place in range(width)
    ]
    if unranked_B is not None:
        qrels += [ir_measures.Qrel(f"u{u}", f"x{i}", 1) for u in range(users) for i in range(unranked_B[u])]
    run = [
        ir_measures.ScoredDoc(f"u{user}", f"d{place}", float(-place)) for user in range(users) for place in range(width)
    ]
    found = {metric.query_id: metric.value for metric in ir_measures.iter_calc([measure], qrels, run)}
    return [found[f"u{user}"] for user in range(users)]


@given(relevance=relevance_lists(max_grade=1), k=st.integers(1, 12))
def test_yes_no_relevance_agrees_with_trec_eval(relevance, k):
    for ours, theirs in [
        (metrics.hit, Success @ k),
        (metrics.recall, R @ k),
        (metrics.reciprocal_rank, RR @ k),
        (metrics.average_precision, AP @ k),
        (metrics.ndcg, nDCG @ k),
    ]:
        np.testing.assert_allclose(ours(relevance, k), by_ir_measures(theirs, relevance), err_msg=str(theirs))


@given(relevance=relevance_lists())
def test_the_whole_list_agrees_with_trec_eval(relevance):
    for ours, theirs in [(metrics.reciprocal_rank, RR), (metrics.average_precision, AP), (metrics.ndcg, nDCG)]:
        np.testing.assert_allclose(ours(relevance), by_ir_measures(theirs, relevance), err_msg=str(theirs))


@given(relevance=relevance_lists(), k=st.integers(1, 12))
def test_graded_relevance_agrees_with_trec_eval(relevance, k):
    np.testing.assert_allclose(metrics.ndcg(relevance, k), by_ir_measures(nDCG @ k, relevance))


@given(relevance=relevance_lists(), k=st.integers(1, 12))
def test_the_exponential_gain_is_the_linear_gain_of_the_exponentiated_grades(relevance, k):
    np.testing.assert_allclose(metrics.ndcg(relevance, k, gain="exponential"), metrics.ndcg(2**relevance - 1, k))


@given(relevance=relevance_lists(max_grade=1), k=st.integers(1, 12), unranked=st.integers(0, 4))
def test_a_cut_list_with_the_number_of_relevant_items_agrees_with_trec_eval(relevance, k, unranked):
    unranked_B = np.arange(len(relevance)) + unranked
    num_relevant_B = relevance.sum(axis=1) + unranked_B
    for ours, theirs in [(metrics.recall, R @ k), (metrics.average_precision, AP @ k), (metrics.ndcg, nDCG @ k)]:
        expected = by_ir_measures(theirs, relevance, unranked_B)
        np.testing.assert_allclose(ours(relevance, k, num_relevant_B), expected, err_msg=str(theirs))


@given(relevance=relevance_lists(), cut=st.integers(1, 8), k=st.integers(1, 12))
def test_a_cut_list_with_the_ideal_grades_is_the_full_list_cut(relevance, cut, k):
    cut = min(cut, relevance.shape[1])
    zeroed = relevance * (np.arange(relevance.shape[1]) < cut)
    in_full = by_hand_ndcg(zeroed, relevance, k)
    np.testing.assert_allclose(metrics.ndcg(relevance[:, :cut], k, ideal_BM=relevance), in_full)


def by_hand_ndcg(shown: np.ndarray, existing: np.ndarray, k: int) -> list[float]:
    def dcg(grades: list[int]) -> float:
        return sum(grade / np.log2(place + 2) for place, grade in enumerate(grades[:k]))

    bests = [dcg(sorted(row, reverse=True)) for row in existing.tolist()]
    return [dcg(row) / best if best else 0.0 for row, best in zip(shown.tolist(), bests, strict=True)]


@pytest.mark.parametrize("metric", METRICS)
def test_nothing_relevant_scores_zero(metric):
    assert metric(np.zeros((2, 3)), 2).tolist() == [0, 0]
    assert metric(np.zeros((2, 3)), 2, np.array([0, 4])).tolist() == [0, 0]


@pytest.mark.parametrize("metric", METRICS)
def test_empty_lists_and_empty_batches_have_a_value(metric):
    assert metric(np.zeros((2, 0))).tolist() == [0, 0]
    assert metric(np.zeros((0, 3)), 2).tolist() == []


@pytest.mark.parametrize("metric", METRICS)
def test_a_true_is_a_one(metric):
    relevance = np.array([[0, 1, 0, 1], [0, 0, 0, 0]])
    np.testing.assert_array_equal(metric(relevance.astype(bool), 3), metric(relevance, 3))


@pytest.mark.parametrize("metric", METRICS)
def test_senseless_input_is_refused(metric):
    with pytest.raises(ValueError, match="k must be at least 1"):
        metric(np.ones((1, 2)), 0)
    for wrong in (-1.0, np.nan):
        with pytest.raises(ValueError, match="relevance must be"):
            metric(np.array([[1.0, wrong]]))


@pytest.mark.parametrize("metric", [metrics.recall, metrics.average_precision, metrics.ndcg])
def test_fewer_relevant_items_than_shown_is_refused(metric):
    with pytest.raises(ValueError, match="smaller"):
        metric(np.ones((1, 3)), None, np.array([2]))


def test_ndcg_refuses_a_count_where_grades_are_needed():
    with pytest.raises(ValueError, match="ideal_BM"):
        metrics.ndcg(np.array([[2, 0]]), None, np.array([1]))
    with pytest.raises(ValueError, match="not both"):
        metrics.ndcg(np.array([[1, 0]]), None, np.array([1]), ideal_BM=np.array([[1, 0]]))


def test_a_rank_is_a_list_with_one_relevant_item():
    lists = metrics.relevance_from_ranks(np.array([1, 3, 4]), 3)
    assert lists.tolist() == [[True, False, False], [False, False, True], [False, False, False]]


@given(rank=st.integers(1, 30), k=st.integers(1, 20))
def test_with_one_target_every_metric_has_a_closed_form(rank, k):
    lists = metrics.relevance_from_ranks(np.array([rank]), k)
    found = rank <= k
    assert metrics.hit(lists, k) == metrics.recall(lists, k, np.array([1])) == found
    assert metrics.reciprocal_rank(lists, k) == metrics.average_precision(lists, k) == pytest.approx(found / rank)
    assert metrics.ndcg(lists, k) == pytest.approx(found / np.log2(rank + 1))


def test_ranks_are_one_based():
    with pytest.raises(ValueError, match="1-based"):
        metrics.relevance_from_ranks(np.array([0]), 3)
    with pytest.raises(ValueError, match="width"):
        metrics.relevance_from_ranks(np.array([1]), 0)


@given(relevance=relevance_lists(), k=st.integers(1, 12))
def test_average_precision_can_divide_by_what_was_found(relevance, k):
    expected = []
    for row in relevance.tolist():
        precisions = [sum(grade > 0 for grade in row[: place + 1]) / (place + 1) for place in range(min(k, len(row)))]
        found = [precision for precision, grade in zip(precisions, row, strict=False) if grade > 0]
        expected.append(sum(found) / len(found) if found else 0.0)
    np.testing.assert_allclose(metrics.average_precision(relevance, k, divisor="found"), expected)
    np.testing.assert_allclose(
        metrics.average_precision(relevance, divisor="found"), metrics.average_precision(relevance)
    )


def by_pairs(scores: list[float], relevance: list[float], there: list[bool]) -> float:
    shown = [(score, grade > 0) for score, grade, real in zip(scores, relevance, there, strict=True) if real]
    pairs = [(good, bad) for good, yes in shown if yes for bad, other in shown if not other]
    return sum((good > bad) + (good == bad) / 2 for good, bad in pairs) / len(pairs) if pairs else float("nan")


@given(relevance=relevance_lists(), seed=st.integers(0, 999))
def test_auc_counts_pairs_in_the_right_order(relevance, seed):
    random = np.random.default_rng(seed)
    scores = random.integers(0, 4, relevance.shape).astype(np.float64)
    mask = random.random(relevance.shape) < 0.8
    expected = [by_pairs(*row) for row in zip(scores.tolist(), relevance.tolist(), mask.tolist(), strict=True)]
    np.testing.assert_allclose(metrics.auc(scores, relevance, mask), expected)
    everywhere = np.ones_like(mask)
    np.testing.assert_allclose(metrics.auc(scores, relevance), metrics.auc(scores, relevance, everywhere))


def test_auc_refuses_scores_without_an_order_but_not_padding():
    scores = np.array([[1.0, np.nan]])
    with pytest.raises(ValueError, match="NaN"):
        metrics.auc(scores, np.array([[1, 0]]))
    assert np.isnan(metrics.auc(scores, np.array([[1, 0]]), np.array([[True, False]]))[0])
    assert metrics.auc(np.zeros((0, 3)), np.zeros((0, 3))).tolist() == []


TIED_METRICS = {
    "hit": metrics.hit,
    "recall": metrics.recall,
    "mrr": metrics.reciprocal_rank,
    "map": metrics.average_precision,
    "map of those found": partial(metrics.average_precision, divisor="found"),
    "ndcg": metrics.ndcg,
    "exponential ndcg": partial(metrics.ndcg, gain="exponential"),
}


@settings(max_examples=60)
@given(
    grades=st.lists(st.sampled_from([0, 0, 1, 2]), min_size=1, max_size=6),
    ties=st.lists(st.booleans(), min_size=6, max_size=6),
    k=st.one_of(st.none(), st.integers(1, 8)),
)
def test_under_ties_every_metric_is_its_mean_over_all_orders_of_what_ties(grades, ties, k):
    relevance_N, tied_N = np.array(grades), np.array(ties[: len(grades)])
    group_N = np.append(0, np.cumsum(~tied_N[1:]))
    groups = [np.flatnonzero(group_N == group).tolist() for group in range(group_N.max() + 1)]
    orders = [list(chain(*each)) for each in product(*map(permutations, groups))]
    for name, metric in TIED_METRICS.items():
        expected = metric(relevance_N[np.array(orders)], k).mean()
        found_B = metric(np.stack([relevance_N] * 2), k, tied_BN=np.stack([tied_N, np.zeros_like(tied_N)]))
        np.testing.assert_allclose(found_B, [expected, metric(relevance_N[None], k)[0]], atol=1e-12, err_msg=name)
