"""Every reward on plain data keeps the contract of rewards."""

from thinkrank.policy import Diversity, LengthPenalty, format_reward
from thinkrank.testing import RewardContract


class TestFormat(RewardContract):
    @classmethod
    def make(cls):
        return format_reward


class TestLengthPenalty(RewardContract):
    @classmethod
    def make(cls):
        return LengthPenalty(free=2, limit=50)


class TestDiversity(RewardContract):
    @classmethod
    def make(cls):
        return Diversity(n=2)
