"""Checkpoints that are either whole or absent.

A checkpoint is a folder `step-00000120` with `tensors.safetensors` and `state.json`. It is written under another name
and renamed when complete, so a run killed while writing still has the one before.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from thinkrank._files import writing
from thinkrank.errors import ThinkrankError


@dataclass(frozen=True)
class Checkpoint:
    """Hold what a run needs to go on as if it had never stopped.

    Attributes:
        step: updates made.
        tensors: weights, optimiser moments, tables, random states.
        state: everything else, JSON.
    """

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


def write_checkpoint(folder: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write a checkpoint and remove the older ones.

    Raises:
        ThinkrankError: if it cannot be written; what was written of it is removed, and the one before stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder))
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    size = sum(tensor.numel() * tensor.itemsize for tensor in held.values())
    what = f"{folder}: the checkpoint of step {step} ({size / 1e6:,.0f} MB)"
    final = folder / f"step-{step:08d}"
    try:
        with writing(what, otherwise="make room, and the same command goes on"):
            save_file(held, fresh / "tensors.safetensors")
            (fresh / "state.json").write_text(json.dumps(state), encoding="utf-8")
            for file in fresh.iterdir():
                with file.open("rb") as written:
                    os.fsync(written.fileno())
        shutil.rmtree(final, ignore_errors=True)
        fresh.replace(final)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    for other in folder.iterdir():
        if other != final and other.is_dir():
            shutil.rmtree(other)


def latest_checkpoint(folder: Path) -> Checkpoint | None:
    """Read the newest whole checkpoint; None if there is none.

    Raises:
        ThinkrankError: if its files are damaged.
    """
    found = sorted(folder.glob("step-*")) if folder.is_dir() else []
    if not found:
        return None
    newest = found[-1]
    try:
        state = json.loads((newest / "state.json").read_text(encoding="utf-8"))
        tensors = load_file(newest / "tensors.safetensors")
    except (ValueError, OSError, SafetensorError) as error:
        raise ThinkrankError(
            f"{newest}: the checkpoint is damaged ({error}): delete that folder, and the same command trains anew"
        ) from error
    return Checkpoint(int(newest.name.removeprefix("step-")), tensors, state)
