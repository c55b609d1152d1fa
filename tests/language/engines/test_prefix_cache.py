"""What a cache of beginnings changes: nothing but the work."""

from itertools import chain

import pytest
import torch

from thinkrank.language import (
    GenerationOptions,
    Packing,
    PrefixCache,
    PrefixTree,
    TransformersEngine,
    add_lora,
    packed_states,
    tiny_backbone,
)
from thinkrank.language.adapters import adapter_state
from thinkrank.language.options import LoraOptions

GROUPS = [([5, 6, 7, 8, 9], [[1, 2, 3], [4, 5], [6, 7, 8, 9]]), ([9] * 7, [[3], [4, 5, 5, 5, 5]])]
FOREST = PrefixTree.groups(GROUPS)


@pytest.fixture
def backbone():
    adapted = add_lora(tiny_backbone(["a film"], seed=2), LoraOptions(rank=4))
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in adapter_state(adapted).values():
            weight.copy_(0.2 * torch.randn(weight.shape, generator=random))
    return adapted


def test_a_held_root_gives_the_states_that_reading_it_gives(backbone):
    cache = PrefixCache(backbone, 100)
    held = dict(zip([0, 4], cache.read([beginning for beginning, _ in GROUPS]), strict=True))
    whole, part = Packing(FOREST), Packing(FOREST, held=held)
    assert len(part) == len(whole) - 5 - 7
    with torch.no_grad():
        expected = packed_states(backbone, whole)[whole.last_tokens(FOREST.leaves)]
        states = packed_states(backbone, part)[part.last_tokens(FOREST.leaves)]
    torch.testing.assert_close(states, expected, rtol=1e-5, atol=1e-5)


def test_only_a_root_with_something_below_it_can_be_held(backbone):
    (kept,) = PrefixCache(backbone, 100).read([[5, 6]])
    with pytest.raises(ValueError, match="only a root"):
        Packing(PrefixTree.rows([[5, 6]]), held={0: kept})
    with pytest.raises(ValueError, match="only a root"):
        Packing(FOREST, held={1: kept})


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_sampler_writes_the_same_with_kept_beginnings(backbone, temperature):
    options = GenerationOptions(max_new_tokens=6, temperature=temperature)
    cache = PrefixCache(backbone, 100)
    plain = TransformersEngine(backbone).sample(FOREST, options, num_samples=2, suffix=[4])
    for _ in range(2):  # the second time from the cache
        kept = TransformersEngine(backbone, cache).sample(FOREST, options, num_samples=2, suffix=[4])
        for ours, theirs in zip(chain(*kept), chain(*plain), strict=True):
            assert ours.ids == theirs.ids
            torch.testing.assert_close(ours.last_state, theirs.last_state, rtol=1e-4, atol=1e-5)
    assert (cache.misses, cache.hits) == (2, 2)


def test_the_least_recently_used_goes_first(backbone):
    cache = PrefixCache(backbone, 10)
    a, b, c = [1] * 4, [2] * 4, [3] * 4
    cache.read([a, b])
    cache.read([a])
    cache.read([c])
    assert cache.num_tokens == 8
    cache.read([a, c])
    assert (cache.misses, cache.hits) == (3, 3)
    cache.read([b])
    assert cache.misses == 4
    cache.read([[4] * 11])
    assert cache.num_tokens <= 10


def test_changed_weights_drop_what_they_read(backbone):
    cache = PrefixCache(backbone, 100)
    with backbone.without_adapter():
        cache.read([[5, 6, 7]], writer="base")
    (before,) = cache.read([[5, 6, 7]])
    with torch.no_grad():
        for weight in adapter_state(backbone).values():
            weight.add_(0.1)
    (after,) = cache.read([[5, 6, 7]])
    assert (cache.misses, cache.hits) == (3, 0)
    assert cache.num_tokens == 6
    assert not torch.equal(before[1][0], after[1][0])
    with backbone.without_adapter():
        cache.read([[5, 6, 7]], writer="base")
    assert (cache.misses, cache.hits) == (3, 1)
