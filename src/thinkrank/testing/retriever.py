"""Contract of a retriever: inherit, say how it learns, and the tests come with it.

Shape legend: B requests, I items of the catalogue, K places.
"""

from typing import Any

import numpy as np
import pytest

from thinkrank.data import Dataset, History, Requests
from thinkrank.stages import Ranking, Retriever
from thinkrank.testing.checks import SavedContract, assert_same_answer, assert_well_formed, refused
from thinkrank.testing.worlds import COLD_ITEM, ITEMS_PER_TRIBE, two_tribes

COOK, SPACE = History.of([0, 1, 2]), History.of([7, 5])
EMPTY, REPEATED = History.of([]), History.of([3, 1, 3, 3])
HISTORIES = [COOK, SPACE, EMPTY, REPEATED, History.of([COLD_ITEM])]
REQUESTS = Requests(HISTORIES)
"""What every retriever is asked, about the items of `two_tribes`."""


class RetrieverContract(SavedContract):
    """Tests for a class that satisfies `thinkrank.stages.Retriever` and goes to disk and back.

    Subclasses override `fit`; it runs once per class, and once more for the test that it is deterministic.
    """

    @classmethod
    def fit(cls, dataset: Dataset) -> Any:
        """Return a retriever that has learnt from the data set, always the same."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def dataset(cls) -> Dataset:
        """Make what it learns from."""
        return two_tribes()

    @pytest.fixture(scope="class")
    @classmethod
    def stage(cls, dataset: Dataset) -> Any:
        """Let it learn, once for all tests of the class."""
        return cls.fit(dataset)

    def answer(self, stage: Any) -> Ranking:
        """Ask for the whole catalogue."""
        ranking: Ranking = stage.retrieve(REQUESTS, len(stage.catalogue), filter_seen=False)
        return ranking

    def test_it_is_a_retriever_of_the_items_it_learnt(self, stage: Any, dataset: Dataset) -> None:
        assert stage.catalogue.ids == dataset.catalogue.ids
        assert isinstance(stage, Retriever)

    def test_the_whole_catalogue_is_answered_in_order(self, stage: Any) -> None:
        ranking = self.answer(stage)
        num_items = len(stage.catalogue)
        assert_well_formed(ranking, len(REQUESTS), num_items)
        assert (np.diff(ranking.scores_BK) <= 0).all()
        assert (np.sort(ranking.items_BK) == np.arange(num_items)).all()

    def test_a_shorter_answer_is_the_beginning_of_a_longer_one(self, stage: Any) -> None:
        short = stage.retrieve(REQUESTS, 4, filter_seen=False)
        assert_well_formed(short, len(REQUESTS), 4)
        assert_same_answer(short, self.answer(stage).first(4), rtol=1e-5, atol=1e-6)

    def test_asking_again_gives_the_same_answer(self, stage: Any) -> None:
        assert_same_answer(self.answer(stage), self.answer(stage))

    def test_learning_again_gives_the_same_answer(self, stage: Any, dataset: Dataset) -> None:
        assert_same_answer(self.answer(self.fit(dataset)), self.answer(stage))

    def test_company_in_the_batch_does_not_matter(self, stage: Any) -> None:
        together = scores_of(self.answer(stage))
        for row, history in enumerate(HISTORIES):
            alone = stage.retrieve(Requests([history]), len(stage.catalogue), filter_seen=False)
            np.testing.assert_allclose(scores_of(alone)[0], together[row], rtol=1e-4, atol=1e-5)

    def test_what_was_seen_is_left_out(self, stage: Any) -> None:
        num_items = len(stage.catalogue)
        ranking = stage.retrieve(REQUESTS, num_items)
        for items, history in zip(ranking.items_BK, HISTORIES, strict=True):
            answered = items[items >= 0].tolist()
            assert sorted({*answered, *history.items.tolist()}) == list(range(num_items))
            assert not {*answered} & {*history.items.tolist()}

    def test_more_than_the_catalogue_is_the_whole_catalogue(self, stage: Any) -> None:
        num_items = len(stage.catalogue)
        ranking = stage.retrieve(Requests([COOK]), num_items + 2)
        assert_well_formed(ranking, 1, ranking.items_BK.shape[1])
        assert num_items - len(COOK) <= ranking.items_BK.shape[1] <= num_items + 2
        assert np.count_nonzero(ranking.items_BK >= 0) == num_items - len(COOK)

    def test_no_requests_give_no_rows(self, stage: Any) -> None:
        assert_well_formed(stage.retrieve(Requests([]), 3), 0, 3)
        assert stage.target_ranks(Requests([]), np.zeros(0, np.int64)).shape == (0,)

    @pytest.mark.parametrize("filter_seen", [True, False])
    def test_the_place_of_a_target_is_counted_among_all_items(self, stage: Any, filter_seen: bool) -> None:
        num_items = len(stage.catalogue)
        scores_BI = scores_of(stage.retrieve(REQUESTS, num_items, filter_seen=filter_seen))
        for target in range(num_items):
            ranks_B = stage.target_ranks(REQUESTS, np.full(len(REQUESTS), target), filter_seen=filter_seen)
            counted_B = (scores_BI >= scores_BI[:, [target]]).sum(axis=1)  # equal scores stand before the target
            counted_B[np.isneginf(scores_BI[:, target])] = num_items + 1  # a place no list has
            np.testing.assert_array_equal(ranks_B, counted_B, err_msg=f"target {target}")

    def test_answer_and_places_at_once_are_those_apart(self, stage: Any) -> None:
        both = getattr(stage, "retrieve_with_ranks", None)
        targets_B = np.arange(len(REQUESTS))
        ranks_B = stage.target_ranks(REQUESTS, targets_B)
        if both is not None:
            ranking, ranks_at_once_B = both(REQUESTS, 4, targets_B, filter_seen=True)
            assert_same_answer(ranking, stage.retrieve(REQUESTS, 4), rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(ranks_at_once_B, ranks_B)
        assert ranks_B.dtype == np.int64

    def test_histories_ids_and_rows_ask_the_same(self, stage: Any) -> None:
        expected = stage.retrieve(REQUESTS, 3)
        ids = [[stage.catalogue.ids[row] for row in history.items] for history in HISTORIES]
        for asked in (HISTORIES, ids, [history.items.tolist() for history in HISTORIES]):
            assert_same_answer(stage.retrieve(asked, 3), expected)
        np.testing.assert_array_equal(stage.target_ranks(ids, np.arange(5)), stage.target_ranks(REQUESTS, np.arange(5)))

    def test_histories_are_left_as_they_are(self, stage: Any) -> None:
        history = History.of([3, 1, 3])
        history.items.setflags(write=False)
        stage.retrieve(Requests([history]), 3)
        assert history.items.tolist() == [3, 1, 3]

    @pytest.mark.parametrize("item", [-1, COLD_ITEM + 1, "no such id"])
    def test_an_item_outside_the_catalogue_is_refused(self, stage: Any, item: Any) -> None:
        with refused(str(item)):
            stage.retrieve([["i01"], [item]], 3)
        with refused(str(item)):
            stage.target_ranks([["i01"], [item]], np.zeros(2, np.int64))

    @pytest.mark.parametrize("asked", ["i01", ["i01"], [[1.5]], 7])
    def test_what_is_no_request_is_refused(self, stage: Any, asked: Any) -> None:
        with refused():
            stage.retrieve(asked, 3)

    def test_a_list_of_nothing_is_refused(self, stage: Any) -> None:
        with pytest.raises(ValueError, match="k must be"):
            stage.retrieve(REQUESTS, 0)

    @pytest.mark.parametrize("target", [-1, COLD_ITEM + 1])
    def test_a_target_outside_the_catalogue_is_refused(self, stage: Any, target: int) -> None:
        with pytest.raises(ValueError, match="targets"):
            stage.target_ranks(Requests([COOK]), np.array([target]))


class LearnsTasteContract(RetrieverContract):
    """Tests for retrievers that look at the history, and not only at the crowd."""

    def test_recommends_what_the_tribe_took(self, stage: Any) -> None:
        ranking = stage.retrieve(Requests([COOK, SPACE]), 2)
        assert set(ranking.items_BK[0].tolist()) == {3, 4}
        assert set(ranking.items_BK[1].tolist()) < set(range(ITEMS_PER_TRIBE, 2 * ITEMS_PER_TRIBE))


def scores_of(ranking: Ranking) -> np.ndarray:
    """Turn an answer that names every item into scores in the order of the catalogue; -inf for what was left out."""
    scores_BI = np.full(ranking.items_BK.shape, -np.inf, dtype=np.float32)
    rows, places = np.nonzero(ranking.items_BK >= 0)
    scores_BI[rows, ranking.items_BK[rows, places]] = ranking.scores_BK[rows, places]
    return scores_BI
