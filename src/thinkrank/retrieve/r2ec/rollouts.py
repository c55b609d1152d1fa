"""Groups of thoughts and what they were worth.

Shape legend: G thoughts about one history.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from thinkrank.data import Sample
from thinkrank.language import Completion
from thinkrank.policy import Answer, tied_groups
from thinkrank.prompts.retrieval import UserPrompt


@dataclass(frozen=True)
class Group:
    """The thoughts about one history and what they were worth.

    Attributes:
        sample: the history and what came next.
        prompt: the history as the model read it.
        written: the thoughts.
        ranks_G: 1-based place of the target in the ranking that each thought led to.
        ndcg_G: R_d of each.
        similarity_G: R_c of each.
        rewards_G: everything together.
    """

    sample: Sample
    prompt: UserPrompt
    written: tuple[Completion, ...]
    ranks_G: Int[Tensor, "G"]
    ndcg_G: Float[Tensor, "G"]
    similarity_G: Float[Tensor, "G"]
    rewards_G: Float[Tensor, "G"]

    @property
    def is_tied(self) -> bool:
        """Whether no thought was worth more than another, so that there is nothing to learn."""
        return bool(tied_groups(self.rewards_G[None]))

    def num_tokens(self, num_closing: int) -> int:
        """Tokens that reading the group takes, its prompt once."""
        return len(self.prompt.prompt) + sum(written.num_before_stop + num_closing for written in self.written)


def answers(written: Sequence[Completion], ranks: Sequence[int]) -> list[Answer]:
    """The thoughts of a group as rewards on plain data see them."""
    return [
        Answer(thought.ids, thought.finish_reason, thought.text, rank)
        for thought, rank in zip(written, ranks, strict=True)
    ]


def micro_batches(groups: Sequence[Group], num_closing: int, most_tokens: int) -> Iterator[list[int]]:
    """Cut a batch into runs of whole groups of at most so many tokens, unless one group alone has more."""
    waiting: list[int] = []
    total = 0
    for index, group in enumerate(groups):
        tokens = group.num_tokens(num_closing)
        if waiting and total + tokens > most_tokens:
            yield waiting
            waiting, total = [], 0
        waiting.append(index)
        total += tokens
    if waiting:
        yield waiting
