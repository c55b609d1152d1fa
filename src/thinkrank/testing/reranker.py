"""Contract of a re-ranker: inherit, say how it is made, and the tests come with it.

Shape legend: L lists, N candidates, K places.
"""

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from thinkrank.data import Candidates, History, ImpressionDataset, Requests
from thinkrank.stages import Ranking, Reranker
from thinkrank.testing.checks import assert_same_answer, assert_well_formed, refused
from thinkrank.testing.worlds import NUM_ITEMS, random_lists, widened

LONGEST = 6
_MARK = 54_321.0
"""A value of feedback that nothing else has."""


class RerankerContract:
    """Tests for a class that satisfies `thinkrank.stages.Reranker`; one that is saved inherits `SavedContract` too.

    Subclasses override `fit`; it runs once per class.
    """

    @classmethod
    def fit(cls, lists: ImpressionDataset) -> Any:
        """Return a re-ranker that has learnt from lists, or has weights that have an effect."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def stage(cls) -> Any:
        """Let it learn, once for all tests of the class."""
        return cls.fit(random_lists(0, num_lists=60))

    @pytest.fixture(scope="class")
    @classmethod
    def lists(cls) -> ImpressionDataset:
        """Make what it is asked about; it learnt from others."""
        return random_lists(3, num_lists=40)

    def answer(self, stage: Any) -> Ranking:
        """Ask about all lists."""
        lists = random_lists(3, num_lists=40)
        ranking: Ranking = stage.rerank(lists.requests, lists.candidates, LONGEST)
        return ranking

    def test_it_is_a_reranker(self, stage: Any) -> None:
        assert isinstance(stage, Reranker)

    def test_as_many_places_as_candidates_are_an_order_of_them(self, stage: Any, lists: ImpressionDataset) -> None:
        ranking = self.answer(stage)
        assert_well_formed(ranking, len(lists), LONGEST)
        np.testing.assert_array_equal(np.sort(ranking.items_BK), np.sort(lists.items_LN))

    @pytest.mark.parametrize("k", [1, 4, LONGEST + 3])
    def test_columns_point_at_the_items(self, stage: Any, lists: ImpressionDataset, k: int) -> None:
        ranking = stage.rerank(lists.requests, lists.candidates, k)
        assert_well_formed(ranking, len(lists), k)
        there_BK = ranking.items_BK >= 0
        np.testing.assert_array_equal(there_BK.sum(axis=1), np.minimum(lists.lengths_L, k))
        assert (ranking.columns_BK[~there_BK] == -1).all()
        pointed_BK = np.take_along_axis(lists.items_LN, np.maximum(ranking.columns_BK, 0), axis=1)
        np.testing.assert_array_equal(pointed_BK[there_BK], ranking.items_BK[there_BK])

    def test_asking_again_gives_the_same_answer(self, stage: Any) -> None:
        assert_same_answer(self.answer(stage), self.answer(stage))

    def test_padding_changes_nothing(self, stage: Any, lists: ImpressionDataset) -> None:
        wide = widened(lists, 3)
        wider = stage.rerank(wide.requests, wide.candidates, LONGEST)
        assert_same_answer(wider, self.answer(stage), rtol=1e-4, atol=1e-5)

    def test_company_in_the_batch_does_not_matter(self, stage: Any, lists: ImpressionDataset) -> None:
        together = self.answer(stage)
        for row in range(0, len(lists), 3):
            one = lists.subset(np.array([row]))
            alone = stage.rerank(one.requests, one.candidates, LONGEST)
            np.testing.assert_array_equal(alone.items_BK[0], together.items_BK[row])
            np.testing.assert_allclose(alone.scores_BK[0], together.scores_BK[row], rtol=1e-4, atol=1e-5)

    def test_what_came_of_a_list_is_out_of_reach(self, stage: Any, lists: ImpressionDataset) -> None:
        marked = replace(lists, feedback_LNS=np.where(lists.feedback_LNS > 0, np.float32(_MARK), np.float32(0)))
        mark = np.float32(_MARK).tobytes()
        assert mark in pickle.dumps(marked.feedback_LNS)
        assert mark not in pickle.dumps((marked.requests, marked.candidates))
        assert_same_answer(stage.rerank(marked.requests, marked.candidates, LONGEST), self.answer(stage))

    def test_no_lists_give_no_rows(self, stage: Any, lists: ImpressionDataset) -> None:
        none = lists.subset(np.zeros(0, dtype=np.int64))
        assert_well_formed(stage.rerank(none.requests, none.candidates, 3), 0, 3)

    def test_without_histories_it_answers_all_the_same(self, stage: Any, lists: ImpressionDataset) -> None:
        nobody = replace(lists.requests, histories=[History.of([])] * len(lists))
        assert_well_formed(stage.rerank(nobody, lists.candidates, LONGEST), len(lists), LONGEST)

    def test_without_features_it_answers_or_says_what_is_missing(self, stage: Any, lists: ImpressionDataset) -> None:
        bare = Candidates(lists.items_LN)
        try:
            ranking = stage.rerank(Requests(lists.histories), bare, LONGEST)
        except ValueError:
            with refused():
                stage.rerank(Requests(lists.histories), bare, LONGEST)
        else:
            assert_well_formed(ranking, len(lists), LONGEST)

    def test_a_list_of_nothing_is_refused(self, stage: Any, lists: ImpressionDataset) -> None:
        with pytest.raises(ValueError, match="k must be"):
            stage.rerank(lists.requests, lists.candidates, 0)

    @pytest.mark.parametrize(("item", "match"), [(-2, "-2"), (NUM_ITEMS, str(NUM_ITEMS)), (None, "twice")])
    def test_items_that_cannot_be_are_refused(
        self, stage: Any, lists: ImpressionDataset, item: int | None, match: str
    ) -> None:
        items_LN = lists.items_LN.copy()
        items_LN[0, 1] = items_LN[0, 0] if item is None else item
        with refused(match):
            stage.rerank(lists.requests, replace(lists.candidates, items_BN=items_LN), 3)

    def test_lists_that_are_not_one_for_each_request_are_refused(self, stage: Any, lists: ImpressionDataset) -> None:
        with refused():
            stage.rerank(lists.requests, lists.candidates[:3], 3)
