"""A small world for R2Rank: things of six kinds; everybody stays with the kind they began with."""

import numpy as np
import polars as pl
import pytest

from thinkrank.data import Catalogue, Dataset, split_dataset
from thinkrank.language import tiny_backbone
from thinkrank.language.options import GenerationOptions, LoraOptions
from thinkrank.prompts.options import PairPromptOptions
from thinkrank.rank.r2rank.config import R2RankConfig

COLORS, THINGS = ("red", "blue", "green", "black"), ("car", "boat", "plane", "house", "tree", "dog")
TITLES = [f"{color} {thing}" for color in COLORS for thing in THINGS]


@pytest.fixture(scope="session")
def dataset():
    random = np.random.default_rng(0)
    rows = []
    for user in range(60):
        thing = user % len(THINGS)
        for j, color in enumerate(random.permutation(len(COLORS))):
            item = int(color) * len(THINGS) + thing
            rows.append((f"u{user:02}", f"i{item:02}", 10**9 + 10**6 * j + user))
    interactions = pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row")
    catalogue = pl.DataFrame({"item": [f"i{i:02}" for i in range(len(TITLES))], "title": TITLES})
    return Dataset("kinds", interactions, Catalogue(catalogue))


@pytest.fixture(scope="session")
def split(dataset):
    return split_dataset(dataset)


@pytest.fixture
def backbone():
    return tiny_backbone(TITLES)


@pytest.fixture(scope="session")
def config():
    return R2RankConfig(
        backbone="tiny",
        dtype="float32",
        lora=LoraOptions(rank=4, alpha=8),
        prompt=PairPromptOptions(noun="thing", item_fields=("title",)),
        thought=GenerationOptions(max_new_tokens=5),
    )
