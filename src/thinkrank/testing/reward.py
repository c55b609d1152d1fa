"""Contract of a reward on plain data: one finite number for each answer, whatever was written, in whatever order."""

from typing import Any

import pytest
import torch

from thinkrank.policy.rewards import Answer, Reward, weighted_rewards

GROUP = (
    Answer((5, 6, 7, 2), "closed", "They like heist films.", 1),
    Answer((5, 6), "end_of_turn", "Something quiet, slow and new", 40),
    Answer((), "length", "", None),
    Answer((5, 6, 7, 2), "closed", "They like heist films.", 3),
    Answer(tuple(range(300)), "length", "and then " * 100, 2),
)
"""Answers to one prompt: a short one twice, one that ended its turn, an empty and an endless one."""


class RewardContract:
    """Tests for a callable that satisfies `thinkrank.policy.Reward`. Subclasses override `make`."""

    @classmethod
    def make(cls) -> Any:
        """Return the reward."""
        raise NotImplementedError

    @pytest.fixture
    def reward(self) -> Any:
        """Make it, anew for each test."""
        return self.make()

    def test_it_gives_a_finite_number_for_each_answer(self, reward: Any) -> None:
        assert isinstance(reward, Reward)
        values_BG = weighted_rewards([GROUP], [(1.0, reward)])
        assert values_BG.shape == (1, len(GROUP))
        assert values_BG.isfinite().all()

    def test_asking_again_gives_the_same(self, reward: Any) -> None:
        assert list(reward(GROUP)) == list(reward(GROUP))

    def test_the_order_of_answers_changes_the_order_of_rewards_alone(self, reward: Any) -> None:
        assert list(reward(GROUP[::-1])) == pytest.approx(list(reward(GROUP))[::-1])

    def test_groups_are_scored_by_themselves(self, reward: Any) -> None:
        groups = [GROUP[:3], GROUP[2:]]
        apart = torch.cat([weighted_rewards([group], [(0.5, reward)]) for group in groups])
        assert torch.equal(weighted_rewards(groups, [(0.5, reward)]), apart)
