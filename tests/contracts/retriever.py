"""What every retriever must do. Inherit, say how to fit, and the tests come with it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contracts.tiny_world import COLD_ITEM, ITEMS_PER_TRIBE, two_tribes
from thinkrank.data import Dataset, History
from thinkrank.errors import ThinkrankError

COOK, SPACE = History.of([0, 1, 2]), History.of([7, 5])
EMPTY, REPEATED = History.of([]), History.of([3, 1, 3, 3])
HISTORIES = [COOK, SPACE, EMPTY, REPEATED, History.of([COLD_ITEM])]


class RetrieverContract:
    """Tests for a class that satisfies `thinkrank.stages.Retriever` and goes to disk and back.

    Subclasses override `fit`; it runs once per class, and once more for the determinism test.
    """

    @classmethod
    def fit(cls, dataset: Dataset) -> Any:
        """Return a retriever that has learnt from the data set."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def dataset(cls) -> Dataset:
        return two_tribes()

    @pytest.fixture(scope="class")
    @classmethod
    def retriever(cls, dataset: Dataset) -> Any:
        return cls.fit(dataset)

    def test_scores_every_item_for_every_history(self, retriever, dataset):
        scores_BI = retriever.scores(HISTORIES)
        assert scores_BI.shape == (len(HISTORIES), len(dataset.catalogue))
        assert scores_BI.dtype == np.float32
        assert np.isfinite(scores_BI).all()

    def test_no_histories_give_no_rows(self, retriever, dataset):
        assert retriever.scores([]).shape == (0, len(dataset.catalogue))
        assert retriever.retrieve([], 3).items_BK.shape == (0, 3)

    def test_asking_again_gives_the_same_scores(self, retriever):
        np.testing.assert_array_equal(retriever.scores(HISTORIES), retriever.scores(HISTORIES))

    def test_company_in_the_batch_does_not_matter(self, retriever):
        alone_BI = np.concatenate([retriever.scores([history]) for history in HISTORIES])
        np.testing.assert_allclose(alone_BI, retriever.scores(HISTORIES), rtol=1e-4, atol=1e-5)

    def test_fitting_again_gives_the_same_scores(self, retriever, dataset):
        np.testing.assert_array_equal(self.fit(dataset).scores(HISTORIES), retriever.scores(HISTORIES))

    def test_a_saved_model_comes_back_with_the_same_scores(self, retriever, tmp_path: Path):
        retriever.save_pretrained(tmp_path / "model")
        restored = type(retriever).from_pretrained(tmp_path / "model")
        np.testing.assert_array_equal(restored.scores(HISTORIES), retriever.scores(HISTORIES))

    def test_a_folder_without_a_model_is_refused(self, retriever, tmp_path: Path):
        with pytest.raises(ThinkrankError, match=tmp_path.name):
            type(retriever).from_pretrained(tmp_path)

    def test_the_answer_is_the_best_scores_in_order(self, retriever):
        ranking = retriever.retrieve(HISTORIES, 4, filter_seen=False)
        for items, found, scores in zip(ranking.items_BK, ranking.scores_BK, retriever.scores(HISTORIES), strict=True):
            np.testing.assert_allclose(found, np.sort(scores)[::-1][:4], rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(found, scores[items], rtol=1e-4, atol=1e-5)
            assert len(set(items.tolist())) == 4

    def test_what_was_seen_is_left_out(self, retriever, dataset):
        ranking = retriever.retrieve(HISTORIES, len(dataset.catalogue))
        for items, history in zip(ranking.items_BK, HISTORIES, strict=True):
            recommended = items[items >= 0].tolist()
            assert sorted(recommended + list(set(history.items.tolist()))) == list(range(len(dataset.catalogue)))

    def test_more_than_the_catalogue_is_filled_up(self, retriever, dataset):
        num_items = len(dataset.catalogue)
        ranking = retriever.retrieve([COOK], num_items + 2)
        assert (ranking.items_BK[0, num_items - len(COOK) :] == -1).all()
        assert np.isneginf(ranking.scores_BK[0, num_items - len(COOK) :]).all()

    @pytest.mark.parametrize("item", [-1, 11])
    def test_an_item_outside_the_catalogue_is_refused(self, retriever, item: int):
        with pytest.raises(ThinkrankError, match=str(item)):
            retriever.scores([COOK, History.of([1, item])])

    def test_a_list_of_nothing_is_refused(self, retriever):
        with pytest.raises(ValueError, match="k must be"):
            retriever.retrieve([COOK], 0)


class LearnsTasteContract(RetrieverContract):
    """For retrievers that look at the history, and not only at the crowd."""

    def test_recommends_what_the_tribe_took(self, retriever):
        ranking = retriever.retrieve([COOK, SPACE], 2)
        assert set(ranking.items_BK[0].tolist()) == {3, 4}
        assert set(ranking.items_BK[1].tolist()) < set(range(ITEMS_PER_TRIBE, 2 * ITEMS_PER_TRIBE))
