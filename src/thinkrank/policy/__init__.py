"""Reinforcement-learning mathematics on tensors. It knows nothing of language models or recommendation."""

from thinkrank.policy.advantages import grpo_advantages, rloo_advantages, tied_groups
from thinkrank.policy.clipping import clipped_objective
from thinkrank.policy.item_action import item_logprobs, item_surrogate, locate_targets
from thinkrank.policy.rewards import (
    Answer,
    Diversity,
    LengthPenalty,
    Reward,
    format_reward,
    fuse,
    ndcg_reward,
    softmax_similarity,
    weighted_rewards,
)
from thinkrank.policy.selection import Selection, selection_weights
from thinkrank.policy.surrogate import (
    Normalisation,
    RatioLevel,
    Surrogate,
    clipped_surrogate,
    combine_surrogates,
    denominators,
)

__all__ = [
    "Answer",
    "Diversity",
    "LengthPenalty",
    "Normalisation",
    "RatioLevel",
    "Reward",
    "Selection",
    "Surrogate",
    "clipped_objective",
    "clipped_surrogate",
    "combine_surrogates",
    "denominators",
    "format_reward",
    "fuse",
    "grpo_advantages",
    "item_logprobs",
    "item_surrogate",
    "locate_targets",
    "ndcg_reward",
    "rloo_advantages",
    "selection_weights",
    "softmax_similarity",
    "tied_groups",
    "weighted_rewards",
]
