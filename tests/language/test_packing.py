"""One packed pass against separate passes over padded rows: states, log-probabilities, gradients."""

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkrank.errors import ThinkrankError
from thinkrank.language import (
    Packing,
    PrefixTree,
    add_lora,
    hidden_states,
    load_backbone,
    packed_states,
    pad,
    selective_logprobs,
    tiny_backbone,
)
from thinkrank.language.adapters import adapter_state
from thinkrank.language.options import LoraOptions

ARCHITECTURES = ["llama", "qwen2", "qwen3", "gemma3_text"]
RAGGED = PrefixTree.groups(
    [([5, 6, 7, 8, 9], [[1, 2, 3], [4, 5], [], [6, 7, 8, 9]]), ([9] * 7, [[3], [4, 5, 5, 5, 5]]), ([1, 2, 3], [])]
).grow([[[7, 7], [8]], [], [[2, 3]], [], [[4]], [], []])
LONG = PrefixTree.groups([(list(range(30, 54)), [[1, 2, 3, 4], [5, 6], list(range(60, 70))]), ([7] * 3, [[8] * 12])])


@cache
def any_tiny():
    return tiny_backbone(["a film"], seed=2)


def adapted(backbone, rank=4, scale=0.2):
    """The backbone with an adapter that has an effect."""
    backbone = add_lora(backbone, LoraOptions(rank=rank))
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in adapter_state(backbone).values():
            weight.copy_(scale * torch.randn(weight.shape, generator=random))
    return backbone


def packed_scores(backbone, forest):
    """Log-probability of each leaf's own tokens, and each leaf's last state, from one pass."""
    packing = Packing(forest, backbone.device)
    states = packed_states(backbone, packing)
    scored = [leaf for leaf in forest.leaves if forest.parents[leaf] >= 0]
    tokens = packing.ids_T[packing.tokens(scored)]
    scores = selective_logprobs(backbone, states[packing.predictors(scored)], tokens, entropy=True)
    return scores.logprobs_N, scores.entropies_N, states[packing.last_tokens(forest.leaves)]


def separate_scores(backbone, forest, side):
    """The same from padded rows and the full vocabulary."""
    ids, mask = pad(list(forest.sequences()), backbone.pad_id, side=side, device=backbone.device)
    states = hidden_states(backbone, ids, mask)
    everything = backbone.model.get_output_embeddings()(states.to(backbone.dtype)).float().log_softmax(-1)
    logprobs, entropies, last = [], [], []
    for row, leaf in enumerate(forest.leaves):
        places = mask[row].nonzero()[:, 0]
        last.append(states[row, places[-1]])
        if forest.parents[leaf] >= 0:
            for place in range(forest.starts[leaf], forest.ends[leaf]):
                before = everything[row, places[place - 1]]
                logprobs.append(before[ids[row, places[place]]])
                entropies.append(-(before.exp() * before).sum())
    return torch.stack(logprobs), torch.stack(entropies), torch.stack(last)


def gradients(backbone, logprobs, entropies, last):
    """Of a loss that uses all three, by every adapter weight."""
    weights = torch.linspace(-1, 1, len(logprobs))
    loss = (weights * logprobs).sum() + 0.1 * (weights.flip(0) * entropies).sum() + last.square().mean()
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(adapter_state(backbone).values()))])


def assert_equal_to_separate(backbone, forest, side):
    packed, separate = packed_scores(backbone, forest), separate_scores(backbone, forest, side)
    for ours, theirs in zip(packed, separate, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    ours, theirs = gradients(backbone, *packed), gradients(backbone, *separate)
    assert theirs.abs().max() > 1e-3
    assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_packed_equals_separate(architecture, side):
    backbone = adapted(tiny_backbone(["a film"], architecture=architecture, seed=1))
    assert_equal_to_separate(backbone, RAGGED, side)


@pytest.mark.parametrize("window", [4, 16])
def test_a_prefix_may_be_longer_than_the_sliding_window(window):
    backbone = tiny_backbone(["a film"], architecture="gemma3_text", seed=1, sliding_window=window)
    kinds = {module.sliding_window for module in backbone.trunk().modules() if hasattr(module, "sliding_window")}
    assert kinds == {window, None}, "one layer of either kind"
    assert_equal_to_separate(adapted(backbone), LONG, "right")


def test_gradient_checkpointing_changes_nothing():
    backbone = adapted(tiny_backbone(["a film"], seed=1))
    plain = gradients(backbone, *packed_scores(backbone, RAGGED))
    backbone.model.train()
    trunk = backbone.trunk()
    enable = getattr(trunk, "activation_checkpointing_enable", None) or trunk.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    torch.testing.assert_close(gradients(backbone, *packed_scores(backbone, RAGGED)), plain)


def test_a_frozen_prefix_still_passes_no_gradient_and_a_frozen_model_none_at_all():
    backbone = tiny_backbone(["a film"], seed=1)
    assert not packed_scores(backbone, RAGGED)[0].requires_grad


def smollm2_and_a_forest():
    backbone = adapted(load_backbone("smollm2", dtype="float32"), rank=2, scale=0.02)
    ids = backbone.tokenizer("Seen: Alien, Heat, Fargo. What next, and why?")["input_ids"]
    groups = [(ids, [[42, 977, 1204, 33], [198], [260, 1838, 7]]), (ids[:7], [[504, 260], [19]])]
    return backbone, PrefixTree.groups(groups)


@pytest.mark.weights
@pytest.mark.parametrize("side", ["left", "right"])
def test_packed_equals_separate_on_smollm2(side):
    backbone, forest = smollm2_and_a_forest()
    backbone.model.double()
    assert_equal_to_separate(backbone, forest, side)


@pytest.mark.weights
def test_packed_is_as_near_to_the_truth_as_separate_in_fp32():
    backbone, forest = smollm2_and_a_forest()
    with torch.no_grad():
        packed, separate = packed_scores(backbone, forest), separate_scores(backbone, forest, "right")
        backbone.model.double()
        truth = separate_scores(backbone, forest, "right")
    for ours, theirs, exact in zip(packed, separate, truth, strict=True):
        rounding = (theirs - exact).abs().max()
        assert (ours - exact).abs().max() <= 2 * rounding + 1e-5


@given(
    groups=st.lists(
        st.tuples(
            st.lists(st.integers(3, 99), min_size=1, max_size=9),
            st.lists(st.lists(st.integers(3, 99), max_size=6), max_size=4),
        ),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=25)
def test_any_forest_has_the_states_of_its_sequences(groups):
    tiny = any_tiny()
    forest = PrefixTree.groups(groups)
    packing = Packing(forest)
    with torch.no_grad():
        together = packed_states(tiny, packing)[packing.last_tokens(forest.leaves)]
        ids, mask = pad(list(forest.sequences()), tiny.pad_id)
        apart = hidden_states(tiny, ids, mask)[torch.arange(len(ids)), mask.sum(1) - 1]
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-5)


def test_leaves_that_share_a_call_do_not_see_each_other():
    backbone = tiny_backbone(["a film"], seed=1)
    states = []
    for sibling in ([3, 4], [77, 78]):
        packing = Packing(PrefixTree.groups([([5, 6], [[7, 8], sibling])]))
        assert len(packing.blocks) == 2
        states.append(packed_states(backbone, packing)[packing.tokens([1])])
    torch.testing.assert_close(*states)


def test_nothing_predicts_the_first_token():
    with pytest.raises(ValueError, match="no token before the first"):
        Packing(PrefixTree.rows([[1, 2]])).predictors([0])


def test_a_model_that_would_ignore_the_forest_is_refused():
    backbone = tiny_backbone(["a film"], seed=1)
    backbone.model.set_attn_implementation("sdpa")
    with pytest.raises(ThinkrankError, match="attends by 'sdpa'"):
        packed_states(backbone, Packing(PrefixTree.rows([[1, 2]])))


def test_a_model_whose_tokens_meet_outside_attention_is_refused():
    backbone = tiny_backbone(["a film"], seed=1)
    backbone.model.config.layer_types = ["linear_attention", "full_attention"]
    with pytest.raises(ThinkrankError, match="linear_attention"):
        packed_states(backbone, Packing(PrefixTree.rows([[1, 2]])))
