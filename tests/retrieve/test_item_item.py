"""Item–item weights against naive loops, and the rules by which a history votes."""

import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkrank.data import Catalogue, Dataset, History, interactions
from thinkrank.data.interactions import UserItems
from thinkrank.errors import ThinkrankError
from thinkrank.retrieve import EASE, EASEConfig, ItemKNN, ItemKNNConfig, Popularity
from thinkrank.testing import two_tribes
from thinkrank.testing.worlds import COLD_ITEM

NUM_ITEMS = 7
user_lists = st.lists(st.lists(st.integers(0, NUM_ITEMS - 1), max_size=10), max_size=8)


def dataset_of(lists: list[list[int]]) -> Dataset:
    catalogue = Catalogue(pl.DataFrame({"item": list("abcdefg"), "title": list("ABCDEFG")}))
    rows = [(f"u{user}", "abcdefg"[item], time) for user, items in enumerate(lists) for time, item in enumerate(items)]
    return Dataset("lists", pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row"), catalogue)


def shared_users(lists: list[list[int]], i: int, j: int) -> int:
    return sum(i in items and j in items for items in lists)


@given(lists=user_lists, block_cells=st.sampled_from([1, 10, 30, 10_000]))
def test_cooccurrence_counts_the_users_of_both_items_whatever_the_block_size(lists, block_cells):
    user_items = UserItems.of([History.of(items) for items in lists], NUM_ITEMS)
    counted = np.full((NUM_ITEMS, NUM_ITEMS), -1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interactions, "BLOCK_CELLS", block_cells)
        for rows, block in user_items.cooccurrences():
            counted[rows] = block
    expected = [[shared_users(lists, i, j) for j in range(NUM_ITEMS)] for i in range(NUM_ITEMS)]
    assert counted.tolist() == expected


@given(lists=user_lists.filter(any), neighbours=st.integers(1, 9), shrinkage=st.sampled_from([0.0, 2.5]))
def test_item_knn_keeps_the_largest_shrunk_cosines_of_each_item(lists, neighbours, shrinkage):
    config = ItemKNNConfig(neighbours=neighbours, shrinkage=shrinkage)
    weights_II = ItemKNN(config).fit(dataset_of(lists)).weights_II
    for i in range(NUM_ITEMS):
        cosine = {}
        for j in range(NUM_ITEMS):
            divisor = math.sqrt(shared_users(lists, i, i) * shared_users(lists, j, j)) + shrinkage
            cosine[j] = shared_users(lists, i, j) / divisor if i != j and divisor else 0.0
        kept = sorted(cosine.values(), reverse=True)[:neighbours]
        np.testing.assert_allclose(np.sort(weights_II[i])[::-1][:neighbours], kept, rtol=1e-5)
        for j in np.flatnonzero(weights_II[i]):
            assert weights_II[i, j] == pytest.approx(cosine[j], rel=1e-5)
        assert np.count_nonzero(weights_II[i]) <= neighbours


WEIGHTS = {"purchase": 2.0, "cart": 0.5, "view": 0.25}
weighted_lists = st.lists(
    st.lists(st.tuples(st.integers(0, NUM_ITEMS - 1), st.sampled_from([*WEIGHTS])), max_size=6), max_size=6
).filter(any)


def weighed(lists) -> Dataset:
    """The events of some users, weighed by their types."""
    plain = dataset_of([[item for item, _ in events] for events in lists])
    kinds = pl.Series("event", [kind for events in lists for _, kind in events])
    return replace(plain, interactions=plain.interactions.with_columns(kinds), filters=({"weights": WEIGHTS},))


def matrix(lists) -> np.ndarray:
    """What each user's row holds: of an item the greatest weight of its events."""
    rows = np.zeros((len(lists), NUM_ITEMS))
    for user, events in enumerate(lists):
        for item, kind in events:
            rows[user, item] = max(rows[user, item], WEIGHTS[kind])
    return rows


@given(lists=weighted_lists)
def test_counting_models_weigh_types_of_events_in_training_and_in_answers(lists):
    data, rows = weighed(lists), matrix(lists)
    gram = rows.T @ rows
    inverse = np.linalg.inv(gram + 10.0 * np.eye(NUM_ITEMS))
    regressed = -inverse / np.diagonal(inverse)
    root = np.sqrt(np.diagonal(gram))
    cosines = gram / (np.outer(root, root) + 3.0)
    user = next(number for number, events in enumerate(lists) if events)
    asked = data.history(f"u{user}")
    given = list(dict.fromkeys(item for item, _ in reversed(lists[user])))
    for model, expected in (
        (EASE(EASEConfig(ridge=10.0, window=None, decay=0.5)), regressed),
        (ItemKNN(ItemKNNConfig(shrinkage=3.0, window=None, decay=0.5)), cosines),
    ):
        expected = expected * (1 - np.eye(NUM_ITEMS))
        fitted = model.fit(data)
        np.testing.assert_allclose(fitted.weights_II, expected, rtol=1e-3, atol=1e-5)
        voted = sum(0.5**place * rows[user, item] * expected[item] for place, item in enumerate(given))
        voted = voted if voted.any() else rows.sum(axis=0)
        np.testing.assert_allclose(fitted.scores([asked])[0], voted, rtol=1e-3, atol=1e-5)
    taken = [pair for events in lists for pair in events]
    counted = [sum(WEIGHTS[kind] for item, kind in taken if item == row) for row in range(NUM_ITEMS)]
    np.testing.assert_allclose(Popularity().fit(data).scores([asked])[0], counted, rtol=1e-6)


def test_ease_is_ridge_regression_of_each_item_on_all_others():
    lists = np.random.default_rng(0).integers(0, NUM_ITEMS, size=(30, 4)).tolist()
    weights_II = EASE(EASEConfig(ridge=3)).fit(dataset_of(lists)).weights_II
    taken_UI = np.array([[float(i in items) for i in range(NUM_ITEMS)] for items in lists])
    for j in range(NUM_ITEMS):
        others = [i for i in range(NUM_ITEMS) if i != j]
        inputs = taken_UI[:, others]
        solution = np.linalg.solve(inputs.T @ inputs + 3 * np.eye(len(others)), inputs.T @ taken_UI[:, j])
        np.testing.assert_allclose(weights_II[others, j], solution, rtol=1e-3, atol=1e-5)
        assert weights_II[j, j] == 0


def test_the_score_is_the_decayed_sum_of_the_newest_distinct_items_votes():
    model = ItemKNN(ItemKNNConfig(window=2, decay=0.5)).fit(two_tribes())
    weights_II = model.weights_II
    # Newest first the history reads 2, 1, 2, 0: items 2 and 1 vote, once each.
    np.testing.assert_allclose(
        model.scores([History.of([0, 2, 1, 2])])[0], weights_II[2] + 0.5 * weights_II[1], rtol=1e-6
    )


def test_without_a_window_the_whole_history_votes():
    model = ItemKNN(ItemKNNConfig(window=None, decay=1)).fit(two_tribes())
    items = [0, 5, 6, 1, 2]
    np.testing.assert_allclose(model.scores([History.of(items)])[0], model.weights_II[items].sum(axis=0), rtol=1e-6)


@pytest.mark.parametrize("model", [ItemKNN(), EASE()])
@pytest.mark.parametrize("history", [History.of([]), History.of([COLD_ITEM])])
def test_a_history_without_a_vote_is_answered_with_popularity(model, history):
    dataset = two_tribes()
    np.testing.assert_array_equal(model.fit(dataset).scores([history]), Popularity().fit(dataset).scores([history]))


def test_a_model_of_another_kind_is_refused_by_name(tmp_path):
    ItemKNN().fit(two_tribes()).save_pretrained(tmp_path)
    with pytest.raises(ThinkrankError, match="kind 'item-knn', not 'ease'"):
        EASE.from_pretrained(tmp_path)


def test_a_damaged_file_is_refused_by_name(tmp_path):
    ItemKNN().fit(two_tribes()).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(ThinkrankError, match="damaged"):
        ItemKNN.from_pretrained(tmp_path)


def test_the_config_survives_the_disk(tmp_path):
    ItemKNN(ItemKNNConfig(neighbours=3, window=None)).fit(two_tribes()).save_pretrained(tmp_path)
    assert ItemKNN.from_pretrained(tmp_path).config == ItemKNNConfig(neighbours=3, window=None)
