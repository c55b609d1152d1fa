"""Synthetic worlds as sources: nothing is read, paths have no effect, the same options always give the same data."""

from pathlib import Path

from thinkrank.data.dataset import Dataset
from thinkrank.data.impressions import ImpressionDataset
from thinkrank.data.synthetic import RelayOptions, RelayWorld, World, WorldOptions
from thinkrank.data.synthetic.lists import ListWorld, ListWorldOptions


def load_world(path: Path | None, options: WorldOptions) -> Dataset:
    """Make a world of drifting tastes; the same options give its `World`."""
    return World(options).dataset()


def load_relay(path: Path | None, options: RelayOptions) -> Dataset:
    """Make histories with one right answer each; the same options give their `RelayWorld`, `relay_split` the parts."""
    return RelayWorld(options).dataset()


def load_list_world(path: Path | None, options: ListWorldOptions) -> ImpressionDataset:
    """Make lists whose clicks in any order are known; the same options give their `ListWorld`."""
    return ListWorld(options).lists
