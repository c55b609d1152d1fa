"""Which adapter weights act, decided thread by thread; no weight is moved and no model is changed.

A layer with an adapter looks here, at each pass, for the weights it is to use: the live ones, none, or others that were
handed in.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Literal, TypeAlias

from torch import Tensor, nn

ActingWeights: TypeAlias = tuple[Tensor, Tensor] | Literal["live"] | None
"""The low-rank update of one layer: other weights (down, up), its live ones, or none, so that the base acts alone."""

_acting: ContextVar[Mapping[nn.Module, ActingWeights]] = ContextVar("acting", default=MappingProxyType({}))


@contextmanager
def acting(weights: Mapping[nn.Module, ActingWeights]) -> Iterator[None]:
    """Let these weights act in these layers, for this thread and until the end of the block."""
    token = _acting.set({**_acting.get(), **weights})
    try:
        yield
    finally:
        _acting.reset(token)


def weights_of(layer: nn.Module) -> ActingWeights:
    """Return the weights that act in a layer now; the live ones unless `acting` says otherwise."""
    return _acting.get().get(layer, "live")


def adapted_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Find the layers that have an adapter, by name."""
    return {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}
