"""Every system orders the same displayed lists, and the log's feedback is read along the new order."""

from dataclasses import dataclass

import ir_measures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ir_measures import AP, RR, Success, nDCG

from contracts import random_lists, widened
from thinkrank.evaluate import evaluate_lists
from thinkrank.stages.answers import Slate
from thinkrank.stages.order import slate_from_scores


@dataclass(frozen=True)
class BySeed:
    """Scores that depend on the items alone, so they are the same however wide the arrays are."""

    seed: int

    def rerank(self, lists, k: int) -> Slate:
        worth_I = np.random.default_rng(self.seed).integers(0, 6, len(lists.catalogue)).astype(np.float32)
        return slate_from_scores(lists, worth_I[lists.items_LN], k)


@dataclass(frozen=True)
class Answering:
    """The same columns for everybody."""

    columns: np.ndarray

    def rerank(self, lists, k: int) -> Slate:
        return Slate(self.columns, self.columns, self.columns.astype(np.float32))


def by_ir_measures(measure, lists, columns_LN, gain=lambda grade: grade):
    qrels, run = [], []
    for index, (grades, mask, columns) in enumerate(zip(lists.feedback(), lists.mask_LN, columns_LN, strict=True)):
        qrels += [ir_measures.Qrel(f"l{index}", f"s{slot}", gain(int(grades[slot]))) for slot in np.flatnonzero(mask)]
        order = columns[columns >= 0]
        run += [ir_measures.ScoredDoc(f"l{index}", f"s{slot}", float(-place)) for place, slot in enumerate(order)]
    found = {row.query_id: row.value for row in ir_measures.iter_calc([measure], qrels, run)}
    return [found[f"l{index}"] for index in range(len(lists))]


@given(seed=st.integers(0, 40), k=st.integers(1, 8), grades=st.integers(1, 3))
def test_the_figures_are_those_of_trec_eval(seed, k, grades):
    lists = random_lists(seed, grades=grades)
    evaluation = evaluate_lists({"some": BySeed(seed)}, lists, cutoffs=[k])
    columns_LN = evaluation.columns_LN["some"]

    def exponential(grade: int) -> int:
        return 2**grade - 1

    for metric, measure, gain in [
        (f"ndcg@{k}", nDCG @ k, exponential),
        (f"map@{k}", AP @ k, int),
        (f"hit@{k}", Success @ k, int),
        ("mrr", RR, int),
    ]:
        expected = by_ir_measures(measure, lists, columns_LN, gain)
        np.testing.assert_allclose(evaluation.values("some", metric), expected, err_msg=metric)


@given(seed=st.integers(0, 40), more=st.integers(1, 5))
def test_padding_changes_no_figure(seed, more):
    lists = random_lists(seed, grades=2)
    narrow = evaluate_lists({"some": BySeed(seed)}, lists, cutoffs=[1, 3, 10])
    wide = evaluate_lists({"some": BySeed(seed)}, widened(lists, more), cutoffs=[1, 3, 10])
    for metric in narrow.metrics:
        np.testing.assert_allclose(wide.values("some", metric), narrow.values("some", metric))


def test_auc_says_nothing_of_lists_without_a_pair():
    lists = random_lists(share_empty=0.3)
    evaluation = evaluate_lists({"some": BySeed(1)}, lists)
    relevant_L, others_L = ((lists.feedback() > 0) == yes for yes in (True, False))
    pairs_L = (relevant_L & lists.mask_LN).sum(axis=1) * (others_L & lists.mask_LN).sum(axis=1)
    assert np.array_equal(np.isnan(evaluation.values("some", "auc")), pairs_L == 0)
    (row,) = [row for row in evaluation.rows(dataset="d", split="test") if row.metric == "auc"]
    assert row.n == (pairs_L > 0).sum()
    assert row.value == pytest.approx(np.nanmean(evaluation.values("some", "auc")))


def test_a_list_without_feedback_scores_zero():
    lists = random_lists(share_empty=0.5)
    evaluation = evaluate_lists({"some": BySeed(1)}, lists)
    empty_L = ~(lists.feedback() > 0).any(axis=1)
    assert empty_L.any()
    for metric in ("ndcg@10", "map@10", "hit@10", "mrr"):
        assert not evaluation.values("some", metric)[empty_L].any()
    assert evaluation.policy["lists without feedback"] == empty_L.sum()


def test_rows_and_tests_are_those_of_the_values():
    lists = random_lists(num_lists=40)
    evaluation = evaluate_lists({"one": BySeed(1), "two": BySeed(2)}, lists, cutoffs=[5])
    rows = {(row.system, row.metric): row for row in evaluation.rows(dataset="d", split="test", seeds={"two": [7]})}
    assert [metric for system, metric in rows if system == "one"] == list(evaluation.metrics)
    assert rows["two", "ndcg@5"].value == pytest.approx(evaluation.values("two", "ndcg@5").mean())
    assert (rows["two", "mrr"].seeds, rows["one", "mrr"].seeds) == ((7,), ())
    comparisons = {row.metric: row for row in evaluation.comparisons("one", dataset="d", split="test")}
    difference = np.nanmean(evaluation.values("two", "auc")) - np.nanmean(evaluation.values("one", "auc"))
    assert comparisons["auc"].difference == pytest.approx(difference)


def test_either_divisor_of_map():
    lists = random_lists(3, num_lists=60, share_empty=0)
    of_all, of_found = (
        evaluate_lists({"some": BySeed(1)}, lists, cutoffs=[1], map_divisor=divisor).values("some", "map@1")
        for divisor in ("relevant", "found")
    )
    assert set(of_found) == {0, 1}
    assert (of_all <= of_found).all()
    assert (of_all < of_found).any()


def test_another_signal_can_be_relevant():
    lists = random_lists()
    liked = evaluate_lists({"some": BySeed(1)}, lists, signal="like")
    assert np.array_equal(liked.feedback_LN, lists.feedback("like"))


@pytest.mark.parametrize("change", ["repeat", "padding", "short"])
def test_an_answer_that_is_no_order_is_refused(change):
    lists = random_lists()
    columns = np.where(lists.mask_LN, np.arange(6), -1).astype(np.int32)
    if change == "repeat":
        columns[0, 0] = 1
    elif change == "padding":
        columns[lists.lengths_L.argmin()] = np.arange(6)
    else:
        columns[0, 5] = -1
    with pytest.raises(ValueError, match=r"odd: the answer to list .* is not an order"):
        evaluate_lists({"odd": Answering(columns)}, lists)


def test_an_evaluation_of_nothing_is_refused():
    lists = random_lists()
    for systems, some, cutoffs in [({}, lists, [1]), ({"a": BySeed(0)}, lists.subset(np.zeros(0, int)), [1])]:
        with pytest.raises(ValueError, match="at least one"):
            evaluate_lists(systems, some, cutoffs=cutoffs)
    with pytest.raises(ValueError, match="cut-offs must be"):
        evaluate_lists({"a": BySeed(0)}, lists, cutoffs=[0])
    with pytest.raises(ValueError, match="no system 'b'"):
        evaluate_lists({"a": BySeed(0)}, lists).values("b", "mrr")


def test_scores_become_slates_and_ties_keep_the_displayed_order():
    lists = random_lists(num_lists=2, longest=4)
    slate = slate_from_scores(lists, np.array([[1, 2, 2, -np.inf], [0, 9, 9, 9]], np.float32), 5)
    assert slate.columns_BK[0].tolist() == [1, 2, 0, 3, -1]
    assert slate.items_BK[0].tolist() == [*lists.items_LN[0][[1, 2, 0, 3]], -1]
    assert slate.scores_BK[0].tolist() == [2, 2, 1, -np.inf, -np.inf]
    length = int(lists.lengths_L[1])
    assert (slate.columns_BK[1] >= 0).sum() == length
    with pytest.raises(ValueError, match="NaN"):
        slate_from_scores(lists, np.full((2, 4), np.nan, np.float32), 1)
    with pytest.raises(ValueError, match="k must be"):
        slate_from_scores(lists, np.zeros((2, 4), np.float32), 0)
