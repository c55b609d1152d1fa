"""What is loaded as a language model, from where, and what is refused before anything is built on it."""

from pathlib import Path

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from thinkrank.errors import ThinkrankError
from thinkrank.language import load_backbone
from thinkrank.language.tiny import tiny_backbone
from thinkrank.retrieve import R2ecConfig
from thinkrank.retrieve.text import TextOptions

SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_backbone(["one two"]).tokenizer


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("gpt_neox", {**SMALL, "intermediate_size": 32}),
        ("opt", {**SMALL, "ffn_dim": 32, "word_embed_proj_dim": 32}),
        ("falcon", SMALL),
        ("mamba", {"hidden_size": 32, "num_hidden_layers": 1}),
    ],
)
def test_architectures_that_cannot_share_prompts_are_refused_when_they_are_loaded(kind, options, tokenizer, tmp_path):
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), **options)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ThinkrankError, match=rf"is a {kind}, .*use a decoder such as Llama"):
        load_backbone(str(tmp_path), device="cpu")


def test_a_model_folder_becomes_absolute_wherever_it_is_named(tmp_path, monkeypatch):
    (tmp_path / "models" / "base").mkdir(parents=True)
    (tmp_path / "tiny").mkdir()
    monkeypatch.chdir(tmp_path)
    absolute = str(Path.cwd() / "models" / "base")
    assert R2ecConfig(backbone="models/base").backbone == absolute
    assert TextOptions(encoder="./models/base").encoder == absolute
    assert R2ecConfig(backbone="tiny").backbone == "tiny"  # whatever lies here
    assert R2ecConfig(backbone="Qwen/Qwen2.5-0.5B").backbone == "Qwen/Qwen2.5-0.5B"


def test_late_reading_leaves_a_layer_below_the_adapter():
    late = R2ecConfig(reading="late")
    assert late.for_layers(30) == late
    assert late.for_layers(2).lora.top_layers == 1
    assert R2ecConfig().for_layers(2) == R2ecConfig()


@pytest.mark.parametrize(("kind", "factor"), [("granite", "logits_scaling"), ("cohere", "logit_scale")])
def test_families_that_scale_what_goes_in_or_comes_out_are_refused(kind, factor, tokenizer, tmp_path):
    options = {**SMALL, "num_key_value_heads": 2, "intermediate_size": 32, factor: 4.0}
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), **options)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ThinkrankError, match=rf"is a {kind} with {factor} = 4.0.*Use a model without such a factor"):
        load_backbone(str(tmp_path), device="cpu")
