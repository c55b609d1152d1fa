import numpy as np
import pytest

from thinkrank.language import tiny_backbone
from thinkrank.retrieve import R2ec
from thinkrank.retrieve.r2ec.controls import control_scores


@pytest.fixture(scope="module")
def model(config, split):
    return R2ec.create(config, split.dataset.catalogue, backbone=tiny_backbone(split.dataset.catalogue.titles))


@pytest.fixture(scope="module")
def histories(split):
    return split.valid.histories()[:5]


@pytest.fixture(scope="module")
def thoughts(model, histories):
    return model.think(histories)


def test_an_empty_thought_is_no_thought(model, histories, thoughts):
    np.testing.assert_allclose(control_scores(model, histories, thoughts, "empty"), model.scores(histories), rtol=1e-4)


def test_the_other_thought_is_that_of_the_history_half_the_batch_away(model, histories, thoughts):
    exchanged = control_scores(model, histories, thoughts, "other")
    for index, history in enumerate(histories):
        states = model.user_states([history], [thoughts[(index + 2) % 5].ids_before_stop])
        expected = model.catalogue_scores(states).numpy()[0]
        np.testing.assert_allclose(exchanged[index], expected, rtol=1e-3, atol=1e-3)


def test_a_filler_is_as_long_as_the_thought_and_the_same_for_all(model, histories, thoughts, monkeypatch):
    read = []
    original = model.user_states
    monkeypatch.setattr(model, "user_states", lambda h, ids: read.extend(ids) or original(h, ids))
    control_scores(model, histories, thoughts, "filler")
    assert [len(ids) for ids in read] == [thought.num_before_stop for thought in thoughts]
    longest = max(read, key=len)
    assert all(ids == longest[: len(ids)] for ids in read)


def test_one_history_has_nobody_to_exchange_with(model, histories, thoughts):
    with pytest.raises(ValueError, match="two histories"):
        control_scores(model, histories[:1], thoughts[:1], "other")
