"""The retrieval protocol, against a slow and plain one."""

import math
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import pytest
from jaxtyping import config

from thinkrank.data import Catalogue, Dataset, Requests, Samples, split_dataset
from thinkrank.errors import ThinkrankError
from thinkrank.evaluate import Evaluation, evaluate_retrieval
from thinkrank.retrieve import ItemKNN, Popularity
from thinkrank.stages import Configured, Cost, Ranking, mask_seen, target_ranks, top_k
from thinkrank.testing import two_tribes

NUM_ITEMS = 11


@pytest.fixture(scope="module")
def samples() -> Samples:
    return split_dataset(two_tribes()).test


@dataclass
class Scoring:
    """A retriever made of scores of the whole catalogue."""

    scores: Callable

    def retrieve(self, requests: Requests, k: int, *, filter_seen: bool = True) -> Ranking:
        return top_k(self.scores(requests.histories), requests.histories, k, filter_seen=filter_seen)

    def target_ranks(self, requests: Requests, targets_B, *, filter_seen: bool = True):
        scores_BI = self.scores(requests.histories)
        return target_ranks(mask_seen(scores_BI, requests.histories) if filter_seen else scores_BI, targets_B)


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
    evaluation = evaluate_retrieval({"noise": Scoring(noise)}, samples, filter_seen=filter_seen, batch_size=batch_size)
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
    evaluation = evaluate_retrieval({"constant": Scoring(constant)}, repurchases())
    assert evaluation.unreachable_S.tolist() == [False, True, False]
    assert evaluation.values("constant", "hit@20").tolist() == [1, 0, 1]
    assert evaluation.values("constant", "mrr")[1] == 0
    assert evaluation.policy["unreachable targets"] == 1


def test_a_repurchase_can_be_found_when_seen_items_stay():
    evaluation = evaluate_retrieval({"constant": Scoring(constant)}, repurchases(), filter_seen=False)
    assert not evaluation.unreachable_S.any()
    assert evaluation.answers["constant"].ranks_S.tolist() == [2, 1, 2]


def test_kept_lists_are_the_best_items_without_the_seen_ones():
    evaluation = evaluate_retrieval({"constant": Scoring(constant)}, repurchases(), cutoffs=(2,))
    assert evaluation.answers["constant"].items_SK.tolist() == [[1, 2], [2, -1], [0, 1]]


@pytest.fixture(scope="module")
def evaluation(samples) -> Evaluation:
    split = split_dataset(two_tribes())
    systems = {"popularity": Popularity().fit(split), "item-knn": ItemKNN().fit(split)}
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


def test_progress_counts_the_samples_of_all_systems(samples):
    seen = []

    @contextmanager
    def progress(title: str, total: int):
        seen.append((title, total))
        yield lambda n=1, note="": seen.append((n, note))

    systems = {"noise": Scoring(noise), "other": Scoring(noise)}
    evaluate_retrieval(systems, samples, batch_size=4, progress=progress)
    batches = [min(4, len(samples) - start) for start in range(0, len(samples), 4)]
    assert seen == [("evaluating", 2 * len(samples)), *((n, name) for n in batches for name in systems)]


@dataclass
class Answering:
    """A retriever whose answer is changed before it is given."""

    change: Callable

    def retrieve_with_ranks(self, requests: Requests, k: int, targets_B, *, filter_seen: bool = True, **more):
        sound = Scoring(noise)
        ranking = sound.retrieve(requests, k, filter_seen=filter_seen)
        return self.change(ranking, sound.target_ranks(requests, targets_B, filter_seen=filter_seen), **more)

    def retrieve(self, requests: Requests, k: int, *, filter_seen: bool = True) -> Ranking:
        raise AssertionError("both are asked for at once")

    def target_ranks(self, requests: Requests, targets_B, *, filter_seen: bool = True):
        raise AssertionError("both are asked for at once")


def with_nan(ranking, ranks_B):
    return replace(ranking, scores_BK=np.full_like(ranking.scores_BK, np.nan)), ranks_B


def without_a_row(ranking, ranks_B):
    return replace(ranking, items_BK=ranking.items_BK[1:], scores_BK=ranking.scores_BK[1:]), ranks_B


def beyond_the_catalogue(ranking, ranks_B):
    return replace(ranking, items_BK=ranking.items_BK + NUM_ITEMS), ranks_B


def always_first(ranking, ranks_B):
    return ranking, np.ones_like(ranks_B)


@pytest.fixture
def unchecked_shapes():
    """As users run the package: signatures are checked in tests only, and would refuse first."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_nan, "odd: scores hold NaN"),
        (without_a_row, r"odd: the answer has shape \(\d, \d+\), not \(\d, 20\)"),
        (lambda ranking, ranks_B: (ranking.first(3), ranks_B), r"odd: the answer has shape \(\d, 3\), not \(\d, 20\)"),
        (beyond_the_catalogue, "odd: the answer holds items that are not of the catalogue's 11"),
        (lambda ranking, ranks_B: (ranking, ranks_B[1:]), "odd: the places of targets have shape"),
        (lambda ranking, ranks_B: (ranking, ranks_B - ranks_B), "odd: the places of targets must be 1 to 12"),
        (lambda ranking, ranks_B: (ranking, ranks_B + NUM_ITEMS + 1), "odd: the places of targets must be 1 to 12"),
        (always_first, "odd: it tells place 1 of a target that its answer puts behind more items"),
    ],
)
def test_answers_that_cannot_be_judged_are_refused_by_name(samples, unchecked_shapes, change, message):
    sound = {"sound": Answering(lambda ranking, ranks_B: (ranking, ranks_B))}
    assert evaluate_retrieval(sound, samples).systems == ("sound",)
    with pytest.raises(ValueError, match=message):
        evaluate_retrieval(sound | {"odd": Answering(change)}, samples)


def test_a_target_that_an_answer_does_not_hold_stands_behind_it(samples):
    by_row = Scoring(lambda histories: np.tile(np.arange(NUM_ITEMS, dtype=np.float32), (len(histories), 1)))
    true = evaluate_retrieval({"by row": by_row}, samples, cutoffs=(3,), filter_seen=False).answers["by row"]
    assert (true.ranks_S > 3).any()

    class Boasting(Scoring):
        def target_ranks(self, requests: Requests, targets_B, *, filter_seen: bool = True):
            return np.minimum(super().target_ranks(requests, targets_B, filter_seen=filter_seen), 2)

    with pytest.raises(ValueError, match="boasting: it tells place 2 of a target"):
        evaluate_retrieval({"boasting": Boasting(by_row.scores)}, samples, cutoffs=(3,), filter_seen=False)


def test_a_fault_of_a_system_is_told_with_its_name(samples):
    def lost(histories):
        return np.full((len(histories), NUM_ITEMS), np.nan, dtype=np.float32)

    def unready(histories):
        raise ThinkrankError("has learnt nothing yet")

    with pytest.raises(ValueError, match="lost: scores hold NaN"):
        evaluate_retrieval({"lost": Scoring(lost)}, samples)
    with pytest.raises(ThinkrankError, match=r"^new: has learnt nothing yet"):
        evaluate_retrieval({"new": Scoring(unready)}, samples)
    narrow = Scoring(lambda h: np.zeros((len(h), 4), dtype=np.float32))
    with pytest.raises(ValueError, match="small: targets must be catalogue rows 0 to 3"):
        evaluate_retrieval({"small": narrow}, samples, filter_seen=False)
    with pytest.raises(ValueError, match=r"large: the (answer|places)"):
        evaluate_retrieval({"large": Scoring(lambda h: np.ones((len(h), 40), dtype=np.float32))}, samples)


def test_an_answer_and_the_places_come_of_one_reading_and_cost_is_kept(samples):
    readings = []

    def count(ranking, ranks_B, think):
        readings.append(think)
        return replace(ranking, cost=Cost(seconds=1e9, tokens=7)), ranks_B

    evaluation = evaluate_retrieval({"it": Configured(Answering(count), think=True)}, samples, batch_size=4)
    assert readings == [True] * -(-len(samples) // 4)
    assert evaluation.cost["it"].tokens == 7 * len(readings)
    assert 0 < evaluation.cost["it"].seconds < 1e3


def arrays_within(thing, found: list[np.ndarray]) -> list[np.ndarray]:
    """Every array that can be reached from what a system is handed, the memory behind views included."""
    if isinstance(thing, np.ndarray):
        found.append(thing)
        arrays_within(thing.base, found)
    elif isinstance(thing, list | tuple):
        for part in thing:
            arrays_within(part, found)
    elif hasattr(thing, "__dict__"):
        for part in vars(thing).values():
            arrays_within(part, found)
    return found


def test_a_system_that_reaches_for_what_came_next_finds_no_more_than_its_histories(samples):
    def reach(requests: Requests) -> list[int]:
        return [sum(array.size for array in arrays_within(history, [])) for history in requests.histories]

    @dataclass
    class Peeking(Scoring):
        def retrieve(self, requests: Requests, k: int, *, filter_seen: bool = True) -> Ranking:
            assert type(requests) is Requests
            for size, history in zip(reach(requests), requests.histories, strict=True):
                assert size == history.items.size + history.times.size
            for name in ("targets", "targets_B", "samples", "dataset", "feedback"):
                assert not hasattr(requests, name)
            return super().retrieve(requests, k, filter_seen=filter_seen)

    assert max(reach(samples.requests())) > two_tribes().items_E.size  # as views of the log they would find it all
    evaluate_retrieval({"peeking": Peeking(noise)}, samples)


def test_an_empty_request_is_refused(samples):
    for systems, part, cutoffs in [
        ({}, samples, (5,)),
        ({"noise": Scoring(noise)}, samples[:0], (5,)),
        ({"n": Scoring(noise)}, samples, ()),
    ]:
        with pytest.raises(ValueError, match="at least one"):
            evaluate_retrieval(systems, part, cutoffs=cutoffs)
    with pytest.raises(ValueError, match="cut-offs"):
        evaluate_retrieval({"noise": Scoring(noise)}, samples, cutoffs=(0, 5))


def test_a_system_that_knows_other_items_is_refused_by_name(samples):
    data = samples.dataset
    fewer = Catalogue(data.catalogue.frame[1:])
    other = ItemKNN().fit(split_dataset(Dataset("fewer", data.interactions, fewer)))
    with pytest.raises(ThinkrankError, match=r"stale: it knows other items \(10\)"):
        evaluate_retrieval({"stale": other}, samples)
    with pytest.raises(ThinkrankError, match="stale: it knows other items"):
        evaluate_retrieval({"stale": Configured(other)}, samples)
