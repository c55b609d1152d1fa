import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thinkrank.policy import grpo_advantages, rloo_advantages, tied_groups

groups = st.integers(2, 6).flatmap(
    lambda size: st.lists(st.lists(st.floats(-4, 4), min_size=size, max_size=size), min_size=1, max_size=4)
)


def as_rewards(rows):
    return torch.tensor(rows, dtype=torch.float64)


def leave_one_out(row):
    return [reward - statistics.fmean(row[:g] + row[g + 1 :]) for g, reward in enumerate(row)]


@given(groups)
def test_leave_one_out_compares_each_rollout_with_the_mean_of_the_others(rows):
    advantages = rloo_advantages(as_rewards(rows))
    for row, got in zip(rows, advantages.tolist(), strict=True):
        assert got == pytest.approx(leave_one_out(row), abs=1e-9)
        assert sum(got) == pytest.approx(0, abs=1e-9)


def test_leave_one_out_of_the_specifications_example():
    advantages = rloo_advantages(torch.tensor([[0.9, 0.3, 0.2, 0.4]]))
    torch.testing.assert_close(advantages, torch.tensor([[0.6, -0.2, -1 / 3, -1 / 15]]))


@given(groups, st.sampled_from([1e-4, 1e-8, 0.5]))
def test_grpo_divides_by_the_unbiased_deviation_of_the_group(rows, epsilon):
    advantages = grpo_advantages(as_rewards(rows), epsilon=epsilon)
    for row, got in zip(rows, advantages.tolist(), strict=True):
        mean, deviation = statistics.fmean(row), statistics.stdev(row)
        expected = [(reward - mean) / (deviation + epsilon) for reward in row]
        assert got == pytest.approx(expected, rel=1e-5, abs=1e-6)


@given(groups)
def test_without_scaling_grpo_only_centres(rows):
    advantages = grpo_advantages(as_rewards(rows), scale_by_std=False)
    for row, got in zip(rows, advantages.tolist(), strict=True):
        assert got == pytest.approx([reward - statistics.fmean(row) for reward in row], abs=1e-9)


@given(st.floats(-1e3, 1e3, width=32), st.integers(2, 9))
def test_a_tied_group_gives_exactly_zero_and_is_flagged(reward, size):
    rewards = torch.stack([torch.full((size,), reward), torch.arange(float(size))])
    for advantages in (
        grpo_advantages(rewards),
        grpo_advantages(rewards, epsilon=0.0),
        grpo_advantages(rewards, scale_by_std=False),
        rloo_advantages(rewards),
    ):
        assert advantages[0].tolist() == [0.0] * size
        assert advantages[1].abs().max() > 0.4
    assert tied_groups(rewards).tolist() == [True, False]


def test_nearly_equal_rewards_stay_small_in_grpo():
    rewards = torch.tensor([[0.5, 0.5 + 1e-6]], dtype=torch.float64)
    assert grpo_advantages(rewards).abs().max() < 0.01
    assert grpo_advantages(rewards, epsilon=1e-12).abs().max() > 0.7


@given(groups, st.randoms())
def test_groups_do_not_see_each_other(rows, random):
    order = list(range(len(rows)))
    random.shuffle(order)
    for advantages in (grpo_advantages, rloo_advantages):
        alone = torch.cat([advantages(as_rewards([rows[b]])) for b in order])
        torch.testing.assert_close(advantages(as_rewards(rows))[order], alone)


@pytest.mark.parametrize("advantages", [grpo_advantages, rloo_advantages])
def test_one_rollout_or_a_reward_that_is_no_number_is_refused(advantages):
    with pytest.raises(ValueError, match="at least 2 per prompt, got 1"):
        advantages(torch.ones(3, 1))
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="finite"):
            advantages(torch.tensor([[0.0, value]]))


def test_a_negative_epsilon_is_refused():
    with pytest.raises(ValueError, match="negative"):
        grpo_advantages(torch.zeros(1, 2), epsilon=-1e-4)


def test_half_precision_rewards_are_compared_in_fp32():
    rewards = torch.tensor([[1.0, 1.0078125]], dtype=torch.bfloat16)
    assert rloo_advantages(rewards).dtype == torch.float32
    assert rloo_advantages(rewards)[0, 1].item() == 0.0078125


def test_the_same_sum_in_another_order_is_no_better_reward():
    # What an evaluator that is blind to order gives for permutations of a list: sums of the same numbers.
    chances = torch.rand(20, 10, generator=torch.Generator().manual_seed(0))
    orders = [torch.randperm(10, generator=torch.Generator().manual_seed(seed)) for seed in range(8)]
    rewards = torch.stack([sum(chances[:, column] for column in order) / 10 for order in orders], dim=1)
    assert (rewards != rewards[:, :1]).any()
    assert tied_groups(rewards).all()
    for advantages in (grpo_advantages(rewards, epsilon=1e-6), rloo_advantages(rewards)):
        assert (advantages == 0).all()
    assert not tied_groups(rewards + torch.arange(8) * 1e-5).any()
