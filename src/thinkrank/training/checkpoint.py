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

from safetensors.torch import load_file, save_file
from torch import Tensor


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
    """Write a checkpoint and remove the older ones."""
    folder.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder))
    save_file(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, fresh / "tensors.safetensors"
    )
    (fresh / "state.json").write_text(json.dumps(state), encoding="utf-8")
    for file in fresh.iterdir():
        with file.open("rb") as written:
            os.fsync(written.fileno())
    final = folder / f"step-{step:08d}"
    shutil.rmtree(final, ignore_errors=True)
    fresh.replace(final)
    for other in folder.iterdir():
        if other != final:
            shutil.rmtree(other)


def latest_checkpoint(folder: Path) -> Checkpoint | None:
    """Read the newest whole checkpoint; None if there is none."""
    found = sorted(folder.glob("step-*")) if folder.is_dir() else []
    if not found:
        return None
    newest = found[-1]
    state = json.loads((newest / "state.json").read_text(encoding="utf-8"))
    return Checkpoint(int(newest.name.removeprefix("step-")), load_file(newest / "tensors.safetensors"), state)
