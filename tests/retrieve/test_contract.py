"""Every counting retriever is a retriever and a ranker, and so is one that somebody writes in a few lines."""

import json
import shutil

import numpy as np
import pytest

from thinkrank import ThinkrankError, load
from thinkrank.data import Candidates, History, Requests
from thinkrank.options import Options
from thinkrank.retrieve import EASE, DenseRetriever, EASEConfig, ItemKNN, Popularity, PopularityConfig
from thinkrank.stages import target_ranks, top_k
from thinkrank.testing import LearnsTasteContract, RankerContract, RetrieverContract, two_tribes


class TestPopularity(RetrieverContract):
    @classmethod
    def fit(cls, dataset):
        return Popularity().fit(dataset)


class TestRecentPopularity(RetrieverContract):
    @classmethod
    def fit(cls, dataset):
        return Popularity(PopularityConfig(half_life_days=1)).fit(dataset)


class TestItemKNN(LearnsTasteContract):
    @classmethod
    def fit(cls, dataset):
        return ItemKNN().fit(dataset)


class TestEASE(LearnsTasteContract):
    @classmethod
    def fit(cls, dataset):
        return EASE(EASEConfig(ridge=1)).fit(dataset)


class TestEASERanks(RankerContract):
    @classmethod
    def fit(cls, dataset):
        return EASE(EASEConfig(ridge=1)).fit(dataset)


class NeighbourOptions(Options):
    reach: int = 2


class Neighbour(DenseRetriever[NeighbourOptions]):
    """Catalogue rows near the newest item; what a user of the package would write."""

    kind = "neighbour"
    config_class = NeighbourOptions

    def fit(self, data):
        self.learn(data.catalogue, {"rows_I": np.arange(len(data.catalogue), dtype=np.float32)})
        return self

    def scores(self, requests):
        newest = [history.items[-1] if len(history) else 0 for history in self.checked(requests).histories]
        return -(np.abs(self.arrays["rows_I"] - np.array(newest, np.float32)[:, None]) ** self.config.reach)


class TestRetrieverOfOnesOwn(RetrieverContract):
    @classmethod
    def fit(cls, dataset):
        return Neighbour().fit(dataset)


class TestRankerOfOnesOwn(RankerContract):
    @classmethod
    def fit(cls, dataset):
        return Neighbour(NeighbourOptions(reach=1)).fit(dataset)


def test_many_requests_are_scored_a_few_at_a_time():
    model = ItemKNN().fit(two_tribes())
    random, scored = np.random.default_rng(0), []
    requests = Requests([History.of(random.integers(0, 11, random.integers(0, 6)).tolist()) for _ in range(600)])
    targets_B = random.integers(0, 11, 600)
    scores_BI, whole = model.scores(requests), model.scores
    model.scores = lambda part: scored.append(len(part)) or whole(part)
    ranking, ranks_B = model.retrieve_with_ranks(requests, 4, targets_B, filter_seen=False)
    assert scored == [256, 256, 88]
    expected = top_k(scores_BI, requests.histories, 4, filter_seen=False)
    np.testing.assert_array_equal(ranking.items_BK, expected.items_BK)
    np.testing.assert_array_equal(ranking.scores_BK, expected.scores_BK)
    np.testing.assert_array_equal(ranks_B, target_ranks(scores_BI, targets_B))


def test_candidates_are_ranked_by_their_columns_and_ties_by_row():
    model = Popularity().fit(two_tribes())
    scores_I = model.arrays["counts_I"]
    candidates = Candidates(np.array([[9, 10, 2, 0], [10, 4, -1, -1]], dtype=np.int32))
    ranking = model.rank([[1], []], candidates)
    assert scores_I[9] == scores_I[2] == scores_I[0] > scores_I[10]
    assert ranking.items_BK.tolist() == [[0, 2, 9, 10], [4, 10, -1, -1]]
    assert ranking.columns_BK.tolist() == [[3, 2, 0, 1], [1, 0, -1, -1]]
    np.testing.assert_array_equal(ranking.scores_given(4)[0], scores_I[[9, 10, 2, 0]])
    with pytest.raises(ThinkrankError, match="2 candidate lists for 1 requests"):
        model.rank([[1]], candidates)


@pytest.mark.parametrize("kind", ["popularity", "item_knn", "ease", "sasrec"])
def test_a_folder_of_the_first_format_has_rows_for_ids(kind, request, tmp_path):
    folder = request.path.parents[1] / "fixtures" / kind
    model = load(folder, device="cpu")
    assert model.catalogue.ids == model.catalogue.titles == [str(row) for row in range(24)]
    assert model.retrieve([["3", "5"]], 4).items_BK.tolist() == model.retrieve([[3, 5]], 4).items_BK.tolist()
    model.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert (written["kind"], written["format"]) == (model.kind, 2)
    assert load(tmp_path, device="cpu").catalogue.ids == model.catalogue.ids
    (tmp_path / "catalogue.parquet").unlink()
    with pytest.raises(ThinkrankError, match=r"catalogue\.parquet"):
        load(tmp_path)


def test_a_folder_of_the_first_format_that_is_damaged_is_refused(request, tmp_path):
    shutil.copytree(request.path.parents[1] / "fixtures" / "ease", tmp_path / "ease")
    (tmp_path / "ease" / "model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(ThinkrankError, match="damaged"):
        load(tmp_path / "ease")
