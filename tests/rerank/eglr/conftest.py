"""Small models of small lists."""

import pytest

from thinkrank.data import ImpressionSplit
from thinkrank.rerank import EGLR, EGLRConfig, EvaluatorOptions, GeneratorOptions, ReasoningOptions
from thinkrank.rerank.eglr.report import Worth, evaluator_report
from thinkrank.rerank.lists import ListEncoderOptions, training_batches
from thinkrank.testing import random_lists


@pytest.fixture(scope="session")
def lists():
    return random_lists(num_lists=60, longest=6)


@pytest.fixture(scope="session")
def split(lists) -> ImpressionSplit:
    return lists.split(0.3, 0.1)


@pytest.fixture(scope="session")
def config() -> EGLRConfig:
    small = ListEncoderOptions(width=8, embedding_width=3, max_history=3, dropout=0.1)
    return EGLRConfig(
        lists=small,
        generator=GeneratorOptions(width=8, encoder_width=8, heads=2, pointer_width=4, dropout=0.1),
        reasoning=ReasoningOptions(max_steps=2, step_codes=True),
        evaluator=EvaluatorOptions(
            lists=small.model_copy(update={"positions": False}), width=8, heads=2, length=6, dropout=0.1
        ),
    )


@pytest.fixture
def model(config, split) -> EGLR:
    return EGLR.create(config, split.train, device="cpu")


@pytest.fixture
def trusted(model, split) -> EGLR:
    """The model, with a report on its (untrained) evaluator that lets reinforcement begin."""
    report = evaluator_report(model.evaluator, training_batches(split.valid, 16))
    worth = Worth(logged=1.0, shuffled=0.0, clicked_first=1.0, difference=1.0, difference_error=0.1)
    model.report = report.model_copy(update={"worth": dict.fromkeys(report.worth, worth)})
    return model
