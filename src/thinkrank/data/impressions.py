"""Lists that were shown to users, and what the users did with them.

Shape legend: L lists, N candidates of the longest list, S signals, F numeric features (of candidates, or of lists in
`context_LF`, of which there are X), C categorical features.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Float32, Int32, Int64, Integer

from thinkrank.data._fingerprint import fingerprint
from thinkrank.data._nearest import did_you_mean
from thinkrank.data.candidates import Candidates
from thinkrank.data.catalogue import Catalogue
from thinkrank.data.histories import Histories
from thinkrank.data.requests import Requests
from thinkrank.data.ties import cut_between
from thinkrank.data.timestamps import date_range
from thinkrank.errors import ThinkrankError


@dataclass(frozen=True, eq=False)
class ImpressionDataset:
    """Hold displayed lists, the feedback on each slot, and all that was known when they were shown.

    Arrays are padded on the right to the longest list: -1 for items, 0 for everything else. A list with one candidate
    is allowed: there is one way to order it. So is a list without any feedback: metrics score it 0, and losses that
    need a positive leave it out. A list without candidates is refused. A data set without lists is allowed, as the
    part of a split may be; a source never gives one.

    Nothing that describes a list may depend on what happened after it was shown: neither features nor history. The
    sources keep to this, and a history whose times contradict it is refused.

    Attributes:
        name: what to call it in tables; not part of the fingerprint.
        catalogue: the items.
        items_LN: catalogue rows in displayed order, each at most once in a list.
        feedback_LNS: what the user did with each slot, one column per signal; 0 or above, 0 for nothing.
        signals: what the columns are: ``click``, ``long_view``, ``grade``, ... The first is what systems learn and
            are judged by, unless they are told another. Lists that are only to be answered have none.
        times_L: when the list was shown, in seconds since 1970, UTC.
        users: user ids.
        users_L: who saw the list, as a place in `users`.
        histories: what the user did before, oldest first; one per list (`Histories.of` takes any sequence of them).
        numeric_LNF: what was known of a candidate when it was shown: price, clicks so far, ...; any unit, finite.
        numeric_names: what these columns are.
        categorical_LNC: codes from 1; 0 is unknown, and padding.
        categorical_names: what these columns are.
        categorical_values: what the codes of each column stand for, from code 1.
        context_LF: what was known of the list as a whole: hour, device, ...; any unit, finite. Often no columns.
        context_names: what these columns are.
        propensities_LN: with what probability the system that displayed a list puts an item where it stood, for such a
            request; in (0, 1]. None if nobody logged it.
        ids: what each list is called where it came from; None for nothing. Not part of the fingerprint.
        order_L: where each list stood among the others there, any rising numbers; None if unknown. Nor this.
        notices: what was dropped or repaired on the way in, one line each with its count.
        source: where it came from (source, options, files), for the manifest.

    Raises:
        ThinkrankError: if shapes or names do not fit each other, or a list breaks one of these rules; names the first.
    """

    name: str
    catalogue: Catalogue
    items_LN: Int32[np.ndarray, "L N"]
    feedback_LNS: Float32[np.ndarray, "L N S"]
    signals: tuple[str, ...]
    times_L: Int64[np.ndarray, "L"]
    users: tuple[str, ...]
    users_L: Int32[np.ndarray, "L"]
    histories: Histories
    numeric_LNF: Float32[np.ndarray, "L N F"]
    numeric_names: tuple[str, ...]
    categorical_LNC: Int32[np.ndarray, "L N C"]
    categorical_names: tuple[str, ...]
    categorical_values: tuple[tuple[str, ...], ...]
    context_LF: Float32[np.ndarray, "L X"]
    context_names: tuple[str, ...]
    propensities_LN: Float32[np.ndarray, "L N"] | None = None
    ids: tuple[str, ...] | None = None
    order_L: Int64[np.ndarray, "L"] | None = None
    notices: tuple[str, ...] = ()
    source: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_shapes(self)
        _check_items(self)
        _check_values(self)
        _check_histories(self)

    def __len__(self) -> int:
        return len(self.items_LN)

    @cached_property
    def mask_LN(self) -> Bool[np.ndarray, "L N"]:
        """Return True where a slot holds a candidate."""
        return np.asarray(self.items_LN >= 0)

    @cached_property
    def lengths_L(self) -> Int64[np.ndarray, "L"]:
        """Count the candidates of each list."""
        return np.asarray(self.mask_LN.sum(axis=1))

    @cached_property
    def requests(self) -> Requests:
        """Return who was shown the lists, and when."""
        users, past = tuple(self.users[user] for user in self.users_L), self.histories
        histories = Histories(past.items_E, past.times_E, past.starts_L, past.ends_L, self.catalogue)
        return Requests(histories, users, self.times_L, self.context_LF, self.context_names, self.ids)

    @property
    def candidates(self) -> Candidates:
        """Return what was displayed, without the feedback on it."""
        return Candidates(
            items_BN=self.items_LN,
            catalogue=self.catalogue,
            numeric_BNF=self.numeric_LNF,
            numeric_names=self.numeric_names,
            categorical_BNC=self.categorical_LNC,
            categorical_names=self.categorical_names,
            categorical_values=self.categorical_values,
            name=self.name,
        )

    @property
    def categorical_sizes(self) -> tuple[int, ...]:
        """Count the codes of each column, 0 included: the number of rows an embedding of it needs."""
        return tuple(1 + len(values) for values in self.categorical_values)

    def feedback(self, signal: str | None = None) -> Float32[np.ndarray, "L N"]:
        """Return one signal of every slot.

        Args:
            signal: its name; None for the first.

        Raises:
            ThinkrankError: if there is no such signal.
        """
        if not self.signals:
            raise ThinkrankError(
                f"{self.name}: nothing says what users did with these lists: they can be answered, not learnt from or "
                "judged by"
            )
        if signal is None:
            return self.feedback_LNS[:, :, 0]
        if signal not in self.signals:
            near = did_you_mean(signal, self.signals)
            raise ThinkrankError(f"{self.name}: no signal {signal!r}{near}; there are {', '.join(self.signals)}")
        return self.feedback_LNS[:, :, self.signals.index(signal)]

    def subset(self, indices: Integer[np.ndarray, "M"]) -> "ImpressionDataset":
        """Take some of the lists, in this order; catalogue, users and codes stay, so subsets speak of the same things.

        Padding that no list needs any longer goes.
        """
        indices = np.asarray(indices, dtype=np.int64)
        width = int(self.lengths_L[indices].max(initial=1))
        return replace(
            self,
            items_LN=self.items_LN[indices, :width],
            feedback_LNS=self.feedback_LNS[indices, :width],
            times_L=self.times_L[indices],
            users_L=self.users_L[indices],
            histories=self.histories.take(indices),
            numeric_LNF=self.numeric_LNF[indices, :width],
            categorical_LNC=self.categorical_LNC[indices, :width],
            context_LF=self.context_LF[indices],
            propensities_LN=None if self.propensities_LN is None else self.propensities_LN[indices, :width],
            ids=None if self.ids is None else tuple(self.ids[index] for index in indices.tolist()),
            order_L=None if self.order_L is None else self.order_L[indices],
        )

    def in_source_order(self) -> "ImpressionDataset":
        """Return the lists in the order in which they came, as far as it is known."""
        return self if self.order_L is None else self.subset(np.argsort(self.order_L, kind="stable"))

    def split(self, valid_share: float = 0.1, test_share: float = 0.1) -> "ImpressionSplit":
        """Cut in time order: first train, then valid, then test; lists of one second stay together, in their order.

        Args:
            valid_share: of the lists, rounded down, and then to the nearest place where the time changes.
            test_share: likewise; the rest trains.

        Raises:
            ThinkrankError: if a share is negative, or nothing is left to train on.
        """
        if valid_share < 0 or test_share < 0 or valid_share + test_share >= 1:
            raise ThinkrankError(
                f"valid_share {valid_share} and test_share {test_share} must be 0 or above and leave some to train"
            )
        order = np.argsort(self.times_L, kind="stable")
        # The small addition keeps 0.29 * 100 from counting as 28.
        valid, test = (math.floor(share * len(self) + 1e-9) for share in (valid_share, test_share))
        times_L = self.times_L[order]
        train_end, valid_end = (cut_between(times_L, len(self) - held) for held in (valid + test, test))
        return ImpressionSplit(
            self.subset(order[:train_end]), self.subset(order[train_end:valid_end]), self.subset(order[valid_end:])
        )

    @cached_property
    def fingerprint(self) -> str:
        """Hash what lists and catalogue say (SHA-256), not padding, files, names, notices or library versions."""
        flat = self.histories.packed()
        lists = {
            "user": pl.Series([self.users[user] for user in self.users_L], dtype=pl.String),
            "time": pl.Series(self.times_L),
            "length": pl.Series(self.lengths_L),
            "history_length": pl.Series(flat.lengths_L),
            **_columns("context", self.context_names, self.context_LF),
        }
        slots = {
            "item": pl.Series(self.items_LN[self.mask_LN]),
            **_columns("feedback", self.signals, self.feedback_LNS[self.mask_LN]),
            **_columns("numeric", self.numeric_names, self.numeric_LNF[self.mask_LN]),
            **_columns("categorical", self.categorical_names, self.categorical_LNC[self.mask_LN]),
        }
        if self.propensities_LN is not None:
            slots["propensity"] = pl.Series(self.propensities_LN[self.mask_LN])
        events = {"item": pl.Series(flat.items_E)}
        if flat.times_E is not None:
            events["time"] = pl.Series(flat.times_E)
        frames = {"lists": lists, "slots": slots, "events": events}
        return fingerprint(
            {name: pl.DataFrame(columns) for name, columns in frames.items()} | {"catalogue": self.catalogue.frame}
        )

    def describe(self) -> dict[str, Any]:
        """Return counts, dates, lengths, and per signal how often it is given and where, ready for JSON."""
        num_slots = int(self.lengths_L.sum())
        description: dict[str, Any] = {
            "name": self.name,
            "lists": len(self),
            "users": len(np.unique(self.users_L)),
            "items": len(self.catalogue),
            "items_shown": len(np.unique(self.items_LN[self.mask_LN])),
            "slots": num_slots,
            "dates": date_range(self.times_L),
            "length": _summary(self.lengths_L),
            "history_length": _summary(self.histories.lengths_L),
            "numeric": list(self.numeric_names),
            "categorical": dict(zip(self.categorical_names, self.categorical_sizes, strict=True)),
            "context": list(self.context_names),
            "fingerprint": self.fingerprint,
            "notices": list(self.notices),
        }
        for signal in self.signals:
            positive_LN = self.feedback(signal) > 0
            description[f"signal {signal}"] = {
                "slots": int(positive_LN.sum()),
                "share_of_slots": float(positive_LN.sum() / max(1, num_slots)),
                "lists_without": int((~positive_LN.any(axis=1)).sum()),
                "share_at_first_slot": float(positive_LN[:, :1].sum() / max(1, positive_LN.sum())),
            }
        if self.propensities_LN is not None:
            description["propensities"] = _summary(self.propensities_LN[self.mask_LN])
        return description


@dataclass(frozen=True, eq=False)
class ImpressionSplit:
    """Hold three parts of a data set of lists, each no earlier than the one before.

    Attributes:
        train: lists to learn from.
        valid: lists to choose settings by.
        test: lists to report.
    """

    train: ImpressionDataset
    valid: ImpressionDataset
    test: ImpressionDataset

    def manifest(self) -> dict[str, Any]:
        """Return what a reader needs to reproduce and judge this split, ready for JSON."""
        parts = {"train": self.train, "valid": self.valid, "test": self.test}
        return {
            "dataset": self.train.name,
            "fingerprint": "-".join(part.fingerprint[:16] for part in parts.values()),
            "source": dict(self.train.source),
            "kind": "temporal",
            "parts": {
                name: {"lists": len(part), "dates": date_range(part.times_L), "fingerprint": part.fingerprint}
                for name, part in parts.items()
            },
        }


def _check_shapes(data: ImpressionDataset) -> None:
    lists, width = data.items_LN.shape
    expected = {
        "feedback_LNS": (lists, width, len(data.signals)),
        "times_L": (lists,),
        "users_L": (lists,),
        "numeric_LNF": (lists, width, len(data.numeric_names)),
        "categorical_LNC": (lists, width, len(data.categorical_names)),
        "context_LF": (lists, len(data.context_names)),
    }
    for array, shape in expected.items():
        if getattr(data, array).shape != shape:
            found = getattr(data, array).shape
            raise ThinkrankError(f"{data.name}: {array} has shape {found}, but items and names make it {shape}")
    if len(data.histories) != lists:
        raise ThinkrankError(f"{data.name}: {len(data.histories)} histories for {lists} lists")
    if len(data.categorical_values) != len(data.categorical_names):
        raise ThinkrankError(f"{data.name}: categorical_names and categorical_values differ in number")
    if data.ids is not None and len(data.ids) != lists:
        raise ThinkrankError(f"{data.name}: {len(data.ids)} ids for {lists} lists")
    if data.propensities_LN is not None and data.propensities_LN.shape != data.items_LN.shape:
        raise ThinkrankError(
            f"{data.name}: propensities of shape {data.propensities_LN.shape}, not {data.items_LN.shape}"
        )
    for names in (data.signals, data.numeric_names, data.categorical_names, data.context_names):
        if len(set(names)) < len(names):
            raise ThinkrankError(f"{data.name}: a name occurs twice in {', '.join(names)}")


def _check_items(data: ImpressionDataset) -> None:
    items_LN = data.items_LN
    _refuse(data, (items_LN < -1) | (items_LN >= len(data.catalogue)), "holds an item that is not in the catalogue")
    _refuse(data, data.mask_LN[:, 1:] > data.mask_LN[:, :-1], "has a gap: padding may only follow the candidates")
    _refuse(data, ~data.mask_LN.any(axis=1, keepdims=True), "has no candidate; drop it")
    sorted_LN = np.sort(items_LN, axis=1)
    again_LN = (sorted_LN[:, 1:] == sorted_LN[:, :-1]) & (sorted_LN[:, 1:] >= 0)
    _refuse(data, again_LN, "shows an item twice; keep the first of the slots")
    _refuse(data, ((data.users_L < 0) | (data.users_L >= len(data.users)))[:, None], "is of a user that is not there")
    _refuse(data, (data.times_L < 0)[:, None], "was shown before 1970")


def _check_values(data: ImpressionDataset) -> None:
    sizes_C = np.array(data.categorical_sizes, dtype=np.int64)
    padding_LN1 = ~data.mask_LN[:, :, None]
    feedback_LNS, numeric_LNF, codes_LNC = data.feedback_LNS, data.numeric_LNF, data.categorical_LNC
    _refuse(data, ~((feedback_LNS >= 0) & np.isfinite(feedback_LNS)), "has feedback that is negative or not finite")
    _refuse(data, ~np.isfinite(numeric_LNF), "has a numeric feature that is not finite; fill it, and say so in another")
    _refuse(data, ~np.isfinite(data.context_LF), "has a context feature that is not finite")
    _refuse(data, np.asarray((codes_LNC < 0) | (codes_LNC >= sizes_C)), "has a category that stands for nothing")
    for what, values in (("feedback", feedback_LNS), ("a numeric feature", numeric_LNF), ("a category", codes_LNC)):
        _refuse(data, (values != 0) & padding_LN1, f"has {what} where there is no candidate")
    if data.propensities_LN is not None:
        wrong_LN = ~((data.propensities_LN > 0) & (data.propensities_LN <= 1)) & data.mask_LN
        _refuse(data, wrong_LN, "has a propensity that is not above 0 and at most 1")


def _check_histories(data: ImpressionDataset) -> None:
    histories = data.histories
    items_E = histories.items_E
    if len(items_E) and not 0 <= items_E.min() <= items_E.max() < len(data.catalogue):
        raise ThinkrankError(f"{data.name}: a history holds an item that is not in the catalogue")
    if histories.times_E is None or not len(histories.times_E):
        return
    newest_L = histories.times_E[np.maximum(histories.ends_L - 1, 0)]
    later_L = (histories.lengths_L > 0) & (newest_L > data.times_L)
    _refuse(data, later_L[:, None], "has a history that goes on after it was shown; keep what came before it")


def _refuse(data: ImpressionDataset, fault: Any, problem: str) -> None:
    """Raise for the first list that is at fault anywhere."""
    if fault.any():
        index = int(fault.reshape(len(fault), -1).any(axis=1).argmax())
        raise ThinkrankError(f"{data.name}: list {index} (of {len(data)}, from 0) {problem}")


def _columns(kind: str, names: Sequence[str], values: np.ndarray) -> dict[str, pl.Series]:
    return {f"{kind} {name}": pl.Series(values[:, index]) for index, name in enumerate(names)}


def _summary(values: np.ndarray) -> dict[str, float] | None:
    if not len(values):
        return None
    return {"min": float(values.min()), "mean": float(values.mean()), "max": float(values.max())}
