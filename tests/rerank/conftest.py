"""Small models of small lists."""

import pytest

from contracts import random_lists
from thinkrank.lists import ListEncoderOptions
from thinkrank.rerank import EGLR, EGLRConfig, EvaluatorOptions, GeneratorOptions, ReasoningOptions


@pytest.fixture(scope="session")
def lists():
    return random_lists(num_lists=60, longest=6)


@pytest.fixture(scope="session")
def config():
    small = ListEncoderOptions(width=8, embedding_width=3, max_history=3, dropout=0.0)
    return EGLRConfig(
        lists=small,
        generator=GeneratorOptions(width=8, encoder_width=8, heads=2, pointer_width=4, dropout=0.0),
        reasoning=ReasoningOptions(max_steps=2),
        evaluator=EvaluatorOptions(
            lists=small.model_copy(update={"positions": False}), width=8, heads=2, length=6, dropout=0.0
        ),
    )


@pytest.fixture
def model(config, lists):
    return EGLR.create(config, lists, device="cpu")
