"""Reinforcement-learning mathematics on tensors. It knows nothing of language models or recommendation."""

from typing import TYPE_CHECKING

from thinkrank._lazy import lazy_names

if TYPE_CHECKING:
    from thinkrank.policy import plackett_luce
    from thinkrank.policy.advantages import grpo_advantages, rloo_advantages, tied_groups
    from thinkrank.policy.clipping import clipped_objective
    from thinkrank.policy.credit import (
        ListReward,
        head_surrogate,
        pointwise_loss,
        rationale_advantages,
        score_gradients,
    )
    from thinkrank.policy.item_action import item_logprobs, item_surrogate, locate_targets
    from thinkrank.policy.options import Credit, Discount, Estimator, Normalisation, RatioLevel, Selection
    from thinkrank.policy.released import group_mean_credit
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
    from thinkrank.policy.selection import selection_weights
    from thinkrank.policy.surrogate import Surrogate, clipped_surrogate, combine_surrogates, denominators

__all__ = [
    "Answer",
    "Credit",
    "Discount",
    "Diversity",
    "Estimator",
    "LengthPenalty",
    "ListReward",
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
    "group_mean_credit",
    "grpo_advantages",
    "head_surrogate",
    "item_logprobs",
    "item_surrogate",
    "locate_targets",
    "ndcg_reward",
    "plackett_luce",
    "pointwise_loss",
    "rationale_advantages",
    "rloo_advantages",
    "score_gradients",
    "selection_weights",
    "softmax_similarity",
    "tied_groups",
    "weighted_rewards",
]

__getattr__ = lazy_names(
    __name__,
    {
        "Answer": "rewards",
        "Credit": "options",
        "Discount": "options",
        "Diversity": "rewards",
        "Estimator": "options",
        "LengthPenalty": "rewards",
        "ListReward": "credit",
        "Normalisation": "options",
        "RatioLevel": "options",
        "Reward": "rewards",
        "Selection": "options",
        "Surrogate": "surrogate",
        "clipped_objective": "clipping",
        "clipped_surrogate": "surrogate",
        "combine_surrogates": "surrogate",
        "denominators": "surrogate",
        "format_reward": "rewards",
        "fuse": "rewards",
        "group_mean_credit": "released",
        "grpo_advantages": "advantages",
        "head_surrogate": "credit",
        "item_logprobs": "item_action",
        "item_surrogate": "item_action",
        "locate_targets": "item_action",
        "ndcg_reward": "rewards",
        "pointwise_loss": "credit",
        "rationale_advantages": "credit",
        "rloo_advantages": "advantages",
        "score_gradients": "credit",
        "selection_weights": "selection",
        "softmax_similarity": "rewards",
        "tied_groups": "advantages",
        "weighted_rewards": "rewards",
    },
    submodules=["plackett_luce"],
)
