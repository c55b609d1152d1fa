"""Ranking fixed candidate sets: figures against loops, the floor of a random ranker, buckets, and baselines."""

import math
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import pytest

from thinkrank.data import CandidateSets, Catalogue, Dataset, Requests, Samples, candidate_sets, split_dataset
from thinkrank.data.candidates import Candidates
from thinkrank.evaluate import (
    bucket_rows,
    candidate_ranks,
    candidate_ties,
    evaluate_ranking,
    history_buckets,
    popularity_buckets,
    position_bias,
    random_scores,
)
from thinkrank.retrieve import EASE, EASEConfig, ItemKNN, Popularity, SASRec, SasrecOptions, train_sequential
from thinkrank.stages import Cost, Ranking, order_candidates
from thinkrank.testing import two_tribes


def crowd(num_users: int, num_items: int = 40, events_each: int = 2) -> Samples:
    """Every user takes some items at random; every event but the first is a sample."""
    rng = np.random.default_rng(0)
    rows = [
        (f"u{user:05d}", f"i{item:03d}", time)
        for user in range(num_users)
        for time, item in enumerate(rng.choice(num_items, size=events_each, replace=False))
    ]
    names = [f"i{row:03d}" for row in range(num_items)]
    interactions = pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row")
    dataset = Dataset("crowd", interactions, Catalogue(pl.DataFrame({"item": names, "title": names})))
    return split_dataset(dataset, fractions=(0.0, 0.0, 1.0)).test


def with_ranks(sets: CandidateSets, ranks: list[int]) -> np.ndarray:
    """Scores that put the true item of each set at a given place."""
    scores = np.zeros(sets.items_BN.shape, dtype=np.float32)
    for row, (rank, positive) in enumerate(zip(ranks, sets.positive_B, strict=True)):
        places = [place for place in range(1, scores.shape[1] + 1) if place != rank]
        others = [column for column in range(scores.shape[1]) if column != positive]
        scores[row, positive] = -rank
        scores[row, others] = [-place for place in places]
    return scores


@dataclass
class Scoring:
    """A ranker made of scores of candidates; its answer may be changed before it is given."""

    scores: Callable
    change: Callable = lambda ranking: ranking

    def rank(self, requests: Requests, candidates: Candidates) -> Ranking:
        return self.change(order_candidates(candidates, self.scores(requests.histories, candidates.items_BN)))


def noise(histories, items_BN):
    """Scores of each (history, item) that do not depend on the rest of the batch or on the column."""
    return np.array(
        [
            [np.random.default_rng([7, *h.items.tolist(), max(item, 0)]).integers(0, 5) for item in row]
            for h, row in zip(histories, items_BN.tolist(), strict=True)
        ],
        dtype=np.float32,
    ).reshape(items_BN.shape)


def test_every_place_of_the_true_item_gives_the_metrics_of_that_place():
    sets = candidate_sets(crowd(20), 20)
    evaluation = evaluate_ranking({"given": with_ranks(sets, list(range(1, 21)))}, sets)
    assert evaluation.answers["given"].ranks_S.tolist() == list(range(1, 21))
    for k in (1, 3, 5, 10):
        assert evaluation.values("given", f"hit@{k}").tolist() == [float(rank <= k) for rank in range(1, 21)]
        gains = [1 / math.log2(rank + 1) if rank <= k else 0.0 for rank in range(1, 21)]
        np.testing.assert_allclose(evaluation.values("given", f"ndcg@{k}"), gains)
    np.testing.assert_allclose(evaluation.values("given", "mrr"), [1 / rank for rank in range(1, 21)])
    # A ranker that knows nothing has each place equally often: the floor of 1 true item among 20.
    floor = {"ndcg@1": 0.050, "ndcg@5": 0.147, "ndcg@10": 0.227, "hit@10": 0.500, "mrr": 0.180}
    for metric, value in floor.items():
        assert evaluation.values("given", metric).mean() == pytest.approx(value, abs=5e-4)


def test_random_scores_come_out_at_that_floor():
    sets = candidate_sets(crowd(4000), 20)
    evaluation = evaluate_ranking({"random": random_scores(sets, seed=3)}, sets)
    for metric, value in {"ndcg@1": 0.050, "ndcg@5": 0.147, "ndcg@10": 0.227, "hit@10": 0.500, "mrr": 0.180}.items():
        found = evaluation.values("random", metric)
        assert abs(found.mean() - value) < 4 * found.std() / len(found) ** 0.5


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_ranks_are_those_of_a_loop_with_ties_against_the_true_item(batch_size):
    sets = candidate_sets(crowd(40, events_each=3), 6)
    evaluation = evaluate_ranking({"noise": Scoring(noise)}, sets, batch_size=batch_size)
    for row, items in enumerate(sets.items_BN):
        scores = noise(sets.histories[row : row + 1], items[None])[0]
        positive = sets.positive_B[row]
        before = sum(score >= scores[positive] for column, score in enumerate(scores) if column != positive)
        assert evaluation.answers["noise"].ranks_S[row] == before + 1
        kept = evaluation.answers["noise"].items_SK[row]
        by_item = dict(zip(items.tolist(), scores.tolist(), strict=True))
        assert [by_item[item] for item in kept[:6].tolist()] == sorted(scores.tolist(), reverse=True)


def test_scoring_everything_alike_is_worth_what_a_random_order_is():
    sets = candidate_sets(crowd(5), 8)
    alike = np.zeros((5, 8), dtype=np.float32)
    assert candidate_ranks(alike, sets).tolist() == [8] * 5
    assert candidate_ties(alike, sets).tolist() == [7] * 5
    evaluation = evaluate_ranking({"alike": alike}, sets)
    assert evaluation.values("alike", "hit@3") == pytest.approx([3 / 8] * 5)
    gains = [1 / math.log2(place + 1) for place in range(1, 9)]
    assert evaluation.values("alike", "ndcg@10") == pytest.approx([sum(gains) / 8] * 5)
    assert evaluation.values("alike", "mrr") == pytest.approx([sum(1 / place for place in range(1, 9)) / 8] * 5)
    assert evaluation.policy["ties"].startswith("expected value")
    bias = position_bias([alike, alike], [sets, sets.shuffled(1)])
    assert bias.ndcg_KB == pytest.approx(np.full((2, 5), sum(gains) / 8))


def test_ties_of_a_counting_system_cost_it_nothing_on_average():
    sets = candidate_sets(crowd(40, events_each=3), 6)
    tied = noise(sets.histories, sets.items_BN) // 2
    expected = evaluate_ranking({"it": tied}, sets)
    rng = np.random.default_rng(0)
    drawn = {f"{draw}": tied + rng.random(tied.shape, dtype=np.float32) * 0.5 for draw in range(60)}
    broken = evaluate_ranking(drawn, sets)
    for metric in ("ndcg@3", "hit@1", "mrr"):
        mean = np.mean([broken.values(name, metric).mean() for name in drawn])
        assert mean == pytest.approx(expected.values("it", metric).mean(), abs=0.02)
    part = expected.where(np.arange(len(sets)) < 9)
    assert (part.values("it", "mrr") == expected.values("it", "mrr")[:9]).all()


@pytest.mark.parametrize("filler", [np.inf, -np.inf, np.nan, 1e9])
def test_what_fills_up_a_set_is_never_ranked(filler):
    sets = candidate_sets(crowd(12, num_items=6), 9)
    assert not sets.mask_BN.all()
    scores = random_scores(sets) - 1
    scores[~sets.mask_BN] = filler
    evaluation = evaluate_ranking({"random": scores}, sets, cutoffs=(9,))
    for row, mask in enumerate(sets.mask_BN):
        rank = sum(scores[row][mask] >= scores[row, sets.positive_B[row]])
        assert evaluation.answers["random"].ranks_S[row] == rank
        assert sorted(evaluation.answers["random"].items_SK[row].tolist()) == sorted(sets.items_BN[row].tolist())
    assert evaluation.values("random", "hit@9").all()


def test_the_order_the_candidates_are_shown_in_does_not_matter_to_a_pointwise_system():
    sets = candidate_sets(crowd(30), 10)
    shuffled = sets.shuffled(5)
    ranks = [evaluate_ranking({"noise": Scoring(noise)}, some).answers["noise"].ranks_S for some in (sets, shuffled)]
    assert (ranks[0] == ranks[1]).all()


def test_rows_tests_and_policy_are_those_of_retrieval_without_what_was_not_chosen():
    sets = candidate_sets(crowd(30, events_each=4), 20, seed=6)
    systems = {"random": random_scores(sets), "given": with_ranks(sets, [1 + row % 3 for row in range(len(sets))])}
    evaluation = evaluate_ranking(systems, sets)
    rows = {(row.system, row.metric): row for row in evaluation.rows(dataset="crowd", split="test")}
    assert {metric for _, metric in rows} == set(evaluation.metrics)
    row = rows["given", "ndcg@10"]
    assert row.low <= row.value <= row.high
    assert row.n == 90
    test = evaluation.compare("given", "random", "ndcg@10")
    assert test.num_clusters == 30
    assert test.p_value < 0.01
    assert evaluation.policy["candidates"] == "20: the true item and negatives (uniform, seed 6)"
    assert evaluation.policy["samples"] == 90


def test_answers_to_some_samples_are_the_same_answers():
    sets = candidate_sets(crowd(30, events_each=3), 8)
    evaluation = evaluate_ranking({"noise": Scoring(noise)}, sets)
    chosen = np.arange(len(sets)) % 3 == 0
    part = evaluation.where(chosen)
    assert (part.values("noise", "mrr") == evaluation.values("noise", "mrr")[chosen]).all()
    assert part.policy["samples"] == chosen.sum()


def test_samples_fall_into_buckets_by_the_length_of_their_history():
    samples = crowd(3, events_each=12)
    buckets = history_buckets(samples.histories())
    lengths = np.array([len(sample.history) for sample in samples])
    assert [sorted(set(lengths[chosen].tolist())) for chosen in buckets.values()] == [
        [1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10, 11],
    ]
    assert (np.sum(list(buckets.values()), axis=0) == 1).all()


def test_samples_fall_into_buckets_by_the_popularity_of_their_target():
    counts = np.array([0, 50, 20, 20, 15, 15, 12, 12, 6, 0])  # of 150: 50, then 20 + 20 + 15 + 15 reach 100
    buckets = popularity_buckets(np.arange(10), counts)
    found = {name: np.flatnonzero(chosen).tolist() for name, chosen in buckets.items()}
    assert found == {"target cold": [0, 9], "target tail": [6, 7, 8], "target middle": [2, 3, 4, 5], "target head": [1]}
    alike = popularity_buckets(np.arange(3), np.array([4, 4, 0]))
    assert alike["target head"].tolist() == [True, True, False]
    with pytest.raises(ValueError, match="none is popular"):
        popularity_buckets(np.arange(2), np.zeros(2, dtype=np.int64))


def test_rows_of_buckets_have_their_own_samples():
    sets = candidate_sets(crowd(5, events_each=7), 10)
    evaluation = evaluate_ranking({"random": random_scores(sets)}, sets)
    rows = bucket_rows(evaluation, history_buckets(sets.histories), dataset="crowd", split="test")
    counts = {row.split: row.n for row in rows}
    assert counts == {"test, history 1-3": 15, "test, history 4-7": 15}  # nobody has 8
    short = next(row for row in rows if row.split == "test, history 1-3" and row.metric == "mrr")
    chosen = [row for row, history in enumerate(sets.histories) if len(history) <= 3]
    assert short.value == pytest.approx(evaluation.values("random", "mrr")[chosen].mean())


@pytest.fixture(scope="module")
def tribes():
    return split_dataset(two_tribes(users_per_tribe=20))


@pytest.mark.parametrize(
    "baseline",
    [
        Popularity(),
        ItemKNN(),
        EASE(EASEConfig(ridge=1)),
        SASRec(SasrecOptions(width=16, learning_rate=0.01, max_epochs=20, patience=20), device="cpu"),
    ],
    ids=lambda baseline: type(baseline).__name__,
)
@pytest.mark.parametrize("negatives", ["uniform", "popularity"])
def test_baselines_rank_candidates_as_they_rank_the_catalogue(tribes, baseline, negatives):
    sets = candidate_sets(tribes.test, 8, negatives=negatives, counts_I=tribes.train_counts)
    if isinstance(baseline, SASRec):
        train_sequential(baseline, tribes)
    else:
        baseline.fit(tribes)
    ranks = evaluate_ranking({"it": baseline}, sets, batch_size=3).answers["it"].ranks_S
    for row, scores in enumerate(baseline.scores(sets.requests)):
        items = [item for item in sets.items_BN[row].tolist() if item >= 0]
        target = int(sets.samples.targets[row])
        assert abs(ranks[row] - sum(scores[item] >= scores[target] for item in items)) <= (type(baseline) is SASRec)
    if not isinstance(baseline, Popularity):
        floor = candidate_ranks(random_scores(sets), sets)
        assert (1 / ranks).mean() > (1 / floor).mean() + 0.2


def test_progress_counts_the_sets_of_all_systems():
    sets, seen = candidate_sets(crowd(5), 4), []

    @contextmanager
    def progress(title: str, total: int):
        seen.append((title, total))
        yield lambda n=1, note="": seen.append((n, note))

    evaluate_ranking({"noise": Scoring(noise), "random": random_scores(sets)}, sets, batch_size=2, progress=progress)
    assert seen == [("evaluating", 10), (2, "noise"), (2, "noise"), (1, "noise"), (5, "random")]


def test_cost_is_kept_where_an_answer_tells_it():
    sets = candidate_sets(crowd(5), 4)
    telling = Scoring(noise, lambda ranking: replace(ranking, cost=Cost(seconds=1e9, tokens=11)))
    systems = {"telling": telling, "silent": Scoring(noise), "random": random_scores(sets)}
    cost = evaluate_ranking(systems, sets, batch_size=2).cost
    assert {name: spent.tokens for name, spent in cost.items()} == {"telling": 33, "silent": 0, "random": 0}
    assert 0 < cost["telling"].seconds < 1e3
    assert cost["random"].seconds == 0


def test_a_system_that_reaches_for_what_came_next_finds_requests_and_candidates_alone():
    sets = candidate_sets(crowd(20, events_each=4), 6)

    @dataclass
    class Peeking(Scoring):
        def rank(self, requests: Requests, candidates: Candidates) -> Ranking:
            assert (type(requests), type(candidates)) == (Requests, Candidates)
            for name in ("samples", "targets", "positive_B", "positions", "feedback"):
                assert not hasattr(requests, name)
                assert not hasattr(candidates, name)
            assert all(history.items.base is None and history.times.base is None for history in requests.histories)
            return super().rank(requests, candidates)

    peeking, plain = evaluate_ranking({"peeking": Peeking(noise), "plain": Scoring(noise)}, sets).answers.values()
    assert (peeking.ranks_S == plain.ranks_S).all()


def test_faulty_systems_and_empty_requests_are_refused_by_name():
    sets = candidate_sets(crowd(5), 4)
    with pytest.raises(ValueError, match="lost: the scores of candidates must be finite"):
        evaluate_ranking({"lost": np.full((5, 4), np.nan, dtype=np.float32)}, sets)
    with pytest.raises(ValueError, match=r"short: scores have shape \(5, 3\)"):
        evaluate_ranking({"short": np.zeros((5, 3), dtype=np.float32)}, sets)
    with pytest.raises(ValueError, match="lost: scores hold NaN"):
        evaluate_ranking({"lost": Scoring(lambda histories, items: np.full(items.shape, np.nan))}, sets)
    with pytest.raises(ValueError, match="lost: the scores of candidates must be finite"):
        evaluate_ranking({"lost": Scoring(lambda histories, items: np.full(items.shape, -np.inf))}, sets)
    empty = candidate_sets(crowd(5)[:0], 4)
    for systems, some, cutoffs in [
        ({}, sets, (5,)),
        ({"n": Scoring(noise)}, empty, (5,)),
        ({"n": Scoring(noise)}, sets, ()),
    ]:
        with pytest.raises(ValueError, match="at least one"):
            evaluate_ranking(systems, some, cutoffs=cutoffs)
    with pytest.raises(ValueError, match="cut-offs"):
        evaluate_ranking({"n": Scoring(noise)}, sets, cutoffs=(0, 5))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ranking: ranking.first(3), r"odd: the answer has shape \(5, 3\), not \(5, 4\)"),
        (lambda ranking: replace(ranking, columns_BK=None), "odd: the answer does not say where"),
        (lambda ranking: replace(ranking, columns_BK=ranking.columns_BK * 0), "odd: .* list 0 is not an order"),
        (lambda ranking: replace(ranking, items_BK=ranking.items_BK + 1), "odd: .* list 0 names other items"),
        (
            lambda ranking: replace(ranking, scores_BK=-ranking.scores_BK),
            "odd: .* not stand in the order of its scores",
        ),
    ],
)
def test_an_answer_that_is_no_order_of_its_candidates_by_scores_is_refused(change, message):
    sets = candidate_sets(crowd(5), 4)
    distinct = Scoring(lambda histories, items: -items.astype(np.float32))
    assert evaluate_ranking({"sound": distinct}, sets).systems == ("sound",)
    with pytest.raises(ValueError, match=message):
        evaluate_ranking({"odd": replace(distinct, change=change)}, sets)
