"""Thoughts that a tool counts: read like others, told again by a saved model, and distilled into answers at once."""

import numpy as np
import pytest
import torch

from thinkrank import load
from thinkrank.data import History
from thinkrank.evidence import Crowd, Reasons, TextChecker
from thinkrank.evidence.told import CrowdTeller
from thinkrank.recipes import faithful
from thinkrank.recipes.thinking import controlled
from thinkrank.retrieve import ContrastiveOptions, R2ec
from thinkrank.retrieve.r2ec.contrastive import ContrastiveTrainer
from thinkrank.retrieve.r2ec.controls import control_thoughts
from thinkrank.retrieve.r2ec.examples import Stretch
from thinkrank.testing import refused
from thinkrank.training import UnsavedRun, train

OPTIONS = ContrastiveOptions(
    steps=2, warmup_steps=1, batch_size=4, stretch=6, refresh_every=2, validate_every=2, validation_samples=4,
    thought_share=1.0, thought_source="crowd", thought_readings=20,
)  # fmt: skip


@pytest.fixture(params=["late", "text"])
def model(config, dataset, request):
    lora = config.lora.model_copy(update={"top_layers": 1})
    told = config.model_copy(update={"reading": request.param, "thinker": "crowd", "lora": lora})
    return R2ec.create(told, dataset.catalogue)


def trained(model, split, **more):
    trainer = ContrastiveTrainer(model, split, OPTIONS.model_copy(update=more), UnsavedRun())
    train(trainer)
    return trainer


def test_a_saved_model_tells_the_same_and_answers_the_same(model, split, tmp_path):
    trainer = trained(model, split)
    assert trainer.run.metrics()[0].keys() >= {"valid_thinking_ndcg@10", "valid_ndcg@10"}
    assert trainer.readings > 0
    history = split.test.histories()[0]
    model.think([history])
    told = model.told
    model.think([history])
    assert model.told is told  # what is known of the whole catalogue is worked out once
    model.save_pretrained(tmp_path)
    again = load(tmp_path)
    (thought,), (other,) = model.think([history]), again.think([history])
    assert thought.ids == other.ids
    assert thought.text.startswith("Others chose ")
    titles = split.dataset.catalogue.titles
    first = CrowdTeller(Crowd(split.train_histories(), 24), split.dataset.catalogue).chosen(history)[0]
    assert f"{titles[first.item]} {first.both} of {first.of} with {titles[first.beside]}" in thought.text
    np.testing.assert_allclose(again.scores([history], think=True), model.scores([history], think=True), atol=1e-5)
    alone = model.retrieve([history], 3, think=True)
    several = model.retrieve([history], 3, think=True, samples=2)  # the mean of what is twice the same
    np.testing.assert_array_equal(several.items_BK, alone.items_BK)


def test_where_items_are_tokens_it_stands_right_behind_the_newest(config, dataset, split):
    lora = config.lora.model_copy(update={"top_layers": 1})
    model = R2ec.create(
        config.model_copy(update={"reading": "late", "thinker": "crowd", "lora": lora}), dataset.catalogue
    )
    history = split.test.histories()[0]
    assert model.prompts.user(history).prompt.ids == model.prompts.unthought(history).ids
    model.reconfigure(model.config.model_copy(update={"thinker": "trained"}))
    asked, unthought = model.prompts.user(history).prompt.ids, model.prompts.unthought(history).ids
    assert asked[: len(unthought)] == unthought
    assert len(asked) > len(unthought)  # whoever writes is asked


@pytest.mark.parametrize("control", ["filler", "other"])
def test_a_control_takes_the_place_of_what_is_told(model, split, control):
    trained(model, split)
    histories, other = split.test.histories()[:4], controlled(model, control)
    told = control_thoughts(model, model.think(histories), control)
    assert [one.ids for one in other.think(histories)] == [one.ids for one in told]
    expected_BI = model.catalogue_scores(model.user_states(histories, [one.ids for one in told])).numpy()
    scores_BI = other.scores(histories, think=True)
    np.testing.assert_allclose(scores_BI, expected_BI, atol=1e-5)
    assert not np.allclose(scores_BI, model.scores(histories, think=True), atol=1e-3)


def test_what_a_thought_decides_is_measured_between_the_two_answers_of_the_model(model, split):
    trained(model, split)
    samples = split.test[:6]
    checker = TextChecker(Reasons.of(split))
    found = faithful._of_thoughts(model, samples, checker, filter_seen=False)
    logprobs_BI = [
        torch.log_softmax(torch.from_numpy(model.scores(samples.requests(), think=think)).double(), 1).numpy()
        for think in (True, False)
    ]
    rows = np.arange(len(samples)), samples.targets
    told, untold = (one_BI[rows] for one_BI in logprobs_BI)
    np.testing.assert_allclose(found.values["removed: target's log-probability, change"], untold - told, atol=1e-4)
    assert not any(figure.startswith("cut") for figure in found.values)


def test_in_training_the_own_history_is_left_out(model, split):
    trainer = ContrastiveTrainer(model, split, OPTIONS, UnsavedRun())
    batch = trainer.render([Stretch(0, 0, 5)])
    told = {
        tuple(batch.forest.sequence(one.node)[one.thought.start : one.thought.stop])
        for one in batch.readouts
        if one.thought
    }
    own = trainer.histories[0]
    others = Crowd([History.of([]) if number == 0 else one for number, one in enumerate(trainer.histories)], 24)
    teller = CrowdTeller(others, model.catalogue)
    expected = {
        (*model.prompts.naming(teller.told(own[:length]), model.catalogue.titles), *model.prompts.closing_ids)
        for length in range(1, 5)
    }
    assert told
    assert told <= expected


def test_a_control_is_told_of_somebody_else_without_that_one(model, split):
    trainer = ContrastiveTrainer(
        model, split, OPTIONS.model_copy(update={"thought_source": "crowd_of_others"}), UnsavedRun()
    )
    histories, teller = trainer.histories, CrowdTeller(model.crowd, model.catalogue)
    for number, history in enumerate(histories):
        part = history[:4]
        told = trainer.writer.ids(part, without=number)
        assert told == trainer.writer.ids(part, without=number)
        of_others = [
            teller.told(other[max(0, end - len(part)) : end], without=row)
            for row, other in enumerate(histories)
            if row != number
            for end in range(1, len(other) + 1)
        ]
        assert told in [model.prompts.naming(parts, trainer.writer._titles) for parts in of_others]
    trained(model, split, thought_source="crowd_of_others", distil_weight=1.0)
    own = model.prompts.naming(teller.told(histories[0]), trainer.writer._titles)
    assert list(model.think([histories[0]])[0].ids) == own  # who asks a trained model is told of himself


def test_what_is_distilled_is_the_divergence_of_the_quick_answer_from_the_one_behind_the_thought(
    split, config, dataset
):
    lora = config.lora.model_copy(update={"top_layers": 1})
    model = R2ec.create(
        config.model_copy(update={"reading": "late", "thinker": "crowd", "lora": lora}), dataset.catalogue
    )
    trainer = ContrastiveTrainer(model, split, OPTIONS, UnsavedRun())
    trainer.prepare()
    batch = trainer.render([Stretch(0, 0, 5), Stretch(3, 1, 6)])
    packing, states_TD = trainer.states(batch)
    plain_P = trainer._losses(batch, packing, states_TD)
    users_PD = model.head.user_vectors(trainer.readouts(batch, packing, states_TD), batch.is_line_P)
    scores_PI = model.head.scores(users_PD, model.head.item_vectors(model.states.rows_ID)).detach().double()
    trainer.options = OPTIONS.model_copy(update={"distil_weight": 0.7})
    added_P = (trainer._losses(batch, packing, states_TD) - plain_P).detach()
    behind, seen_PI = batch.is_after_thought_P, batch.seen.among(None, len(model.catalogue), torch.device("cpu"))
    assert behind.any()
    assert not added_P[~behind].any()
    for place in behind.nonzero()[:, 0].tolist():
        quick = int(batch.quick_P[place])
        assert batch.readouts[quick].is_line
        assert batch.readouts[quick].lines == batch.readouts[place].lines
        left = ~seen_PI[quick]
        slow, fast = (scores_PI[row, left].softmax(0) for row in (place, quick))
        assert added_P[place].item() == pytest.approx(
            0.7 * (slow * (slow / fast).log()).sum().item(), rel=1e-4, abs=1e-6
        )


def test_the_target_of_distilling_gets_no_gradient(split, config, dataset):
    model = R2ec.create(config.model_copy(update={"thinker": "crowd"}), dataset.catalogue)
    trainer = ContrastiveTrainer(model, split, OPTIONS, UnsavedRun())
    scores_PN = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    losses_P = trainer._distilled(torch.tensor([-1, 0, -1]), scores_PN, torch.zeros(3, 5, dtype=torch.bool))
    (gradient_PN,) = torch.autograd.grad(losses_P.sum(), scores_PN)
    assert not gradient_PN[1:].any()
    difference_N = scores_PN[0].softmax(0) - scores_PN[1].softmax(0)
    torch.testing.assert_close(gradient_PN[0], difference_N.detach())  # that of a cross-entropy with a fixed target


def test_who_tells_and_what_is_read_must_fit(split, config, dataset):
    with refused("model.thinker = crowd"):
        ContrastiveTrainer(R2ec.create(config, dataset.catalogue), split, OPTIONS, UnsavedRun())
    with refused("thought_source = crowd"):
        R2ec.create(config.model_copy(update={"thinker": "crowd"}), dataset.catalogue).think(split.test.histories()[:1])
