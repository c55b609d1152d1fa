"""Thoughts with a loss of their own, the gate that opens where one is expected to gain, and expert iteration."""

import pytest
import torch
from pydantic import ValidationError

from thinkrank.rerank import EGLR, ExpertOptions, ReasoningOptions, WarmStartOptions, train_eglr
from thinkrank.rerank.eglr.config import EGLRConfig
from thinkrank.rerank.eglr.decoding import Replayed
from thinkrank.rerank.eglr.expert import ExpertTrainer
from thinkrank.rerank.eglr.supervised import WarmStartTrainer
from thinkrank.rerank.lists import training_batches
from thinkrank.training import Run


@pytest.fixture
def predicting(config, split) -> EGLR:
    """A model that can predict gains, its weights shaken so that thoughts and choices differ."""
    reasoning = ReasoningOptions(mode="gain", max_steps=2, step_codes=True, predicts_gain=True)
    model = EGLR.create(config.model_copy(update={"reasoning": reasoning}), split.train, device="cpu")
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.writer.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return model


def taught(model, split, tmp_path, **options):
    settings = WarmStartOptions(
        steps=4, batch_size=8, length=5, warmup_steps=0, patience=None, validate_every=4, thought_share=0.7, **options
    )
    return WarmStartTrainer(model, split, settings, Run(tmp_path, {}, {}))


def test_what_is_told_after_every_thought_is_what_fewer_thoughts_would_have_come_to(predicting, split, tmp_path):
    trainer, writer = taught(predicting, split, tmp_path), predicting.writer.eval()
    batch = trainer.batch(0)
    columns_RK, clicked_RN = trainer.prefixes(batch), batch.feedback_BN > 0
    steps_RK = trainer.thoughts(batch, columns_RK)
    assert steps_RK.max() == 2
    told = writer.replay(writer.context(batch), columns_RK, steps_RK, clicked_RN, every_thought=True).by_thought_RKT
    for place in range(columns_RK.shape[1]):
        for thoughts in range(3):
            fewer_RK = steps_RK.clone()
            fewer_RK[:, place] = fewer_RK[:, place].clamp(max=thoughts)
            alone = writer.replay(writer.context(batch), columns_RK, fewer_RK, clicked_RN).wanted_logprobs_RK
            made_R = (steps_RK[:, place] >= thoughts) & (columns_RK[:, place] >= 0)
            torch.testing.assert_close(told[made_R, place, thoughts], alone[made_R, place])
            assert told[~made_R, place, thoughts].isnan().all()


def test_weights_are_told_after_every_thought_too(predicting, split, tmp_path):
    trainer, writer = taught(predicting, split, tmp_path, target="evaluator"), predicting.writer.eval()
    batch = trainer.batch(0)
    columns_RK = trainer.prefixes(batch)
    weights_RKN, steps_RK = trainer.likely_next(batch, columns_RK), trainer.thoughts(batch, columns_RK)
    replayed = writer.replay(writer.context(batch), columns_RK, steps_RK, None, weights_RKN, every_thought=True)
    last_RK = replayed.by_thought_RKT.gather(2, steps_RK[:, :, None])[:, :, 0]
    there_RK = columns_RK >= 0
    torch.testing.assert_close(last_RK[there_RK], replayed.taught_logprobs_RK[there_RK])


def test_a_thought_pays_for_what_it_leaves_and_for_what_it_does_not_lower(predicting, split, tmp_path):
    trainer = taught(predicting, split, tmp_path, step_weight=0.5, step_margin=0.1)
    losses = torch.tensor([[[2.0, 1.0, 1.5], [3.0, 2.95, torch.nan], [1.0, torch.nan, torch.nan]]], requires_grad=True)
    gains = torch.tensor([[[0.4, -0.2, 9.0], [0.0, 9.0, torch.nan], [9.0, torch.nan, torch.nan]]], requires_grad=True)
    nothing = torch.zeros(1, 3)
    replayed = Replayed(
        nothing.long(), nothing, nothing, nothing, nothing.long(), nothing, nothing, nothing,
        by_thought_RKT=-losses, gains_RKT=gains,
    )  # fmt: skip
    loss, row = trainer.thought_losses(replayed, torch.ones(1, 3, dtype=torch.bool))
    hinges = [0.0, 0.1 + 0.5, 0.1 - 0.05]
    error = ((0.4 - 1.0) ** 2 + (-0.2 + 0.5) ** 2 + (0.0 - 0.05) ** 2) / 3
    assert float(loss.detach()) == pytest.approx(0.5 * (1.0 + 1.5 + 2.95 + sum(hinges)) / 3 + error)
    assert row["thoughts_that_gain"] == pytest.approx(2 / 3)
    assert row["gain_error"] == pytest.approx(error)
    loss.backward()
    assert losses.grad[0, 1, 0] == losses.grad[0, 0, 0] == 0  # a thought cannot pay by a worse choice before it
    assert losses.grad[0, 0, 1] == pytest.approx(0.5 / 3)  # its own loss; as the one before it is a constant, no more
    assert losses.grad[0, 0, 2] == pytest.approx(2 * 0.5 / 3)
    assert gains.grad[0, 0, 0] == pytest.approx(2 * (0.4 - 1.0) / 3)


def test_the_predictor_learns_and_leaves_the_writer_alone(predicting, split, tmp_path):
    trainer = taught(predicting, split, tmp_path)
    batch, writer = trainer.batch(0), predicting.writer
    columns_RK = trainer.prefixes(batch)
    steps_RK = trainer.thoughts(batch, columns_RK)
    told = writer.replay(writer.context(batch), columns_RK, steps_RK, batch.feedback_BN > 0, every_thought=True)
    told.gains_RKT[~told.gains_RKT.isnan()].sum().backward()
    moved = {name for name, weight in writer.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert moved
    assert all(name.startswith("reasoner.gain.") for name in moved)


def test_the_gate_of_gains_opens_where_the_predictor_says(predicting, split):
    writer = predicting.writer
    (batch,) = training_batches(split.valid, 64)
    contexts = [writer.context(batch)]
    with torch.no_grad():
        writer.reasoner.gain.layers[2].bias.add_(2.0)  # where gains are expected everywhere the wanted share thinks
    rate = writer.calibrate(contexts, 5)
    written = writer.write(contexts[0], 5)
    threshold = writer.reasoning.threshold
    left_RK = batch.mask_BN.sum(dim=1, keepdim=True) - torch.arange(5)
    expected_RK = (written.compared_RK > threshold) & (left_RK > 1) & written.chosen_RK
    assert torch.equal(written.steps_RK > 0, expected_RK)
    assert rate == pytest.approx(writer.reasoning.trigger_rate, abs=0.1)
    scores_RN = writer.generator.logits(contexts[0], writer.generator.init_state(contexts[0]))
    gains_R = writer.reasoner.gain(scores_RN.masked_fill(~batch.mask_BN, -1e30), left_RK[:, 0], 0, 0)
    torch.testing.assert_close(written.compared_RK[:, 0], gains_R.where(left_RK[:, 0] > 1, 0))


def test_where_no_gain_is_expected_nothing_is_thought(predicting, split):
    writer = predicting.writer
    with torch.no_grad():
        writer.reasoner.gain.layers[2].weight.zero_()
        writer.reasoner.gain.layers[2].bias.fill_(-0.5)
    (batch,) = training_batches(split.valid, 64)
    assert writer.calibrate([writer.context(batch)], 5) == 0
    assert writer.reasoning.threshold == 0


def test_a_saved_predictor_answers_as_before(predicting, split, tmp_path):
    (batch,) = training_batches(split.valid, 64)
    predicting.writer.calibrate([predicting.writer.context(batch)], 4)
    predicting.save_pretrained(tmp_path)
    before, after = predicting.answer(batch, 4), EGLR.from_pretrained(tmp_path, device="cpu").answer(batch, 4)
    assert torch.equal(before.columns_RK, after.columns_RK)
    assert torch.equal(before.steps_RK, after.steps_RK)


def test_what_the_gate_needs_is_told():
    with pytest.raises(ValidationError, match="mode gain thinks by a predictor: set predicts_gain to true"):
        ReasoningOptions(mode="gain")
    plain = ReasoningOptions(mode="entropy", max_steps=1, threshold=0.5)
    assert (plain.lacks_threshold, ReasoningOptions().lacks_threshold) == (False, True)


def test_the_imitated_list_is_the_evaluators_best_and_never_worse_than_the_greedy_one(trusted, split, tmp_path):
    options = ExpertOptions(steps=3, batch_size=8, length=4, best_of=6, warmup_steps=0, reward="sum")
    trainer = ExpertTrainer(trusted, split, options, Run(tmp_path, {}, {}))
    trainer.prepare()
    batch, evaluator = trainer.batch(0), trusted.evaluator
    best, gain = trainer.picked(batch)
    written = trusted.written(batch, 4, samples=6, random=trainer.random())
    values_BM = evaluator.rewards(evaluator.joint(batch), written.columns_RK, "sum").sum(dim=1).view(-1, 6)
    worth_B = evaluator.rewards(evaluator.joint(batch), best.columns_RK, "sum").sum(dim=1)
    torch.testing.assert_close(worth_B, values_BM.max(dim=1).values)
    assert gain == pytest.approx(float((worth_B - values_BM[:, 0]).mean()), abs=1e-6)
    assert gain > 0
    replayed = trusted.writer.replay(trusted.writer.context(batch), best.columns_RK, best.steps_RK)
    row = trainer.learn(batch)
    assert row["loss"] == pytest.approx(float(-replayed.logprobs_RK[best.chosen_RK].mean().detach()), rel=1e-5)


def test_imitation_of_the_best_raises_what_the_evaluator_thinks_of_greedy_lists(trusted, split, tmp_path):
    (batch,) = training_batches(split.train, 64)

    def worth():
        columns_RK = trusted.answer(batch, 4, trusted.writer.without_thinking()).columns_RK
        return float(trusted.evaluator.rewards(trusted.evaluator.joint(batch), columns_RK, "discounted").sum())

    before = worth()
    options = ExpertOptions(
        steps=60, batch_size=16, length=4, best_of=8, warmup_steps=0, reward="discounted", learning_rate=1e-2,
        validate_every=60,
    )  # fmt: skip
    train_eglr(trusted, split, options, Run(tmp_path, {}, {}))
    assert worth() > before


def test_a_config_of_gains_survives_json(config):
    reasoning = ReasoningOptions(mode="gain", predicts_gain=True, threshold=0.25)
    changed = config.model_copy(update={"reasoning": reasoning})
    assert EGLRConfig.model_validate_json(changed.model_dump_json()) == changed
