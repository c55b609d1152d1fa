"""Who asks for an answer: everything a stage may know, and nothing of what the user did afterwards.

Shape legend: B requests, X features of a request as a whole, N events of a history, I items of a catalogue.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float32, Int32, Int64

from thinkrank.data.catalogue import Catalogue
from thinkrank.data.histories import Histories
from thinkrank.data.history import History
from thinkrank.errors import ThinkrankError

logger = logging.getLogger(__name__)

_ACCEPTED = "give histories, or for each request its items, oldest first: ids, or whole numbers for catalogue rows"


@dataclass(frozen=True, eq=False)
class Requests:
    """Ask for B answers.

    Attributes:
        histories: what each user did before, oldest first; may be empty.
        users: their ids; None if unknown.
        times_B: when each asks, in seconds since 1970, UTC; None if unknown.
        context_BX: what is known of each request as a whole (hour, device, ...); None for nothing.
        context_names: what these columns are.
        ids: what whoever asks calls each request; None for nothing.

    Raises:
        ThinkrankError: if one of them is not of B requests.
    """

    histories: Sequence[History]
    users: tuple[str, ...] | None = None
    times_B: Int64[np.ndarray, "B"] | None = None
    context_BX: Float32[np.ndarray, "B X"] | None = None
    context_names: tuple[str, ...] = ()
    ids: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("users", "times_B", "context_BX", "ids"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.histories):
                raise ThinkrankError(f"requests: {len(values)} {name} for {len(self.histories)} histories")
        columns = 0 if self.context_BX is None else self.context_BX.shape[1]
        if columns != len(self.context_names):
            raise ThinkrankError(f"requests: {columns} context columns for {len(self.context_names)} names")

    @classmethod
    def of(cls, requests: Any, catalogue: Catalogue | None = None) -> "Requests":
        """Accept requests, histories, or plain items of each request.

        Args:
            requests: `Requests`; a `History` or several; or for each request a sequence of item ids (text) or of
                catalogue rows (whole numbers), oldest first.
            catalogue: in which ids are looked up.

        Raises:
            ThinkrankError: for anything else, and for an unknown id.
        """
        if isinstance(requests, Requests):
            return requests
        if isinstance(requests, History):
            requests = [requests]
        if isinstance(requests, Histories):
            return cls(requests)
        if isinstance(requests, str) or not isinstance(requests, Sequence | np.ndarray):
            raise ThinkrankError(f"requests cannot be made of {type(requests).__name__}: {_ACCEPTED}")
        return cls([_history(one, index, catalogue) for index, one in enumerate(requests)])

    def __len__(self) -> int:
        return len(self.histories)

    def __getitem__(self, part: slice) -> "Requests":
        return Requests(
            self.histories[part],
            None if self.users is None else self.users[part],
            None if self.times_B is None else self.times_B[part],
            None if self.context_BX is None else self.context_BX[part],
            self.context_names,
            None if self.ids is None else self.ids[part],
        )

    def take(self, rows: Int64[np.ndarray, "_"]) -> "Requests":
        """Pick requests by number, in that order."""
        chosen = rows.tolist()
        return Requests(
            [self.histories[row] for row in chosen],
            None if self.users is None else tuple(self.users[row] for row in chosen),
            None if self.times_B is None else self.times_B[rows],
            None if self.context_BX is None else self.context_BX[rows],
            self.context_names,
            None if self.ids is None else tuple(self.ids[row] for row in chosen),
        )

    def within(self, catalogue: Catalogue, *, tells: bool = True) -> "Requests":
        """Return the same requests in rows of a catalogue: items are found by their ids, never by their rows.

        Histories that do not say whose rows they hold are taken as they are. What the catalogue lacks is left out.

        Args:
            catalogue: in whose rows.
            tells: say in the log how much that is, with an item of it.
        """
        whose = {id(one): one for one in _catalogues(self.histories)}
        rows_by_id = {key: _rows_within(theirs, catalogue) for key, theirs in whose.items() if theirs is not catalogue}
        rows_by_id = {key: rows_I for key, rows_I in rows_by_id.items() if rows_I is not None}
        if not rows_by_id:
            return self
        moved, lost, events = [], Counter[str](), 0
        for history in self.histories:
            rows_I = rows_by_id.get(id(history.catalogue))
            if rows_I is not None and history.catalogue is not None:
                events += len(history)
                lost.update(history.catalogue.ids[row] for row in history.items[rows_I[history.items] < 0].tolist())
                history = in_rows(history, rows_I, catalogue)
            moved.append(history)
        if lost and tells:
            logger.warning(
                "left %s of %s events out of the histories: the model's catalogue lacks their %s items (first: %r)",
                f"{lost.total():,}", f"{events:,}", f"{len(lost):,}", next(iter(lost)),
            )  # fmt: skip
        return replace(self, histories=moved)

    def batches(self, size: int) -> Iterator[tuple[slice, "Requests"]]:
        """Yield runs of at most `size` requests, each with its place among all."""
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            yield part, self[part]


def rows_of(items: Any, where: str, catalogue: Catalogue | None) -> list[int]:
    """Turn item ids, or whole numbers that are catalogue rows already, into catalogue rows.

    Args:
        items: of one request.
        where: what they are, for the message.
        catalogue: in which ids are looked up.

    Raises:
        ThinkrankError: if they are neither, or an id is unknown.
    """
    if isinstance(items, str) or not isinstance(items, Sequence | np.ndarray):
        raise ThinkrankError(f"{where} is {items!r:.60}: {_ACCEPTED}")
    rows = []
    for item in items:
        if isinstance(item, str) and catalogue is not None:
            rows.append(catalogue.row(item))
        elif isinstance(item, int | np.integer) and not isinstance(item, bool | np.bool_):
            rows.append(int(item))
        else:
            raise ThinkrankError(f"{where} holds {item!r:.60}: {_ACCEPTED}")
    return rows


def _history(one: Any, index: int, catalogue: Catalogue | None) -> History:
    return one if isinstance(one, History) else History.of(rows_of(one, f"request {index}", catalogue))


def _catalogues(histories: Sequence[History]) -> Iterable[Catalogue]:
    """Return whose rows histories hold, as far as they say so."""
    if isinstance(histories, Histories):
        return () if histories.catalogue is None else (histories.catalogue,)
    return (history.catalogue for history in histories if history.catalogue is not None)


@lru_cache(maxsize=8)
def _rows_within(theirs: Catalogue, ours: Catalogue) -> Int32[np.ndarray, "I"] | None:
    """Return our row of each of their items, -1 for those we lack; None if all rows are the same."""
    if theirs.frame["item"].equals(ours.frame["item"]):
        return None
    rows = theirs.frame["item"].cast(pl.Enum(ours.frame["item"]), strict=False).to_physical()
    return rows.cast(pl.Int32).fill_null(-1).to_numpy()


def in_rows(history: History, rows_I: Int32[np.ndarray, "I"], catalogue: Catalogue) -> History:
    """Put a history into other rows and leave out what has none."""
    rows_N, tied = rows_I[history.items], history.tied
    kept_N = rows_N >= 0
    if tied is not None:  # of the events directly before, those that stay
        before_N = np.concatenate([[0], np.cumsum(kept_N)])
        places_N = np.arange(len(history))
        tied = (before_N[places_N] - before_N[places_N - tied])[kept_N].astype(np.int32)
    return History(
        rows_N[kept_N],
        None if history.times is None else history.times[kept_N],
        None if history.ratings is None else history.ratings[kept_N],
        tied,
        catalogue,
        None if history.weights is None else history.weights[kept_N],
    )
