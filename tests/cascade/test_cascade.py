"""What a cascade answers, against a plain reading of what its stages say."""

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from thinkrank import load
from thinkrank.cascade import Blend, Cascade, CascadeConfig
from thinkrank.cascade.asking import Rows
from thinkrank.cascade.order import own_scores
from thinkrank.data import Candidates, Catalogue, History, Requests
from thinkrank.data.features import RUNNING_NAMES, FeatureState
from thinkrank.rerank import InitialOrder
from thinkrank.retrieve import ItemKNN, Popularity
from thinkrank.stages import Ranking, order_candidates
from thinkrank.testing import LearnsTasteContract, RetrieverContract, refused, two_tribes
from thinkrank.testing.retriever import HISTORIES, REQUESTS


class TestOfOneStage(LearnsTasteContract):
    @classmethod
    def fit(cls, dataset):
        return Cascade(ItemKNN().fit(dataset))


class TestOfTwoStages(RetrieverContract):
    """The ranker sorts the first four; the others stay behind them."""

    @classmethod
    def fit(cls, dataset):
        return Cascade(ItemKNN().fit(dataset), Popularity().fit(dataset), config=CascadeConfig(candidates=4))


class Newest:
    """A retriever of twenty lines: whatever stands last in the catalogue comes first."""

    kind = "newest"

    def __init__(self, catalogue):
        self.catalogue = catalogue

    def retrieve(self, requests, k, *, filter_seen=True):
        answers = []
        for history in requests.histories:
            seen = {*history.items.tolist()} if filter_seen else set()
            answers.append([row for row in reversed(range(len(self.catalogue))) if row not in seen][:k])
        width = max(map(len, answers), default=0)
        items = np.array([[*rows, *[-1] * (width - len(rows))] for rows in answers], np.int32).reshape(-1, width)
        return Ranking(items, np.where(items >= 0, items, -np.inf).astype(np.float32))

    def save_pretrained(self, folder):
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.catalogue.save(Path(folder) / "items.parquet")

    @classmethod
    def from_pretrained(cls, folder):
        return cls(Catalogue.load(Path(folder) / "items.parquet"))


class TestOfOnesOwn(RetrieverContract):
    """One without places of targets; a folder alone does not say what code is run, so loading names the class."""

    @classmethod
    def fit(cls, dataset):
        return OfNewest(Newest(dataset.catalogue), Popularity().fit(dataset), config=CascadeConfig(candidates=5))


class OfNewest(Cascade):
    kind = "of-newest"

    @classmethod
    def from_pretrained(cls, where, *, device="auto", stages=None):
        named = {"retrieve": f"{__name__}:Newest", **(stages or {})}
        return super().from_pretrained(where, device=device, stages=named)


@pytest.fixture(scope="module")
def dataset():
    return two_tribes()


@pytest.fixture(scope="module")
def knn(dataset):
    return ItemKNN().fit(dataset)


@pytest.fixture(scope="module")
def popularity(dataset):
    return Popularity().fit(dataset)


class Says:
    """Ranker with a score for each catalogue row."""

    def __init__(self, scores, catalogue=None):
        self.scores_I = np.asarray(scores, np.float32)
        if catalogue is not None:
            self.catalogue = catalogue

    def rank(self, requests, candidates):
        self.asked = requests, candidates
        return order_candidates(candidates, self.scores_I[candidates.items_BN])


def test_each_stage_is_given_what_the_one_before_left(dataset, knn):
    ranker, reranker = Says(-np.arange(11.0)), Reversed()
    config = CascadeConfig(candidates=6, slate=3)
    answer = Cascade(knn, ranker, reranker, config=config).recommend(REQUESTS, 11, filter_seen=False)
    found = knn.retrieve(REQUESTS, 11, filter_seen=False)
    np.testing.assert_array_equal(answer.stages["retrieve"].items_BK, found.items_BK)
    np.testing.assert_array_equal(ranker.asked[1].items_BN, found.items_BK[:, :6])
    ranked = np.sort(found.items_BK[:, :6], axis=1)  # the ranker prefers lower rows
    np.testing.assert_array_equal(answer.stages["rank"].items_BK, ranked)
    expected = np.concatenate([ranked[:, 2::-1], ranked[:, 3:], found.items_BK[:, 6:]], axis=1)
    np.testing.assert_array_equal(answer.ranking.items_BK, expected)
    assert (np.diff(answer.ranking.scores_BK) <= 0).all()
    assert reranker.asked.numeric_names == ("retriever.score", "ranker.score")
    np.testing.assert_allclose(ranker.asked[1].numeric_BNF.mean(axis=1), 0, atol=1e-5)
    assert answer.ranking.cost.seconds == pytest.approx(sum(one.cost.seconds for one in answer.stages.values()))


class Reversed:
    """Re-ranker that turns every list round, and says of its choices only how likely they were."""

    def rerank(self, requests, candidates, k):
        self.asked = candidates
        turned = order_candidates(
            candidates, np.tile(np.arange(candidates.items_BN.shape[1]) * 1.0, (len(candidates), 1)), k
        )
        likely = np.where(turned.items_BK >= 0, np.log(0.5 + 0.1 * np.arange(turned.items_BK.shape[1])), -np.inf)
        return dataclasses.replace(turned, scores_BK=likely.astype(np.float32))


def test_scores_are_joined_with_the_weights_and_a_stage_without_weight_is_not_asked(knn):
    ranker = Says(np.linspace(0, 5, 11))
    found = knn.retrieve(REQUESTS, 4, filter_seen=False)
    config = CascadeConfig(candidates=4, blends={"rank": Blend(before=2.0, own=0.5)})
    answer = Cascade(knn, ranker, config=config).recommend(REQUESTS, 4, filter_seen=False)
    for row, items in enumerate(found.items_BK):
        joined = 2.0 * found.scores_BK[row] + 0.5 * ranker.scores_I[items]
        order = np.argsort(-joined, kind="stable")
        assert answer.ranking.items_BK[row].tolist() == items[order].tolist()
        np.testing.assert_allclose(answer.ranking.scores_BK[row], joined[order], rtol=1e-5)
    config = CascadeConfig(candidates=4, blends={"rank": Blend(before=1.0, own=0.0)})
    left = Cascade(knn, ranker, config=config).recommend(REQUESTS, 4, filter_seen=False)
    assert list(left.stages) == ["retrieve"]
    assert left.degraded == ()


@pytest.mark.parametrize("exclude", [["i03", 4], [[3, "i04"]] * 5])
def test_what_is_excluded_is_in_no_answer_and_others_move_up(dataset, knn, exclude):
    cascade = Cascade(knn, Says(np.arange(11.0)), config=CascadeConfig(candidates=5))
    answer = cascade.recommend(REQUESTS, 11, exclude=exclude)
    for items, history in zip(answer.ranking.items_BK, HISTORIES, strict=True):
        assert sorted({*items[items >= 0].tolist(), *history.items.tolist(), 3, 4}) == list(range(11))
    assert (answer.stages["retrieve"].items_BK[:, :5] >= 0).all()
    one_each = cascade.recommend(REQUESTS[:2], 11, exclude=[[0, 3], []]).ranking.items_BK
    assert 3 not in one_each[0]
    assert 3 in one_each[1]


def test_an_empty_history_and_one_event_are_answered_by_every_stage(dataset, knn, popularity):
    answer = Cascade(knn, popularity).recommend([[], ["i05"]], 3)
    np.testing.assert_array_equal(answer.stages["rank"].items_BK[0, :3], popularity.retrieve([[]], 3).items_BK[0])
    assert (answer.ranking.items_BK >= 0).all()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"exclude": "i03"}, "exclude is 'i03'"),
        ({"exclude": [99]}, "row 99"),
        ({"exclude": ["no such id"]}, "no such id"),
        ({"exclude": [["i03"]]}, "1 sequences for 5"),
        ({"think": True}, "no stage of this cascade \\(ItemKNN\\) can think"),
        ({"think": "auto"}, "can think"),
    ],
)
def test_what_cannot_be_is_refused(knn, given, said):
    with refused(said):
        Cascade(knn).recommend(REQUESTS, 3, **given)


def test_a_stage_in_the_wrong_place_is_refused(knn):
    with refused("a InitialOrder has no method rank, so it is no ranker"):
        Cascade(knn, InitialOrder())


NEW = pl.DataFrame({"item": ["n1", "n2"], "title": ["Cook book 9", "Space film 9"]})


def test_new_items_reach_every_stage_that_takes_some_and_keep_their_place_before_one_that_does_not(dataset):
    knn, popularity = ItemKNN().fit(dataset), Popularity().fit(dataset)
    sure = Cascade(knn, popularity)
    assert sure.add_items(NEW) == range(11, 13)
    assert [len(stage.catalogue) for stage in sure.stages.values()] == [13, 13]
    first = Newest(dataset.catalogue.extended(NEW))
    stuck = Says(-np.arange(11.0), dataset.catalogue)  # knows eleven items, and prefers lower rows
    answer = Cascade(first, stuck, config=CascadeConfig(candidates=5)).recommend([["n1", "i00"]], 6)
    assert answer.stages["retrieve"].items_BK[0, :6].tolist() == [12, 10, 9, 8, 7, 6]
    assert stuck.asked[0].histories[0].items.tolist() == [0], "its history holds what it knows"
    assert stuck.asked[1].items_BN.tolist() == [[10, 9, 8, 7, -1]]
    assert answer.ranking.items_BK[0].tolist() == [12, 7, 8, 9, 10, 6]
    assert answer.stages["rank"].columns_BK[0].tolist() == [4, 3, 2, 1, -1]
    with refused("a Newest takes no items without being fitted anew"):
        Cascade(first).add_items(NEW)


def test_a_ranker_that_does_not_say_which_candidate_it_answers_with_is_refused(dataset, knn):
    class Mute(Newest):
        def rank(self, requests, candidates):
            return Ranking(candidates.items_BN, np.zeros(candidates.items_BN.shape, np.float32))

    with refused("must say which candidate each item is"):
        Cascade(knn, Mute(dataset.catalogue)).recommend(HISTORIES, 3)


def test_saved_stages_are_loadable_alone_and_a_class_of_ones_own_has_to_be_named(dataset, knn, popularity, tmp_path):
    Cascade(knn, popularity).save_pretrained(tmp_path / "ours")
    assert type(load(tmp_path / "ours" / "rank")) is Popularity
    assert type(load(tmp_path / "ours")) is Cascade
    Cascade(knn).save_pretrained(tmp_path / "ours")
    assert [*load(tmp_path / "ours").stages] == ["retrieve"]
    assert not (tmp_path / "ours" / "rank").exists()
    own = Cascade(Newest(dataset.catalogue))
    own.save_pretrained(tmp_path / "own")
    with refused("load it with stages={'retrieve': '.*test_cascade:Newest'}"):
        load(tmp_path / "own")
    for named in (Newest, f"{__name__}:Newest", own.stages["retrieve"]):
        loaded = load(tmp_path / "own", stages={"retrieve": named})
        assert loaded.retrieve([[0]], 2).items_BK.tolist() == [[10, 9]]


def test_what_is_counted_live_is_offered_as_the_columns_that_lists_are_trained_with(dataset, knn):
    shown = pl.DataFrame({"time": [5, 6], "user": ["ann", "ann"], "item": ["i03", "i04"], "taken": [True, False]})
    ranker = Says(np.arange(11.0))
    cascade = Cascade(knn, ranker, config=CascadeConfig(candidates=4))
    cascade.counting = FeatureState(dataset.catalogue).update(shown)
    cascade.recommend(Requests([History.of([0, 1])], ("ann",), np.array([9])), 3)
    offered = ranker.asked[1]
    assert offered.numeric_names == ("retriever.score", *RUNNING_NAMES)
    again = FeatureState(dataset.catalogue).update(shown)
    bare = Candidates(offered.items_BN, dataset.catalogue)
    expected = again.features(Requests([History.of([0, 1])], ("ann",), np.array([9])), bare)
    np.testing.assert_array_equal(offered.numeric_BNF[:, :, 1:], expected.numeric_BNF)
    column = offered.items_BN[0].tolist().index(3)
    assert offered.numeric_BNF[0, column, 1 + RUNNING_NAMES.index("taken_before")] == pytest.approx(np.log(2))


class SaysLists(Says):
    def rerank(self, requests, candidates, k):
        return self.rank(requests, candidates).first(k)


@pytest.mark.parametrize(("batch_size", "times"), [(64, [9, 6]), (1, [6, 9, 6])])
def test_requests_of_any_order_in_time_are_told_what_was_counted_before_each(dataset, knn, batch_size, times):
    shown = pl.DataFrame({"time": [5, 6], "user": ["ann", "ann"], "item": ["i03", "i04"], "taken": [True, False]})
    ranker, writer = Says(np.arange(11.0)), SaysLists(-np.arange(11.0))
    cascade = Cascade(knn, ranker, writer, config=CascadeConfig(candidates=4, slate=4, batch_size=batch_size))
    cascade.counting = FeatureState(dataset.catalogue).update(shown)
    requests = Requests([History.of([0, 1])] * len(times), ("ann",) * len(times), np.array(times))
    cascade.recommend(requests, 3)
    for _, offered in (ranker.asked, writer.asked):
        bare = Candidates(offered.items_BN, dataset.catalogue)
        expected = FeatureState(dataset.catalogue).update(shown).features(requests[-len(bare) :], bare).numeric_BNF
        np.testing.assert_array_equal(offered.numeric_BNF[:, :, -len(RUNNING_NAMES) :], expected)
    later = dataclasses.replace(requests, times_B=requests.times_B + 9)
    cascade.retrieve_with_ranks(later, 3, np.zeros(len(times), np.int64))
    with refused("ask in the order of time"):
        cascade.recommend(requests, 3)


def test_scores_are_told_from_probabilities_for_each_request_by_itself():
    columns_BK = np.array([[1, 0], [1, 0]], dtype=np.int32)
    answers = Ranking(columns_BK, np.array([[3, 1], [0.2, 0.7]], dtype=np.float32), columns_BK=columns_BK)
    np.testing.assert_array_equal(own_scores(answers, 2), [[1, 3], [-np.log(2), 0]])


def test_what_is_known_of_candidates_moves_with_them_into_a_stage_that_does_not_know_all():
    ours, theirs = (Catalogue(pl.DataFrame({"item": items, "title": items})) for items in (["a", "b", "c"], ["c", "a"]))
    offered = Candidates(
        np.array([[1, 2, 0]], np.int32),
        numeric_BNF=np.array([[[1.0], [2.0], [3.0]]], np.float32),
        numeric_names=("price",),
        categorical_BNC=np.array([[[1], [2], [3]]], np.int32),
        categorical_names=("kind",),
        categorical_values=(("x", "y", "z"),),
    )
    known, columns_BN = Rows(ours, theirs).candidates(offered)
    assert (known.items_BN.tolist(), columns_BN.tolist()) == ([[0, 1, -1]], [[1, 2, -1]])
    assert known.numeric_BNF[..., 0].tolist() == known.categorical_BNC[..., 0].tolist() == [[2, 3, 0]]
