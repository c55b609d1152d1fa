"""How large known language models are, and how fast a layer of such a shape is here: for plans without weights."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from transformers import AutoConfig, AutoModelForCausalLM

from thinkrank.devices import default_dtype, named_device

_READ, _ROWS, _TURNS = 512, 32, 3


@dataclass(frozen=True)
class Shape:
    """Hold the sizes of a decoder with gated feed-forward layers and one table for input and output.

    Attributes:
        layers: how many.
        width: D of the hidden states.
        inner: width of the feed-forward layers.
        heads: of queries.
        kv_heads: of keys and values.
        head_width: of each.
        vocabulary: tokens.
    """

    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int

    @property
    def linears(self) -> tuple[tuple[int, int], ...]:
        """Return inputs and outputs of a layer's matrices: query, key, value, output, gate, up, down."""
        queries, keys = self.heads * self.head_width, self.kv_heads * self.head_width
        inputs = ((self.width, queries), (self.width, keys), (self.width, keys), (queries, self.width))
        return (*inputs, (self.width, self.inner), (self.width, self.inner), (self.inner, self.width))

    @property
    def parameters(self) -> int:
        """Count the parameters, those of norms and biases left out."""
        return self.layers * sum(a * b for a, b in self.linears) + self.vocabulary * self.width

    def adapter(self, rank: int, layers: int | None) -> int:
        """Count the parameters of an adapter on all matrices of the last layers; None for all layers."""
        return min(self.layers, layers or self.layers) * rank * sum(a + b for a, b in self.linears)


SHAPES = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": Shape(30, 576, 1536, 9, 3, 64, 49_152),
    "HuggingFaceTB/SmolLM2-360M-Instruct": Shape(32, 960, 2560, 15, 5, 64, 49_152),
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": Shape(24, 2048, 8192, 32, 32, 64, 49_152),
    "Qwen/Qwen2.5-0.5B-Instruct": Shape(24, 896, 4864, 14, 2, 64, 151_936),
    "Qwen/Qwen2.5-1.5B-Instruct": Shape(28, 1536, 8960, 12, 2, 128, 151_936),
    "Qwen/Qwen2.5-3B-Instruct": Shape(36, 2048, 11_008, 16, 2, 128, 151_936),
    "google/gemma-2-2b-it": Shape(26, 2304, 9216, 8, 4, 256, 256_000),
}
"""By hub id, from the `config.json` that each repository has there."""


def absent_shape(name: str) -> Shape | None:
    """Return the shape of a known model whose weights are not on this machine; None for any other name."""
    is_here = Path(name).exists() or isinstance(try_to_load_from_cache(name, "config.json"), str)
    return None if is_here else SHAPES.get(name)


@dataclass(frozen=True)
class Speed:
    """Hold seconds of a token on this machine, in all layers of a shape.

    Attributes:
        read: without gradient.
        trained: forward and backward, the gradient reaching every layer but no frozen weight.
        written: while 32 rows are written side by side, the look back at what stands before them left out.
        logits: over the vocabulary, added for each token that is written or learnt to be.
    """

    read: float
    trained: float
    written: float
    logits: float


def speed_of(shape: Shape, device: str = "auto") -> Speed:
    """Measure one random layer of a shape and the logits, and multiply."""
    target = named_device(device)
    config: Any = AutoConfig.for_model(
        "llama",
        vocab_size=64,
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=1,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_width,
    )
    dtype = default_dtype(target)
    layer = AutoModelForCausalLM.from_config(config, dtype=dtype).to(target).base_model.requires_grad_(False)
    inputs_1TD = torch.randn(1, _READ, shape.width, dtype=dtype, device=target)
    table_VD = torch.randn(shape.vocabulary, shape.width, dtype=dtype, device=target)

    @torch.no_grad()
    def read() -> None:
        layer(inputs_embeds=inputs_1TD, use_cache=False)

    def train() -> None:
        given = inputs_1TD.clone().requires_grad_()
        layer(inputs_embeds=given, use_cache=False).last_hidden_state.float().square().mean().backward()

    @torch.no_grad()
    def logits() -> None:
        _ = inputs_1TD[0, :_ROWS] @ table_VD.T

    @torch.no_grad()
    def write() -> None:
        layer(inputs_embeds=inputs_1TD[:, :1].expand(_ROWS, -1, -1), use_cache=False)

    return Speed(
        read=shape.layers * _best(read) / _READ,
        trained=shape.layers * _best(train) / _READ,
        written=shape.layers * _best(write) / _ROWS,
        logits=_best(logits) / _ROWS,
    )


def _best(work: Callable[[], None]) -> float:
    """Return the seconds of the fastest of some turns; the first pays for what is made once."""
    best = float("inf")
    for turn in range(_TURNS + 1):
        started = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started) if turn else best
    return best
