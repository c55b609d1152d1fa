"""What all baselines share: a config, fitted arrays, a way to disk and back, and retrieval from scores."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from jaxtyping import Float32
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from thinkrank._files import atomic_write
from thinkrank.data import Dataset, History, Split
from thinkrank.errors import ThinkrankError
from thinkrank.options import Options
from thinkrank.stages.answers import Ranking
from thinkrank.stages.order import top_k

CONFIG_FILE = "config.json"
ARRAYS_FILE = "model.safetensors"


ConfigT = TypeVar("ConfigT", bound=Options)
BaselineT = TypeVar("BaselineT", bound="Baseline[Any]")  # typing.Self, which the shape checks of the tests cannot read


class Baseline(ABC, Generic[ConfigT]):
    """A retriever that holds its knowledge in a few arrays.

    It satisfies `thinkrank.stages.Retriever`. Fitting and scoring are deterministic on a CPU.

    Args:
        config: its options; None for the defaults.
    """

    config_class: type[ConfigT]

    def __init__(self, config: ConfigT | None = None) -> None:
        self.config: ConfigT = self.config_class() if config is None else config
        self._arrays: dict[str, np.ndarray] = {}

    @abstractmethod
    def fit(self: BaselineT, data: Dataset | Split) -> BaselineT:
        """Learn from all of a data set or from the training part of a split, and return self."""

    @abstractmethod
    def scores(self, histories: Sequence[History]) -> Float32[np.ndarray, "B I"]:
        """Score every catalogue item for every history; higher is better."""

    def retrieve(self, histories: Sequence[History], k: int, *, filter_seen: bool = True) -> Ranking:
        """Answer each history with its k best items; see `thinkrank.stages.top_k`."""
        return top_k(self.scores(histories), histories, k, filter_seen=filter_seen)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json` and `model.safetensors` into a folder, made if need be.

        Raises:
            ThinkrankError: if nothing was fitted yet.
        """
        self._check_fitted()
        folder = Path(folder)
        with atomic_write(folder / ARRAYS_FILE) as file:
            file.write(save({name: np.ascontiguousarray(array) for name, array in self._arrays.items()}))
        with atomic_write(folder / CONFIG_FILE) as file:
            file.write(self.config.model_dump_json(indent=1).encode() + b"\n")

    @classmethod
    def from_pretrained(cls: type[BaselineT], folder: str | Path) -> BaselineT:
        """Read a baseline back.

        Raises:
            ThinkrankError: if a file is missing, unreadable, or of another kind of model.
        """
        config, arrays = read_saved(Path(folder), cls.config_class, cls.__name__)
        baseline = cls(config)
        baseline._arrays = arrays
        return baseline

    def _check_fitted(self) -> None:
        if not self._arrays:
            raise ThinkrankError(f"this {type(self).__name__} has learnt nothing yet: call fit first")


def read_saved(folder: Path, config_class: type[ConfigT], kind: str) -> tuple[ConfigT, dict[str, np.ndarray]]:
    """Read `config.json` and `model.safetensors`.

    Args:
        folder: where they are.
        config_class: what the first must hold.
        kind: of model, for messages.

    Raises:
        ThinkrankError: if a file is missing, unreadable, or of another kind of model.
    """
    try:
        config = config_class.model_validate_json((folder / CONFIG_FILE).read_bytes())
        return config, load_file(folder / ARRAYS_FILE)
    except FileNotFoundError as error:
        raise ThinkrankError(f"{folder} holds no saved {kind}: {error.filename} is missing") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ThinkrankError(f"{folder / CONFIG_FILE} is not of {kind}: {key}: {first['msg']}") from error
    except SafetensorError as error:
        raise ThinkrankError(f"{folder / ARRAYS_FILE} cannot be read: {error}") from error
