"""What every engine that writes is asked, and what it answers.

Shape legend: D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float32
from torch import Tensor

from thinkrank.language.options import FinishReason, GenerationOptions
from thinkrank.language.prefix_tree import PrefixTree


@dataclass(frozen=True)
class Completion:
    """What the model wrote after a prompt.

    Attributes:
        ids: the tokens written, the stop included.
        text: their text, without the stop.
        logprobs: natural log-probability of each token under the distribution it was drawn from; under the model's
            own distribution for greedy decoding.
        own_logprobs: the same under the model's own distribution: temperature 1, nothing cut.
        entropies: of the model's own distribution at each step, in nats.
        finish_reason: `closed` by the closing text, `end_of_turn` by the model's token for it, or `length`.
        seconds: this continuation's share of the wall time.
        num_before_stop: how many of the ids come before the stop.
        last_state: the model's final hidden state, width D in fp32, at the end of prompt, `ids_before_stop` and suffix.
    """

    ids: tuple[int, ...]
    text: str
    logprobs: tuple[float, ...]
    own_logprobs: tuple[float, ...]
    entropies: tuple[float, ...]
    finish_reason: FinishReason
    seconds: float
    num_before_stop: int
    last_state: Float32[Tensor, "D"]

    @property
    def ids_before_stop(self) -> tuple[int, ...]:
        """The sampled ids without their stop: no end-of-turn token, and no token that holds a part of the closing."""
        return self.ids[: self.num_before_stop]


@runtime_checkable
class Engine(Protocol):
    """An engine that writes. Its log-probabilities are those of the model that is trained, adapter included."""

    def sample(
        self,
        prompts: PrefixTree,
        options: GenerationOptions,
        *,
        num_samples: int = 1,
        closing: str | None = None,
        suffix: Sequence[int] = (),
        seeds: Sequence[int] | None = None,
    ) -> list[list[Completion]]:
        """Write `num_samples` continuations of every leaf of the forest.

        Args:
            prompts: each leaf is a prompt; what prompts share is read once.
            options: every setting of the decoding.
            num_samples: continuations of each prompt.
            closing: text that ends a continuation as soon as it is written; None to end by the model's turn alone.
            suffix: tokens that are read after each continuation, for `last_state`; they are not part of it.
            seeds: one per leaf. A continuation's draws depend on `options.seed`, its leaf's seed and its number among
                the samples, not on what else is being written. The index of the leaf by default.

        Returns:
            per leaf, in the forest's order, its continuations.

        Raises:
            ThinkrankError: if a single prompt and its continuation exceed the memory allowed.
            ValueError: if there is not one seed per leaf.
        """
        ...
