"""Trajectories: what was written behind prompts, packed into one pass, and where its tokens stand.

Shape legend: R trajectories, A actions (tokens that were chosen) of all of them, T actions of the longest, P tokens
of the packing, D width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from thinkrank.language.acting import acting
from thinkrank.language.adapters import layer_weights
from thinkrank.language.backbone import Backbone
from thinkrank.language.logprobs import selective_logprobs
from thinkrank.language.packing import Packing, PrefixKV, packed_states
from thinkrank.language.prefix_tree import PrefixTree


@runtime_checkable
class Written(Protocol):
    """Text behind a prompt, such as a `Completion`."""

    @property
    def ids(self) -> tuple[int, ...]:
        """Return the tokens that were chosen, the stop included."""
        ...

    @property
    def num_before_stop(self) -> int:
        """Count those of them that come before the stop."""
        ...


@dataclass(frozen=True)
class Given:
    """Text that nobody sampled: a given thought with its closing, or nothing at all.

    Attributes:
        ids: the tokens, the closing included.
        num_before_stop: how many of them come before the closing.
    """

    ids: tuple[int, ...] = ()
    num_before_stop: int = 0


class Trajectories:
    """Pack trajectories, every prompt in it once, and find where their actions stand.

    A trajectory is a prompt, the tokens its thought consists of, and the closing, at whose end the answer is read. The
    chosen tokens are its actions, the stop included: what ended the thought was a choice too.

    Args:
        prompts: each leaf is a prompt.
        written: the thoughts behind each leaf, at least one.
        closing_ids: the closing.
        device: where the indices live.
        held: roots of the prompts that were read before; see `Packing`.
        records: see `Packing`.

    Attributes:
        prompt_ends: where the last token of each trajectory's prompt stands.
        readouts: where the last token of its closing stands.
        tails: where its thought and closing stand.
    """

    def __init__(
        self,
        prompts: PrefixTree,
        written: Sequence[Sequence[Written]],
        closing_ids: Sequence[int],
        device: torch.device,
        *,
        held: Mapping[int, PrefixKV] | None = None,
        records: bool = False,
    ) -> None:
        closing = tuple(closing_ids)
        starts = [prompts.ends[leaf] for leaf in prompts.leaves]
        own = [[(*one.ids[: one.num_before_stop], *closing) for one in many] for many in written]
        forest = prompts.grow([[*o, *_detours(many, closing)] for o, many in zip(own, written, strict=True)])
        self.packing = Packing(forest, device, held=held, records=records)
        self.leaves: list[list[int]] = []
        self.predictors: list[int] = []
        self.tails: list[list[int]] = []
        self.prompt_ends: list[int] = []
        tokens: list[int] = []
        lengths: list[int] = []
        remaining = iter(forest.leaves)
        for start, many in zip(starts, written, strict=True):
            own_leaves = [next(remaining) for _ in many]
            detours = {index: next(remaining) for index in _detoured(many, closing)}
            self.leaves.append(own_leaves)
            for index, (leaf, one) in enumerate(zip(own_leaves, many, strict=True)):
                acting = detours.get(index, leaf)
                self.predictors += [self.packing.place(acting, start + t - 1) for t in range(len(one.ids))]
                self.prompt_ends.append(self.packing.place(leaf, start - 1))
                end = start + one.num_before_stop + len(closing)
                self.tails.append([self.packing.place(leaf, position) for position in range(start, end)])
                tokens += one.ids
                lengths.append(len(one.ids))
        self.readouts = [tail[-1] for tail in self.tails]
        self.tokens_A = torch.tensor(tokens, dtype=torch.long, device=device)
        self.lengths_R = torch.tensor(lengths, device=device)
        self.mask_RT: Bool[Tensor, "R T"] = torch.arange(max(lengths), device=device) < self.lengths_R[:, None]

    def matrix(self, values_A: Float[Tensor, "A"]) -> Float[Tensor, "R T"]:
        """Put one value per action into a row per trajectory, zeros behind its end; differentiable."""
        return torch.zeros_like(self.mask_RT, dtype=values_A.dtype).masked_scatter(self.mask_RT, values_A)


def action_logprobs(
    backbone: Backbone, trajectories: Trajectories, states_PD: Float[Tensor, "P D"], *, entropy: bool = False
) -> tuple[Float[Tensor, "R T"], Float[Tensor, "R T"] | None]:
    """Score every action: its log-probability and, if wanted, the entropy; differentiable.

    Behind a trajectory's end stand zeros.
    """
    scores = selective_logprobs(backbone, states_PD[trajectories.predictors], trajectories.tokens_A, entropy=entropy)
    entropies_RT = None if scores.entropies_N is None else trajectories.matrix(scores.entropies_N)
    return trajectories.matrix(scores.logprobs_N), entropies_RT


@torch.no_grad()
def reference_logprobs(
    backbone: Backbone, trajectories: Trajectories, adapter: Mapping[str, Tensor]
) -> Float[Tensor, "R T"]:
    """Score the actions under other adapter weights, such as those of the start.

    Raises:
        ThinkrankError: if the weights do not fit the model.
    """
    with acting(layer_weights(backbone, adapter, "the reference adapter")):
        return action_logprobs(backbone, trajectories, packed_states(backbone, trajectories.packing))[0]


def _detoured(written: Sequence[Written], closing: tuple[int, ...]) -> list[int]:
    """Find thoughts whose stop was spelt with other tokens than the closing: its later ones are on no leaf yet."""
    stops = [one.ids[one.num_before_stop : -1] for one in written]
    return [i for i, stop in enumerate(stops) if stop != closing[: len(stop)]]


def _detours(written: Sequence[Written], closing: tuple[int, ...]) -> list[tuple[int, ...]]:
    return [written[i].ids[:-1] for i in _detoured(written, closing)]
