"""R2Rank with latent positions in the place of a thought, and with a head that is given both ends."""

import dataclasses

import numpy as np
import pytest
import torch

from rank.r2rank.test_model import CANDIDATES, HISTORIES, scores, shaken
from thinkrank import load
from thinkrank.language import Packing, PrefixTree, packed_states
from thinkrank.language.latent import read_places
from thinkrank.language.options import LatentOptions
from thinkrank.language.trajectories import Given
from thinkrank.rank import ColdStartOptions, R2Rank, ReinforceOptions
from thinkrank.rank.r2rank.cold_start import ColdStartTrainer
from thinkrank.rank.r2rank.groups import TrainingGroup
from thinkrank.rank.r2rank.reinforce import ReinforceTrainer
from thinkrank.testing import TrainerContract, refused
from thinkrank.training import Run, UnsavedRun

LATENT = LatentOptions(steps=2, sharpening=1.5, repulsion=0.1)
GROUPS = [TrainingGroup(i, i, HISTORIES[0], (i, i + 5, i + 9)) for i in range(6)]
TRACED = [dataclasses.replace(group, traces=tuple(Given((40 + n, 41 + n, 3), 2) for n in range(3))) for group in GROUPS]
FEW = {"steps": 4, "warmup_steps": 1, "validate_every": 2, "checkpoint_every": 2, "users": 2}


@pytest.fixture
def made(config, dataset, backbone):
    def make(**changes):
        head = config.head.model_copy(update=changes.pop("head", {}))
        made_from = config.model_copy(update={"thinks": False, "head": head, **changes})
        return R2Rank.create(made_from, dataset.catalogue, backbone=backbone)

    return make


def thinking(model):
    """The model with an effect of everything."""
    shaken(model)
    random = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in (*model.latents.maps, model.head.step_means_KC):
            weight.normal_(std=0.2, generator=random)
    return model


@pytest.mark.parametrize("feedback", ["none", "state", "parallel"])
@pytest.mark.parametrize("reads", ["answer", "both"])
def test_scores_are_those_of_every_pair_read_alone(made, feedback, reads):
    answer = "mean" if feedback == "parallel" else "last"
    latent = LATENT.model_copy(update={"feedback": feedback, "answer": answer})
    model = thinking(made(latent=latent, head={"reads": reads}))
    found = scores(model, HISTORIES, CANDIDATES)
    for history, rows, scores_N in zip(HISTORIES, CANDIDATES, found, strict=True):
        for row, score in zip(rows.tolist(), scores_N.tolist(), strict=True):
            if row < 0:
                continue
            prompt = (*model.prompts.prefix(history), *model.prompts.candidate(row))
            packing = Packing(PrefixTree.rows([(*prompt, *model.prompts.closing_ids)]), records=True)
            with torch.no_grad():
                states_SD = read_places(model.backbone, packing, torch.tensor([len(packing) - 1]), model.latents)[0]
                if reads == "both":
                    end_D = packed_states(model.backbone, packing)[len(prompt) - 1]
                    states_SD = torch.cat([end_D.expand_as(states_SD), states_SD], dim=1)
                expected = model.head(states_SD[None])[0]
            expected = expected[1:].mean() if answer == "mean" else expected[-1]
            assert score == pytest.approx(expected.item(), abs=1e-4)


def test_it_is_saved_and_candidates_in_another_order_score_the_same(made, backbone, tmp_path):
    model = thinking(made(latent=LATENT, head={"reads": "both"}))
    model.save_pretrained(tmp_path)
    again = load(tmp_path)
    np.testing.assert_allclose(scores(again, HISTORIES, CANDIDATES), scores(model, HISTORIES, CANDIDATES), atol=1e-6)
    assert again.latents.state_dict().keys() == model.latents.state_dict().keys()
    back = scores(model, [HISTORIES[0]], CANDIDATES[:1, ::-1])
    np.testing.assert_allclose(back[:, ::-1], scores(model, [HISTORIES[0]], CANDIDATES[:1]), atol=1e-5)


class TestLatentColdStart(TrainerContract):
    moments = (("optimizer.step", 3, True), ("save", 1, True), ("log", 3, True))

    @pytest.fixture(scope="class")
    @classmethod
    def make(cls, config, dataset):
        latent = LATENT.model_copy(update={"alone_steps": 1})
        made_from = config.model_copy(update={"thinks": False, "latent": latent})
        return lambda folder: ColdStartTrainer(
            R2Rank.create(made_from, dataset.catalogue), GROUPS, None, ColdStartOptions(**FEW), Run(folder, {}, {})
        )


def test_every_step_has_its_loss(made):
    latent = LatentOptions(steps=2, step_weights=(1, 2, 5), sharpening=2.0)
    model = thinking(made(latent=latent))
    trainer = ColdStartTrainer(model, GROUPS, None, ColdStartOptions(**FEW), UnsavedRun())
    read = model.trajectories([GROUPS[0].history], [GROUPS[0].rows], users=[GROUPS[0].user])
    states_TD = packed_states(model.backbone, read.packing)
    scores_RS = model.step_scores(read, states_TD)
    expected = sum(
        -weight * torch.log_softmax(scores_RS[:, step] / soft, dim=0)[0]
        for step, (weight, soft) in enumerate(zip((1 / 8, 2 / 8, 5 / 8), (4, 2, 1), strict=True))
    )
    torch.testing.assert_close(trainer.score_loss(read, states_TD, [3]), expected)
    torch.testing.assert_close(model.read_scores(read, states_TD), scores_RS[:, 2])


def test_reinforcement_trains_them_through_the_layers(made):
    model = made(latent=LATENT)
    with refused("set joint = true"):
        ReinforceTrainer(model, GROUPS, None, ReinforceOptions(joint=False, group_size=1), UnsavedRun())
    options = ReinforceOptions(**FEW, group_size=1)
    trainer = ReinforceTrainer(thinking(model), GROUPS, None, options, UnsavedRun())
    before = model.latents.vectors_KD.detach().clone()
    trainer.step()
    trainer.step()
    assert not torch.equal(model.latents.vectors_KD, before)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_thinking_begins_where_not_thinking_ends(made, kind):
    """While the head learns from prompts alone, scores after any thought are those without, and afterwards not."""
    model = made(thinks=True, head={"reads": "both", "kind": kind})
    options = ColdStartOptions(**{**FEW, "steps": 6}, prompt_steps=3)
    trainer = ColdStartTrainer(model, TRACED, None, options, UnsavedRun())
    trainer.prepare()
    rows, thoughts = [[1, 18, 7]], [[Given((50, 51, 3), 2), Given((60, 3), 1), Given((70, 71, 72, 3), 3)]]
    for step in range(6):
        trainer.step()
        with_, without = model.scores_after(HISTORIES[:1], rows, thoughts), model.scores_after(HISTORIES[:1], rows)
        assert torch.allclose(with_[0], without[0], atol=1e-6) == (step < 3)
        assert without[0].std() > 0 or step == 0  # the rate of the first step is 0


def test_scores_that_yes_and_no_give_have_no_latent_positions(config):
    with pytest.raises(ValueError, match=r"set latent\.steps = 0"):
        type(config)(thinks=False, readout="yes_no", latent=LATENT)
