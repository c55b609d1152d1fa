"""Contract of a ranker: inherit, say how it is made, and the tests come with it.

Shape legend: B requests, N candidates, K places.
"""

from typing import Any

import numpy as np
import pytest

from thinkrank.data import Candidates, Dataset, History, Requests
from thinkrank.stages import Ranker, Ranking
from thinkrank.testing.checks import assert_same_answer, assert_well_formed, refused
from thinkrank.testing.worlds import COLD_ITEM, two_tribes

HISTORIES = [History.of([0, 1, 2]), History.of([7, 5]), History.of([]), History.of([3, 1, 3, 3])]
REQUESTS = Requests(HISTORIES)
CANDIDATES = Candidates(np.array([[3, 7, 10, 0], [5, 2, -1, -1], [9, 4, 8, -1], [6, -1, -1, -1]], dtype=np.int32))
"""What every ranker is asked, about the items of `two_tribes`."""


class RankerContract:
    """Tests for a class that satisfies `thinkrank.stages.Ranker`; one that is saved inherits `SavedContract` too.

    Subclasses override `fit`; it runs once per class.
    """

    @classmethod
    def fit(cls, dataset: Dataset) -> Any:
        """Return a ranker of the data set's items; scores that differ show more than ties."""
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
        """Ask about all lists."""
        ranking: Ranking = stage.rank(REQUESTS, CANDIDATES)
        return ranking

    def test_it_is_a_ranker_of_the_items_it_learnt(self, stage: Any, dataset: Dataset) -> None:
        assert stage.catalogue.ids == dataset.catalogue.ids
        assert isinstance(stage, Ranker)

    def test_every_candidate_is_answered_once_and_in_order(self, stage: Any) -> None:
        ranking = self.answer(stage)
        assert_well_formed(ranking, len(REQUESTS), CANDIDATES.items_BN.shape[1])
        np.testing.assert_array_equal(np.sort(ranking.items_BK), np.sort(CANDIDATES.items_BN))
        for scores_K in ranking.scores_BK:
            assert (np.diff(scores_K[np.isfinite(scores_K)]) <= 0).all()

    def test_columns_point_at_the_items(self, stage: Any) -> None:
        ranking = self.answer(stage)
        assert ranking.columns_BK is not None
        there_BK = ranking.items_BK >= 0
        assert (ranking.columns_BK[~there_BK] == -1).all()
        pointed_BK = np.take_along_axis(CANDIDATES.items_BN, ranking.columns_BK, axis=1)
        np.testing.assert_array_equal(pointed_BK[there_BK], ranking.items_BK[there_BK])

    def test_a_reason_stands_beside_each_answered_item_or_beside_none(self, stage: Any) -> None:
        reasons = self.answer(stage).reasons
        assert reasons is None or [len(row) for row in reasons] == CANDIDATES.lengths_B.tolist()

    def test_asking_again_gives_the_same_answer(self, stage: Any) -> None:
        assert_same_answer(self.answer(stage), self.answer(stage), rtol=1e-4, atol=1e-5)

    def test_the_order_of_candidates_changes_nothing_but_columns(self, stage: Any) -> None:
        ranking = self.answer(stage)
        order_N = np.array([2, 0, 3, 1])
        turned = stage.rank(REQUESTS, [[row[n] for n in order_N if row[n] >= 0] for row in CANDIDATES.items_BN])
        np.testing.assert_array_equal(turned.items_BK, ranking.items_BK)
        np.testing.assert_allclose(turned.scores_BK, ranking.scores_BK, rtol=1e-4, atol=1e-5)

    def test_padding_changes_nothing(self, stage: Any) -> None:
        wide = np.pad(CANDIDATES.items_BN, [(0, 0), (0, 2)], constant_values=-1)
        wider = stage.rank(REQUESTS, Candidates(wide))
        assert_well_formed(wider, len(REQUESTS), 6)
        assert_same_answer(wider.first(4), self.answer(stage), rtol=1e-4, atol=1e-5)

    def test_company_in_the_batch_does_not_matter(self, stage: Any) -> None:
        together = self.answer(stage)
        for row in range(len(REQUESTS)):
            alone = stage.rank(REQUESTS[row : row + 1], CANDIDATES[row : row + 1])
            np.testing.assert_array_equal(alone.items_BK[0], together.items_BK[row])
            np.testing.assert_allclose(alone.scores_BK[0], together.scores_BK[row], rtol=1e-4, atol=1e-5)

    def test_a_single_candidate_is_the_answer(self, stage: Any) -> None:
        ranking = stage.rank(Requests([HISTORIES[0], HISTORIES[2]]), [[8], [2]])
        assert ranking.items_BK.tolist() == [[8], [2]]
        assert ranking.columns_BK.tolist() == [[0], [0]]
        assert np.isfinite(ranking.scores_BK).all()

    def test_no_requests_give_no_rows(self, stage: Any) -> None:
        assert len(stage.rank(Requests([]), Candidates(np.zeros((0, 3), dtype=np.int32)))) == 0

    def test_ids_and_rows_ask_the_same(self, stage: Any) -> None:
        def named(rows: Any) -> list[str]:
            return [stage.catalogue.ids[row] for row in rows if row >= 0]

        asked = [named(history.items) for history in HISTORIES]
        assert_same_answer(stage.rank(asked, [named(row) for row in CANDIDATES.items_BN]), self.answer(stage))
        rows = [[row for row in row_N if row >= 0] for row_N in CANDIDATES.items_BN.tolist()]
        assert_same_answer(stage.rank([history.items.tolist() for history in HISTORIES], rows), self.answer(stage))

    @pytest.mark.parametrize("item", [-2, COLD_ITEM + 1, "no such id"])
    def test_an_item_outside_the_catalogue_is_refused(self, stage: Any, item: Any) -> None:
        with refused(str(item)):
            stage.rank([[1]], [[0, item]])
        with refused(str(item)):
            stage.rank([[item]], [[0, 1]])

    def test_a_repeated_candidate_is_refused(self, stage: Any) -> None:
        with refused("item 4 twice"):
            stage.rank([[1]], [[4, 3, 4]])

    def test_lists_that_are_not_one_for_each_request_are_refused(self, stage: Any) -> None:
        with refused():
            stage.rank([[1], [2]], [[4, 3]])

    @pytest.mark.parametrize("candidates", ["i01", ["i01"], [[1.5]], 7])
    def test_what_are_no_candidates_is_refused(self, stage: Any, candidates: Any) -> None:
        with refused():
            stage.rank([[1]], candidates)
