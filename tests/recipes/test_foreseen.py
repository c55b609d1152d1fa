"""Plans without the weights: sizes as transformers counts them, tokens as settings and data say."""

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from thinkrank.data import load_dataset, split_dataset
from thinkrank.language.shapes import SHAPES, absent_shape
from thinkrank.recipes import Layers, Preset, retrieve_settings
from thinkrank.recipes.foreseen import foreseen, works_of
from thinkrank.recipes.ranking import rank_settings

PAPERS = Path(__file__).parents[2] / "studies" / "papers"
STATED = {"SmolLM2-135M": 134.5e6, "Qwen2.5-0.5B": 0.494e9, "Qwen2.5-3B": 3.09e9, "gemma-2-2b": 2.61e9}
"""Parameters as the models' own pages say."""


@pytest.mark.parametrize("name", SHAPES)
def test_parameters_are_those_that_transformers_counts(name):
    shape = SHAPES[name]
    config = AutoConfig.for_model(
        "llama", vocab_size=shape.vocabulary, hidden_size=shape.width, intermediate_size=shape.inner,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_width, tie_word_embeddings=True,
    )  # fmt: skip
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    counted = sum(weight.numel() for weight in model.parameters())
    assert shape.parameters == pytest.approx(counted, rel=1e-3)
    for part, stated in STATED.items():
        if part in name:
            assert shape.parameters == pytest.approx(stated, rel=0.01)


@pytest.fixture
def split(tmp_path):
    (tmp_path / "items.csv").write_text(
        "item,title,categories\n" + "".join(f"i{n},{'a' * 40},red|old\n" for n in range(20))
    )
    rows = [f"u{user},i{(user + step) % 20},{1000 * step + user}\n" for user in range(30) for step in range(10)]
    (tmp_path / "interactions.csv").write_text("user,item,timestamp\n" + "".join(rows))
    return split_dataset(load_dataset("table", tmp_path))


def test_tokens_are_those_of_the_settings(split):
    tables = {"recpo": {"steps": 10, "users": 3, "group_size": 5, "validate_every": 10, "validation_samples": 7},
              "training": {"steps": 0}, "model": {"thought": {"max_new_tokens": 11}}}  # fmt: skip
    tables["recpo"]["rollout"] = {"max_new_tokens": 13}
    (work,) = works_of(retrieve_settings(Preset.thoughts, Layers(source="table", tables=[tables])), split)
    assert work.written == 10 * 3 * 5 * 13 + 2 * 7 * 11  # rollouts, and two validations
    assert work.learnt == 10 * 3 * 5 * 13


@pytest.mark.parametrize("file", ["r2ec-qwen2.5-3b.toml", "r2ec-gemma-2-2b.toml", "r2rank-qwen2.5-3b.toml"])
def test_the_papers_own_settings_are_planned_without_their_weights(file, split):
    layers = Layers(source="table", config=PAPERS / file)
    settings = rank_settings(layers) if file.startswith("r2rank") else retrieve_settings(Preset.paper, layers)
    assert absent_shape(settings.model.backbone) == SHAPES[settings.model.backbone]
    small = SHAPES["HuggingFaceTB/SmolLM2-135M-Instruct"]  # its layer is quick to measure; tokens are the same
    text, alone = foreseen(settings, split, small, "cpu", 1)
    assert "is not on this machine" in text
    _, shared = foreseen(settings, split, small, "cpu", 4)
    assert shared["tokens"] == pytest.approx(alone["tokens"] / 4)
    assert min(alone.values()) > 0
