"""Groups of thoughts, what they were worth, and the one forest in which they are read again with gradient.

Shape legend: B users, G thoughts about each, R = B G trajectories, A actions (sampled tokens) of all of them, T actions
of the longest, P line ends.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from thinkrank.data import Sample
from thinkrank.language import Continuation, Forest, Packing
from thinkrank.policy import Answer, tied_groups
from thinkrank.retrieve.prompts import UserPrompt


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
    written: tuple[Continuation, ...]
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


def answers(written: Sequence[Continuation], ranks: Sequence[int]) -> list[Answer]:
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


class Episodes:
    """Trajectories as one packed forest, every prompt in it once, and where their actions stand.

    A trajectory is a prompt, the tokens its thought consists of, and the closing, at whose end the answer is read. The
    sampled tokens are its actions, the stop included: what ended the thought was a choice too.

    Args:
        groups: whose thoughts.
        closing_ids: the closing.
        device: where the indices live.
    """

    def __init__(self, groups: Sequence[Group], closing_ids: Sequence[int], device: torch.device) -> None:
        closing = tuple(closing_ids)
        leaves = []
        for group in groups:
            own = [written.ids_before_stop + closing for written in group.written]
            leaves.append((group.prompt.prompt.ids, [*own, *_detours(group.written, closing)]))
        self.packing = Packing(Forest.groups(leaves).share(), device)
        self.predictors: list[int] = []
        self.readouts: list[int] = []
        self.line_ends: list[int] = []
        tokens: list[int] = []
        lengths: list[int] = []
        remaining = iter(self.packing.forest.leaves)
        for group in groups:
            own_leaves = [next(remaining) for _ in group.written]
            detours = {index: next(remaining) for index in _detoured(group.written, closing)}
            start = len(group.prompt.prompt)
            self.line_ends += [self.packing.place(own_leaves[0], end) for end in group.prompt.line_ends]
            for index, (leaf, written) in enumerate(zip(own_leaves, group.written, strict=True)):
                acting = detours.get(index, leaf)
                self.predictors += [self.packing.place(acting, start + t - 1) for t in range(len(written.ids))]
                self.readouts.append(self.packing.place(leaf, start + written.num_before_stop + len(closing) - 1))
                tokens += written.ids
                lengths.append(len(written.ids))
        self.tokens_A = torch.tensor(tokens, device=device)
        self.lengths_R = torch.tensor(lengths, device=device)
        self.mask_RT: Bool[Tensor, "R T"] = torch.arange(max(lengths), device=device) < self.lengths_R[:, None]

    def matrix(self, values_A: Float[Tensor, "A"]) -> Float[Tensor, "R T"]:
        """One value per action as a row per trajectory, zeros behind its end; differentiable."""
        return torch.zeros_like(self.mask_RT, dtype=values_A.dtype).masked_scatter(self.mask_RT, values_A)


def _detoured(written: Sequence[Continuation], closing: tuple[int, ...]) -> list[int]:
    """Thoughts whose stop was spelt with other tokens than the closing, so that its later tokens are on no leaf yet."""
    stops = [thought.ids[thought.num_before_stop : -1] for thought in written]
    return [i for i, stop in enumerate(stops) if stop != closing[: len(stop)]]


def _detours(written: Sequence[Continuation], closing: tuple[int, ...]) -> list[tuple[int, ...]]:
    return [written[i].ids[:-1] for i in _detoured(written, closing)]
