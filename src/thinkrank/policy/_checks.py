"""Checks that hold outside of tests too: a tensor that broadcasts by accident gives a finite and wrong loss."""

from collections.abc import Sequence

import torch
from torch import Tensor


def check_matrix(name: str, tensor: Tensor) -> tuple[int, int]:
    """Return the two sizes of a matrix.

    Raises:
        ValueError: if it has more or fewer than two dimensions.
    """
    if tensor.ndim != 2:
        raise ValueError(f"{name} must have 2 dimensions, got shape {tuple(tensor.shape)}")
    rows, columns = tensor.shape
    return rows, columns


def check_shapes(shape: Sequence[int], **tensors: Tensor | None) -> None:
    """Refuse tensors of another shape; None passes.

    Raises:
        ValueError: naming the first tensor at fault.
    """
    for name, tensor in tensors.items():
        if tensor is not None and tuple(tensor.shape) != tuple(shape):
            raise ValueError(f"{name} must have shape {tuple(shape)}, got {tuple(tensor.shape)}")


def check_columns(name: str, columns_B: Tensor, width: int) -> None:
    """Refuse column indices outside of a matrix, negative ones too.

    Raises:
        ValueError: naming the first index at fault.
    """
    outside_B = (columns_B < 0) | (columns_B >= width)
    if bool(outside_B.any()):
        raise ValueError(f"{name} holds column {int(columns_B[outside_B][0])}; there are columns 0 to {width - 1}")


def at_least_fp32(tensor: Tensor) -> Tensor:
    """Return the tensor in fp32, or in fp64 if it is in fp64."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
