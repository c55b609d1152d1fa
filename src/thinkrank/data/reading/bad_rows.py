"""Rows that were left out, in a file beside what was made without them."""

import re
from pathlib import Path

import polars as pl

from thinkrank._files import atomic_write
from thinkrank.data.reading.intake import Fault, Intake

_SCHEMA = {"file": pl.String, "row": pl.Int64, "line": pl.Int64, "fault": pl.String, "values": pl.String}


def write_bad_rows(intake: Intake, path: str | Path | None) -> list[str]:
    """Write the rows that an intake left out, if a file is named, and say how many of each kind there are.

    Args:
        intake: after everything has been read.
        path: CSV, or Parquet where its name says so; None writes none.

    Returns:
        one notice per kind of fault.
    """
    if intake.on_bad != "drop" or not intake.faults:
        return []
    where = ""
    if path is not None:
        path = Path(path).expanduser()
        frame = pl.DataFrame(intake.dropped, schema=_SCHEMA).sort("file", "row", maintain_order=True)
        with atomic_write(path) as file:
            if path.suffix == ".parquet":
                frame.write_parquet(file)
            else:
                frame.write_csv(file)
        where = f"; see {path}"
    return [
        f"{fault.first.file}: dropped {fault.count:,} rows: {_reason(fault)} "
        f"(first: {str(fault.first).partition(', ')[2]}){where}"
        for fault in intake.faults.values()
    ]


def _reason(fault: Fault) -> str:
    """Return what is wrong, without what to do about it."""
    return re.split(r"\. (?=[A-Z])", fault.problem)[0].rstrip(".")
