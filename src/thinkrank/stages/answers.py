"""What every stage answers with.

Shape legend: B requests, K length of the answer, T tokens.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32

from thinkrank.language.engines.base import Completion
from thinkrank.language.options import FinishReason


@dataclass(frozen=True)
class Thought:
    """What a model wrote before it answered.

    Attributes:
        text: the thought, without its closing tag.
        token_ids: the sampled tokens, closing tag included where the model wrote it.
        logprobs: per token, natural log of its probability under the distribution it was sampled from.
        entropies: per token, in nats, of the model's own (untempered) next-token distribution.
        finish_reason: why it ended.
        seconds: wall time of the batch it was written in, divided by the batch's size.
    """

    text: str
    token_ids: Int32[np.ndarray, "T"]
    logprobs: Float32[np.ndarray, "T"]
    entropies: Float32[np.ndarray, "T"]
    finish_reason: FinishReason
    seconds: float


@dataclass(frozen=True)
class Ranking:
    """The best items for each of B histories, best first.

    Attributes:
        items_BK: catalogue rows; -1 where fewer than K items could be recommended.
        scores_BK: the scores the items were sorted by; -inf beside each -1.
        thoughts: one per history, or None if the stage did not think about histories.
        reasons: for each history one thought per answered item, in the answer's order; None if the stage did not think
            about pairs.
    """

    items_BK: Int32[np.ndarray, "B K"]
    scores_BK: Float32[np.ndarray, "B K"]
    thoughts: tuple[Thought, ...] | None = None
    reasons: tuple[tuple[Thought, ...], ...] | None = None


@dataclass(frozen=True)
class Slate:
    """The final list for each of B displayed lists, first place first.

    Attributes:
        items_BK: catalogue rows; -1 where a list had fewer than K candidates.
        columns_BK: where each item stood among the candidates, from 0; -1 beside each -1.
        scores_BK: what each item was put there by: its score, or the log-probability of choosing it there among what
            was left; -inf beside each -1.
        entropies_before_BK: of each choice before thinking, in nats; None if the stage does not choose place by place.
        entropies_after_BK: the same after thinking; equal where nothing was thought.
        thoughts_BK: how many latent thoughts preceded each choice; None if the stage does not think.
    """

    items_BK: Int32[np.ndarray, "B K"]
    columns_BK: Int32[np.ndarray, "B K"]
    scores_BK: Float32[np.ndarray, "B K"]
    entropies_before_BK: Float32[np.ndarray, "B K"] | None = None
    entropies_after_BK: Float32[np.ndarray, "B K"] | None = None
    steps_BK: Int32[np.ndarray, "B K"] | None = None


def thought_of(written: Completion) -> Thought:
    """Turn a completion into plain data."""
    return Thought(
        text=written.text.strip(),
        token_ids=np.asarray(written.ids, dtype=np.int32),
        logprobs=np.asarray(written.logprobs, dtype=np.float32),
        entropies=np.asarray(written.entropies, dtype=np.float32),
        finish_reason=written.finish_reason,
        seconds=written.seconds,
    )
