"""Both of R²ec's trainings end the same, whenever they were killed; test_recpo.py kills RecPO at more places."""

import pytest

from thinkrank.language import GenerationOptions, tiny_backbone
from thinkrank.retrieve import R2ec, RecpoOptions
from thinkrank.retrieve.r2ec.contrastive import ContrastiveTrainer
from thinkrank.retrieve.r2ec.recpo import RecpoTrainer
from thinkrank.testing import TrainerContract
from thinkrank.training import Run

FEW = {"steps": 6, "validate_every": 3, "checkpoint_every": 2, "refresh_every": 4, "warmup_steps": 1}


def created(config, split):
    return R2ec.create(config, split.dataset.catalogue, backbone=tiny_backbone(split.dataset.catalogue.titles))


class TestContrastiveTrainer(TrainerContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make(cls, config, split, options):
        few = options.model_copy(update={**FEW, "thought_share": 0.5, "validation_samples": 4})
        return lambda folder: ContrastiveTrainer(created(config, split), split, few, Run(folder, {}, {}))


class TestRecpoTrainer(TrainerContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make(cls, config, split):
        rollout = GenerationOptions(max_new_tokens=4, temperature=1.5)
        options = RecpoOptions(
            **FEW, users=2, group_size=2, rollout=rollout, validation_samples=4, token_balance=1.0, measure_every=1
        )
        return lambda folder: RecpoTrainer(created(config, split), split, options, Run(folder, {}, {}))
