"""Read in fp32 with weights of any format, so that a figure does not depend on the path by which it was read.

In bf16 a state depends on what was read beside it: the same thought, read alone, packed with others or while it was
written, gave NDCG@10 apart by as much as the effects that are looked for (docs/lab-log.md). What is judged is therefore
read with fp32 numbers throughout. Weights are widened as they are used, a layer at a time, and nothing is kept.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_exact: ContextVar[bool] = ContextVar("exact", default=False)

_OF_ONE_FORMAT = {
    functional.linear, functional.layer_norm, functional.rms_norm, functional.conv1d, torch.matmul, torch.mm, torch.bmm,
    torch.einsum, Tensor.matmul, Tensor.__matmul__, Tensor.__rmatmul__, Tensor.mm, Tensor.bmm,
}  # fmt: skip
"""What torch computes only if all its arguments have one format; the rest takes the wider one by itself."""


def is_exact() -> bool:
    """Tell whether this thread reads in fp32 now."""
    return _exact.get()


@contextmanager
def exact() -> Iterator[None]:
    """Read in fp32 in this thread, without gradient, until the end of the block."""
    token = _exact.set(True)
    try:
        with torch.no_grad(), _Widening():
            yield
    finally:
        _exact.reset(token)


class _Widening(TorchFunctionMode):
    """Hand every product fp32 numbers, whatever its arguments are."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is functional.embedding:
            return widened(func(*args, **kwargs))
        if func in _OF_ONE_FORMAT:
            args, kwargs = [*map(widened, args)], {name: widened(value) for name, value in kwargs.items()}
        return func(*args, **kwargs)


def widened(value: Any) -> Any:
    """Return a tensor of a narrow format in fp32, anything else as it is."""
    narrow = isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if narrow else value
