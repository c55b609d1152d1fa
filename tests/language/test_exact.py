"""Weights in bf16 read with fp32 numbers give what the same weights, kept in fp32, give: by every path."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from thinkrank.language import (
    Backbone,
    LoraOptions,
    Packing,
    PrefixCache,
    PrefixTree,
    add_lora,
    hidden_states,
    packed_states,
    pad,
    tiny_backbone,
)
from thinkrank.language.adapters import adapter_state
from thinkrank.language.exact import is_exact
from thinkrank.language.linear import keep_layouts

FOREST = PrefixTree.groups([([5, 6, 7, 8, 9], [[10, 11], [12, 13, 14]]), ([15, 16], [[17]])])


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma3_text"])
def test_every_path_reads_bf16_weights_as_if_they_were_kept_in_fp32(architecture):
    half = tiny_backbone(["abc"], architecture=architecture)
    half.model.bfloat16()
    keep_layouts(half.model)
    half = add_lora(half, LoraOptions(rank=4))
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in adapter_state(half).values():
            weight.normal_(std=0.1, generator=random)
    wide = Backbone(copy.deepcopy(half.model).float(), half.tokenizer, half.source)
    before = {name: tensor.clone() for name, tensor in half.model.state_dict().items()}
    rows = pad(list(FOREST.sequences()), half.pad_id)
    ends = torch.arange(len(rows[0])), rows[1].sum(dim=1) - 1

    def packed(backbone):
        packing = Packing(FOREST)
        return packed_states(backbone, packing)[packing.last_tokens(FOREST.leaves)]

    with torch.no_grad():
        expected, plain = packed(wide), packed(half)
    with half.exact():
        assert half.dtype == torch.bfloat16
        close(packed(half), expected)
        close(hidden_states(half, *rows)[ends], expected)
        for sequence, state in zip(FOREST.sequences(), expected, strict=True):
            close(hidden_states(half, *pad([sequence], half.pad_id))[0, -1], state)
        cache = PrefixCache(half, 100)
        close(torch.stack([behind(half, cache, leaf) for leaf in (1, 2, 4)]), expected)
        assert not packed(half).requires_grad
        with ThreadPoolExecutor() as pool:
            torch.testing.assert_close(pool.submit(packed_quietly, packed, half).result(), plain, atol=0, rtol=0)
    assert not is_exact()
    assert (plain - expected).abs().max() > 1e-3, "in bf16 the states are others, or this says nothing"
    torch.testing.assert_close(packed(half).detach(), plain, atol=0, rtol=0)
    assert torch.equal(behind(half, cache, 1).bfloat16().float(), behind(half, cache, 1)), "kept apart from fp32 ones"
    for name, tensor in half.model.state_dict().items():
        assert tensor.dtype == before[name].dtype
        assert torch.equal(tensor, before[name])
    with half.exact(), half.without_adapter(), wide.without_adapter():
        close(packed(half), packed(wide))
        assert (packed(half) - expected).abs().max() > 1e-3


def behind(backbone, cache, leaf):
    """The state at the end of a leaf, read behind a kept beginning."""
    root, child = FOREST.path(leaf)
    part = PrefixTree((FOREST.ids[root], FOREST.ids[child]), (-1, 0))
    packing = Packing(part, held={0: cache.read([FOREST.ids[root]])[0]})
    with torch.no_grad():
        return packed_states(backbone, packing)[-1]


def packed_quietly(packed, backbone):
    with torch.no_grad():
        return packed(backbone)
