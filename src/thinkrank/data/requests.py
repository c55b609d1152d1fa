"""Who asks for an answer: everything a stage may know, and nothing of what the user did afterwards.

Shape legend: B requests, X features of a request as a whole.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from thinkrank.data.catalogue import Catalogue
from thinkrank.data.histories import Histories
from thinkrank.data.history import History
from thinkrank.errors import ThinkrankError

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

    Raises:
        ThinkrankError: if one of them is not of B requests.
    """

    histories: Sequence[History]
    users: tuple[str, ...] | None = None
    times_B: Int64[np.ndarray, "B"] | None = None
    context_BX: Float32[np.ndarray, "B X"] | None = None
    context_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("users", "times_B", "context_BX"):
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
        )

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
