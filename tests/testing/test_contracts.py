"""Contracts find what they are there to find: components with one fault each, and the test that must fail."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from thinkrank.data import Candidates, Catalogue, Dataset
from thinkrank.errors import ThinkrankError
from thinkrank.rerank import InitialOrder
from thinkrank.retrieve import EASE, EASEConfig, Popularity
from thinkrank.stages import Ranking, order_candidates
from thinkrank.testing import (
    RankerContract,
    RerankerContract,
    RetrieverContract,
    RewardContract,
    SourceContract,
    TrainerContract,
    assert_same_answer,
    assert_well_formed,
    random_lists,
    refused,
    two_tribes,
)
from thinkrank.training import Run, Trainer, TrainerOptions, train


def with_items(ranking: Ranking, items_BK) -> Ranking:
    return replace(ranking, items_BK=np.asarray(items_BK, dtype=np.int32))


class Optimistic(Popularity):
    """Equal scores stand behind the target."""

    def target_ranks(self, requests, targets_B, *, filter_seen=True):
        scores_BI = self.scores(requests)
        return 1 + (scores_BI > scores_BI[np.arange(len(scores_BI)), targets_B][:, None]).sum(axis=1)


class Forgetful(Popularity):
    """Recommends what was seen."""

    def retrieve(self, requests, k, *, filter_seen=True):
        return super().retrieve(requests, k, filter_seen=False)


class InCompany(Popularity):
    """Its scores depend on how many ask."""

    def scores(self, requests):
        return super().scores(requests) * np.float32(len(requests))


class Trusting(Popularity):
    """Counts items of a history from the end of the catalogue if they are below 0."""

    def checked(self, requests):
        return requests if not isinstance(requests, list) else super().checked([[] for _ in requests])


class Restless(Popularity):
    """Says something else each time."""

    def scores(self, requests):
        return super().scores(requests) + np.random.default_rng().random(11, dtype=np.float32)


class WithoutTitles(Popularity):
    """Comes back from disk with other titles."""

    @classmethod
    def from_pretrained(cls, where, *, device="auto"):
        model = super().from_pretrained(where)
        model.learn(Catalogue(model.catalogue.frame.with_columns(title="item")), model.arrays)
        return model


RETRIEVERS = [
    (Optimistic, "test_the_place_of_a_target_is_counted_among_all_items", {"filter_seen": False}),
    (Forgetful, "test_what_was_seen_is_left_out", {}),
    (Forgetful, "test_more_than_the_catalogue_is_the_whole_catalogue", {}),
    (InCompany, "test_company_in_the_batch_does_not_matter", {}),
    (Trusting, "test_an_item_outside_the_catalogue_is_refused", {"item": -1}),
    (Trusting, "test_what_is_no_request_is_refused", {"asked": [[1.5]]}),
    (Restless, "test_asking_again_gives_the_same_answer", {}),
]


@pytest.mark.parametrize(("kind", "test", "given"), RETRIEVERS, ids=lambda part: getattr(part, "__name__", str(part)))
def test_a_retriever_with_a_fault_is_found_out(kind, test, given):
    stage = kind().fit(two_tribes())
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        getattr(RetrieverContract(), test)(stage, **given)
    getattr(RetrieverContract(), test)(Popularity().fit(two_tribes()), **given)


def test_a_stage_that_comes_back_changed_is_found_out(tmp_path):
    contract = RetrieverContract()
    with pytest.raises(AssertionError):
        contract.test_saved_and_loaded_alone_it_answers_the_same(WithoutTitles().fit(two_tribes()), tmp_path)


class ByPlace(EASE):
    """Scores candidates by where they stand."""

    def rank(self, requests, candidates):
        ranking = super().rank(requests, candidates)
        scores_BN = -np.tile(np.arange(ranking.items_BK.shape[1], dtype=np.float32), (len(ranking), 1))
        return order_candidates(Candidates.of(candidates, self.catalogue), scores_BN)


class Misplaced(EASE):
    """Says of each item that it stood in the first column."""

    def rank(self, requests, candidates):
        ranking = super().rank(requests, candidates)
        return replace(ranking, columns_BK=np.where(ranking.items_BK >= 0, 0, -1).astype(np.int32))


@pytest.mark.parametrize(
    ("kind", "test"),
    [
        (ByPlace, "test_the_order_of_candidates_changes_nothing_but_columns"),
        (Misplaced, "test_columns_point_at_the_items"),
    ],
)
def test_a_ranker_with_a_fault_is_found_out(kind, test):
    with pytest.raises(AssertionError):
        getattr(RankerContract(), test)(kind(EASEConfig(ridge=1)).fit(two_tribes()))
    getattr(RankerContract(), test)(EASE(EASEConfig(ridge=1)).fit(two_tribes()))


class Backwards(InitialOrder):
    """Turns lists around with their padding."""

    def rerank(self, requests, candidates, k):
        ranking = super().rerank(requests, candidates, k)
        return with_items(ranking, ranking.items_BK[:, ::-1])


class OnlyTwo(InitialOrder):
    """Never answers with more than two."""

    def rerank(self, requests, candidates, k):
        ranking = super().rerank(requests, candidates, k)
        for array, fill in ((ranking.items_BK, -1), (ranking.columns_BK, -1), (ranking.scores_BK, -np.inf)):
            array[:, 2:] = fill
        return ranking


class ByWidth(InitialOrder):
    """Its scores depend on the padding."""

    def rerank(self, requests, candidates, k):
        ranking = super().rerank(requests, candidates, k)
        return replace(ranking, scores_BK=ranking.scores_BK + np.float32(candidates.items_BN.shape[1]))


@pytest.mark.parametrize(
    ("kind", "test"),
    [
        (Backwards, "test_as_many_places_as_candidates_are_an_order_of_them"),
        (OnlyTwo, "test_as_many_places_as_candidates_are_an_order_of_them"),
        (ByWidth, "test_padding_changes_nothing"),
        (ByWidth, "test_company_in_the_batch_does_not_matter"),
    ],
)
def test_a_reranker_with_a_fault_is_found_out(kind, test):
    lists = random_lists(3, num_lists=40)
    with pytest.raises(AssertionError):
        getattr(RerankerContract(), test)(kind(), lists)
    getattr(RerankerContract(), test)(InitialOrder(), lists)


FINITE = "test_it_gives_a_finite_number_for_each_answer"


@pytest.mark.parametrize(
    ("reward", "test"),
    [
        (lambda group: [1.0], FINITE),
        (lambda group: [float("nan")] * len(group), FINITE),
        (lambda group: list(range(len(group))), "test_the_order_of_answers_changes_the_order_of_rewards_alone"),
    ],
    ids=["too few", "not finite", "by order"],
)
def test_a_reward_with_a_fault_is_found_out(reward, test):
    with pytest.raises((AssertionError, ValueError)):
        getattr(RewardContract(), test)(reward)


class Toy(Trainer[TrainerOptions]):
    """Fits a line to points that it draws; it may forget what it drew them with."""

    def __init__(self, folder, *, forgets):
        self.line, self.forgets = torch.zeros(2, requires_grad=True), forgets
        self.random = torch.Generator().manual_seed(0)
        options = TrainerOptions(
            steps=6, validate_every=2, checkpoint_every=2, learning_rate=0.1, warmup_steps=0, keep="last"
        )
        group = {"params": [self.line], "lr": 0.1, "weight_decay": 0.0}
        super().__init__([group], [self.line], options, Run(folder, {}, {}))

    def step(self):
        rate = self.learning_rate()
        x = torch.randn(4, generator=self.random)
        loss = ((self.line[0] * x + self.line[1] - 2 * x) ** 2).mean()
        loss.backward()
        self.update()
        self.counters.step += 1
        self.log(loss=loss.item(), learning_rate=rate)
        return ""

    def weights(self):
        return {"line": self.line.detach()}

    def set_weights(self, tensors):
        self.line.data.copy_(tensors["line"])

    def measure(self):
        return {"valid": -abs(self.line[0].item() - 2)}

    def extra_tensors(self):
        return {} if self.forgets else {"random": self.random.get_state()}

    def restore_extra(self, tensors):
        if not self.forgets:
            self.random.set_state(tensors["random"])


class TestToy(TrainerContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make(cls):
        return lambda folder: Toy(folder, forgets=False)


def test_a_training_that_forgets_something_is_found_out(tmp_path):
    whole = Toy(tmp_path / "whole", forgets=True)
    train(whole)
    with pytest.raises(AssertionError, match="killed at call"):
        TrainerContract().test_killed_at_any_moment_and_started_again_it_ends_the_same(
            lambda folder: Toy(folder, forgets=True), whole, tmp_path
        )


class Moody(SourceContract):
    name = "moody"

    def load(self, path, **options):
        item = f"i{np.random.default_rng().integers(10**9)}"
        events = pl.DataFrame({"user": ["u"], "item": [item], "timestamp": [1]})
        return Dataset("moody", events, Catalogue(pl.DataFrame({"item": [item], "title": [item]})))


def test_a_source_that_gives_other_data_each_time_is_found_out(tmp_path_factory):
    moody = Moody()
    with pytest.raises(AssertionError):
        moody.test_the_same_files_are_the_same_data_wherever_they_lie(moody.load(None), None, tmp_path_factory)
    with pytest.raises((AssertionError, KeyError)):
        moody.test_it_tells_where_the_data_came_from(moody.load(None))


def test_a_refusal_has_one_line_and_says_what_is_wrong():
    with refused("item 4"):
        raise ThinkrankError("list 0 holds item 4 twice")
    with pytest.raises(AssertionError, match="not one line"), refused():
        raise ThinkrankError("first\nsecond")
    with pytest.raises(KeyError), refused():
        raise KeyError("item")


@pytest.mark.parametrize(
    ("items", "scores"),
    [
        ([[1, 1]], [[2.0, 1.0]]),
        ([[-1, 1]], [[-np.inf, 1.0]]),
        ([[1, -1]], [[1.0, 0.0]]),
        ([[1, 2]], [[1.0, np.nan]]),
        ([[1, 2]], [[1.0, -np.inf]]),
    ],
    ids=["an item twice", "a gap", "a score of nothing", "no number", "an answer left out"],
)
def test_an_answer_of_the_wrong_form_is_found_out(items, scores):
    answer = Ranking(np.array(items, dtype=np.int32), np.array(scores, dtype=np.float32))
    with pytest.raises(AssertionError):
        assert_well_formed(answer, 1, 2)


def test_answers_that_differ_are_told_apart():
    lists = random_lists()
    one = InitialOrder().rerank(lists.requests, lists.candidates, 3)
    assert_same_answer(one, one)
    for other in (
        with_items(one, one.items_BK[::-1]),
        replace(one, scores_BK=one.scores_BK + 1),
        replace(one, columns_BK=None),
    ):
        with pytest.raises(AssertionError):
            assert_same_answer(one, other)
