"""Latent positions of R²ec: answers, losses at every step, what learns when, files."""

import numpy as np
import polars as pl
import pytest
import torch
from torch.nn import functional

from retrieve.r2ec.test_late import CONFIG, FEW, shaken
from thinkrank import load
from thinkrank.data import History
from thinkrank.language.adapters import adapter_state
from thinkrank.language.kept_states import KeptStates
from thinkrank.language.latent import answered, likeness
from thinkrank.language.options import LatentOptions
from thinkrank.policy import ndcg_reward
from thinkrank.recipes.layers import Layers
from thinkrank.recipes.presets import Preset
from thinkrank.recipes.retrieval import retrieve_settings
from thinkrank.retrieve import ContrastiveOptions, R2ec, R2ecConfig, RecpoOptions
from thinkrank.retrieve.r2ec.contrastive import ContrastiveTrainer
from thinkrank.retrieve.r2ec.latent import step_losses
from thinkrank.retrieve.r2ec.recpo import RecpoTrainer
from thinkrank.retrieve.r2ec.trainer import sample_ranks
from thinkrank.retrieve.r2ec.weights import weights
from thinkrank.testing import RetrieverContract, TrainerContract, refused, two_tribes
from thinkrank.testing.retriever import COOK, HISTORIES
from thinkrank.training import Run, UnsavedRun, train

TWO = LatentOptions(steps=2, sharpening=1.5, repulsion=0.1)


def with_latents(latent):
    return CONFIG.model_copy(update={"latent": latent})


def thinking(dataset, latent=TWO):
    """A model with an effect, whose feedback and centres have one too."""
    model = shaken(dataset, with_latents(latent))
    random = torch.Generator().manual_seed(4)
    with torch.no_grad():
        model.head.step_center_KD.normal_(std=0.1, generator=random)
        if model.latents.up_DR is not None:
            model.latents.up_DR.normal_(generator=random)
    return model


class TestLatent(RetrieverContract):
    @classmethod
    def fit(cls, dataset):
        return thinking(dataset)


class TestParallel(RetrieverContract):
    @classmethod
    def fit(cls, dataset):
        return thinking(dataset, LatentOptions(steps=3, feedback="parallel", answer="mean"))


class TestLatentContrastive(TrainerContract):
    moments = (("optimizer.step", 3, True), ("save", 1, True), ("log", 3, True))

    @pytest.fixture(scope="class")
    @classmethod
    def make(cls, split):
        options = ContrastiveOptions(**FEW, batch_size=4, stretch=6, thought_share=0.5, validation_samples=4)
        config = with_latents(LatentOptions(steps=2, alone_steps=1))
        return lambda folder: ContrastiveTrainer(
            R2ec.create(config, split.dataset.catalogue), split, options, Run(folder, {}, {})
        )


def test_an_answer_is_read_at_the_last_step_or_from_the_mean_of_their_scores():
    dataset = two_tribes()
    last = thinking(dataset)
    mean = thinking(dataset, TWO.model_copy(update={"answer": "mean"}))
    users_BSD = last.user_steps([COOK])
    torch.testing.assert_close(users_BSD, mean.user_steps([COOK]))
    torch.testing.assert_close(users_BSD.norm(dim=-1), torch.ones(1, 3))
    expected = [last.vectors.scores(users_BSD[:, step]) for step in (1, 2)]
    np.testing.assert_allclose(last.scores([COOK]), expected[1], atol=1e-5)
    np.testing.assert_allclose(mean.scores([COOK]), sum(expected) / 2, atol=1e-5)
    assert (expected[0] - expected[1]).abs().max() > 1e-3


def test_without_steps_it_is_the_model_without():
    """The option at 0 draws nothing, adds no tensor, and leaves every answer bit for bit."""
    plain, none = shaken(two_tribes()), shaken(two_tribes(), with_latents(LatentOptions(steps=0)))
    assert none.latents is None
    assert weights(plain).keys() == weights(none).keys()
    assert (plain.scores(HISTORIES) == none.scores(HISTORIES)).all()
    states_BD = plain.user_states(HISTORIES)
    users_BD = plain.head.user_vectors(states_BD, torch.ones(len(HISTORIES), dtype=torch.bool))
    assert torch.equal(answered(plain.user_steps(HISTORIES), "last"), users_BD)


def test_kept_histories_give_the_answers_of_fresh_ones():
    model = thinking(two_tribes())
    fresh = model.scores([COOK, COOK[:2], History.of([*COOK.items.tolist(), 4])])
    object.__setattr__(model.backbone, "kept", KeptStates(100))
    kept = [model.scores([one])[0] for one in (COOK, COOK[:2], History.of([*COOK.items.tolist(), 4]))]
    assert model.backbone.kept.hits
    np.testing.assert_allclose(np.stack(kept), fresh, atol=1e-4)


def test_the_loss_is_that_of_each_place_read_alone(split):
    """Packed, over all steps with their weights and sharpness, against answers to one history at a time."""
    latent = LatentOptions(steps=2, step_weights=(1, 2, 5), sharpening=2.0, repulsion=0.3)
    model = shaken(split.dataset, with_latents(latent))
    options = ContrastiveOptions(**FEW, batch_size=3, stretch=5, item_dropout=0.0)
    trainer = ContrastiveTrainer(model, split, options, UnsavedRun())
    trainer.prepare()
    assert model.head.step_center_KD.any(dim=1).all()
    stretches = next(trainer.batches())
    batch = trainer.render(stretches)
    losses = trainer._losses(batch, *trainer.states(batch))
    at = 0
    for stretch in stretches:
        items = trainer.histories[stretch.history].items
        for place in range(stretch.start, stretch.stop - 1):
            users_SD = model.user_steps([History.of(items[stretch.start : place + 1].tolist())])[0]
            scores_SI = model.head.scores(users_SD, model.head.item_vectors(model.states.rows_ID)).detach()
            expected = 0.3 * float(users_SD[1] @ users_SD[2])
            for weight, soft, scores_I in zip((1 / 8, 2 / 8, 5 / 8), (4, 2, 1), scores_SI, strict=True):
                scores_I = scores_I.clone()
                others = sorted({*items[: place + 1].tolist()} - {int(items[place + 1])})
                scores_I[others] = -torch.inf
                expected -= weight * torch.log_softmax(scores_I / soft, dim=0)[items[place + 1]].item()
            assert losses[at].item() == pytest.approx(expected, abs=1e-4)
            at += 1
    assert at == len(losses)


def test_latent_positions_may_learn_alone_first(split):
    model = R2ec.create(with_latents(LatentOptions(steps=1, alone_steps=2)), split.dataset.catalogue)
    trainer = ContrastiveTrainer(model, split, ContrastiveOptions(**FEW, batch_size=2, stretch=6), UnsavedRun())
    trainer.prepare()
    before = {name: tensor.clone() for name, tensor in weights(model).items()}

    def changed():
        return {name.split("/")[0] for name, tensor in weights(model).items() if not torch.equal(tensor, before[name])}

    trainer.step()
    trainer.step()
    assert changed() == {"latent"}
    trainer.step()
    assert changed() == {"latent", "adapter", "head", "items"}


def test_what_is_frozen_stays_as_drawn_and_the_rest_learns(split):
    model = R2ec.create(
        with_latents(LatentOptions(steps=2, feedback="none", trained=False)), split.dataset.catalogue, seed=3
    )
    drawn = model.latents.vectors_KD.clone()
    train(
        ContrastiveTrainer(model, split, ContrastiveOptions(**FEW, batch_size=2, stretch=6, keep="last"), UnsavedRun())
    )
    assert torch.equal(model.latents.vectors_KD, drawn)
    assert any(weight.any() for name, weight in adapter_state(model.backbone).items() if "lora_B" in name)
    other = R2ec.create(model.config, split.dataset.catalogue, seed=4)
    assert not torch.equal(other.latents.vectors_KD, drawn)


def test_it_learns_to_walk_with_what_is_fed_back(split):
    model = R2ec.create(with_latents(TWO), split.dataset.catalogue)
    options = ContrastiveOptions(
        steps=60, warmup_steps=5, batch_size=8, stretch=6, refresh_every=20, validate_every=60, checkpoint_every=60,
        learning_rate=5e-3, head_learning_rate=2e-2, item_dropout=0.1,
    )  # fmt: skip
    train(ContrastiveTrainer(model, split, options, UnsavedRun()))
    assert ndcg_reward(torch.from_numpy(sample_ranks(model, split.test)), 10).mean() > 0.9
    assert model.latents.up_DR.any()
    own, others = (model.user_steps(HISTORIES, exchanged=exchanged) for exchanged in (False, True))
    assert not torch.allclose(own[:, -1], others[:, -1], atol=1e-3)


def test_it_is_saved_with_its_options_and_new_items_change_no_input(tmp_path):
    model = thinking(two_tribes(), TWO.model_copy(update={"answer": "mean"}))
    model.save_pretrained(tmp_path)
    again = load(tmp_path)
    assert again.config.latent == model.config.latent
    np.testing.assert_allclose(again.scores(HISTORIES), model.scores(HISTORIES), atol=1e-6)
    assert all(torch.equal(again.latents.state_dict()[n], t) for n, t in model.latents.state_dict().items())
    again.add_items(pl.DataFrame({"item": ["new"], "title": ["Cook book 9"]}))
    np.testing.assert_allclose(again.scores(HISTORIES)[:, :-1], model.scores(HISTORIES), atol=1e-4)


def test_steps_that_say_the_same_are_alike():
    users_PSD = functional.normalize(torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    pairs = [(1, 2), (1, 3), (2, 3)]
    expected = sum((users_PSD[:, i] * users_PSD[:, j]).sum(dim=-1) for i, j in pairs) / 3
    torch.testing.assert_close(likeness(users_PSD), expected)
    assert not likeness(users_PSD[:, :2]).any()
    scores_PSN, seen_PN = torch.zeros(1, 3, 4), torch.tensor([[False, True, False, False]])
    losses = step_losses(scores_PSN, torch.tensor([0]), seen_PN, LatentOptions(steps=2))
    torch.testing.assert_close(losses, torch.tensor([3.0]).log())


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"steps": 2, "step_weights": (1, 1)}, "step_weights must have 3 weights"),
        ({"steps": 1, "step_weights": (1, 0)}, "that of the last step must be above 0"),
        ({"steps": 1, "trained": False}, "set feedback = none"),
    ],
)
def test_what_does_not_fit_is_refused(values, named):
    with pytest.raises(ValueError, match=named):
        LatentOptions(**values)


def test_they_need_late_reading_and_no_recpo(split):
    with pytest.raises(ValueError, match=r"latent\.steps need reading = late"):
        R2ecConfig(latent=TWO)
    model = R2ec.create(with_latents(TWO), split.dataset.catalogue)
    with refused(r"model\.latent\.steps = 0"):
        RecpoTrainer(model, split, RecpoOptions(), UnsavedRun())
    tables = {"data": {"source": "walk"}, "model": {"reading": "late", "latent": {"steps": 1}}, "recpo": {"steps": 1}}
    with refused("RecPO trains no latent positions"):
        retrieve_settings(Preset.thinkrank, Layers(tables=[tables]))
