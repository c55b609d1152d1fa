"""Where data sets come from, one module per format."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from thinkrank.data._nearest import did_you_mean
from thinkrank.data.dataset import Dataset
from thinkrank.data.sources._amazon import AmazonOptions
from thinkrank.data.sources.amazon_2018 import load_amazon_2018
from thinkrank.data.sources.amazon_2023 import load_amazon_2023
from thinkrank.data.sources.movielens import MovieLensOptions, load_movielens
from thinkrank.data.sources.movielens_100k import MovieLens100KOptions, load_movielens_100k
from thinkrank.data.sources.synthetic import load_relay, load_world
from thinkrank.data.sources.table import TableOptions, load_table
from thinkrank.data.synthetic import RelayOptions, WorldOptions
from thinkrank.errors import ThinkrankError

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
    if source not in _LOADERS:
        raise ThinkrankError(
            f"unknown source {source!r}{did_you_mean(source, SOURCES)}. Use one of: {', '.join(SOURCES)}."
        )
    model, loader = _LOADERS[source]
    return loader(None if path is None else Path(path), _parse_options(source, model, options))


def _parse_options(source: str, model: type[BaseModel], options: dict[str, Any]) -> BaseModel:
    known = sorted(model.model_fields)
    for name in options:
        if name not in known:
            rest = f". It takes: {', '.join(known)}." if known else ". It takes none."
            raise ThinkrankError(f"{source}: unknown option {name!r}{did_you_mean(name, known)}{rest}")
    try:
        return model(**options)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise ThinkrankError(f"{source}: option {where}={fault['input']!r}: {fault['msg']}") from error
