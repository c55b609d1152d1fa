"""How a stage is asked: with which options, and in whose catalogue's rows.

Shape legend: B requests, N candidates, H items of a history.
"""

import inspect
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Int32

from thinkrank.cascade.order import columns_of
from thinkrank.data.candidates import Candidates
from thinkrank.data.catalogue import Catalogue
from thinkrank.data.requests import Requests, in_rows
from thinkrank.errors import ThinkrankError
from thinkrank.stages.answers import Cost, Ranking

_SWITCHES = ("think", "reasoning")
"""Options by which a stage is told whether to think."""


def can_think(stage: Any, verb: str) -> bool:
    """Tell whether a stage can answer after a thought.

    It can if the method that it is asked by can be told so, unless its configuration says that it never learnt to:
    R²ec where it reads items as tokens and no thoughts, R2Rank without thoughts, EGLR without steps.
    """
    config = getattr(stage, "config", None)
    reasoning = getattr(config, "reasoning", None)
    learnt = getattr(config, "thinks", True) and (
        reasoning is None or (reasoning.mode != "none" and reasoning.max_steps > 0)
    )
    return learnt and any(option in options_of(stage, verb) for option in _SWITCHES)


def options_of(stage: Any, verb: str) -> frozenset[str]:
    """Return the names of what the method that a stage is asked by can be told."""
    return frozenset(inspect.signature(getattr(stage, verb)).parameters)


def check_samples(reranker: Any, samples: int, asker: str) -> None:
    """Refuse to write several lists where no evaluator could pick one.

    Args:
        reranker: that would write them.
        samples: how many.
        asker: begins the message.

    Raises:
        ThinkrankError: if it writes one only.
    """
    if samples > 1 and "samples" not in options_of(reranker, "rerank"):
        name = type(reranker).__name__
        raise ThinkrankError(f"{asker}: a {name} has no evaluator that could pick one of {samples} lists")


def how(stage: Any, verb: str, *, think: bool, samples: int) -> dict[str, Any]:
    """Return the options under which a stage thinks or does not, with so many thoughts where it can."""
    able, options = options_of(stage, verb), dict[str, Any]()
    if "think" in able:
        options["think"] = think
    elif "reasoning" in able and not think and can_think(stage, verb):
        options["reasoning"] = stage.config.reasoning.model_copy(update={"mode": "none"})
    if think and samples > 1 and "samples" in able:
        options["samples"] = samples
    return options


def timed(ask: Callable[..., Ranking], *given: Any, began: float | None = None, **options: Any) -> Ranking:
    """Ask a stage; the answer says how long it took, and how many tokens the stage says that it wrote.

    Args:
        ask: the stage's method.
        given: requests and what there is to choose from.
        began: when the work for it did, by `time.perf_counter`; None for now.
        options: how it answers.
    """
    began = time.perf_counter() if began is None else began
    answer = ask(*given, **options)
    return replace(answer, cost=Cost(time.perf_counter() - began, 0 if answer.cost is None else answer.cost.tokens))


class Rows:
    """Translate between the rows of a cascade's catalogue and those of a stage's own.

    Args:
        ours: the cascade's catalogue.
        theirs: the stage's; None for a stage that has none, which is asked in the cascade's rows.
    """

    def __init__(self, ours: Catalogue, theirs: Catalogue | None) -> None:
        self.ours, self.theirs = ours, theirs
        self._rows_I: np.ndarray | None = None  # of our items in theirs; the last one is padding's
        if theirs is not None and theirs.ids != ours.ids:
            places = {item: row for row, item in enumerate(theirs.ids)}
            self._rows_I = np.array([*(places.get(item, -1) for item in ours.ids), -1], dtype=np.int32)

    def knows(self, items_BN: Int32[np.ndarray, "B N"]) -> Bool[np.ndarray, "B N"]:
        """Return where there is an item that the stage knows."""
        return (items_BN if self._rows_I is None else self._rows_I[items_BN]) >= 0

    def requests(self, requests: Requests) -> Requests:
        """Speak of what users did in the stage's rows; what it does not know is left out."""
        rows_I = self._rows_I
        if rows_I is None or self.theirs is None:
            return requests
        return replace(requests, histories=[in_rows(history, rows_I, self.theirs) for history in requests.histories])

    def candidates(self, candidates: Candidates) -> tuple[Candidates, Int32[np.ndarray, "B N"]]:
        """Offer those candidates that the stage knows, without gaps; also where each stood among all."""
        knows_BN = self.knows(candidates.items_BN)
        order_BN = np.argsort(~knows_BN, axis=1, kind="stable")
        columns_BN = np.where(np.take_along_axis(knows_BN, order_BN, axis=1), order_BN, -1).astype(np.int32)
        items_BN = np.take_along_axis(candidates.items_BN, order_BN, axis=1)
        items_BN = np.where(columns_BN >= 0, items_BN if self._rows_I is None else self._rows_I[items_BN], -1)
        numeric_BNF, categorical_BNC = (
            None if of is None else np.take_along_axis(of, order_BN[:, :, None], axis=1) * (columns_BN >= 0)[:, :, None]
            for of in (candidates.numeric_BNF, candidates.categorical_BNC)
        )
        known = replace(
            candidates,
            items_BN=items_BN.astype(np.int32),
            numeric_BNF=numeric_BNF,
            categorical_BNC=categorical_BNC,
            catalogue=self.ours if self._rows_I is None else self.theirs,
        )
        return known, columns_BN


def in_our_rows(answer: Ranking, items_BN: Int32[np.ndarray, "B N"], columns_BN: Int32[np.ndarray, "B N"]) -> Ranking:
    """Say of an answer to known candidates which of all candidates, and which of our items, stand in it."""
    known_BK = columns_of(answer)
    there_BK = known_BK >= 0
    columns_BK = np.take_along_axis(columns_BN, np.maximum(known_BK, 0), axis=1)
    columns_BK = np.where(there_BK, columns_BK, -1).astype(np.int32)
    items_BK = np.where(there_BK, np.take_along_axis(items_BN, np.maximum(columns_BK, 0), axis=1), -1)
    return replace(answer, items_BK=items_BK.astype(np.int32), columns_BK=columns_BK)
