"""States below an adapter, kept: the same as read anew, after the adapter has changed too."""

import pytest
import torch

from thinkrank.language import LoraOptions, Packing, PrefixTree, add_lora, packed_states, tiny_backbone
from thinkrank.language.adapters import adapter_state
from thinkrank.language.lower import LowerStates

FOREST = PrefixTree.groups([([5, 6, 7], [[8, 9], [10]]), ([4, 4], [])])


def adapted(**options):
    base = tiny_backbone(["a film", "another"], seed=3, num_layers=4)
    return add_lora(base, LoraOptions(rank=4, **options))


def disturb(backbone, seed):
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in adapter_state(backbone).values():
            weight.copy_(0.2 * torch.randn(weight.shape, generator=random))


def test_kept_states_are_those_of_a_whole_pass_whatever_the_adapter_has_become():
    backbone, lower = adapted(top_layers=2), LowerStates()
    for seed in range(3):
        disturb(backbone, seed)
        with torch.no_grad():
            whole = packed_states(backbone, Packing(FOREST))
        torch.testing.assert_close(lower.packed_states(backbone, Packing(FOREST)), whole)
    assert lower.hits == 2


def test_other_forests_and_other_formats_are_not_mixed_up():
    backbone, lower = adapted(top_layers=2), LowerStates()
    backbone.model.to(torch.bfloat16)
    forests = [FOREST, PrefixTree.groups([([5, 6, 7], [[8], [9, 10]]), ([4, 4], [])])]
    for _ in range(2):
        for forest in forests:
            narrow = lower.packed_states(backbone, Packing(forest))
            with backbone.exact():
                wide, whole = lower.packed_states(backbone, Packing(forest)), packed_states(backbone, Packing(forest))
            torch.testing.assert_close(wide, whole)
            assert not torch.equal(narrow, wide)
    assert lower.hits == 4


def test_what_has_no_room_is_read_anew():
    backbone, lower = adapted(top_layers=2), LowerStates(max_bytes=10)
    for _ in range(2):
        lower.packed_states(backbone, Packing(FOREST))
    assert (lower.hits, lower.num_bytes) == (0, 0)


def test_what_cannot_be_kept_is_refused():
    with pytest.raises(ValueError, match="nothing below it"):
        LowerStates().packed_states(adapted(), Packing(FOREST))
    backbone = adapted(top_layers=2)
    held = tuple((torch.zeros(1, 1, 3, 4),) * 2 for _ in range(4))
    with pytest.raises(ValueError, match="held"):
        LowerStates().packed_states(backbone, Packing(FOREST, held={0: held}))


def test_weights_of_another_format_are_another_model():
    backbone, lower = adapted(top_layers=2), LowerStates()
    with backbone.exact():
        lower.packed_states(backbone, Packing(FOREST))
    backbone.model.to(torch.bfloat16)
    with backbone.exact():
        torch.testing.assert_close(
            lower.packed_states(backbone, Packing(FOREST)), packed_states(backbone, Packing(FOREST))
        )
