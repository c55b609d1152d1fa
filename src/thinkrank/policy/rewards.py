"""What an answer is worth.

Two kinds of reward. Those of tensors score where the relevant item stands. Those of plain data (`Reward`) score how an
answer was written; any callable of that form can be added to them.

Shape legend: B users, G rollouts, I items of the catalogue.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from thinkrank.policy._checks import at_least_fp32, check_columns, check_matrix, check_shapes


def ndcg_reward(ranks: Int[Tensor, "*shape"], k: int | None) -> Float[Tensor, "*shape"]:
    """Compute NDCG@k of a single relevant item: 1 / log2(rank + 1) where rank <= k, else 0.

    Args:
        ranks: 1-based rank of the relevant item, any shape.
        k: cut-off; may exceed the catalogue. None is the whole list.

    Raises:
        ValueError: if a rank or k is below 1.

    Source: R²ec, section 3.3 (its R_d, there with k = 1000).
    """
    if k is not None and k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if bool((ranks < 1).any()):
        raise ValueError("ranks are 1-based")
    gain = 1 / torch.log2(ranks.float() + 1)
    return gain if k is None else gain.masked_fill(ranks > k, 0.0)


def softmax_similarity(
    scores_BI: Float[Tensor, "B I"], targets_B: Int[Tensor, "B"], temperature: float
) -> Float[Tensor, "B"]:
    """Compute the share of the target in a softmax over the whole catalogue: exp(s_bt / τ) / Σ_i exp(s_bi / τ).

    Args:
        scores_BI: similarities, higher is better; -inf for an item left out. A target left out is worth 0.
        targets_B: column of the relevant item.
        temperature: τ; 1.0 for scores that were divided by it before.

    Raises:
        ValueError: if the temperature is not positive, a target is not a column, or a row has NaN or only -inf.

    Source: R²ec, section 3.3 (its R_c). Its τ is unspecified there and .02 in the released code.
    """
    num_users, num_items = check_matrix("scores", scores_BI)
    check_shapes((num_users,), targets=targets_B)
    check_columns("targets", targets_B, num_items)
    if temperature <= 0:
        raise ValueError(f"a temperature must be positive, got {temperature}")
    shares_BI = (at_least_fp32(scores_BI) / temperature).softmax(dim=1)
    if bool(shares_BI.isnan().any()):
        raise ValueError("a row of scores holds NaN or +inf, or nothing but -inf, so it has no softmax")
    return shares_BI.gather(1, targets_B.long()[:, None])[:, 0]


def fuse(ndcg: Float[Tensor, "*shape"], similarity: Float[Tensor, "*shape"], beta: float) -> Float[Tensor, "*shape"]:
    """Fuse two rewards: R = (1 - β) R_d + β R_c.

    Args:
        ndcg: R_d, what `ndcg_reward` returned.
        similarity: R_c, what `softmax_similarity` returned.
        beta: weight of the similarity, from 0 to 1; the paper has .05.

    Raises:
        ValueError: if beta is outside 0 to 1, or the shapes differ.

    Source: R²ec, section 3.3.
    """
    if not 0 <= beta <= 1:
        raise ValueError(f"beta must lie between 0 and 1, got {beta}")
    check_shapes(ndcg.shape, similarity=similarity)
    return (1 - beta) * ndcg + beta * similarity


@dataclass(frozen=True)
class Answer:
    """Hold what a rollout came to, as plain data.

    Attributes:
        token_ids: the tokens it wrote, closing included.
        finish_reason: why it ended; "closed" if it wrote its closing.
        text: what it wrote.
        rank: 1-based place of the relevant item in the ranking it led to; None if there was none.
    """

    token_ids: Sequence[int]
    finish_reason: str
    text: str = ""
    rank: int | None = None


@runtime_checkable
class Reward(Protocol):
    """Score the rollouts of one prompt together, so that a reward may compare them."""

    def __call__(self, group: Sequence[Answer]) -> Sequence[float]:
        """Return one finite number for each of the G answers of one prompt, higher is better."""
        ...


def format_reward(group: Sequence[Answer]) -> list[float]:
    """Score 1 for an answer that was closed by its writer, 0 for one that ran out of tokens or ended its turn."""
    return [float(answer.finish_reason == "closed") for answer in group]


@dataclass(frozen=True)
class LengthPenalty:
    """Score 0 up to `free` tokens, then less, linearly down to -1 at `limit` tokens, and -1 beyond.

    Args:
        free: how many tokens cost nothing.
        limit: from how many tokens on the penalty is whole.

    Raises:
        ValueError: unless 0 <= free < limit.

    Source: the soft overlong punishment of DAPO (Yu et al. 2025, eq. 13).
    """

    free: int
    limit: int

    def __post_init__(self) -> None:
        if not 0 <= self.free < self.limit:
            raise ValueError(f"a length penalty needs 0 <= free < limit, got free {self.free} and limit {self.limit}")

    def __call__(self, group: Sequence[Answer]) -> list[float]:
        """Score each answer by its length, between -1 and 0."""
        span = self.limit - self.free
        return [-min(max(len(answer.token_ids) - self.free, 0), span) / span for answer in group]


@dataclass(frozen=True)
class Diversity:
    """Score the share of an answer's distinct n-grams that no other rollout of the group wrote, between 0 and 1.

    An answer shorter than n tokens has no n-gram and is worth 0.

    Args:
        n: tokens per n-gram; 1 compares tokens.

    Raises:
        ValueError: if n is below 1.

    Source: ours.
    """

    n: int = 1

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"an n-gram has at least 1 token, got n = {self.n}")

    def __call__(self, group: Sequence[Answer]) -> list[float]:
        """Score each answer against the others; with fewer than two there is nothing to differ from: ValueError."""
        if len(group) < 2:
            raise ValueError(f"diversity needs at least 2 rollouts per prompt, got {len(group)}")
        grams = [self._grams(answer.token_ids) for answer in group]
        others = [set().union(*grams[:g], *grams[g + 1 :]) for g in range(len(grams))]
        return [
            len(written - elsewhere) / len(written) if written else 0.0
            for written, elsewhere in zip(grams, others, strict=True)
        ]

    def _grams(self, token_ids: Sequence[int]) -> set[tuple[int, ...]]:
        return {tuple(token_ids[start : start + self.n]) for start in range(len(token_ids) - self.n + 1)}


def weighted_rewards(
    groups: Sequence[Sequence[Answer]], terms: Sequence[tuple[float, Reward]]
) -> Float32[Tensor, "B G"]:
    """Sum weighted rewards on plain data, on the CPU, ready to be added to those of tensors.

    Args:
        groups: the G answers of each of B prompts.
        terms: weight and reward; none at all gives zeros.

    Raises:
        ValueError: if the groups differ in size, or a reward gives another count of numbers or one that is not finite.
    """
    sizes = {len(group) for group in groups}
    if len(sizes) > 1:
        raise ValueError(f"every prompt needs the same number of rollouts, got groups of {sorted(sizes)}")
    total_BG = torch.zeros(len(groups), sizes.pop() if sizes else 0)
    for weight, reward in terms:
        for row_G, group in zip(total_BG, groups, strict=True):
            values = [float(value) for value in reward(group)]
            if len(values) != len(group) or not all(math.isfinite(value) for value in values):
                raise ValueError(f"{reward} must give {len(group)} finite numbers for a group, got {values}")
            row_G += weight * torch.tensor(values)
    return total_BG
