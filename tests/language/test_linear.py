import pytest
import torch
from torch.nn.functional import linear

from thinkrank.language import LoraOptions, add_lora, tiny_backbone
from thinkrank.language.adapters import adapter_state
from thinkrank.language.exact import exact
from thinkrank.language.linear import FrozenLinear, keep_layouts, low_rank_linear


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bias", [True, False])
def test_a_kept_layout_multiplies_like_the_weight_and_follows_it(bias):
    model = torch.nn.Sequential(torch.nn.Linear(24, 40, bias=bias)).bfloat16().requires_grad_(False)
    keep_layouts(model)
    layer = model[0]
    x = numbers(7, 24).bfloat16()
    with torch.no_grad():
        for change in (
            lambda: None,
            lambda: layer.weight.mul_(2),
            lambda: setattr(layer.weight, "data", numbers(40, 24).bfloat16()),
        ):
            change()
            exact = linear(x.double(), layer.weight.double(), None if layer.bias is None else layer.bias.double())
            torch.testing.assert_close(layer(x).double(), exact, atol=0.02, rtol=0.01)
        assert layer._laid_out is not None or not isinstance(layer, FrozenLinear)


@pytest.mark.parametrize("bias", [True, False])
def test_a_widened_weight_multiplies_in_fp32(bias):
    model = torch.nn.Sequential(torch.nn.Linear(24, 40, bias=bias)).bfloat16().requires_grad_(False)
    keep_layouts(model)
    layer, x = model[0], numbers(2, 7, 24)
    with exact():
        product = layer(x)
    truth = linear(x.double(), layer.weight.double(), None if layer.bias is None else layer.bias.double())
    assert product.dtype == torch.float32
    torch.testing.assert_close(product.double(), truth, atol=1e-6, rtol=1e-6)


def test_a_low_rank_layer_has_the_gradients_of_finite_differences():
    base = torch.nn.Linear(5, 4).double().requires_grad_(False)
    inputs = [numbers(2, 3, 5), numbers(2, 5, seed=1), numbers(4, 2, seed=2)]
    x, down, up = (t.double().requires_grad_() for t in inputs)
    assert torch.autograd.gradcheck(lambda x, down, up: low_rank_linear(x, base, down, up, 0.7), (x, down, up))
    with torch.no_grad():
        silent = low_rank_linear(x, base, down, up, 0.7)
    torch.testing.assert_close(silent, base(x) + 0.7 * x @ down.T @ up.T)


def test_a_fused_adapter_is_pefts_own():
    from peft.tuners.lora import Linear

    backbone = add_lora(tiny_backbone(["a film"], seed=3), LoraOptions(rank=4))
    with torch.no_grad():
        for i, weight in enumerate(adapter_state(backbone).values()):
            weight.copy_(0.2 * numbers(*weight.shape, seed=i))
    layers = [module for module in backbone.model.modules() if isinstance(module, Linear)]
    assert layers
    assert all(type(layer) is not Linear for layer in layers)
    ids = torch.tensor([[5, 6, 7, 8]])

    def run():
        logits = backbone.model(input_ids=ids).logits
        return logits, *torch.autograd.grad(logits.square().sum(), list(adapter_state(backbone).values()))

    fused = run()
    for layer in layers:
        layer.__class__ = Linear
    for ours, theirs in zip(fused, run(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
