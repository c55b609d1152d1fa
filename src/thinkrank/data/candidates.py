"""Fixed sets of candidates: for every sample the item that came next among some that did not, the same for all methods.

Shape legend: B samples, N candidates of a set, I items of the catalogue, D items drawn.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from jaxtyping import Bool, Float32, Int, Int32, Int64

from thinkrank._files import atomic_write
from thinkrank.data._fingerprint import fingerprint
from thinkrank.data._nearest import did_you_mean
from thinkrank.data.catalogue import Catalogue, read_own_parquet
from thinkrank.data.dataset import Dataset, read_record
from thinkrank.data.history import History
from thinkrank.data.requests import Requests, rows_of
from thinkrank.data.splits import Samples
from thinkrank.errors import ThinkrankError

NegativeKind = Literal["uniform", "popularity", "list"]
"""Where the candidates that were not taken come from; see `candidate_sets` and `thinkrank.cascade.training_data`."""


_DRAWN = ("uniform", "popularity")
"""Kinds of negatives that never stand in the history, unless data repeat."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Hold what there is to choose from for each request, and what is known of it before anybody chose.

    Arrays are padded on the right to the longest list: -1 for items, 0 for everything else.

    Attributes:
        items_BN: catalogue rows, each at most once in a list.
        catalogue: whose rows they are; None for those of the stage that is asked.
        numeric_BNF: what is known of each candidate: price, a score, ...; any unit, finite. None for nothing.
        numeric_names: what these columns are.
        categorical_BNC: codes from 1; 0 is unknown, and padding. None for nothing.
        categorical_names: what these columns are.
        categorical_values: what the codes of each column stand for, from code 1.
        name: of the lists, for messages.

    Raises:
        ThinkrankError: if columns and names do not fit each other.
    """

    items_BN: Int32[np.ndarray, "B N"]
    catalogue: Catalogue | None = None
    numeric_BNF: Float32[np.ndarray, "B N F"] | None = None
    numeric_names: tuple[str, ...] = ()
    categorical_BNC: Int32[np.ndarray, "B N C"] | None = None
    categorical_names: tuple[str, ...] = ()
    categorical_values: tuple[tuple[str, ...], ...] = ()
    name: str = "candidates"

    def __post_init__(self) -> None:
        for kind in ("numeric", "categorical"):
            values = self.numeric_BNF if kind == "numeric" else self.categorical_BNC
            names: tuple[str, ...] = getattr(self, f"{kind}_names")
            shape = (*self.items_BN.shape, len(names))
            if (values is not None or names) and (values is None or values.shape != shape):
                found = None if values is None else values.shape
                raise ThinkrankError(
                    f"{self.name}: {kind} features of shape {found}, but items and names make it {shape}"
                )

    @classmethod
    def of(cls, offered: Any, catalogue: Catalogue | None = None) -> "Candidates":
        """Accept candidates, or plain items of each request.

        Args:
            offered: `Candidates`; or for each request a sequence of item ids (text) or of catalogue rows (whole
                numbers; -1 pads). Lists may differ in length.
            catalogue: in which ids are looked up.

        Raises:
            ThinkrankError: for anything else, and for an unknown id.
        """
        if isinstance(offered, Candidates):
            return offered
        if isinstance(offered, np.ndarray) and offered.ndim == 2 and offered.dtype.kind in "iu":
            return cls(offered.astype(np.int32))
        if isinstance(offered, str) or not isinstance(offered, Sequence | np.ndarray):
            raise ThinkrankError(f"candidates cannot be made of {type(offered).__name__}: give a list for each request")
        rows = [rows_of(one, f"candidate list {index}", catalogue) for index, one in enumerate(offered)]
        return cls(_filled_up(rows, max(map(len, rows), default=0)))

    def __len__(self) -> int:
        return len(self.items_BN)

    def __getitem__(self, part: slice) -> "Candidates":
        return self._mapped(lambda values: values[part])

    def take(self, rows: Int64[np.ndarray, "_"]) -> "Candidates":
        """Pick lists by number, in that order."""
        return self._mapped(lambda values: values[rows])

    @classmethod
    def joined(cls, parts: Sequence["Candidates"]) -> "Candidates":
        """Join the lists of several requests, all of one length and with the same columns."""
        numeric = [part.numeric_BNF for part in parts if part.numeric_BNF is not None]
        categorical = [part.categorical_BNC for part in parts if part.categorical_BNC is not None]
        return replace(
            parts[0],
            items_BN=np.concatenate([part.items_BN for part in parts]),
            numeric_BNF=np.concatenate(numeric) if numeric else None,
            categorical_BNC=np.concatenate(categorical) if categorical else None,
        )

    def _mapped(self, change: Callable[[Any], Any]) -> "Candidates":
        return replace(
            self,
            items_BN=change(self.items_BN),
            numeric_BNF=None if self.numeric_BNF is None else change(self.numeric_BNF),
            categorical_BNC=None if self.categorical_BNC is None else change(self.categorical_BNC),
        )

    @property
    def mask_BN(self) -> Bool[np.ndarray, "B N"]:
        """Return True where there is a candidate."""
        return np.asarray(self.items_BN >= 0)

    @property
    def lengths_B(self) -> Int64[np.ndarray, "B"]:
        """Count the candidates of each list."""
        return np.asarray(self.mask_BN.sum(axis=1))


@dataclass(frozen=True, eq=False)
class CandidateSets:
    """Hold one set of candidates per sample, in an order that tells nothing.

    Attributes:
        samples: whose sets they are, one each, in the order of the rows.
        items_BN: catalogue rows; -1 fills up at the end of a row, where the catalogue had too few items to draw from.
        positive_B: column of the item that came next; -1 where a first stage missed it.
        negatives: where the others come from, one of `NegativeKind`, or the lists of a file.
        seed: they were drawn with.
        stage: that found them, as tables call it; empty if nobody did.
        scores_BN: of that stage, any unit, -inf where a row is filled up; None without one.

    Raises:
        ThinkrankError: if a row does not fit its sample: another target, an item that is not in the catalogue or twice
            in the set, or a fill within.
    """

    samples: Samples
    items_BN: Int32[np.ndarray, "B N"]
    positive_B: Int64[np.ndarray, "B"]
    negatives: str
    seed: int
    stage: str = ""
    scores_BN: Float32[np.ndarray, "B N"] | None = None

    def __post_init__(self) -> None:
        rows_B, ordered_BN = np.arange(len(self.samples)), np.sort(self.items_BN, axis=1)
        inside_B = (self.positive_B >= 0) & (self.positive_B < self.items_BN.shape[1])
        faults = {
            "the positive is not the sample's target": (~inside_B & (self.positive_B != -1))
            | (inside_B & (self.items_BN[rows_B, np.where(inside_B, self.positive_B, 0)] != self.samples.targets)),
            "the target is there, and said to be missed": ~inside_B
            & (self.items_BN == self.samples.targets[:, None]).any(axis=1),
            "an item is not in the catalogue": (ordered_BN[:, :1] < -1).any(axis=1)
            | (ordered_BN[:, -1] >= len(self.samples.dataset.catalogue)),
            "an item is repeated": ((ordered_BN[:, 1:] == ordered_BN[:, :-1]) & (ordered_BN[:, 1:] >= 0)).any(axis=1),
            "a fill stands before an item": (self.mask_BN[:, 1:] & ~self.mask_BN[:, :-1]).any(axis=1),
        }
        for fault, at_B in faults.items():
            if at_B.any():
                raise ThinkrankError(f"candidate set {int(at_B.argmax())}: {fault}. Draw the sets again.")

    def __len__(self) -> int:
        return len(self.items_BN)

    @property
    def mask_BN(self) -> Bool[np.ndarray, "B N"]:
        """Return False where a row is filled up."""
        return np.asarray(self.items_BN >= 0)

    @property
    def missed_B(self) -> Bool[np.ndarray, "B"]:
        """Return True where the target is not among the candidates."""
        return self.positive_B < 0

    @cached_property
    def unreachable_B(self) -> Bool[np.ndarray, "B"]:
        """Return True where nobody is to find the target: it is no candidate, or known by standing in the history.

        Of drawn candidates nothing else stands there, unless data repeat.
        """
        is_told = self.negatives in _DRAWN and not self.samples.dataset.repeats
        return self.missed_B | self.samples.seen_S if is_told else self.missed_B

    @property
    def positions(self) -> Int64[np.ndarray, "B"]:
        """Return the event that each sample has as its target, as in `Samples`."""
        return self.samples.positions

    @cached_property
    def requests(self) -> Requests:
        """Return who asks, without what came next."""
        return self.samples.requests()

    @property
    def histories(self) -> Sequence[History]:
        """Return what each user did before, as views."""
        return self.requests.histories

    @property
    def candidates(self) -> Candidates:
        """Return what there is to choose from, without what was chosen."""
        return Candidates(self.items_BN, self.samples.dataset.catalogue, name=self.samples.dataset.name)

    @property
    def told(self) -> str:
        """Return what the candidates are, for the protocol of a table."""
        if self.negatives in ("uniform", "popularity", "list"):
            return f"{self.items_BN.shape[1]}: the true item and negatives ({self.negatives}, seed {self.seed})"
        missed = f"they miss {int(self.missed_B.sum())} of {len(self)} targets"
        return f"{self.negatives}, up to {self.items_BN.shape[1]}; {missed}"

    def shuffled(self, seed: int) -> "CandidateSets":
        """Return the same sets, each in another random order; what is filled up stays behind.

        Args:
            seed: of the order; the same for the same sample, whatever others there are.
        """
        rows = [
            row[row >= 0][order_of(seed, position, int(np.count_nonzero(row >= 0)))]
            for row, position in zip(self.items_BN, self.positions.tolist(), strict=True)
        ]
        return assembled(self.samples, rows, self.items_BN.shape[1], self.negatives, self.seed)

    def manifest(self) -> dict[str, Any]:
        """Return what a reader needs to reproduce and judge these sets, ready for JSON."""
        return {
            "dataset": self.samples.dataset.name,
            "fingerprint": self.samples.dataset.fingerprint,
            "negatives": self.negatives,
            "seed": self.seed,
            "ties": self.samples.ties,
            "candidates": self.items_BN.shape[1],
            "sets": len(self),
            "short sets": int((~self.mask_BN.all(axis=1)).sum()),
            "table": fingerprint({"candidates": self._table}),
        }

    def save(self, folder: str | Path) -> None:
        """Write ``candidates.parquet`` and, last, ``candidates.json`` into a folder."""
        folder = Path(folder)
        with atomic_write(folder / "candidates.parquet") as file:
            self._table.write_parquet(file)
        with atomic_write(folder / "candidates.json") as file:
            file.write((json.dumps(self.manifest(), indent=2, ensure_ascii=False) + "\n").encode())

    @classmethod
    def load(cls, folder: str | Path, dataset: Dataset) -> "CandidateSets":
        """Read what `save` wrote.

        Args:
            folder: where.
            dataset: what the sets were drawn from; its name does not matter, what it says does.

        Raises:
            ThinkrankError: if a file is missing or damaged, or the sets were drawn from other data.
        """
        folder = Path(folder)
        keys = ("dataset", "fingerprint", "negatives", "seed", "candidates", "table")
        record = read_record(folder / "candidates.json", keys, "a folder of candidate sets")
        if record["fingerprint"] != dataset.fingerprint:
            raise ThinkrankError(
                f"{folder}: drawn from other data: {record['dataset']} {str(record['fingerprint'])[:12]}, "
                f"this is {dataset.name} {dataset.fingerprint[:12]}. Draw the sets again, or load the data they are of."
            )
        table = read_own_parquet(folder / "candidates.parquet")
        if fingerprint({"candidates": table}) != record["table"]:
            raise ThinkrankError(f"{folder}: damaged: candidates.parquet is not what was written. Draw the sets again.")
        return cls(
            samples=Samples(dataset, table["position"].to_numpy().copy(), record.get("ties", "before")),
            items_BN=table["items"].explode().to_numpy().reshape(table.height, record["candidates"]).copy(),
            positive_B=table["positive"].to_numpy().copy(),
            negatives=str(record["negatives"]),
            seed=int(record["seed"]),
        )

    @property
    def _table(self) -> pl.DataFrame:
        items = pl.Series("items", self.items_BN.tolist(), dtype=pl.List(pl.Int32))
        return pl.DataFrame({"position": self.positions, "items": items, "positive": self.positive_B})


def candidate_sets(
    samples: Samples,
    size: int = 20,
    *,
    negatives: NegativeKind | str = "uniform",
    seed: int = 0,
    counts_I: Int64[np.ndarray, "I"] | None = None,
    later: bool = False,
) -> CandidateSets:
    """Draw for every sample its target and `size - 1` items that the user did not choose.

    - "uniform": each item of the catalogue that the user touches nowhere in the data, before or after, is as likely as
      any other; where data repeat (`Dataset.repeats`), what he touched before alone is among them;
    - "popularity": likewise, but in proportion to an item's interactions in the train part, drawn one after the other;
      an item that nobody took there is never drawn. Harder, for taste and popularity no longer go together.

    What is drawn for a sample depends on data, seed and sample only, not on which others there are. Where the user left
    too few items to draw from, the set is shorter and filled up.

    Args:
        samples: what is to be predicted.
        size: N, at least 2.
        negatives: which of the two.
        seed: of negatives and order.
        counts_I: train interactions of each item (`Split.train_counts`), for popular negatives.
        later: for training: what the user does at the target's time or afterwards is not known yet, and may be drawn.

    Raises:
        ThinkrankError: if the kind is unknown, the size is below 2, or popular negatives are asked for without counts.

    Source: R2Rank has 1 positive and 19 negatives in random order; that they are drawn uniformly is reconstructed.
    """
    kinds = ["uniform", "popularity"]
    if negatives not in kinds:
        raise ThinkrankError(f"unknown negatives {negatives!r}{did_you_mean(negatives, kinds)}. Use one of: {kinds}.")
    if size < 2:
        raise ThinkrankError(f"a set holds the positive and at least one negative, so its size is not {size}")
    if negatives == "popularity" and counts_I is None:
        raise ThinkrankError("popular negatives are drawn by the train part's counts: give counts_I=split.train_counts")
    weights_I = counts_I if negatives == "popularity" else None
    others = _drawn(samples, size - 1, weights_I, seed, later=later)
    return sets_of(samples, others, size, negatives=negatives, seed=seed)


def sets_of(
    samples: Samples, others: Sequence[Int[np.ndarray, "_"]], size: int, *, negatives: str, seed: int
) -> CandidateSets:
    """Mix each sample's target with other items, in an order that tells nothing.

    Args:
        samples: whose sets they are.
        others: catalogue rows for each sample, none of them its target; at most `size - 1`.
        size: N; what is missing is filled up.
        negatives: where the others come from.
        seed: of the order.
    """
    rows = [
        _generator(seed, position, "order").permutation(np.append(items_D, target))
        for items_D, target, position in zip(others, samples.targets, samples.positions.tolist(), strict=True)
    ]
    return assembled(samples, rows, size, negatives, seed)


def order_of(seed: int, position: int, length: int) -> Int64[np.ndarray, "N"]:
    """Return an order of a set that tells nothing; the same for the same sample, whatever others there are."""
    return _generator(seed, position, "order").permutation(length)


def _drawn(
    samples: Samples, count: int, weights_I: Int64[np.ndarray, "I"] | None, seed: int, *, later: bool
) -> list[Int[np.ndarray, "D"]]:
    """Draw random items that the user touches nowhere, or not before the target; uniformly without weights.

    Where people take things again, what stands in the history may be drawn, as it may be the target.
    """
    dataset = samples.dataset
    num_items = len(dataset.catalogue)
    starts = samples.history_ends if dataset.repeats else dataset.offsets[samples.users]
    ends = samples.history_ends if later else dataset.offsets[samples.users + 1]
    drawn = []
    for start, end, position in zip(starts.tolist(), ends.tolist(), samples.positions.tolist(), strict=True):
        generator = _generator(seed, position, "negatives")
        touched = np.unique(np.append(dataset.items_E[start:end], dataset.items_E[position]))
        if weights_I is not None:
            drawn.append(_weighted(weights_I, touched, count, generator))
        else:
            free = num_items - len(touched)
            numbers = generator.choice(free, size=min(count, free), replace=False)
            # The n-th item that was not touched: n and as many as were touched before it.
            drawn.append(numbers + np.searchsorted(touched - np.arange(len(touched)), numbers, side="right"))
    return drawn


def _weighted(
    weights_I: Int64[np.ndarray, "I"], excluded: Int[np.ndarray, "_"], count: int, generator: np.random.Generator
) -> Int[np.ndarray, "D"]:
    """Draw without replacement in proportion to weights: who arrives first when waiting times have these rates."""
    waiting_I = np.full(len(weights_I), np.inf)
    possible_I = weights_I > 0
    possible_I[excluded] = False
    arrivals = generator.exponential(size=len(weights_I))
    np.divide(arrivals, weights_I, out=waiting_I, where=possible_I)
    return np.argsort(waiting_I, kind="stable")[: min(count, np.count_nonzero(possible_I))]


def assembled(
    samples: Samples, rows: Sequence[Int[np.ndarray, "_"]], size: int, negatives: str, seed: int
) -> CandidateSets:
    """Join rows of different lengths into one array, filled up, with the columns of the targets; -1 for none."""
    items_BN = _filled_up(rows, size)
    is_target_BN = items_BN == samples.targets[:, None]
    positive_B = np.where(is_target_BN.any(axis=1), is_target_BN.argmax(axis=1), -1)
    return CandidateSets(samples, items_BN, positive_B.astype(np.int64), negatives, seed)


def _generator(seed: int, position: int, purpose: Literal["negatives", "order"]) -> np.random.Generator:
    return np.random.default_rng([seed, position, ("negatives", "order").index(purpose)])


def _filled_up(rows: Sequence[Int[np.ndarray, "_"] | Sequence[int]], size: int) -> Int32[np.ndarray, "B N"]:
    """Join rows of different lengths into one array, -1 behind their ends."""
    items_BN = np.full((len(rows), size), -1, dtype=np.int32)
    for filled, row in zip(items_BN, rows, strict=True):
        filled[: len(row)] = row
    return items_BN
