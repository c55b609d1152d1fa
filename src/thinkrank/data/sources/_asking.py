"""How a source is asked: its options, and what becomes of rows at fault."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from thinkrank.data._nearest import did_you_mean
from thinkrank.data.dataset import Dataset
from thinkrank.data.impressions import ImpressionDataset
from thinkrank.data.reading.bad_rows import write_bad_rows
from thinkrank.data.reading.intake import Intake, OnBad, opened
from thinkrank.errors import ThinkrankError

OptionsT = TypeVar("OptionsT", bound=BaseModel)
DataT = TypeVar("DataT", Dataset, ImpressionDataset)

_NOT_THERE = {"event_weights": "a filter weighs events, as in -f 'event={purchase = 1, view = 0.1}'."}
"""What people look for and where it is."""


def collected(reading: Callable[[], DataT], on_bad: OnBad, bad_rows: str | Path | None, how_to_list: str) -> DataT:
    """Read data while rows at fault are collected; refuse them in the end, or say that they were dropped.

    Args:
        reading: reads it.
        on_bad: refuse or drop.
        bad_rows: file for dropped rows; None writes none.
        how_to_list: what lists all faults, for the message.

    Raises:
        ThinkrankError: if a file cannot be read at all or, if they are refused, rows are at fault.
    """
    if on_bad not in ("refuse", "drop"):
        raise ThinkrankError(f"on_bad must be refuse or drop, not {on_bad!r}")
    intake: Intake = Intake(on_bad)
    data: DataT
    try:
        with opened(intake):
            data = reading()
    except ThinkrankError as error:
        if intake.faults and on_bad == "refuse":
            raise intake.error(how_to_list) from error
        raise
    if intake.faults and on_bad == "refuse":
        raise intake.error(how_to_list)
    notices: tuple[str, ...] = (*intake.notices, *write_bad_rows(intake, bad_rows))
    if isinstance(data, Dataset):
        return data.with_notices((*notices, *data.notices), repeats=data.repeats)
    return replace(data, notices=(*notices, *data.notices))


def parsed_options(source: str, model: type[OptionsT], options: Mapping[str, Any]) -> OptionsT:
    """Turn the options of a source into its class.

    Raises:
        ThinkrankError: if one is unknown or does not fit.
    """
    known = sorted(model.model_fields)
    for name in options:
        if name in _NOT_THERE and name not in known:
            raise ThinkrankError(f"{source}: there is no option {name!r}: {_NOT_THERE[name]}")
        if name not in known:
            rest = f". It takes: {', '.join(known)}." if known else ". It takes none."
            raise ThinkrankError(f"{source}: unknown option {name!r}{did_you_mean(name, known)}{rest}")
    try:
        return model(**options)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        why = fault["msg"].removeprefix("Value error, ")
        named = f"option {where}={fault['input']!r}: " if where else ""
        raise ThinkrankError(f"{source}: {named}{why}") from error
