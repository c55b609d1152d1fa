"""Several retrievers as one."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from thinkrank.data import Candidates, Catalogue, Dataset, History, split_dataset
from thinkrank.errors import ThinkrankError
from thinkrank.language.options import LoraOptions
from thinkrank.retrieve import ALS, EASE, ALSConfig, Fused, ItemKNN, Popularity, R2ec, R2ecConfig
from thinkrank.retrieve.fusion_weights import conditional_logit, sharpened
from thinkrank.stages import top_k
from thinkrank.testing import LearnsTasteContract, refused, two_tribes

LORA = LoraOptions(rank=2, top_layers=1)


def parts(data) -> dict:
    return {"popularity": Popularity().fit(data), "item-kNN": ItemKNN().fit(data), "EASE": EASE().fit(data)}


class TestFused(LearnsTasteContract):
    @classmethod
    def fit(cls, dataset):
        split = split_dataset(dataset, "leave-last-out")
        return Fused(parts(dataset)).fit_on(split.valid, split.train_counts)


def objective(weights_2K, columns_BKI, competes_BI, targets_B, is_newcomer_B, ridge, newcomer_ridge) -> float:
    """The penalised loss as its definition says, sample by sample, weights of the two groups given."""
    total = 0.0
    for columns_KI, competes_I, target, newcomer in zip(
        columns_BKI, competes_BI, targets_B, is_newcomer_B, strict=True
    ):
        scores_I = weights_2K[int(newcomer)] @ columns_KI.astype(np.float64)
        total += np.log(np.exp(scores_I[competes_I]).sum()) - scores_I[target]
    penalty = ridge * (weights_2K[0] ** 2).sum()
    return total / len(targets_B) + penalty + newcomer_ridge * ((weights_2K[1] - weights_2K[0]) ** 2).sum()


def test_no_other_weights_make_the_targets_likelier():
    random = np.random.default_rng(0)
    columns_BKI = random.normal(size=(60, 3, 7)).astype(np.float32)
    competes_BI = random.random((60, 7)) < 0.8
    targets_B = (columns_BKI[:, 0] + random.gumbel(size=(60, 7))).argmax(axis=1)
    competes_BI[np.arange(60), targets_B] = True
    given = columns_BKI, competes_BI, targets_B, random.random(60) < 0.3
    penalties = {"ridge": 0.01, "newcomer_ridge": 0.02}
    weights_2K, loss = conditional_logit(*given, **penalties)
    best = objective(weights_2K.astype(np.float64), *given, **penalties)
    assert loss == pytest.approx(best, rel=1e-5)
    for group, k in np.ndindex(2, 3):
        for step in (-1e-3, 1e-3):
            moved_2K = weights_2K.astype(np.float64)
            moved_2K[group, k] += step
            assert objective(moved_2K, *given, **penalties) > best  # convex: what no step betters is the least
    assert abs(weights_2K[0, 0]) > 0.3


def smooth_ndcg(weights_2K, columns_BKI, competes_BI, targets_B, is_newcomer_B) -> float:
    """What sharpening climbs, item by item: the place of a target counts those above it, nearly tied ones in part."""
    total = 0.0
    for columns_KI, competes_I, target, newcomer in zip(
        columns_BKI, competes_BI, targets_B, is_newcomer_B, strict=True
    ):
        scores_I = weights_2K[int(newcomer)] @ columns_KI.astype(np.float64)
        others = [i for i in np.flatnonzero(competes_I) if i != target]
        place = 1 + sum(1 / (1 + np.exp((scores_I[target] - scores_I[i]) / 0.1)) for i in others)
        total += 1 / np.log2(1 + place)
    return total / len(targets_B)


def turned(weights_2K, angle):
    more_K = (weights_2K[1] - weights_2K[0]).astype(np.float64)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shared_K = turn @ weights_2K[0].astype(np.float64)
    return np.stack([shared_K, shared_K + more_K])


def test_sharpened_weights_stand_where_no_turn_raises_the_smooth_ndcg_and_keep_their_length():
    random = np.random.default_rng(1)
    columns_BKI = random.normal(size=(150, 2, 12)).astype(np.float32)
    columns_BKI[:, 1] = (random.random((150, 12)) < 0.1) * 2.0  # a rare, strong vote
    targets_B = (columns_BKI[:, 0] + 2 * columns_BKI[:, 1] + random.gumbel(size=(150, 12))).argmax(axis=1)
    given = columns_BKI, np.ones((150, 12), bool), targets_B, random.random(150) < 0.2
    likeliest_2K, _ = conditional_logit(*given, ridge=1e-3, newcomer_ridge=1e-2)
    start_2K = turned(likeliest_2K, 0.9).astype(np.float32)
    found_2K = sharpened(*given, start_2K)
    assert np.linalg.norm(found_2K[0]) == pytest.approx(np.linalg.norm(start_2K[0]), rel=1e-5)
    np.testing.assert_allclose(found_2K[1] - found_2K[0], start_2K[1] - start_2K[0], atol=1e-6)
    reached, before = (smooth_ndcg(weights_2K.astype(np.float64), *given) for weights_2K in (found_2K, start_2K))
    assert reached > before + 0.01
    ahead, behind = (smooth_ndcg(turned(found_2K, angle), *given) for angle in (1e-3, -1e-3))
    assert abs(ahead - behind) / 2e-3 < 5e-3
    assert reached >= max(ahead, behind) - 1e-6


def shop_with_arrivals() -> Dataset:
    """Sixty people take three of six wines in a row; late ones then take one of two wines that came last."""
    rows = []
    for person in range(60):
        first = person % 6
        rows += [(f"p{person}", f"w{(first + step) % 6}", 1000 * person + step) for step in range(3)]
        if person >= 53:
            rows.append((f"p{person}", f"new{person % 2}", 1000 * person + 3))
    titles = [f"w{n}" for n in range(6)] + ["new0", "new1"]
    catalogue = Catalogue(pl.DataFrame({"item": titles, "title": titles}))
    return Dataset("shop", pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row"), catalogue)


def test_items_that_training_never_saw_compete_on_a_level_of_their_own():
    split = split_dataset(shop_with_arrivals())
    new = [split.dataset.catalogue.row(name) for name in ("new0", "new1")]
    assert not split.train_counts[new].any()
    alone = ItemKNN().fit(split)
    fused = Fused({"item-kNN": alone}).fit(split)
    history = [History.of([split.dataset.catalogue.row(name) for name in ("w3", "w4", "w5")])]
    assert (alone.scores(history)[0, new] == 0).all()
    assert set(fused.retrieve(history, 2).items_BK[0].tolist()) == set(new)
    assert fused.weights["new items"][0] > 1


class Favourite:
    """A retriever of one's own that only retrieves: one item is everyone's favourite, another was withdrawn."""

    def __init__(self, catalogue, item: int, withdrawn: int) -> None:
        self.catalogue, self.item, self.withdrawn = catalogue, item, withdrawn

    def retrieve(self, requests, k, *, filter_seen=True):
        scores_BI = np.zeros((len(requests), len(self.catalogue)), np.float32)
        scores_BI[:, self.item], scores_BI[:, self.withdrawn] = 1, -np.inf
        return top_k(scores_BI, requests.histories, k, filter_seen=filter_seen)

    def save_pretrained(self, folder):
        Path(folder).mkdir(parents=True, exist_ok=True)


def test_a_part_that_only_retrieves_is_asked_for_everything(tmp_path):
    dataset = two_tribes()
    split = split_dataset(dataset, "leave-last-out")
    mine = Favourite(dataset.catalogue, item=3, withdrawn=8)
    fused = Fused({"mine": mine, "item-kNN": ItemKNN().fit(dataset)}).fit(split)
    scores_I = fused.scores([History.of([0, 1])])[0]
    assert np.isneginf(scores_I[8])
    assert np.isfinite(np.delete(scores_I, 8)).all()
    fused.save_pretrained(tmp_path)
    with refused():
        Fused.from_pretrained(tmp_path)
    again = Fused.from_pretrained(tmp_path, parts={"mine": mine})
    np.testing.assert_array_equal(again.scores([History.of([0, 1])])[0], scores_I)


def test_a_fusion_saved_over_a_longer_one_keeps_none_of_its_parts(tmp_path):
    dataset = two_tribes()
    split, known = split_dataset(dataset, "leave-last-out"), parts(dataset)
    for names in (["popularity", "item-kNN", "EASE"], ["popularity", "EASE"]):
        fused = Fused({name: known[name] for name in names}).fit_on(split.valid, split.train_counts)
        fused.save_pretrained(tmp_path)
    assert sorted(part.name for part in (tmp_path / "parts").iterdir()) == ["0", "1"]
    assert len(Fused.from_pretrained(tmp_path).parts) == 2


def test_what_a_part_adds_is_seen_without_it():
    dataset = two_tribes()
    split = split_dataset(dataset, "leave-last-out")
    fused = Fused(parts(dataset)).fit(split)
    rest = fused.without("item-kNN").fit(split)
    assert tuple(rest.parts) == ("popularity", "EASE")
    assert rest.parts["EASE"] is fused.parts["EASE"]


def test_faults_are_told():
    dataset, other = two_tribes(), shop_with_arrivals()
    with refused("nothing to fuse"):
        Fused({})
    with refused("know different items"):
        Fused({"a": Popularity().fit(dataset), "b": Popularity().fit(other)})
    split = split_dataset(dataset, "leave-last-out")
    with pytest.raises(ThinkrankError, match="no validation sample"):
        Fused({"a": Popularity().fit(dataset)}).fit_on(split.valid.subset(0, 0), split.train_counts)


def test_items_are_added_without_learning_anew_and_compete_on_the_level_of_new_ones(tmp_path):
    split = split_dataset(shop_with_arrivals())
    catalogue = split.dataset.catalogue
    counted: dict[str, Any] = {"item-kNN": ItemKNN().fit(split), "ALS": ALS(ALSConfig(width=4)).fit(split)}
    reader = R2ec.create(R2ecConfig(backbone="tiny", dtype="float32", reading="late", lora=LORA), catalogue)
    fused = Fused({**counted, "R²ec": reader}).fit(split)
    history = [History.of([catalogue.row(name) for name in ("w3", "w4")])]
    before_I = fused.scores(history)[0]
    rows = fused.add_items(pl.DataFrame({"item": ["new2"], "title": ["new2"]}))
    assert rows == range(8, 9)
    after_I = fused.scores(history)[0]
    np.testing.assert_allclose(after_I[:8], before_I, atol=1e-4)
    assert fused.catalogue.ids[8] == "new2"
    assert 8 in fused.retrieve(history, 9).items_BK[0]
    assert all(len(part.catalogue) == 9 for part in fused.parts.values())
    assert len(counted["item-kNN"].catalogue) == 8  # what was fused stays as it was
    fused.save_pretrained(tmp_path)
    np.testing.assert_allclose(Fused.from_pretrained(tmp_path).scores(history)[0], after_I, atol=1e-5)
    with refused("occurs more than once"):
        fused.add_items(pl.DataFrame({"item": ["w1"], "title": ["again"]}))
    assert len(fused.catalogue) == len(fused.parts["item-kNN"].catalogue) == 9


def test_a_part_that_cannot_grow_is_named():
    split = split_dataset(shop_with_arrivals())
    part = ItemKNN().fit(split)
    part.learn(part.catalogue, {**part.arrays, "embedding": np.zeros((8, 2), np.float32)})
    fused = Fused({"popularity": Popularity().fit(split), "network": part}).fit(split)
    with refused("network: a ItemKNN learns a place of its own for every item"):
        fused.add_items(pl.DataFrame({"item": ["new2"], "title": ["new2"]}))
    assert len(fused.parts["popularity"].catalogue) == 8


def test_weights_of_the_same_samples_are_those_of_the_fit_and_of_others_differ():
    split = split_dataset(shop_with_arrivals(), "leave-last-out")
    fused = Fused(parts(split)).fit(split)
    again = fused.weighed_on(split.valid)
    assert again.weights == fused.weights
    others = fused.weighed_on(split.valid.take(np.arange(len(split.valid) // 2)))
    assert others.weights.keys() == fused.weights.keys()
    assert others.weights != fused.weights
    assert [others.arrays[name].tolist() for name in ("scales_P", "bends_P", "splits_1")] == [
        fused.arrays[name].tolist() for name in ("scales_P", "bends_P", "splits_1")
    ]


def test_each_part_says_of_each_candidate_what_it_says_of_the_item():
    split = split_dataset(two_tribes(), "leave-last-out")
    fused = Fused(parts(split)).fit(split)
    asked, lists = [[0, 1], []], Candidates(np.array([[3, 7, 10], [5, 2, -1]], np.int32), fused.catalogue)
    given = Candidates(lists.items_BN, numeric_BNF=np.ones((2, 3, 1), np.float32), numeric_names=("price",))
    described = fused.features(asked, given)
    assert described.numeric_names == ("price", "popularity", "item-kNN", "EASE")
    for place, part in enumerate(fused.parts.values()):
        expected = np.take_along_axis(part.scores(asked), np.maximum(lists.items_BN, 0), axis=1) * lists.mask_BN
        np.testing.assert_array_equal(described.numeric_BNF[:, :, place + 1], expected)
    assert fused.features(asked, lists).numeric_names == ("popularity", "item-kNN", "EASE")
