"""Reinforcement begins where the own thought beats another person's, and else keeps the start and says why."""

import logging

import numpy as np
import polars as pl
import pytest
import torch

from thinkrank.data import Catalogue, Dataset, split_dataset
from thinkrank.language import GenerationOptions, LoraOptions, tiny_backbone
from thinkrank.recipes.before_recpo import before_recpo, own_against_other
from thinkrank.retrieve import R2ec, R2ecConfig, RecpoOptions, train_recpo
from thinkrank.retrieve.r2ec.controls import target_logprobs_after
from thinkrank.retrieve.r2ec.weights import weights
from thinkrank.training import Run

TITLES = [f"{color} {thing}" for color in ("red", "blue") for thing in ("car", "boat", "plane", "house", "tree", "dog")]


@pytest.fixture(scope="module")
def split():
    random = np.random.default_rng(0)
    rows = [
        (f"u{u:02}", f"i{(u + j) % 12:02}", 10**9 + int(random.integers(10**6))) for u in range(30) for j in range(8)
    ]
    catalogue = pl.DataFrame({"item": [f"i{i:02}" for i in range(12)], "title": TITLES})
    frame = pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row")
    return split_dataset(Dataset("walks", frame, Catalogue(catalogue)))


@pytest.fixture
def model(split):
    config = R2ecConfig(
        backbone="tiny", dtype="float32", lora=LoraOptions(rank=2, alpha=4), thought=GenerationOptions(max_new_tokens=4)
    )
    return R2ec.create(config, split.dataset.catalogue, backbone=tiny_backbone(TITLES))


def test_a_reader_to_whom_thoughts_are_alike_is_not_reinforced(model, split, tmp_path, caplog):
    options = RecpoOptions(steps=3, users=2, group_size=2, gate=1e-6, knowledge_samples=12, validation_samples=20)
    looks = []

    def look(asked):
        looks.append(before_recpo(asked, split, options))
        return looks[-1]

    before = {name: tensor.clone() for name, tensor in weights(model).items()}
    with caplog.at_level(logging.INFO):
        run = train_recpo(model, split, options, Run(tmp_path, {}, {}), before=look)
    assert "recpo.gate wants p < 1e-06" in looks[0]
    assert "training stopped after 0 of 3 steps" in caplog.text
    assert "the writer's words" in caplog.text
    assert [row["step"] for row in run.metrics()] == [0]
    for name, tensor in weights(model).items():
        if name.startswith("adapter/"):
            assert torch.equal(tensor, before[name])


def test_the_test_is_of_the_targets_log_probability_and_its_p_value_decides(model, split):
    samples = split.valid.subset(20, 0)
    test = own_against_other(model, samples)
    thoughts = [thought.ids_before_stop for thought in model.think(samples.histories())]
    half = len(thoughts) // 2
    own = target_logprobs_after(model, samples, thoughts)
    other = target_logprobs_after(model, samples, [thoughts[(i + half) % len(thoughts)] for i in range(len(thoughts))])
    assert test.difference.value == pytest.approx((own - other).mean(), abs=1e-6)
    for gate in (test.p_value * 1.01, test.p_value * 0.99):
        options = RecpoOptions(steps=1, gate=min(gate, 0.999), validation_samples=20)
        begins = test.difference.value > 0 and test.p_value < options.gate
        assert (before_recpo(model, split, options) == "") == begins
    assert before_recpo(model, split, RecpoOptions(steps=1)) == ""
