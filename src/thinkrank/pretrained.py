"""Folders of saved models: where they are found, how they are read and written."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from thinkrank._files import atomic_write
from thinkrank.errors import ThinkrankError

_FILES = ["*.json", "*.safetensors", "catalogue.parquet"]


def local_folder(where: str | Path) -> Path:
    """The folder itself, or for a hub id the place of its downloaded files; of a repository only ours are taken.

    Raises:
        ThinkrankError: if there is no saved model.
    """
    folder = Path(where)
    if not folder.exists() and re.fullmatch(r"[\w.-]+/[\w.-]+", str(where)):
        from huggingface_hub import snapshot_download

        try:
            folder = Path(
                snapshot_download(str(where), allow_patterns=["*.json", "*.safetensors", "catalogue.parquet"])
            )
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ThinkrankError(f"{where}: neither a folder here nor to be had from the hub ({reason})") from error
    if not (folder / "config.json").is_file():
        raise ThinkrankError(f"{folder}: no saved model here (no config.json). Give the folder a training run made.")
    return folder


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Turn whatever a damaged folder raises into one plain error."""
    try:
        yield
    except ThinkrankError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ThinkrankError(f"{folder}: the saved model is damaged or its files do not fit: {reason}") from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors, whole or not at all."""
    with atomic_write(path) as file:
        file.write(save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}))


def write_json(path: Path, model: BaseModel) -> None:
    """Write a pydantic model, whole or not at all."""
    with atomic_write(path) as file:
        file.write((model.model_dump_json(indent=2) + "\n").encode())


def finish(folder: Path, config: BaseModel, card: str) -> None:
    """Write the model card and, last, the configuration: a folder with a config is a whole model."""
    with atomic_write(folder / "README.md") as file:
        file.write(card.encode())
    write_json(folder / "config.json", config)
