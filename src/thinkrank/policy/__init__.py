"""Reinforcement-learning mathematics on tensors. It knows nothing of language models or recommendation."""

from thinkrank.policy.rewards import ndcg_reward

__all__ = ["ndcg_reward"]
