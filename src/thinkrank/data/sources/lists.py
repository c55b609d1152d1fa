"""Where lists come from, one module per format."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from thinkrank.data.impressions import ImpressionDataset
from thinkrank.data.sources._options import check_source, parse_options
from thinkrank.data.sources.ebnerd import EbnerdOptions, load_ebnerd
from thinkrank.data.sources.kuairand import KuaiRandOptions, load_kuairand
from thinkrank.data.sources.list_table import TableListOptions, load_table_lists
from thinkrank.data.sources.mind import MindOptions, load_mind
from thinkrank.data.sources.trivago import TrivagoOptions, load_trivago
from thinkrank.data.synthetic.lists import NAME as SYNTHETIC
from thinkrank.data.synthetic.lists import ListWorld, ListWorldOptions
from thinkrank.errors import ThinkrankError

_READERS: dict[str, tuple[type[BaseModel], Callable[[Path, Any], ImpressionDataset]]] = {
    "trivago": (TrivagoOptions, load_trivago),
    "mind": (MindOptions, load_mind),
    "kuairand": (KuaiRandOptions, load_kuairand),
    "ebnerd": (EbnerdOptions, load_ebnerd),
    "table": (TableListOptions, load_table_lists),
}

LIST_SOURCES: tuple[str, ...] = (*_READERS, SYNTHETIC)
"""The names `load_impressions` knows."""


def load_impressions(source: str, path: str | Path | None = None, **options: Any) -> ImpressionDataset:
    """Read, check and clean displayed lists and the feedback on them.

    Args:
        source: one of `LIST_SOURCES`.
        path: a folder or zip archive in the source's format; ``synthetic`` takes none, and the same options give its
            `ListWorld`.
        options: what the source's options class allows.

    Raises:
        ThinkrankError: if the source or an option is unknown, or a file is at fault; one line that names file and row.
    """
    check_source(source, LIST_SOURCES)
    if source == SYNTHETIC:
        made = parse_options(source, ListWorldOptions, options)
        if path is not None:
            raise ThinkrankError(f"{path}: synthetic lists are made, not read; leave the path out")
        return ListWorld(made).lists
    model, reader = _READERS[source]
    parsed = parse_options(source, model, options)
    if path is None:
        raise ThinkrankError(f"{source}: where are the files? Give a path to a folder or a zip archive.")
    return reader(Path(path), parsed)
