import numpy as np
import pytest
import torch

from thinkrank.language import tiny_backbone
from thinkrank.retrieve import R2ec
from thinkrank.retrieve.r2ec.controls import control_scores, oracle_thoughts, target_logprobs_after
from thinkrank.teachers.history_rules import RuleWriter


@pytest.fixture(scope="module")
def model(config, split):
    return R2ec.create(config, split.dataset.catalogue, backbone=tiny_backbone(split.dataset.catalogue.titles))


@pytest.fixture(scope="module")
def histories(split):
    return split.valid.histories()[:5]


@pytest.fixture(scope="module")
def thoughts(model, histories):
    return model.think(histories)


def test_an_empty_thought_is_no_thought(model, histories, thoughts, config, split):
    lora = config.lora.model_copy(update={"top_layers": 1})
    late = R2ec.create(config.model_copy(update={"reading": "late", "lora": lora}), split.dataset.catalogue)
    np.testing.assert_allclose(control_scores(late, histories, thoughts, "empty"), late.scores(histories), rtol=1e-4)
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


def test_an_oracle_tells_what_the_target_is_and_a_target_always_competes(model, split):
    """Log-probabilities from a reading of each row alone, with the items of the history left out."""
    samples = split.valid[:6]
    thoughts = oracle_thoughts(model, samples.targets)
    writer = RuleWriter(model.catalogue)
    told = [model.backbone.tokenizer.decode(ids).strip() for ids in thoughts]
    assert told == [writer.about(int(row)).strip() for row in samples.targets]
    for read in (thoughts, None):
        found = target_logprobs_after(model, samples, read, batch_size=4)
        for index, sample in enumerate(samples):
            states = model.user_states([sample.history], None if read is None else [read[index]])
            scores = model.catalogue_scores(states)[0].double()
            seen = [item for item in sample.history.items.tolist() if item != sample.target]
            scores[seen] = -torch.inf
            assert found[index] == pytest.approx(scores.log_softmax(0)[sample.target].item(), abs=1e-4)
