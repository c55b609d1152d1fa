"""Lists of candidates that any first stage wrote to a file, in its own order.

Shape legend: L lists, N candidates of the longest list, B samples.
"""

import logging
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float32, Int32, Int64

from thinkrank.data._nearest import did_you_mean
from thinkrank.data.asked import read_rows
from thinkrank.data.candidates import Candidates, CandidateSets, assembled, order_of
from thinkrank.data.catalogue import Catalogue
from thinkrank.data.dataset import Dataset
from thinkrank.data.reading import ROW
from thinkrank.data.requests import Requests
from thinkrank.data.splits import Samples
from thinkrank.errors import ThinkrankError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class CandidateLists:
    """Hold what a first stage found for whom, and when.

    A list with a time serves what its user does from then on, until the user's next list; a list with an event serves
    that event alone, counted from 0 among the user's events; a list with neither serves its user always.

    Attributes:
        name: of the file.
        users: one for each list.
        items: ids of each list, in the order of the file.
        scores: of each list's items, higher is better, any unit; None if the file has none: its order is the stage's.
        times_L: in seconds since 1970, UTC; None if the file has none.
        events_L: None if the file has none.
    """

    name: str
    users: tuple[str, ...]
    items: tuple[tuple[str, ...], ...]
    scores: tuple[tuple[float, ...], ...] | None = None
    times_L: Int64[np.ndarray, "L"] | None = None
    events_L: Int64[np.ndarray, "L"] | None = None

    def __len__(self) -> int:
        return len(self.users)

    def __getitem__(self, part: slice) -> "CandidateLists":
        return CandidateLists(
            self.name,
            self.users[part],
            self.items[part],
            None if self.scores is None else self.scores[part],
            None if self.times_L is None else self.times_L[part],
            None if self.events_L is None else self.events_L[part],
        )

    def requests(self, dataset: Dataset) -> Requests:
        """Return who asks: with what the user did before the list's time or event, or with everything.

        Raises:
            ThinkrankError: if a user is unknown, or has no event of that number.
        """
        histories = []
        for number, user in enumerate(self.users):
            past = dataset.history(user, None if self.times_L is None else int(self.times_L[number]))
            if self.events_L is not None:
                event = int(self.events_L[number])
                if event > len(past):
                    raise ThinkrankError(
                        f"{self.name}: user {user!r} has {len(past)} events, so none is number {event}"
                    )
                past = past[:event]
            histories.append(past)
        return Requests(histories, self.users, self.times_L)

    def candidates(self, catalogue: Catalogue) -> Candidates:
        """Return the lists in rows of a catalogue.

        Raises:
            ThinkrankError: if it lacks an item; names the first.
        """
        known = catalogue.ids
        unknown = next((item for row in self.items for item in row if item not in known), None)
        if unknown is not None:
            near = did_you_mean(unknown, catalogue.ids)
            raise ThinkrankError(f"{self.name}: item {unknown!r} is not in the model's catalogue{near}")
        return Candidates.of([list(row) for row in self.items], catalogue)

    def sets(self, samples: Samples, *, most: int | None = None, seed: int = 0) -> CandidateSets:
        """Make a set of each sample that a list serves; a target that is not in its list is missed.

        Samples without a list, and items that the catalogue lacks, are left out with a notice.

        Args:
            samples: what is to be predicted.
            most: draw so many of those that have a list; None for all.
            seed: of the drawn samples, and of the order in which candidates are shown.

        Returns:
            The sets, with the first stage's scores of their candidates: its own, or minus the place in its list.

        Raises:
            ThinkrankError: if no sample has a list.
        """
        kept_S = np.flatnonzero(self.serving(samples) >= 0)
        if not len(kept_S):
            theirs = [samples.dataset.users[user] for user in dict.fromkeys(samples.users.tolist())][:3]
            raise ThinkrankError(
                f"{self.name}: no list is of one of the {len(samples):,} samples: its first users are "
                f"{', '.join(dict.fromkeys(self.users[:3]))}, and the samples' {', '.join(theirs)}; a list with a time "
                "serves what its user does from then on"
            )
        if len(kept_S) < len(samples):
            logger.warning(
                "%s: %s of %s samples have no list and are left out",
                self.name, f"{len(samples) - len(kept_S):,}", f"{len(samples):,}",
            )  # fmt: skip
        kept = samples.take(kept_S)
        kept = kept if most is None else kept.subset(most, seed)
        catalogue = samples.dataset.catalogue
        rows, scores = zip(*(self._found(number, catalogue) for number in self.serving(kept).tolist()), strict=True)
        orders = [
            order_of(seed, position, len(row)) for row, position in zip(rows, kept.positions.tolist(), strict=True)
        ]
        shown = [row[order] for row, order in zip(rows, orders, strict=True)]
        width = max(2, *(len(row) for row in rows))
        sets = assembled(kept, shown, width, self.kind, seed)
        scores_BN = np.full(sets.items_BN.shape, -np.inf, dtype=np.float32)
        for scores_N, score, order in zip(scores_BN, scores, orders, strict=True):
            scores_N[: len(order)] = score[order]
        return replace(sets, stage=self.title, scores_BN=scores_BN)

    def offered(self, samples: Samples) -> list[Int32[np.ndarray, "N"]]:
        """Return the catalogue rows of the list that serves each sample; none where there is no list."""
        none_N = np.zeros(0, dtype=np.int32)
        catalogue, served_S = samples.dataset.catalogue, self.serving(samples)
        return [none_N if number < 0 else self._found(number, catalogue)[0] for number in served_S.tolist()]

    @property
    def kind(self) -> str:
        """Return what tables call sets that are made of these lists."""
        return f"lists of {self.name}"

    @property
    def title(self) -> str:
        """Return what tables call the stage that wrote them."""
        return f"first stage ({self.name})"

    def serving(self, samples: Samples) -> Int64[np.ndarray, "S"]:
        """Find the list that serves each sample; -1 where there is none."""
        users = samples.dataset.users
        served_S = np.full(len(samples), -1, dtype=np.int64)
        events_S = samples.positions - samples.dataset.offsets[samples.users]
        for place, (user, time, event) in enumerate(
            zip(samples.users.tolist(), samples.times.tolist(), events_S.tolist(), strict=True)
        ):
            for number in self._by_user.get(users[user], ()):
                if self.events_L is not None:
                    fits = int(self.events_L[number]) == event
                else:
                    fits = self.times_L is None or int(self.times_L[number]) <= time
                served_S[place] = number if fits else served_S[place]
        return served_S

    @cached_property
    def _by_user(self) -> dict[str, list[int]]:
        """List the numbers of each user's lists, the newest last."""
        order = range(len(self)) if self.times_L is None else np.argsort(self.times_L, kind="stable").tolist()
        found: dict[str, list[int]] = {}
        for number in order:
            found.setdefault(self.users[number], []).append(number)
        return found

    def _found(self, number: int, catalogue: Catalogue) -> tuple[Int32[np.ndarray, "N"], Float32[np.ndarray, "N"]]:
        """Return rows and scores of one list, without what the catalogue lacks."""
        rows_N = self._rows(catalogue)[number]
        scores = -np.arange(len(rows_N), dtype=np.float32) if self.scores is None else self.scores[number]
        return rows_N[rows_N >= 0], np.asarray(scores, dtype=np.float32)[rows_N >= 0]

    def _rows(self, catalogue: Catalogue) -> list[Int32[np.ndarray, "N"]]:
        kept: dict[int, list[Int32[np.ndarray, N]]] = self.__dict__.setdefault("_kept_rows", {})
        if id(catalogue) not in kept:
            row_of = {item: row for row, item in enumerate(catalogue.ids)}
            kept[id(catalogue)] = [np.array([row_of.get(i, -1) for i in row], dtype=np.int32) for row in self.items]
            lost = sum(int((rows < 0).sum()) for rows in kept[id(catalogue)])
            if lost:
                logger.warning("%s: %s candidates are not in the catalogue and are left out", self.name, f"{lost:,}")
        return kept[id(catalogue)]


def read_candidate_lists(path: str | Path) -> CandidateLists:
    """Read what a first stage found.

    Args:
        path: a table with the columns user and item and, if there are any, score (a number, higher is better) and
            either time (or timestamp) or event; CSV, TSV, Parquet or JSON lines. A user's rows of one time or event are
            a list.

    Raises:
        ThinkrankError: if it cannot be read, lacks a column, has an empty cell or a score or event that is no number,
            or names an item twice in a list.
    """
    table = read_rows(path, ("user", "item"), ("score", "event", "timestamp"))
    frame, name = table.frame, Path(path).name
    by = [column for column in ("user", "time", "event") if column in frame.columns]
    if len(by) > 2:
        raise ThinkrankError(f"{path}: has both time and event; a list is told by one of them: remove the other column")
    for column, kind in (("score", pl.Float64), ("event", pl.Int64)):
        if column in frame.columns:
            numbers = frame.with_columns(pl.col(column).cast(kind, strict=False).alias("_number"))
            fits = pl.col("_number").is_finite() if column == "score" else pl.col("_number") >= 0
            wrong = numbers.filter(~fits.fill_null(value=False))
            if len(wrong):
                what = "a finite number" if column == "score" else "a whole number from 0"
                raise ThinkrankError(f"{path}: row {wrong[ROW][0]}: {column} {wrong[column][0]!r} is not {what}")
            frame = numbers.drop(column).rename({"_number": column})
    twice = frame.filter(pl.struct(*by, "item").is_duplicated())
    if len(twice):
        raise ThinkrankError(f"{path}: user {twice['user'][0]!r} has item {twice['item'][0]!r} twice")
    lists = frame.group_by(by, maintain_order=True).agg(
        pl.col("item", *(["score"] if "score" in frame.columns else []))
    )

    def whole(column: str) -> Int64[np.ndarray, "L"] | None:
        return lists[column].cast(pl.Int64).to_numpy().copy() if column in lists.columns else None

    return CandidateLists(
        name,
        tuple(lists["user"].to_list()),
        tuple(map(tuple, lists["item"].to_list())),
        tuple(map(tuple, lists["score"].to_list())) if "score" in lists.columns else None,
        whole("time"),
        whole("event"),
    )
