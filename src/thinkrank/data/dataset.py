"""What users did, and with which items.

Shape legend: E events (interactions), U users, U1 = U + 1.
"""

import bisect
import copy
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float32, Int32, Int64

from thinkrank._files import atomic_write
from thinkrank.data._fingerprint import fingerprint
from thinkrank.data._nearest import did_you_mean
from thinkrank.data.catalogue import Catalogue, own_parquet
from thinkrank.data.describe import describe
from thinkrank.data.history import History
from thinkrank.data.reading import parts
from thinkrank.data.reading.parts import WHOLE, Held, Rows
from thinkrank.data.reading.table import reason
from thinkrank.data.texts import Texts
from thinkrank.data.ties import Ties, recognised_ties, tied_before
from thinkrank.errors import ThinkrankError
from thinkrank.pretrained import CATALOGUE_FILE

_ORDER_ONLY = "order"
_COLUMNS: dict[str, pl.DataType] = {
    "user": pl.String(),
    "item": pl.String(),
    "timestamp": pl.Int64(),
    "rating": pl.Float64(),
    "event": pl.String(),
}


@dataclass(frozen=True, eq=False)
class Dataset:
    """Hold interactions in one canonical order, and the catalogue they refer to.

    The constructor accepts interactions in any order and sorts them by user id, then time; what a user did within one
    second keeps the order it came in. Interactions with an item the catalogue lacks are dropped with a notice. Items
    nobody interacted with stay: they can be recommended, cold.

    Attributes:
        name: what to call it in tables; not part of the fingerprint.
        interactions: ``user`` and ``item`` (text), ``timestamp`` (seconds since 1970, UTC), then, if known,
            ``rating`` and ``event``. Without a ``timestamp`` the rows are the order of what happened, oldest first. May
            be given as rows.
        catalogue: the items.
        notices: what was dropped or repaired on the way in, one line each with its count.
        source: where it came from (source, options, files), for the manifest.
        filters: what was filtered out since, in order, for the manifest.
        items_E: the catalogue row of each event.
        rows: the interactions; many of them lie on the disk, and `interactions` reads all when somebody asks for it.
            The arrays, which training and evaluation use, are in memory.
        repeats: people take things again, so items of a history compete in training, evaluation and answers; not part
            of the fingerprint.

    Raises:
        ThinkrankError: if another column is missing, one has another type, a user, item or time is null, or nothing is
            left.
    """

    name: str
    interactions: Held = WHOLE
    catalogue: Catalogue  # type: ignore[misc] # interactions have no default, though they look it
    notices: tuple[str, ...] = ()
    source: Mapping[str, Any] = field(default_factory=dict)
    filters: tuple[Mapping[str, Any], ...] = ()
    repeats: bool = False
    rows: Rows = field(init=False, repr=False)
    items_E: Int32[np.ndarray, "E"] = field(init=False)

    def __post_init__(self) -> None:
        rows = self.rows
        if not set(rows.columns) - {"user", "item", "rating", "event"}:  # no time, nor a misspelt one
            rows = rows.numbered("timestamp")
            object.__setattr__(self, "source", {**self.source, "times": _ORDER_ONLY})
        rows = _typed(rows)
        place = pl.col("item").cast(pl.Enum(self.catalogue.frame["item"]), strict=False).to_physical()
        found = rows.each(lambda piece: piece.select(place.cast(pl.Int32))).to_series()
        unknown = found.null_count()
        if unknown:
            strange = rows.each(lambda piece: piece.select(pl.col("item").filter(place.is_null()).first()))
            first = strange.to_series().drop_nulls()[0]
            notice = f"interactions: dropped {unknown:,} whose item is not in the catalogue (first: {first!r})"
            object.__setattr__(self, "notices", (*self.notices, notice))
            rows, found = rows.map(lambda piece: piece.filter(place.is_not_null())), found.drop_nulls()
        if not len(found):
            why = f" ({'; '.join(self.notices)})" if self.notices else ""
            raise ThinkrankError(f"{self.name}: no interactions are left{why}")
        if not _is_sorted(rows):
            ordered = (part.sort("user", "timestamp", maintain_order=True) for part in parts.in_parts(rows, "user"))
            rows = Rows.gathered(ordered, to_disk=rows.is_on_disk)
            found = rows.each(lambda piece: piece.select(place.cast(pl.Int32))).to_series()
        object.__setattr__(self, "rows", rows)
        object.__setattr__(self, "items_E", _frozen(found.to_numpy().copy()))

    @cached_property
    def users(self) -> Texts:
        """Return the user ids, sorted; a user's number is the position here."""
        return Texts(self._users["value"])

    @cached_property
    def offsets(self) -> Int64[np.ndarray, "U1"]:
        """Return where the events of each user are: those of user u are ``offsets[u]:offsets[u + 1]``, oldest first."""
        return _frozen(np.concatenate([[0], np.cumsum(self._users["len"].to_numpy())]).astype(np.int64))

    @cached_property
    def times_E(self) -> Int64[np.ndarray, "E"]:
        """Return the time of each event, in seconds since 1970, UTC."""
        return _frozen(self.rows.array(pl.col("timestamp"), np.int64))

    @property
    def has_times(self) -> bool:
        """Tell whether `times_E` are times; if not, they are places in an order that holds within each user alone."""
        return self.source.get("times") != _ORDER_ONLY

    @cached_property
    def ties(self) -> Ties:
        """Return the rule for equal times that its times suggest: ``strict`` if they are days, else ``before``."""
        return recognised_ties(self.times_E)

    @cached_property
    def tied_E(self) -> Int32[np.ndarray, "E"]:
        """Count for each event those directly before it that its user did at the same time."""
        return _frozen(tied_before(self.times_E, self.offsets))

    @cached_property
    def ratings_E(self) -> Float32[np.ndarray, "E"] | None:
        """Return the rating of each event, NaN where it is missing; None if the data has no ratings."""
        if "rating" not in self.rows.columns:
            return None
        return _frozen(self.rows.array(pl.col("rating").cast(pl.Float32).fill_null(float("nan")), np.float32))

    @cached_property
    def weights_E(self) -> Float32[np.ndarray, "E"] | None:
        """Return what each event counts in counting models, as the filter `event` weighs its type; None for 1."""
        told = [weights for applied in self.filters if (weights := applied.get("weights"))]
        if not told:
            return None
        weight = pl.col("event").replace_strict(told[-1], return_dtype=pl.Float32)
        return _frozen(self.rows.array(weight, np.float32))

    @cached_property
    def fingerprint(self) -> str:
        """Hash what interactions and catalogue say (SHA-256), not files, names, notices or library versions."""
        return fingerprint({"interactions": self.rows, "catalogue": self.catalogue.frame})

    def history(self, user_id: str, before: int | None = None) -> History:
        """Return what a user did, as a view of the data set's arrays.

        Args:
            user_id: as in `users`.
            before: only events earlier than this time (seconds since 1970, UTC); may leave none.

        Raises:
            ThinkrankError: if there is no such user; names the nearest ids.
        """
        user_id = str(user_id)  # a number stands for its text
        user = bisect.bisect_left(self.users, user_id)
        if user == len(self.users) or self.users[user] != user_id:
            raise ThinkrankError(f"no user has the id {user_id!r}{did_you_mean(user_id, self.users)}")
        start, end = (int(bound) for bound in self.offsets[user : user + 2])
        if before is not None:
            end = start + int(np.searchsorted(self.times_E[start:end], before, side="left"))
        return self.events(start, end)

    def events(self, start: int, end: int, ties: Ties | None = None) -> History:
        """Return the events start to end (which should be of one user) as a view.

        Args:
            start: the first.
            end: behind the last.
            ties: what its events may know of each other; None for the data set's own rule.
        """
        part, ratings_E, weights_E = slice(start, end), self.ratings_E, self.weights_E
        return History(
            self.items_E[part],
            self.times_E[part] if self.has_times else None,
            None if ratings_E is None else ratings_E[part],
            self.tied_E[part] if (ties or self.ties) == "strict" else None,
            self.catalogue,
            None if weights_E is None else weights_E[part],
        )

    def with_notices(self, notices: Iterable[str], *, repeats: bool) -> "Dataset":
        """Return the same data with other notices; nothing is checked or computed again."""
        other = copy.copy(self)
        object.__setattr__(other, "notices", tuple(notices))
        object.__setattr__(other, "repeats", repeats)
        return other

    def describe(self) -> dict[str, Any]:
        """Return counts, date range, history lengths and text coverage, ready for JSON."""
        return describe(self)

    def save(self, folder: str | Path) -> None:
        """Write ``interactions.parquet``, ``catalogue.parquet`` and, last, ``dataset.json`` into a folder."""
        folder, fingerprint = Path(folder), self.fingerprint  # before the file is replaced that it may be read from
        with atomic_write(folder / "interactions.parquet") as file:
            self.rows.write(file)
        self.catalogue.save(folder / CATALOGUE_FILE)
        record = {
            "name": self.name,
            "fingerprint": fingerprint,
            "source": dict(self.source),
            "filters": [dict(applied) for applied in self.filters],
            "notices": list(self.notices),
        } | ({"repeats": True} if self.repeats else {})
        with atomic_write(folder / "dataset.json") as file:
            file.write((json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode())

    @classmethod
    def load(cls, folder: str | Path) -> "Dataset":
        """Read what `save` wrote and verify that it still says the same.

        Many interactions stay in the file, of which the columns are read one after the other for the numbers in them.

        Raises:
            ThinkrankError: if a file is missing or unreadable, or the contents no longer have the recorded fingerprint.
        """
        folder = Path(folder)
        keys = ("name", "fingerprint", "source", "filters", "notices")
        record = read_record(folder / "dataset.json", keys, "a saved data set")
        with own_parquet(folder / "interactions.parquet") as rows:
            dataset = cls(
                name=record["name"],
                interactions=rows,
                catalogue=Catalogue.load(folder / CATALOGUE_FILE),
                notices=tuple(record["notices"]),
                source=record["source"],
                filters=tuple(record["filters"]),
                repeats=record.get("repeats") is True,
            )
            found = dataset.fingerprint  # now, while a file that cannot be read to its end is named
        if found != record["fingerprint"]:
            raise ThinkrankError(
                f"{folder}: damaged: the tables have the fingerprint {found[:12]}, "
                f"dataset.json says {str(record['fingerprint'])[:12]}. Prepare the data set again."
            )
        return dataset

    @cached_property
    def _users(self) -> pl.DataFrame:
        pieces = (piece["user"].rle().struct.unnest() for piece in self.rows.select("user"))
        runs = pl.concat([parts.compact(piece) for piece in pieces])  # a user may go on in the next piece
        first = runs["value"].ne_missing(runs["value"].shift())
        lengths = np.add.reduceat(runs["len"].to_numpy(), np.flatnonzero(first))
        return pl.DataFrame({"value": runs["value"].filter(first), "len": lengths})


def _typed(rows: Rows) -> Rows:
    needed = ("user", "item", "timestamp")
    for column in needed:
        if column not in rows.columns:
            raise ThinkrankError(f"interactions: no column {column!r}{did_you_mean(column, rows.columns)}")
    present = [column for column in _COLUMNS if column in rows.columns]
    known = [pl.col(column).cast(_COLUMNS[column]) for column in present]
    whole = [pl.col("rating").fill_nan(None)] if "rating" in present else []
    try:
        typed = rows.map(lambda piece: piece.select(known).with_columns(whole))
        nulls = typed.each(lambda piece: piece.select(pl.col(needed).null_count(), pl.len()))
    except pl.exceptions.PolarsError as error:
        if rows.is_on_disk:  # it is the file that is damaged, which its reader names
            raise
        raise ThinkrankError(f"interactions: {reason(error)}") from error
    for column in needed:
        if nulls[column].sum():
            row = typed.array(pl.col(column).is_null(), np.bool_).argmax()
            raise ThinkrankError(f"interactions, row {row}: {column} is missing")
    return typed


def _is_sorted(rows: Rows) -> bool:
    """Tell whether sorting would change nothing: sorting ten million rows again costs more than looking."""
    user, time = pl.col("user"), pl.col("timestamp")
    descends = (user < user.shift()) | ((user == user.shift()) & (time < time.shift()))
    last: list[pl.DataFrame] = []
    for piece in rows.select("user", "timestamp").even(parts.ROWS_AT_ONCE):
        if pl.concat([*last, piece]).select(descends.any()).item():
            return False
        last = [piece[-1:]]
    return True


def read_record(path: Path, keys: Collection[str], what: str) -> dict[str, Any]:
    """Read the JSON object that stands beside a table of ours.

    Args:
        path: the file.
        keys: it must have.
        what: its folder is, for the message.

    Raises:
        ThinkrankError: if the file is missing, not JSON, or lacks a key.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ThinkrankError(f"{path}: no such file; {path.parent} is not {what}") from error
    except (ValueError, OSError) as error:
        raise ThinkrankError(f"{path}: damaged ({error}). Write it again.") from error
    missing = set(keys) - set(record if isinstance(record, dict) else ())
    if missing:
        raise ThinkrankError(f"{path}: damaged: no {sorted(missing)[0]!r} in it. Write it again.")
    return dict(record)


def _frozen(array: np.ndarray) -> np.ndarray:
    """Forbid writing into an array: histories are views, and writing into one would change every other."""
    array.setflags(write=False)
    return array
