"""Where data sets come from, one module per format."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from thinkrank.data.dataset import Dataset
from thinkrank.data.sources._amazon import AmazonOptions
from thinkrank.data.sources._options import check_source, parse_options
from thinkrank.data.sources.amazon_2018 import load_amazon_2018
from thinkrank.data.sources.amazon_2023 import load_amazon_2023
from thinkrank.data.sources.movielens import MovieLensOptions, load_movielens
from thinkrank.data.sources.movielens_100k import MovieLens100KOptions, load_movielens_100k
from thinkrank.data.sources.synthetic import load_relay, load_world
from thinkrank.data.sources.table import TableOptions, load_table
from thinkrank.data.synthetic import RelayOptions, WorldOptions

_LOADERS: dict[str, tuple[type[BaseModel], Callable[[Path | None, Any], Dataset]]] = {
    "movielens-100k": (MovieLens100KOptions, load_movielens_100k),
    "movielens": (MovieLensOptions, load_movielens),
    "amazon-2018": (AmazonOptions, load_amazon_2018),
    "amazon-2023": (AmazonOptions, load_amazon_2023),
    "table": (TableOptions, load_table),
    "synthetic": (WorldOptions, load_world),
    "synthetic-relay": (RelayOptions, load_relay),
}

SOURCES: tuple[str, ...] = tuple(_LOADERS)
"""The names `load_dataset` knows."""


def load_dataset(source: str, path: str | Path | None = None, **options: Any) -> Dataset:
    """Read, check and clean a data set.

    Args:
        source: one of `SOURCES`.
        path: a folder or zip archive in the source's format; the network is then never touched. None takes an earlier
            download from the cache (``THINKRANK_CACHE``, else the user's cache folder), or fetches the official files;
            the synthetic sources take no other.
        options: what the source's options class allows.

    Raises:
        ThinkrankError: if the source or an option is unknown, or a file is at fault; one line that names file and row.
    """
    check_source(source, SOURCES)
    model, loader = _LOADERS[source]
    return loader(None if path is None else Path(path), parse_options(source, model, options))
