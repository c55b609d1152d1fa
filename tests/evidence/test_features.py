"""Features against the retrievers of the same name, and against fitting them without the user."""

import numpy as np
import polars as pl
import pytest

from thinkrank.data import Catalogue, Dataset, History
from thinkrank.evidence import Crowd, EvidenceFeatures, FeatureOptions
from thinkrank.evidence.linear import ease_rows, inverse_gram
from thinkrank.retrieve import EASE, EASEConfig, ItemKNN, ItemKNNConfig

NUM_ITEMS = 9
OPTIONS = FeatureOptions(ridge=2.0, neighbours=4, shrinkage=1.0)
ASKED = (History.of([3, 1, 4, 1, 5]), History.of([2]), History.of([]))


def catalogue() -> Catalogue:
    kinds = [["a", "b"], ["b"], ["c"]] * 3
    ids = [f"i{row}" for row in range(NUM_ITEMS)]
    return Catalogue(pl.DataFrame({"item": ids, "title": [f"Thing {row}" for row in range(9)], "categories": kinds}))


def dataset_of(histories: list[History]) -> Dataset:
    rows = [
        (f"u{user}", f"i{item}", place)
        for user, history in enumerate(histories)
        for place, item in enumerate(history.items.tolist())
    ]
    return Dataset("some", pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row"), catalogue())


@pytest.mark.parametrize("user", [None, 1, 5, 9])
def test_scores_are_those_of_retrievers_fitted_without_the_user(histories, user):
    features = EvidenceFeatures(Crowd(histories, NUM_ITEMS), catalogue(), OPTIONS)
    others = dataset_of([history for number, history in enumerate(histories) if number != user])
    knn = ItemKNN(ItemKNNConfig(neighbours=4, shrinkage=1.0)).fit(others)
    ease = EASE(EASEConfig(ridge=2.0)).fit(others)
    for history in ASKED[:2]:
        items_H = np.array(list(dict.fromkeys(history.items[::-1].tolist())))
        np.testing.assert_allclose(features.knn_scores(items_H, user), knn.scores([history])[0], atol=1e-6)
        np.testing.assert_allclose(features.ease_scores(items_H, user), ease.scores([history])[0], atol=2e-6)


def test_the_inverse_without_a_user_is_that_of_the_smaller_gram_matrix(histories):
    crowd = Crowd(histories, NUM_ITEMS)
    taken_UI = np.array([[item in history.items for item in range(NUM_ITEMS)] for history in histories], dtype=float)
    for user in range(len(histories)):
        rest_UI = np.delete(taken_UI, user, axis=0)
        inverse_II = np.linalg.inv(rest_UI.T @ rest_UI + 0.5 * np.eye(NUM_ITEMS))
        weights_II = -inverse_II / inverse_II.diagonal()
        np.fill_diagonal(weights_II, 0)
        found_II = ease_rows(inverse_gram(crowd.user_items, 0.5), np.arange(NUM_ITEMS), crowd.items(user))
        np.testing.assert_allclose(found_II, weights_II, atol=1e-5)


def test_all_features_of_a_user_are_those_of_a_crowd_without_him(histories):
    everyone = EvidenceFeatures(Crowd(histories, NUM_ITEMS), catalogue(), OPTIONS)
    for user in range(len(histories)):
        rest = [History.of([]) if number == user else history for number, history in enumerate(histories)]
        others = EvidenceFeatures(Crowd(rest, NUM_ITEMS), catalogue(), OPTIONS)
        for history in ASKED:
            found = everyone.of(history, range(NUM_ITEMS), user)
            assert found.shape == (NUM_ITEMS, len(everyone.names))
            np.testing.assert_allclose(found, others.of(history, range(NUM_ITEMS)), rtol=1e-5, atol=1e-5)
