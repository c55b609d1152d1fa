"""A random model in milliseconds, for tests and dry runs."""

from collections.abc import Iterable
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from thinkrank.language.attention import IMPLEMENTATION
from thinkrank.language.backbone import Backbone

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def tiny_backbone(
    texts: Iterable[str],
    *,
    architecture: str = "llama",
    seed: int = 0,
    hidden_size: int = 64,
    num_layers: int = 2,
    initializer_range: float = 0.05,
    sliding_window: int | None = None,
    tokenizer: PreTrainedTokenizerFast | None = None,
) -> Backbone:
    """Build a random fp32 model whose tokenizer is trained on the given texts.

    Args:
        texts: what the tokenizer learns its vocabulary (at most 512 pieces, bytes included) from.
        architecture: a transformers model type: llama, qwen2, qwen3 or gemma3_text.
        seed: of the weights; the same seed and texts give the same model.
        hidden_size: width D; attention heads are 16 wide.
        num_layers: decoder layers.
        initializer_range: standard deviation of the weights. Input and output share one table that stays frozen under
            an adapter: with .05 no next token can become likely, so a model that is to learn to write needs more.
        tokenizer: instead of one trained on the texts.
        sliding_window: for gemma3_text, whose layers but the last then see this many tokens; None leaves its own.
    """
    tokenizer = tokenizer or _train_tokenizer(texts)
    windows: dict[str, Any] = {}
    if sliding_window is not None:
        kinds = ["sliding_attention"] * (num_layers - 1) + ["full_attention"]
        windows = {"sliding_window": sliding_window, "layer_types": kinds}
    config = AutoConfig.for_model(
        architecture,
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=hidden_size // 16,
        num_key_value_heads=max(1, hidden_size // 32),
        head_dim=16,
        max_position_embeddings=4096,
        initializer_range=initializer_range,
        tie_word_embeddings=True,
        **windows,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation=IMPLEMENTATION)
    return Backbone(model.eval().requires_grad_(False), tokenizer, source="tiny")


def _train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([*texts, "user assistant system"], trainer)
    return with_chat(core)


def with_chat(core: Tokenizer) -> PreTrainedTokenizerFast:
    """Give a tokenizer that knows `<|endoftext|>`, `<|im_start|>` and `<|im_end|>` the chat template of tiny models."""
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
    )
