"""A small world for R²ec: 24 things whose titles are two words, walked in order by every user."""

import numpy as np
import polars as pl
import pytest
import torch

from thinkrank.data import Catalogue, Dataset, split_dataset
from thinkrank.language import tiny_backbone
from thinkrank.language.adapters import adapter_state
from thinkrank.language.options import GenerationOptions, LoraOptions
from thinkrank.prompts.options import PromptOptions
from thinkrank.retrieve import ContrastiveOptions, R2ec, R2ecConfig, RecpoOptions
from thinkrank.retrieve.r2ec.config import HeadOptions
from thinkrank.retrieve.r2ec.recpo import RecpoTrainer
from thinkrank.training import Run

TITLES = [
    f"{color} {thing}"
    for color in ("red", "blue", "green", "black")
    for thing in ["car", "boat", "plane", "house", "tree", "dog"]
]


@pytest.fixture(scope="session")
def dataset():
    random = np.random.default_rng(0)
    rows = []
    for user in range(40):
        first = int(random.integers(24))
        rows += [(f"u{user:02}", f"i{(first + j) % 23:02}", 10**9 + 10**4 * user + j) for j in range(10)]
    interactions = pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row")
    catalogue = pl.DataFrame({"item": [f"i{i:02}" for i in range(24)], "title": TITLES})
    return Dataset("walks", interactions, Catalogue(catalogue))  # item i23 is never met


@pytest.fixture(scope="session")
def split(dataset):
    return split_dataset(dataset)


@pytest.fixture
def backbone():
    return tiny_backbone(TITLES)


@pytest.fixture(scope="session")
def config():
    return R2ecConfig(
        backbone="tiny",
        dtype="float32",
        lora=LoraOptions(rank=4, alpha=8),
        prompt=PromptOptions(noun="thing"),
        head=HeadOptions(),
        thought=GenerationOptions(max_new_tokens=5),
    )


@pytest.fixture(scope="session")
def options():
    return ContrastiveOptions(
        steps=24, warmup_steps=2, batch_size=4, stretch=6, refresh_every=8, validate_every=8, checkpoint_every=4
    )


@pytest.fixture
def recpo():
    return RecpoOptions(
        steps=6,
        users=3,
        group_size=3,
        rollout=GenerationOptions(max_new_tokens=4, temperature=1.5),
        learning_rate=5e-3,
        warmup_steps=0,
        validate_every=3,
        validation_samples=10,
        checkpoint_every=2,
        refresh_every=4,
        grad_clip=1e9,
    )


@pytest.fixture
def make_fit():
    """Makes a trainer of RecPO, of a model whose adapter acts."""

    def made(config, split, options, folder, *, shaken=0.1, **model_changes):
        config = config.model_copy(update=model_changes)
        model = R2ec.create(config, split.dataset.catalogue, backbone=tiny_backbone(split.dataset.catalogue.titles))
        random = torch.Generator().manual_seed(7)  # an adapter without effect would hide which weights act
        with torch.no_grad():
            for tensor in adapter_state(model.backbone).values():
                tensor.add_(shaken * torch.randn(tensor.shape, generator=random))
        return RecpoTrainer(model, split, options, Run(folder, {}, {}))

    return made
