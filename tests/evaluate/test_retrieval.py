"""The retrieval protocol, against a slow and plain one."""

import math

import numpy as np
import polars as pl
import pytest

from contracts import two_tribes
from thinkrank.data import Catalogue, Dataset, Samples, split_dataset
from thinkrank.evaluate import Evaluation, evaluate_retrieval
from thinkrank.retrieve import ItemKNN, Popularity

NUM_ITEMS = 11


@pytest.fixture(scope="module")
def samples() -> Samples:
    return split_dataset(two_tribes()).test


def noise(histories) -> np.ndarray:
    """Scores that depend on the history only, with many ties."""
    rows = [np.random.default_rng(history.items.tolist()).integers(0, 4, NUM_ITEMS) for history in histories]
    return np.array(rows, dtype=np.float32).reshape(-1, NUM_ITEMS)


def naive_ranks(scorer, samples: Samples, filter_seen: bool) -> list[int]:
    ranks = []
    for sample in samples:
        scores = scorer([sample.history])[0]
        seen = set(sample.history.items.tolist()) if filter_seen else set()
        rivals = [item for item in range(NUM_ITEMS) if item not in seen and item != sample.target]
        missed = sample.target in seen
        ranks.append(NUM_ITEMS + 1 if missed else 1 + sum(scores[item] >= scores[sample.target] for item in rivals))
    return ranks


@pytest.mark.parametrize("filter_seen", [True, False])
@pytest.mark.parametrize("batch_size", [1, 3, 1000])
def test_figures_are_those_of_a_loop_over_samples(samples, filter_seen, batch_size):
    evaluation = evaluate_retrieval({"noise": noise}, samples, filter_seen=filter_seen, batch_size=batch_size)
    ranks = naive_ranks(noise, samples, filter_seen)
    assert evaluation.answers["noise"].ranks_S.tolist() == ranks
    for k in (5, 10, 20):
        assert evaluation.values("noise", f"hit@{k}").tolist() == [float(rank <= k) for rank in ranks]
        gains = [1 / math.log2(rank + 1) if rank <= min(k, NUM_ITEMS) else 0 for rank in ranks]
        np.testing.assert_allclose(evaluation.values("noise", f"ndcg@{k}"), gains)
    expected = [1 / rank if rank <= NUM_ITEMS else 0 for rank in ranks]
    np.testing.assert_allclose(evaluation.values("noise", "mrr"), expected)


def repurchases() -> Samples:
    catalogue = Catalogue(pl.DataFrame({"item": ["a", "b", "c"], "title": ["A", "B", "C"]}))
    events = [("u", "a", 0), ("u", "b", 1), ("u", "a", 2), ("v", "c", 3), ("v", "b", 4)]
    interactions = pl.DataFrame(events, schema=["user", "item", "timestamp"], orient="row")
    return split_dataset(Dataset("again", interactions, catalogue), fractions=(0.0, 0.0, 1.0)).test


def constant(histories) -> np.ndarray:
    return np.tile(np.array([3, 2, 1], dtype=np.float32), (len(histories), 1))


def test_a_repurchase_is_a_miss_when_seen_items_are_left_out_and_is_reported():
    evaluation = evaluate_retrieval({"constant": constant}, repurchases())
    assert evaluation.unreachable_S.tolist() == [False, True, False]
    assert evaluation.values("constant", "hit@20").tolist() == [1, 0, 1]
    assert evaluation.values("constant", "mrr")[1] == 0
    assert evaluation.policy["unreachable targets"] == 1


def test_a_repurchase_can_be_found_when_seen_items_stay():
    evaluation = evaluate_retrieval({"constant": constant}, repurchases(), filter_seen=False)
    assert not evaluation.unreachable_S.any()
    assert evaluation.answers["constant"].ranks_S.tolist() == [2, 1, 2]


def test_kept_lists_are_the_best_items_without_the_seen_ones():
    evaluation = evaluate_retrieval({"constant": constant}, repurchases(), cutoffs=(2,))
    assert evaluation.answers["constant"].items_SK.tolist() == [[1, 2], [2, -1], [0, 1]]


@pytest.fixture(scope="module")
def evaluation(samples) -> Evaluation:
    split = split_dataset(two_tribes())
    systems = {"popularity": Popularity().fit(split).scores, "item-knn": ItemKNN().fit(split).scores}
    return evaluate_retrieval(systems, samples, cutoffs=(1, 3))


def test_rows_hold_every_figure_with_its_interval(evaluation, samples):
    rows = evaluation.rows(dataset="two-tribes", split="test", seeds={"item-knn": [3]})
    by_key = {(row.system, row.metric): row for row in rows}
    row = by_key["item-knn", "ndcg@3"]
    assert row.value == pytest.approx(evaluation.values("item-knn", "ndcg@3").mean())
    assert row.low <= row.value <= row.high
    assert (row.dataset, row.split, row.n, row.seeds) == ("two-tribes", "test", len(samples), (3,))
    assert by_key["popularity", "mrr"].seeds == ()
    assert by_key["popularity", "coverage@3"].low is None
    assert {metric for _, metric in by_key} == {*evaluation.metrics, "coverage@1", "coverage@3"}


def test_training_counts_add_popularity_and_novelty(evaluation):
    counts = np.bincount(two_tribes().items_E, minlength=NUM_ITEMS)
    figures = evaluation.beyond_accuracy("popularity", counts)
    assert set(figures) == {f"{name}@{k}" for name in ("coverage", "popularity", "arp", "novelty") for k in (1, 3)}


def test_a_comparison_needs_no_second_run(evaluation):
    test = evaluation.compare("item-knn", "popularity", "mrr")
    gap = evaluation.values("item-knn", "mrr").mean() - evaluation.values("popularity", "mrr").mean()
    assert test.difference.value == pytest.approx(gap)
    assert test.num_clusters == len(np.unique(evaluation.users_S))


def test_unknown_names_are_refused_with_the_known_ones(evaluation):
    with pytest.raises(ValueError, match="there are popularity, item-knn"):
        evaluation.values("sasrec", "mrr")
    with pytest.raises(ValueError, match="there are hit@1"):
        evaluation.values("popularity", "hit@2")


def test_progress_is_told_after_every_batch(samples):
    told = []
    evaluate_retrieval({"noise": noise}, samples, batch_size=4, progress=lambda *state: told.append(state))
    assert told == [("noise", min(done, len(samples)), len(samples)) for done in range(4, len(samples) + 4, 4)]


def test_faulty_systems_are_refused_by_name(samples):
    with pytest.raises(ValueError, match="lost: scores hold NaN"):
        evaluate_retrieval({"lost": lambda h: np.full((len(h), NUM_ITEMS), np.nan, dtype=np.float32)}, samples)
    with pytest.raises(ValueError, match="short: scores have shape"):
        evaluate_retrieval({"short": lambda h: np.zeros((1, NUM_ITEMS), dtype=np.float32)}, samples)
    with pytest.raises(ValueError, match="different sizes"):
        evaluate_retrieval({"a": noise, "b": lambda h: np.zeros((len(h), 20), dtype=np.float32)}, samples)


def test_an_empty_request_is_refused(samples):
    for systems, part, cutoffs in [
        ({}, samples, (5,)),
        ({"noise": noise}, samples[:0], (5,)),
        ({"n": noise}, samples, ()),
    ]:
        with pytest.raises(ValueError, match="at least one"):
            evaluate_retrieval(systems, part, cutoffs=cutoffs)
    with pytest.raises(ValueError, match="cut-offs"):
        evaluate_retrieval({"noise": noise}, samples, cutoffs=(0, 5))
