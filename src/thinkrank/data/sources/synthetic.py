"""Made worlds as sources: nothing is read, and the same options always give the same data set."""

from pathlib import Path

from thinkrank.data.dataset import Dataset
from thinkrank.data.synthetic import RelayOptions, RelayWorld, World, WorldOptions
from thinkrank.errors import ThinkrankError


def load_world(path: Path | None, options: WorldOptions) -> Dataset:
    """Make a world of drifting tastes; the same options give its `World`.

    Args:
        path: must be None.
        options: what the world is like.
    """
    _refuse(path)
    return World(options).dataset()


def load_relay(path: Path | None, options: RelayOptions) -> Dataset:
    """Make histories with one right answer each; the same options give their `RelayWorld`, `relay_split` the parts.

    Args:
        path: must be None.
        options: what the world is like.
    """
    _refuse(path)
    return RelayWorld(options).dataset()


def _refuse(path: Path | None) -> None:
    if path is not None:
        raise ThinkrankError(f"{path}: a synthetic data set is made, not read; leave the path out")
