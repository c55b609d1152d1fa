"""What every stage answers with.

Shape legend: B requests, K places, N candidates, T tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Float32, Int32

from thinkrank.data.candidates import Candidates
from thinkrank.data.catalogue import Catalogue
from thinkrank.data.requests import Requests
from thinkrank.errors import ThinkrankError
from thinkrank.language.options import FinishReason


@dataclass(frozen=True)
class Check:
    """Tell what came of checking a text against the data that it speaks of.

    Attributes:
        checked: claims that were found in it.
        true: how many of them hold.
        faults: why it should not be shown to people, each in words; none if it may be shown.
    """

    checked: int
    true: int
    faults: tuple[str, ...] = ()

    @property
    def may_be_shown(self) -> bool:
        """Tell whether nothing speaks against showing the text."""
        return not self.faults

    def __str__(self) -> str:
        """Write the counts, and the faults behind them."""
        return "; ".join([f"claims: checked {self.checked}, true {self.true}", *self.faults])


@dataclass(frozen=True)
class Thought:
    """Hold what a model wrote before it answered.

    Attributes:
        text: the thought, without its closing tag.
        token_ids: the sampled tokens, closing tag included where the model wrote it.
        logprobs: per token, natural log of its probability under the distribution it was sampled from.
        entropies: per token, in nats, of the model's own (untempered) next-token distribution.
        finish_reason: why it ended.
        seconds: wall time of the batch it was written in, divided by the batch's size.
        check: what came of checking it; None if nobody did.
    """

    text: str
    token_ids: Int32[np.ndarray, "T"]
    logprobs: Float32[np.ndarray, "T"]
    entropies: Float32[np.ndarray, "T"]
    finish_reason: FinishReason
    seconds: float
    check: Check | None = None

    @property
    def shown(self) -> str | None:
        """Return the text if it may be shown to people; None if a check found a fault in it."""
        return self.text if self.check is None or self.check.may_be_shown else None


@dataclass(frozen=True, eq=False)
class Latent:
    """Tell of thinking that is not in words: where a re-ranker paused, and what it gained.

    Attributes:
        entropies_before_BK: of each choice before thinking, in nats.
        entropies_after_BK: the same after thinking; equal where nothing was thought.
        steps_BK: how many latent thoughts preceded each choice.
    """

    entropies_before_BK: Float32[np.ndarray, "B K"]
    entropies_after_BK: Float32[np.ndarray, "B K"]
    steps_BK: Int32[np.ndarray, "B K"]


@dataclass(frozen=True)
class Cost:
    """Tell what an answer cost.

    Attributes:
        seconds: wall time of all requests together.
        tokens: written by a language model.
    """

    seconds: float
    tokens: int = 0


@dataclass(frozen=True, eq=False)
class Ranking:
    """Answer each of B requests with items, best first.

    Attributes:
        items_BK: catalogue rows; -1 where fewer than K items could be answered.
        scores_BK: what each item stands there for: its score, or the log-probability of choosing it there among what
            was left; -inf beside each -1.
        columns_BK: where each item stood among the candidates, from 0; -1 beside each -1. None if there were none.
        tied_BK: which items have the score of the one before them, so that chance decides between the two; None where
            the order itself is the answer.
        thoughts: one per request; None if the stage did not think about requests.
        reasons: for each request one thought per answered item, in the answer's order; None if the stage did not think
            about pairs.
        latent: thinking without words; None if there was none.
        cost: of all requests; None if it was not measured.
    """

    items_BK: Int32[np.ndarray, "B K"]
    scores_BK: Float32[np.ndarray, "B K"]
    columns_BK: Int32[np.ndarray, "B K"] | None = None
    tied_BK: Bool[np.ndarray, "B K"] | None = None
    thoughts: tuple[Thought, ...] | None = None
    reasons: tuple[tuple[Thought, ...], ...] | None = None
    latent: Latent | None = None
    cost: Cost | None = None

    @classmethod
    def empty(cls, k: int, *, candidates: bool = False) -> "Ranking":
        """Answer no requests with k places each."""
        none_BK = np.zeros((0, k), dtype=np.int32)
        return cls(none_BK, np.zeros((0, k), dtype=np.float32), none_BK if candidates else None)

    def __len__(self) -> int:
        return len(self.items_BK)

    def first(self, k: int) -> "Ranking":
        """Keep the first k places."""
        latent = self.latent
        return replace(
            self,
            items_BK=self.items_BK[:, :k],
            scores_BK=self.scores_BK[:, :k],
            columns_BK=None if self.columns_BK is None else self.columns_BK[:, :k],
            tied_BK=None if self.tied_BK is None else self.tied_BK[:, :k],
            reasons=None if self.reasons is None else tuple(thoughts[:k] for thoughts in self.reasons),
            latent=latent and Latent(*(getattr(latent, field.name)[:, :k] for field in fields(latent))),
        )

    def scores_of_all(self, num_items: int) -> Float32[np.ndarray, "B I"]:
        """Return the score of every item of a catalogue of I; -inf for what was not answered."""
        scores_BI = np.full((len(self), num_items + 1), -np.inf, np.float32)
        np.put_along_axis(scores_BI, self.items_BK, self.scores_BK, axis=1)  # -1 is the last, surplus column
        return scores_BI[:, :num_items]

    def scores_given(self, num_candidates: int) -> Float32[np.ndarray, "B N"]:
        """Return each candidate's score in the order in which candidates were given; -inf for what was not answered.

        Args:
            num_candidates: N, of the longest list.

        Raises:
            ThinkrankError: if there were no candidates.
        """
        if self.columns_BK is None:
            raise ThinkrankError("this ranking chose from the whole catalogue, not from candidates")
        scores_BN = np.full((len(self), num_candidates), -np.inf, dtype=np.float32)
        rows, places = np.nonzero(self.columns_BK >= 0)
        scores_BN[rows, self.columns_BK[rows, places]] = self.scores_BK[rows, places]
        return scores_BN

    def table(self, catalogue: Catalogue, requests: Requests | None = None, *, every_text: bool = True) -> pl.DataFrame:
        """Return one row per answered place, with the user's own ids and titles.

        Columns are request (from 0), list (what the request is called) and user where known, place (from 1), item,
        title and score; shown_at (from 1) where there were candidates; entropy_before, entropy_after (nats) and steps
        where something was thought without words; reason and thought where they were written, each with the columns
        claims_checked, claims_true and may_be_shown behind its name where it was checked.

        Args:
            catalogue: whose rows the items are.
            requests: that were answered; they tell the users.
            every_text: give also texts that should not be shown; without, their cells are empty.
        """
        rows, places = np.nonzero(self.items_BK >= 0)
        items = self.items_BK[rows, places]
        columns: dict[str, Any] = {"request": rows}
        for name, known in () if requests is None else (("list", requests.ids), ("user", requests.users)):
            if known is not None:
                columns[name] = pl.Series([known[row] for row in rows], dtype=pl.String)
        columns |= {
            "place": places + 1,
            "item": pl.Series([catalogue.ids[item] for item in items], dtype=pl.String),
            "title": pl.Series([catalogue.titles[item] for item in items], dtype=pl.String),
            "score": self.scores_BK[rows, places],
        }
        if self.columns_BK is not None:
            columns["shown_at"] = self.columns_BK[rows, places] + 1
        if self.latent is not None:
            columns["entropy_before"] = self.latent.entropies_before_BK[rows, places]
            columns["entropy_after"] = self.latent.entropies_after_BK[rows, places]
            columns["steps"] = self.latent.steps_BK[rows, places]
        if self.reasons is not None:
            told = [self.reasons[row][place] for row, place in zip(rows, places, strict=True)]
            columns |= _told("reason", told, every_text)
        if self.thoughts is not None:
            columns |= _told("thought", [self.thoughts[row] for row in rows], every_text)
        return pl.DataFrame(columns)

    def candidates(self, name: str, catalogue: Catalogue | None = None) -> Candidates:
        """Offer the answer to the next stage; its score becomes the feature ``name.score``.

        Scores of different stages have different units, so they are standardised: in standard deviations from the mean
        of their own list, 0 where a list does not vary.

        Args:
            name: of the stage that answered.
            catalogue: whose rows the items are; None for those of the stage that is asked next.
        """
        return Candidates(
            items_BN=self.items_BK,
            catalogue=catalogue,
            numeric_BNF=standardised(self.scores_BK, self.items_BK >= 0)[:, :, None],
            numeric_names=(f"{name}.score",),
            name=name,
        )


def _told(name: str, thoughts: Sequence[Thought], every_text: bool) -> dict[str, Any]:
    """Make the columns of texts: what they say and, where all were checked, what came of it."""
    texts = [thought.text if every_text else thought.shown for thought in thoughts]
    columns: dict[str, Any] = {name: pl.Series(texts, dtype=pl.String)}
    checks = [thought.check for thought in thoughts if thought.check is not None]
    if checks and len(checks) == len(thoughts):
        columns |= {
            f"{name}_claims_checked": [check.checked for check in checks],
            f"{name}_claims_true": [check.true for check in checks],
            f"{name}_may_be_shown": [check.may_be_shown for check in checks],
        }
    return columns


def standardised(scores_BN: Float32[np.ndarray, "B N"], mask_BN: np.ndarray) -> Float32[np.ndarray, "B N"]:
    """Express scores in standard deviations from the mean of their own list; 0 where a list does not vary."""
    finite_BN = np.where(mask_BN, scores_BN, 0.0).astype(np.float64)
    count_B1 = np.maximum(mask_BN.sum(axis=1, keepdims=True), 1)
    centred_BN = np.where(mask_BN, finite_BN - finite_BN.sum(axis=1, keepdims=True) / count_B1, 0.0)
    deviation_B1 = np.sqrt((centred_BN**2).sum(axis=1, keepdims=True) / count_B1)
    least_B1 = 1e-6 * np.abs(finite_BN).max(axis=1, keepdims=True, initial=0.0)
    scaled_BN = np.divide(centred_BN, deviation_B1, out=np.zeros_like(centred_BN), where=deviation_B1 > least_B1)
    return scaled_BN.astype(np.float32)
