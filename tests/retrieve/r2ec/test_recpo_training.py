"""RecPO as a training: what it refuses, refreshes and draws again, what it tells, and how it goes on after a kill."""

import itertools

import numpy as np
import pytest
import torch

from thinkrank.errors import ThinkrankError
from thinkrank.language import tiny_backbone
from thinkrank.language.adapters import adapter_state
from thinkrank.recipes.presets import Preset, preset
from thinkrank.retrieve import R2ec, RecpoOptions, train_contrastive, train_recpo
from thinkrank.retrieve.r2ec.weights import weights
from thinkrank.testing import KilledError, kill_at, timeless
from thinkrank.training import Run, no_progress


@pytest.mark.parametrize(
    "changes",
    [
        {"ratio_level": "sequence", "updates": 2},
        {"normalisation": "constant"},
        {"entropy_coefficient": 0.1},
        {"advantages": "centred"},
        {"advantages": "plain", "marginal_weight": 1.0, "fused_weight": 0.0, "gain_weight": 1.0, "targets": 5},
        {"advantages": "rloo", "filter_seen": False},
        {"credit": "group_mean", "selection": "top_k", "selection_k": 2},
    ],
    ids=str,
)
def test_every_option_trains_and_resumes(config, split, recpo, make_fit, tmp_path, changes):
    options = recpo.model_copy(update={**changes, "steps": 2, "checkpoint_every": 1, "validation_samples": 2})
    whole = make_fit(config, split, options, tmp_path / "whole")
    before = weights(whole.model)["adapter/" + next(iter(adapter_state(whole.model.backbone)))].clone()
    whole.start()
    whole.step()
    whole.save()
    resumed = make_fit(config, split, options, tmp_path / "whole")
    resumed.start()
    facts = [fit.step() for fit in (whole, resumed)]
    assert facts[0] == facts[1]
    for name, tensor in weights(resumed.model).items():
        assert torch.equal(tensor, weights(whole.model)[name])
    after = weights(whole.model)["adapter/" + next(iter(adapter_state(whole.model.backbone)))]
    assert not torch.equal(before, after)


def test_what_could_not_work_is_refused(config, split, recpo, make_fit, tmp_path):
    with pytest.raises(ThinkrankError, match="never sampled"):
        make_fit(config, split, recpo, tmp_path, thinker="base")
    make_fit(config, split, recpo.model_copy(update={"credit": "group_mean"}), tmp_path, thinker="base")
    with pytest.raises(ValueError, match="nothing to train"):
        RecpoOptions(token_weight=0.0, item_weight=0.0)
    with pytest.raises(ValueError, match="no answer is rewarded"):
        RecpoOptions(fused_weight=0.0)
    with pytest.raises(ValueError, match="belong to the token loss"):
        RecpoOptions(token_weight=0.0, kl_coefficient=0.1)


def test_thoughts_are_trained_as_long_as_they_are_asked_for():
    for name in set(Preset) - {Preset.thinkrank}:
        model, _, options = preset(name)
        assert model.thought.max_new_tokens == options.rollout.max_new_tokens


def test_targets_are_encoded_before_they_are_scored(config, split, recpo, make_fit, tmp_path):
    fit = make_fit(config, split, recpo, tmp_path)
    fit.model.states.rows_ID.zero_()
    fit.counters.step = 5
    groups, _ = fit.rollouts()
    for target in {group.sample.target for group in groups}:
        fresh = fit.model.encode_items([target])[0]
        torch.testing.assert_close(fit.model.states.rows_ID[target], fresh, atol=1e-5, rtol=1e-4)
        assert fit.model.states.written_I[target] == 5
    assert (fit.model.states.written_I == 0).sum() == 24 - len({group.sample.target for group in groups})


def test_the_oldest_rows_are_refreshed_first(config, split, recpo, make_fit, tmp_path):
    fit = make_fit(config, split, recpo.model_copy(update={"refresh_rows": 5}), tmp_path)
    fit.model.states.written_I = torch.arange(24).flip(0)
    fit.counters.step = 30
    fit.refresh_oldest()
    assert (fit.model.states.written_I[-5:] == 30).all()
    assert (fit.model.states.written_I[:-5] < 30).all()


def test_tied_groups_are_replaced_on_request(config, split, recpo, make_fit, tmp_path):
    fit = make_fit(config, split, recpo.model_copy(update={"redraw": 2}), tmp_path)
    score, calls = fit.score, itertools.count()

    def first_ties(samples, written=None):
        groups = score(samples, written)
        if next(calls) == 0:
            tied = groups[1].rewards_G.fill_(0.5)
            assert groups[1].is_tied, tied
        return groups

    fit.score = first_ties
    groups, facts = fit.rollouts()
    assert len(groups) == 3
    assert not any(group.is_tied for group in groups)
    assert facts["redrawn"] >= 1
    assert fit.counters.drawn == 3 + facts["redrawn"]


def test_a_frozen_writer_writes_what_it_wrote_before(config, split, recpo, make_fit, tmp_path):
    changes = {"token_weight": 0.0, "item_weight": 0.0, "item_floor": 1.0}
    fit = make_fit(config, split, recpo.model_copy(update=changes), tmp_path / "run", thinker="frozen")
    histories = split.valid.histories()[:5]
    before = fit.model.think(histories)
    fit.start()
    for _ in range(3):
        fit.step()
    after = fit.model.think(histories)
    assert [thought.ids for thought in before] == [thought.ids for thought in after]
    assert not torch.equal(before[0].last_state, fit.model.user_states(histories[:1], [after[0].ids_before_stop])[0])
    fit.model.save_pretrained(tmp_path / "saved")
    loaded = R2ec.from_pretrained(tmp_path / "saved", backbone=tiny_backbone(split.dataset.catalogue.titles))
    assert [thought.ids for thought in loaded.think(histories)] == [thought.ids for thought in before]


def test_credit_as_released_is_told_to_teach_thoughts_nothing(config, split, recpo, make_fit, tmp_path, caplog):
    """The mean of a group's advantages is 0 up to rounding."""
    options = recpo.model_copy(update={"credit": "group_mean", "measure_every": 1})
    fit = make_fit(config, split, options, tmp_path)
    fit.start()
    for _ in range(3):
        fit.step()
    assert "step 3: nothing to learn from for 3 batches, no advantage differs from 0" in caplog.text
    assert fit.watch.start is not None


CANDIDATES = [{"candidates": "memory", "memory": 6}, {"candidates": "catalogue", "live_items": 2}, {"updates": 2}]


@pytest.mark.parametrize("changes", CANDIDATES, ids=str)
def test_every_kind_of_candidates_trains_the_items_that_were_chosen(config, split, recpo, make_fit, tmp_path, changes):
    options = recpo.model_copy(update={**changes, "item_floor": 1.0, "token_weight": 0.0, "steps": 20})
    config = config.model_copy(update={"thinker": "trained"})
    model = R2ec.create(config, split.dataset.catalogue, backbone=tiny_backbone(split.dataset.catalogue.titles))
    run = train_recpo(model, split, options, Run(tmp_path, {}, {}))
    losses = [row["item_cross_entropy"] for row in run.metrics() if "item_cross_entropy" in row]
    assert np.mean(losses[-6:]) < np.mean(losses[:6])


POINTS = [
    ("score", 4), ("model.sample", 5), ("compare", 3), ("learn_from", 9), ("candidates", 4),
    ("refresh", 2), ("encode", 7), ("refresh_oldest", 3),
]  # fmt: skip
"""Of reinforcement alone; its trainer's contract dies at steps, checkpoints, validations and rows of the log."""


def test_killed_anywhere_and_resumed_it_ends_the_same(config, split, recpo, make_fit, tmp_path):
    """At every point, before and after the call, between checkpoints: sampling, update, refresh, checkpoint."""
    options = recpo.model_copy(
        update={"steps": 5, "updates": 2, "redraw": 1, "kl_coefficient": 0.05, "refresh_rows": 2, "memory": 5,
                "candidates": "memory", "item_floor": 0.5, "validation_samples": 4}
    )  # fmt: skip

    def to_the_end(folder, kill=None):
        fit = make_fit(config, split, options, folder)
        if kill is not None:
            kill_at(fit, *kill[:2], after=kill[2])
        fit.start()
        fit.train(no_progress)
        return fit

    whole = to_the_end(tmp_path / "whole")
    log = timeless(whole.run)
    for number, point in enumerate(POINTS):
        folder = tmp_path / str(number)
        with pytest.raises(KilledError):
            to_the_end(folder, (*point, number % 2 == 1))
        resumed = to_the_end(folder)
        expected = weights(whole.model)
        for name, tensor in weights(resumed.model).items():
            assert torch.equal(tensor, expected[name]), (point, name)
        assert timeless(resumed.run) == log, point


def test_it_follows_a_cold_start(config, split, options, recpo, make_fit, tmp_path):
    """Thoughts by rules first, then reinforcement: both phases run on one model and the log tells of both ways."""
    model = R2ec.create(config, split.dataset.catalogue, backbone=tiny_backbone(split.dataset.catalogue.titles))
    cold = options.model_copy(update={"thought_share": 0.5, "steps": 40, "learning_rate": 1e-2})
    warm = train_contrastive(model, split, cold, Run(tmp_path / "warm", {}, {}))
    losses = [row["thought_loss"] for row in warm.metrics() if "thought_loss" in row]
    assert np.mean(losses[-4:]) < np.mean(losses[:4])
    run = train_recpo(model, split, recpo, Run(tmp_path / "recpo", {}, {}))
    rows = run.metrics()
    assert {"valid_thinking_ndcg@10", "valid_ndcg@10"} <= {key for row in rows for key in row}
    shown = [row["thoughts"] for row in rows if "thoughts" in row]
    assert len(shown) == 3
    assert [thought["position"] for thought in shown[0]] == [thought["position"] for thought in shown[-1]]
