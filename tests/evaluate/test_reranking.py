"""Every system orders the same displayed lists, and the log's feedback is read along the new order."""

import json
from contextlib import contextmanager
from dataclasses import dataclass, replace

import ir_measures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ir_measures import AP, RR, Success, nDCG

from thinkrank.data import Histories, Requests
from thinkrank.data.candidates import Candidates
from thinkrank.evaluate import evaluate_reranking
from thinkrank.rerank import InitialOrder
from thinkrank.stages import Cost, Ranking, order_candidates
from thinkrank.testing import random_lists, widened


@dataclass(frozen=True)
class BySeed:
    """Scores that depend on the items alone, so they are the same however wide the arrays are; some tie if asked."""

    seed: int
    ties: bool = False

    def rerank(self, requests: Requests, candidates: Candidates, k: int) -> Ranking:
        worth_I = np.random.default_rng(self.seed).permutation(len(candidates.catalogue)).astype(np.float32)
        worth_I = worth_I // 4 if self.ties else worth_I
        return order_candidates(candidates, worth_I[candidates.items_BN], k)


@dataclass(frozen=True)
class Answering:
    """The same columns for everybody."""

    columns: np.ndarray

    def rerank(self, requests: Requests, candidates: Candidates, k: int) -> Ranking:
        items = np.take_along_axis(candidates.items_BN, np.maximum(self.columns, 0), axis=1)
        items = np.where(self.columns >= 0, items, -1)
        return Ranking(items, self.columns.astype(np.float32), self.columns)


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
    evaluation = evaluate_reranking({"some": BySeed(seed)}, lists, cutoffs=[k])
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
    narrow = evaluate_reranking({"some": BySeed(seed, ties=True)}, lists, cutoffs=[1, 3, 10])
    wide = evaluate_reranking({"some": BySeed(seed, ties=True)}, widened(lists, more), cutoffs=[1, 3, 10])
    for metric in narrow.metrics:
        np.testing.assert_allclose(wide.values("some", metric), narrow.values("some", metric))


def test_where_scores_tie_the_displayed_order_decides_nothing():
    lists = random_lists(4, num_lists=60, grades=2)
    tied = evaluate_reranking({"tied": BySeed(1, ties=True)}, lists, cutoffs=[1, 3])
    rng, shape = np.random.default_rng(0), lists.items_LN.shape
    scores_LN = BySeed(1, ties=True).rerank(lists.requests, lists.candidates, shape[1]).scores_given(shape[1])
    drawn = {
        f"{draw}": order_candidates(lists.candidates, scores_LN + rng.random(shape, dtype=np.float32))
        for draw in range(60)
    }
    broken = evaluate_reranking(drawn, lists, cutoffs=[1, 3])
    for metric in tied.metrics:
        mean = np.mean([np.nanmean(broken.values(name, metric)) for name in drawn])
        assert mean == pytest.approx(np.nanmean(tied.values("tied", metric)), abs=0.02), metric
    assert tied.policy["ties"].startswith("expected value")


def test_the_displayed_order_ties_nothing_and_an_order_by_a_constant_everything():
    lists = random_lists(4, num_lists=60)
    constant = order_candidates(lists.candidates, np.zeros(lists.items_LN.shape))
    found = evaluate_reranking({"displayed": InitialOrder(), "constant": constant}, lists)
    clicks_LN, lengths_L = lists.feedback() > 0, lists.mask_LN.sum(axis=1)
    assert np.array_equal(found.values("displayed", "hit@1"), clicks_LN[:, 0].astype(float))
    np.testing.assert_allclose(found.values("constant", "hit@1"), clicks_LN.sum(axis=1) / lengths_L)
    aucs_L = found.values("constant", "auc")
    assert (aucs_L[~np.isnan(aucs_L)] == 0.5).all()


def test_auc_says_nothing_of_lists_without_a_pair():
    lists = random_lists(share_empty=0.3)
    evaluation = evaluate_reranking({"some": BySeed(1)}, lists)
    relevant_L, others_L = ((lists.feedback() > 0) == yes for yes in (True, False))
    pairs_L = (relevant_L & lists.mask_LN).sum(axis=1) * (others_L & lists.mask_LN).sum(axis=1)
    assert np.array_equal(np.isnan(evaluation.values("some", "auc")), pairs_L == 0)
    (row,) = [row for row in evaluation.rows(dataset="d", split="test") if row.metric == "auc"]
    assert row.n == (pairs_L > 0).sum()
    assert row.value == pytest.approx(np.nanmean(evaluation.values("some", "auc")))


def test_a_list_without_feedback_scores_zero():
    lists = random_lists(share_empty=0.5)
    evaluation = evaluate_reranking({"some": BySeed(1)}, lists)
    empty_L = ~(lists.feedback() > 0).any(axis=1)
    assert empty_L.any()
    for metric in ("ndcg@10", "map@10", "hit@10", "mrr"):
        assert not evaluation.values("some", metric)[empty_L].any()
    assert evaluation.policy["lists without feedback"] == empty_L.sum()


def test_rows_and_tests_are_those_of_the_values():
    lists = random_lists(num_lists=40)
    evaluation = evaluate_reranking({"one": BySeed(1), "two": BySeed(2)}, lists, cutoffs=[5])
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
        evaluate_reranking({"some": BySeed(1)}, lists, cutoffs=[1], map_divisor=divisor).values("some", "map@1")
        for divisor in ("relevant", "found")
    )
    assert set(of_found) == {0, 1}
    assert (of_all <= of_found).all()
    assert (of_all < of_found).any()


def test_another_signal_can_be_relevant():
    lists = random_lists()
    liked = evaluate_reranking({"some": BySeed(1)}, lists, signal="like")
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
        evaluate_reranking({"odd": Answering(columns)}, lists)


def test_an_evaluation_of_nothing_is_refused():
    lists = random_lists()
    for systems, some, cutoffs in [({}, lists, [1]), ({"a": BySeed(0)}, lists.subset(np.zeros(0, int)), [1])]:
        with pytest.raises(ValueError, match="at least one"):
            evaluate_reranking(systems, some, cutoffs=cutoffs)
    with pytest.raises(ValueError, match="cut-offs must be"):
        evaluate_reranking({"a": BySeed(0)}, lists, cutoffs=[0])
    with pytest.raises(ValueError, match="no system 'b'"):
        evaluate_reranking({"a": BySeed(0)}, lists).values("b", "mrr")


def test_an_answer_made_beforehand_may_have_seen_the_feedback():
    lists = random_lists(grades=3, share_empty=0)
    ideal = order_candidates(lists.candidates, lists.feedback())
    evaluation = evaluate_reranking({"oracle": ideal, "some": BySeed(1)}, lists)
    scored_L = (lists.feedback() > 0).any(axis=1)
    assert np.allclose(evaluation.values("oracle", "ndcg@10"), scored_L)
    assert evaluation.cost["oracle"] == Cost(0.0)
    assert evaluation.cost["some"].seconds > 0
    told = evaluate_reranking({"oracle": replace(ideal, cost=Cost(2.0, 5))}, lists)
    assert told.cost["oracle"] == Cost(2.0, 5)


def test_a_system_that_reaches_for_feedback_finds_requests_and_candidates_alone():
    lists = random_lists(num_lists=30)
    with_feedback = {id(lists), id(lists.feedback_LNS), id(lists.feedback_LNS.base)}

    def reachable(thing, seen: set[int]) -> set[int]:
        if thing is None or isinstance(thing, str | int | float) or id(thing) in seen:
            return seen
        seen.add(id(thing))
        parts = list(thing) if isinstance(thing, list | tuple) else list(getattr(thing, "__dict__", {}).values())
        for part in [*parts, getattr(thing, "base", None)]:
            reachable(part, seen)
        return seen

    class Peeking:
        def rerank(self, requests: Requests, candidates: Candidates, k: int) -> Ranking:
            assert (type(requests), type(candidates)) == (Requests, Candidates)
            for thing in (requests, candidates):
                assert not with_feedback & reachable(thing, set())
                with pytest.raises(AttributeError):
                    thing.feedback()
                with pytest.raises(AttributeError):
                    thing.feedback_LNS  # noqa: B018
            assert isinstance(requests.histories, Histories)
            assert requests.histories.items_E.size == sum(map(len, requests.histories))  # and no later events
            return BySeed(1).rerank(requests, candidates, k)

    assert with_feedback & reachable(lists, set())
    shared = replace(lists, histories=Histories(np.arange(9, dtype=np.int32), None, *np.zeros((2, 30), np.int64)))
    for some in (lists, shared):
        evaluation = evaluate_reranking({"peeking": Peeking(), "plain": BySeed(1)}, some)
        assert np.array_equal(evaluation.columns_LN["peeking"], evaluation.columns_LN["plain"])


def test_progress_counts_the_lists_of_all_systems():
    lists, seen = random_lists(), []

    @contextmanager
    def progress(title: str, total: int):
        seen.append((title, total))
        yield lambda n=1, note="": seen.append((n, note))

    evaluate_reranking({"one": BySeed(1), "two": BySeed(2)}, lists, progress=progress)
    assert seen == [("evaluating", 40), (20, "one"), (20, "two")]


def test_the_protocol_says_what_the_figures_rest_on():
    lists = random_lists()
    protocol = evaluate_reranking({"some": BySeed(1)}, lists, signal="like", cutoffs=[3, 1]).protocol
    assert protocol["relevant"] == "like"
    assert protocol["cut-offs"] == [1, 3]
    assert protocol["lists"] == len(lists)
    assert json.loads(json.dumps(protocol)) == protocol


def test_scores_become_lists_and_ties_keep_the_displayed_order():
    lists = random_lists(num_lists=2, longest=4)
    ranking = order_candidates(lists.candidates, np.array([[1, 2, 2, -np.inf], [0, 9, 9, 9]], np.float32), 5)
    assert ranking.columns_BK[0].tolist() == [1, 2, 0, 3, -1]
    assert ranking.items_BK[0].tolist() == [*lists.items_LN[0][[1, 2, 0, 3]], -1]
    assert ranking.scores_BK[0].tolist() == [2, 2, 1, -np.inf, -np.inf]
    length = int(lists.lengths_L[1])
    assert (ranking.columns_BK[1] >= 0).sum() == length
    with pytest.raises(ValueError, match="NaN"):
        order_candidates(lists.candidates, np.full((2, 4), np.nan, np.float32), 1)
    with pytest.raises(ValueError, match="k must be"):
        order_candidates(lists.candidates, np.zeros((2, 4), np.float32), 0)


def test_where_propensities_were_logged_another_order_is_estimated():
    lists = random_lists(3, num_lists=12)
    plain = evaluate_reranking({"shown": InitialOrder(), "new": BySeed(1)}, lists)
    assert not {name.partition("@")[0] for name in plain.metrics} & {"ips", "snips", "dr"}
    logged = replace(lists, propensities_LN=np.where(lists.mask_LN, np.float32(0.5), np.float32(0)))
    evaluation = evaluate_reranking({"shown": InitialOrder(), "new": BySeed(1)}, logged)
    clicks = lists.feedback()
    for name in ("ips@5", "snips@5", "dr@5"):
        np.testing.assert_allclose(evaluation.values("shown", name), clicks[:, :5].sum(axis=1))
    stays = evaluation.columns_LN["new"] == np.arange(clicks.shape[1])
    np.testing.assert_allclose(evaluation.values("new", "ips@5"), (2 * stays * clicks)[:, :5].sum(axis=1), rtol=1e-6)
    rows = evaluation.rows(dataset="lists", split="test")
    assert all(row.low is not None for row in rows if row.metric == "dr@5")
    assert "ips, snips, dr" in evaluation.protocol
