"""Thoughts that weights one update behind wrote: who wrote them, what corrects for it, and that a run goes on alike."""

import pytest
import torch
from pydantic import ValidationError

from golden import models, settings
from thinkrank.errors import ThinkrankError
from thinkrank.language import packed_states
from thinkrank.language.acting import acting
from thinkrank.language.adapters import adapter_state, layer_weights
from thinkrank.language.trajectories import action_logprobs
from thinkrank.retrieve import RecpoOptions
from thinkrank.training import train

BEHIND = {
    **settings.RECPO, "behind": 1, "importance_weights": True, "weight_cap": 1e9, "steps": 3, "validate_every": 3,
    "checkpoint_every": 1, "learning_rate": 0.05, "measure_every": 100,
    "rollout": {**settings.GENERATION, "max_new_tokens": 5, "temperature": 1.0},
}  # fmt: skip


def fit(folder, **changes):
    return models.recpo_fit(models.r2ec(settings.R2EC), {**BEHIND, **changes}, folder)


def copied(model):
    return {name: tensor.detach().clone() for name, tensor in adapter_state(model.backbone).items()}


def second_reading(model, part, weights):
    """The log-probabilities of what was written, read once more with given weights."""
    with torch.no_grad(), acting(layer_weights(model.backbone, weights, "a test")):
        states = packed_states(model.backbone, part.asked.packing)
        return action_logprobs(model.backbone, part.asked, states, entropy=False)[0]


def test_weights_are_ratios_of_two_readings_one_update_apart(tmp_path):
    trainer = fit(tmp_path)
    trainer.prepare()
    before, parts = [], []
    compare = trainer.compare

    def compared(groups):
        before.append(copied(trainer.model))
        parts.append(compare(groups))
        return parts[-1]

    trainer.compare = compared
    for _ in range(3):
        trainer.step()
        trainer.after_step(validates=False)
    trainer.finish()
    facts = trainer.run.metrics()
    for step, (wrote, learns) in enumerate([(0, 0), (0, 1), (1, 2)]):  # the first batch has nothing to be behind of
        weights, told = [], []
        for part in parts[step]:
            sampled = second_reading(trainer.model, part, before[wrote])
            old = second_reading(trainer.model, part, before[learns])
            weights.append((old - sampled).exp()[part.asked.mask_RT])
            told += [one for group in part.groups for thought in group.written for one in thought.logprobs]
            torch.testing.assert_close(
                sampled[part.asked.mask_RT].tolist(), told[-len(weights[-1]) :], rtol=0, atol=1e-4
            )
        assert facts[step]["token_importance_weight"] == pytest.approx(torch.cat(weights).mean().item(), rel=1e-3)
        assert ((torch.cat(weights) - 1).abs().max() > 0.01) == (wrote != learns)


def test_an_interrupted_run_goes_on_to_the_same_weights(tmp_path):
    whole = fit(tmp_path / "whole")
    train(whole)
    broken = fit(tmp_path / "broken")
    save = broken.save

    def stop():
        save()
        raise KeyboardInterrupt

    broken.save = stop
    with pytest.raises(KeyboardInterrupt):
        train(broken)
    again = fit(tmp_path / "broken")
    train(again)
    for name, tensor in copied(whole.model).items():
        assert torch.equal(tensor, adapter_state(again.model.backbone)[name]), name


def test_what_cannot_be_written_beforehand_is_refused(tmp_path):
    for changes, said in (({"importance_weights": False}, "importance_weights = true"), ({"redraw": 1}, "redraw = 0")):
        with pytest.raises(ValidationError, match=said):
            RecpoOptions(**{"behind": 1, "importance_weights": True, **changes})
    with pytest.raises(ThinkrankError, match=r"thinker = base: set recpo\.behind = 0"):
        models.recpo_fit(
            models.r2ec({**settings.R2EC, "thinker": "base"}), {**BEHIND, "credit": "group_mean"}, tmp_path
        )
