"""What reports say of settings."""

from typing import get_args

import pytest

from thinkrank.recipes import reporting
from thinkrank.rerank.eglr.config import EGLRConfig
from thinkrank.retrieve import ContrastiveOptions, R2ecConfig


def choices(model, *path):
    """List what a setting may be."""
    for name in path[:-1]:
        model = model.model_fields[name].annotation
    return set(get_args(model.model_fields[path[-1]].annotation))


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (reporting.PAUSES, choices(EGLRConfig, "reasoning", "mode")),
        (reporting.NETWORKS, choices(EGLRConfig, "generator", "kind")),
        (reporting.WRITERS, choices(R2ecConfig, "thinker")),
        (reporting.READS, choices(R2ecConfig, "reading")),
        (reporting.LEARNS, choices(ContrastiveOptions, "supervision")),
        (reporting.AGAINST, choices(ContrastiveOptions, "negatives")),
    ],
)
def test_every_choice_of_a_setting_has_its_words(words, found):
    assert set(words) == found
