"""What every engine that writes is given, and what it returns.

Shape legend: D width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float32
from torch import Tensor

from thinkrank.language.options import FinishReason, GenerationOptions
from thinkrank.language.prefix_tree import PrefixTree

BASE, TRAINED = "base", "trained"
"""Writers that are always there: the model without an adapter, and with the adapter's present weights."""


@dataclass(frozen=True)
class Completion:
    """Hold what a model wrote after a prompt.

    Attributes:
        ids: the tokens written, the stop included.
        text: their text, without the stop.
        logprobs: natural log-probability of each token under the distribution it was drawn from; under the model's
            own distribution for greedy decoding.
        own_logprobs: the same under the model's own distribution: temperature 1, nothing cut.
        entropies: of the model's own distribution at each step, in nats.
        finish_reason: `closed` by the stop text, `end_of_turn` by the model's token for it, or `length`.
        seconds: this completion's share of the wall time.
        num_before_stop: how many of the ids come before the stop.
        last_state: the writer's final hidden state, width D in fp32, at the end of prompt, `ids_before_stop` and
            suffix; None from an engine that cannot tell it. It was read in the weights' own format: good for rewards
            in training, while what is judged is read again (see `exact`).
    """

    ids: tuple[int, ...]
    text: str
    logprobs: tuple[float, ...]
    own_logprobs: tuple[float, ...]
    entropies: tuple[float, ...]
    finish_reason: FinishReason
    seconds: float
    num_before_stop: int
    last_state: Float32[Tensor, "D"] | None

    @property
    def ids_before_stop(self) -> tuple[int, ...]:
        """Return the ids before the stop: no end-of-turn token, and no token that holds a part of the stop text."""
        return self.ids[: self.num_before_stop]


@runtime_checkable
class Engine(Protocol):
    """Engine that writes, by several writers that share one base model.

    A writer is a name for adapter weights: "base" is the model alone, "trained" the adapter's present weights, others
    are published. Who writes is an argument: nothing shared is changed, so threads can ask at once.
    """

    def sample(
        self,
        prompts: PrefixTree,
        options: GenerationOptions,
        *,
        writer: str = TRAINED,
        num_samples: int = 1,
        stop: str | None = None,
        suffix: Sequence[int] = (),
        seeds: Sequence[int] | None = None,
    ) -> list[list[Completion]]:
        """Write `num_samples` completions of every leaf of the tree.

        Args:
            prompts: each leaf is a prompt; what prompts share is read once.
            options: every setting of the decoding.
            writer: who writes.
            num_samples: completions of each prompt.
            stop: text that ends a completion as soon as it is written; None to end by the model's turn alone.
            suffix: tokens that are read after each completion, for `last_state`; they are not part of it.
            seeds: one per leaf. A completion's draws depend on `options.seed`, its leaf's seed and its number among
                the samples, not on what else is being written. By default each is made of the leaf's tokens, so that
                the same question gets the same answer in any batch.

        Returns:
            per leaf, in the tree's order, its completions.

        Raises:
            ThinkrankError: if a single prompt and its completion exceed the memory allowed, or the writer is unknown.
            ValueError: if there is not one seed per leaf.
        """
        ...

    def publish(self, writer: str, adapter: Mapping[str, Tensor]) -> None:
        """Give adapter weights a name to write under; "base" and "trained" are taken.

        Raises:
            ThinkrankError: if the name is taken, or the weights do not fit the model.
        """
        ...
