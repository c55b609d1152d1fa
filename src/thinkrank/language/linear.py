"""Linear layers of a frozen model on a CPU.

oneDNN lays a bf16 weight out anew at every call, which costs as much as the product itself when few rows are
multiplied. A frozen weight can keep that layout. Where it is widened to be read in fp32, the product goes to oneDNN,
too: torch gives it to MKL, which takes twice as long on some processors of AMD (benchmarks/products.py). Only passes
without gradient use either.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from thinkrank.language.exact import is_exact


class FrozenLinear(torch.nn.Linear):
    """Linear layer that keeps its weight in oneDNN's layout too, made when first needed and after any change."""

    _laid_out: Tensor | None = None
    _made_from: tuple[int, int] | None = None

    def forward(self, input: Tensor) -> Tensor:
        """Multiply; see `torch.nn.Linear`."""
        weight = self.weight
        frozen = not (weight.requires_grad or torch.is_grad_enabled() or torch.compiler.is_compiling())
        if not frozen or not weight.is_cpu or weight.dtype != torch.bfloat16:
            return linear(input, weight, self.bias)
        if is_exact():
            return self._product(input.float(), weight.float())
        made_from = (weight.data_ptr(), weight._version)
        if self._laid_out is None or self._made_from != made_from:
            self._laid_out = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), 64)
            self._made_from = made_from
        return self._product(input.to(weight.dtype), self._laid_out)

    def _product(self, input: Tensor, weight: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(input.dtype)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")
        return product


def keep_layouts(model: torch.nn.Module) -> None:
    """Let every linear layer of the model keep its layout, in place; does nothing where oneDNN is missing."""
    if not torch.backends.mkldnn.is_available():
        return
    for module in model.modules():
        if type(module) is torch.nn.Linear:
            module.__class__ = FrozenLinear


class _LowRankLinear(torch.autograd.Function):
    """x W' + b + scale (x A') B' with a frozen W: three products forward, five backward, no copies in between."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float
    ) -> Tensor:
        ctx.adapter_dtype = down.dtype
        x2, down, up = x.reshape(-1, x.shape[-1]), down.to(x.dtype), up.to(x.dtype)
        inner = x2 @ down.T
        product = linear(x2, weight, bias).addmm_(inner, up.T, alpha=scale)
        ctx.save_for_backward(x2, inner, weight, down, up)
        ctx.scale, ctx.shape = scale, x.shape
        return product.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, by_product: Tensor) -> tuple[Tensor | None, ...]:
        x2, inner, weight, down, up = ctx.saved_tensors
        by_product = by_product.reshape(-1, by_product.shape[-1])
        by_inner = (by_product @ up).mul_(ctx.scale)
        by_x = None
        if ctx.needs_input_grad[0]:
            by_x = (by_product @ weight).addmm_(by_inner, down).view(ctx.shape)
        by_down = (by_inner.T @ x2).to(ctx.adapter_dtype)
        by_up = (by_product.T @ inner).mul_(ctx.scale).to(ctx.adapter_dtype)
        return by_x, None, None, by_down, by_up, None


def low_rank_linear(x: Tensor, base: torch.nn.Linear, down: Tensor, up: Tensor, scale: float) -> Tensor:
    """Apply a frozen linear layer with a low-rank update, computed in the layer's dtype (see `exact` for reading).

    Args:
        x: (..., in).
        base: the layer, without gradient.
        down: (rank, in), the update's A.
        up: (out, rank), the update's B.
        scale: factor of the update.
    """
    weight = base.weight
    if torch.is_grad_enabled():
        x = x.to(weight.dtype)
        product: Tensor = _LowRankLinear.apply(x, weight, base.bias, down, up, scale)  # type: ignore[no-untyped-call]
        return product
    x = x if is_exact() else x.to(weight.dtype)
    inner = x.reshape(-1, x.shape[-1]) @ down.to(x.dtype).T
    product = base(x)
    product.view(-1, product.shape[-1]).addmm_(inner, up.to(x.dtype).T, alpha=scale)
    return product
