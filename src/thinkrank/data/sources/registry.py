"""Where data comes from: every source under its name, ours and those that users add."""

import shlex
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel

from thinkrank.data._nearest import did_you_mean
from thinkrank.data.dataset import Dataset
from thinkrank.data.impressions import ImpressionDataset
from thinkrank.data.reading.intake import STAND, OnBad, current, setting
from thinkrank.data.sources._asking import collected, parsed_options
from thinkrank.errors import ThinkrankError

Gives: TypeAlias = Literal["events", "lists"]
"""What a source reads: a `Dataset` of what users did, or an `ImpressionDataset` of lists that were shown to them."""

NeedsPath: TypeAlias = Literal["always", "sometimes", "never"]
"""Whether a source reads files; one that does sometimes finds or fetches them where no path is given."""


@dataclass(frozen=True)
class _Source:
    options: type[BaseModel]
    reader: Callable[..., Any]
    path: NeedsPath


_SOURCES: dict[Gives, dict[str, _Source]] = {"events": {}, "lists": {}}

SOURCES: Collection[str] = _SOURCES["events"].keys()
"""The names `load_dataset` knows, in the order in which they were registered."""

LIST_SOURCES: Collection[str] = _SOURCES["lists"].keys()
"""The names `load_impressions` knows, in the order in which they were registered."""


def register_source(
    name: str,
    options: type[BaseModel],
    reader: Callable[..., Dataset | ImpressionDataset],
    *,
    gives: Gives = "events",
    path: NeedsPath = "always",
) -> None:
    """Add a source, which `load_dataset` or `load_impressions` then knows by its name.

    Args:
        name: of the source.
        options: a class of its options; see `thinkrank.options.Options`.
        reader: called with a path and an instance of `options`.
        gives: whether the reader returns a `Dataset` or an `ImpressionDataset`; names of the two do not clash.
        path: "always" refuses to be called without a path, "never" with one; the path is None where none is given.

    Raises:
        ThinkrankError: if another reader has that name already.
    """
    taken = _SOURCES[gives].get(name)
    if taken is not None and _definition(taken.reader) != _definition(reader):
        raise ThinkrankError(f"the source {name!r} is there already, read by {'.'.join(_definition(taken.reader))}")
    _SOURCES[gives][name] = _Source(options, reader, path)


def load_dataset(
    source: str,
    path: str | Path | None = None,
    *,
    on_bad: OnBad = "refuse",
    bad_rows: str | Path | None = None,
    **options: Any,
) -> Dataset:
    """Read, check and clean a data set.

    Args:
        source: one of `SOURCES`.
        path: a folder or zip archive in the source's format; the network is then never touched. None takes an earlier
            download from the cache (``THINKRANK_CACHE``, else the user's cache folder), or fetches the official files;
            the synthetic sources take no other.
        on_bad: whether rows that can't be right are refused (the error says the first and how many there are) or
            dropped with a notice.
        bad_rows: file for dropped rows: CSV, or Parquet where its name says so; None writes none.
        options: what the source's options class allows. ``table`` also takes frames of polars or pandas as its
            `interactions` and `items`; see `from_frames`.

    Raises:
        ThinkrankError: if the source or an option is unknown, or a file is at fault; one line that names file and row.
    """
    given = options.get("interactions")
    if source == "table" and given is not None and not isinstance(given, str | Path | list | tuple):
        from thinkrank.data.sources.frames import from_frames

        if path is not None:
            raise ThinkrankError("interactions are given as a frame, so there is no path to read; leave it out")
        return from_frames(on_bad=on_bad, bad_rows=bad_rows, **options)
    dataset: Dataset = _load("events", source, path, options, on_bad, bad_rows)
    return dataset


def load_impressions(
    source: str,
    path: str | Path | None = None,
    *,
    on_bad: OnBad = "refuse",
    bad_rows: str | Path | None = None,
    **options: Any,
) -> ImpressionDataset:
    """Read, check and clean displayed lists and the feedback on them.

    Arguments, raises: as `load_dataset`, for one of `LIST_SOURCES`, which are never fetched. ``synthetic`` takes no
    path, and the same options give its `ListWorld`.
    """
    lists: ImpressionDataset = _load("lists", source, path, options, on_bad, bad_rows)
    return lists


def read(gives: Gives, name: str, path: str | Path | None, options: Mapping[str, Any]) -> Any:
    """Call a source's reader; rows at fault are reported to the open intake.

    Raises:
        ThinkrankError: if source, path or an option is wrong, or a file cannot be read at all.
    """
    known = _SOURCES[gives]
    if name not in known and Path(name).is_dir():
        table = f"thinkrank data check table --path {shlex.quote(name)}"
        raise ThinkrankError(f"{name}: a folder that `data prepare` did not write. If it holds tables: `{table}`.")
    if name not in known:
        raise ThinkrankError(
            f"unknown source {name!r}{did_you_mean(name, list(known))}. Use one of: {', '.join(known)}."
        )
    source = known[name]
    parsed = parsed_options(name, source.options, options)
    if path is None and source.path == "always":
        raise ThinkrankError(f"{name}: where are the files? Give a path to a folder or a zip archive.")
    if path is not None and source.path == "never":
        raise ThinkrankError(f"{path}: the source {name!r} is made, not read; leave the path out")
    if path is not None and not Path(path).expanduser().exists():
        raise ThinkrankError(f"{path}: no such file or folder")
    intake = current()
    if intake is not None:
        intake.takes = source.options.model_fields.keys()
    try:
        return source.reader(None if path is None else Path(path).expanduser(), parsed)
    except OSError as error:
        raise ThinkrankError(f"{error.filename or path}: cannot be read: {error.strerror or error}") from error


def how_to_check(gives: Gives, name: str, path: str | Path | None, options: Mapping[str, Any]) -> str:
    """Say how all faults of a source are listed, as a user would write it where the user stands."""
    if STAND.get() == "python":
        given = "".join(f", {key}={value!r}" for key, value in options.items())
        where = "" if path is None else f", {str(path)!r}"
        kind = ", gives='lists'" if gives == "lists" else ""
        return f"thinkrank.data.check_source({name!r}{where}{kind}{given})"
    token = STAND.set("command line")
    given = "".join(f" {setting(key, value)}" for key, value in options.items())
    STAND.reset(token)
    where = "" if path is None else f" --path {shlex.quote(str(path))}"
    return f"`thinkrank data check {name}{' --lists' if gives == 'lists' else ''}{where}{given}`"


def _load(
    gives: Gives,
    name: str,
    path: str | Path | None,
    options: dict[str, Any],
    on_bad: OnBad,
    bad_rows: str | Path | None,
) -> Any:
    return collected(
        lambda: read(gives, name, path, options), on_bad, bad_rows, how_to_check(gives, name, path, options)
    )


def _definition(reader: Callable[..., Any]) -> tuple[str, str]:
    """Tell where a reader was written; the same if its module, or the notebook's cell, is run again."""
    return getattr(reader, "__module__", ""), getattr(reader, "__qualname__", repr(reader))
