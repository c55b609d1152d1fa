"""Where tensors live, and in which number format."""

import torch
from jaxtyping import UInt8
from torch import Tensor

from thinkrank.errors import ThinkrankError


def default_device() -> torch.device:
    """Choose CUDA if there is one, then Apple's GPU, then the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def default_dtype(device: torch.device) -> torch.dtype:
    """Choose bfloat16 where the device computes it fast, float32 elsewhere."""
    fast = True
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        fast = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if fast else torch.float32


def named_device(name: str) -> torch.device:
    """Find a device by its name; ``auto`` is `default_device`.

    Raises:
        ThinkrankError: if torch knows no such device, or this machine has none.
    """
    if name == "auto":
        return default_device()
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ThinkrankError(f"unknown device {name!r}: use auto, cpu, cuda, cuda:0 or mps") from error
    try:
        torch.zeros(1, device=device).item()  # the only question that every kind of device answers alike
    except (AssertionError, RuntimeError, NotImplementedError) as error:
        raise ThinkrankError(f"this machine has no device {name!r} that torch can use: use auto or cpu") from error
    return device


def random_state(device: torch.device) -> UInt8[Tensor, "_"]:
    """Return the state of what a device draws chance from."""
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.mps.get_rng_state() if device.type == "mps" else torch.get_rng_state()


def set_random_state(device: torch.device, state: UInt8[Tensor, "_"]) -> None:
    """Let a device go on drawing from a state."""
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    elif device.type == "mps":
        torch.mps.set_rng_state(state)
    else:
        torch.set_rng_state(state)
