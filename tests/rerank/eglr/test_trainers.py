"""Each of EGLR's trainings ends the same, whenever it was killed."""

import pytest
import torch

from thinkrank.rerank import EGLR, EvaluatorTrainerOptions, ExpertOptions, GrpoOptions, WarmStartOptions
from thinkrank.rerank.eglr.expert import ExpertTrainer
from thinkrank.rerank.eglr.grpo import GrpoTrainer
from thinkrank.rerank.eglr.report import Worth, evaluator_report
from thinkrank.rerank.eglr.supervised import EvaluatorTrainer, WarmStartTrainer
from thinkrank.rerank.lists import training_batches
from thinkrank.testing import TrainerContract
from thinkrank.training import Run

SHARED = {"steps": 6, "batch_size": 8, "validate_every": 3, "checkpoint_every": 2, "warmup_steps": 0, "patience": None}


class TestEvaluatorTrainer(TrainerContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make(cls, config, split):
        options = EvaluatorTrainerOptions(**SHARED, slate_length=4, shuffled=0.5)
        return lambda folder: EvaluatorTrainer(
            EGLR.create(config, split.train, device="cpu"), split, options, Run(folder, {}, {})
        )


class TestWarmStartTrainer(TrainerContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make(cls, config, split):
        options = WarmStartOptions(**SHARED, length=5)
        return lambda folder: WarmStartTrainer(
            EGLR.create(config, split.train, device="cpu"), split, options, Run(folder, {}, {})
        )


def trusted(config, split):
    """Make a model whose untrained evaluator has a report that lets it judge."""
    model = EGLR.create(config, split.train, device="cpu")
    report = evaluator_report(model.evaluator, training_batches(split.valid, 16))
    worth = Worth(logged=1.0, shuffled=0.0, clicked_first=1.0, difference=1.0, difference_error=0.1)
    model.report = report.model_copy(update={"worth": dict.fromkeys(report.worth, worth)})
    return model


def test_lists_of_users_that_no_model_knows_are_told_apart(config, split, tmp_path):
    options = EvaluatorTrainerOptions(**SHARED, slate_length=4, shuffled=0.5)
    model = EGLR.create(config, split.train, device="cpu")
    trainer = EvaluatorTrainer(model, split, options, Run(tmp_path, {}, {}))
    lists = torch.cat([batch.indices_B for batch in trainer.validation]).numpy()
    assert trainer.validation_users.tolist() == split.valid.users_L[lists].tolist()
    assert len(trainer.validation_users.unique()) > 1 == len(trainer.validation[0].users_B.unique())
    report = trainer._report().worth["mean"]
    kept = evaluator_report(
        model.evaluator, trainer.validation, length=trainer.length, slate_length=4, users_L=trainer.validation_users
    ).worth["mean"]
    assert report == kept


class TestExpertTrainer(TrainerContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make(cls, config, split):
        options = ExpertOptions(**SHARED, length=4, best_of=4)
        return lambda folder: ExpertTrainer(trusted(config, split), split, options, Run(folder, {}, {}))


class TestGrpoTrainer(TrainerContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make(cls, config, split):
        options = GrpoOptions(**SHARED, length=4, group_size=4, updates=2)
        return lambda folder: GrpoTrainer(trusted(config, split), split, options, Run(folder, {}, {}))
