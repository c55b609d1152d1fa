"""Dense rewards against enumeration: every thought a small policy could write, and every group of them."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thinkrank.policy import distillation_loss, gain_reward, log_mean, marginal_reward

logprobs = st.lists(st.lists(st.floats(-9, 0), min_size=3, max_size=3), min_size=1, max_size=4)


@given(logprobs)
def test_a_contribution_is_what_the_mean_loses_without_the_thought(rows):
    means = log_mean(torch.tensor(rows, dtype=torch.float64)).tolist()
    contributions = marginal_reward(torch.tensor(rows, dtype=torch.float64)).tolist()
    for row, mean, of_row in zip(rows, means, contributions, strict=True):
        shares = [math.exp(value) for value in row]
        assert mean == pytest.approx(math.log(sum(shares) / 3))
        for g, contribution in enumerate(of_row):
            others = [share for h, share in enumerate(shares) if h != g]
            assert contribution == pytest.approx(mean - math.log(sum(others) / 2), abs=1e-9)


def test_a_gain_is_cut_on_both_sides():
    found = gain_reward(torch.tensor([-1.0, -9.0, -2.0]), torch.tensor([-3.0, -1.0, -2.5]), 1.5)
    assert found.tolist() == [1.5, -1.5, 0.5]
    with pytest.raises(ValueError, match="limit of a gain"):
        gain_reward(torch.zeros(2), torch.zeros(2), 0.0)


def test_no_sibling_and_no_number_are_refused():
    with pytest.raises(ValueError, match="at least 2 rollouts"):
        marginal_reward(torch.zeros(2, 1))
    with pytest.raises(ValueError, match="must be finite"):
        marginal_reward(torch.tensor([[0.0, -math.inf]]))


@pytest.mark.parametrize("group", [2, 3])
def test_policy_and_answer_climb_the_expected_log_of_the_mean_probability(group):
    """All groups of four thoughts, weighted by their probability: the gradient in both against finite differences."""
    random = torch.Generator().manual_seed(1)
    policy = torch.randn(4, generator=random, dtype=torch.float64).requires_grad_()
    answers = torch.randn(4, 5, generator=random, dtype=torch.float64).requires_grad_()

    def expectation(policy, answers):
        chances, answered = policy.softmax(0), answers.log_softmax(1)[:, 2]
        groups = itertools.product(range(4), repeat=group)
        return sum(chances[list(g)].prod() * answered[list(g)].exp().mean().log() for g in groups)

    def estimated():
        total = 0.0
        for drawn in map(list, itertools.product(range(4), repeat=group)):
            answered_BG = answers.log_softmax(1)[drawn, 2][None]
            advantages_G = marginal_reward(answered_BG.detach())[0]
            loss = (advantages_G * policy.log_softmax(0)[drawn]).sum() + log_mean(answered_BG).sum()
            total = total + policy.softmax(0)[drawn].prod().detach() * loss
        return total

    ours = torch.autograd.grad(estimated(), (policy, answers))
    for one, tensor, slot in zip(ours, (policy, answers), (0, 1), strict=True):
        for index in itertools.product(*map(range, tensor.shape)):
            moved = []
            for step in (1e-5, -1e-5):
                both = [policy.detach().clone(), answers.detach().clone()]
                both[slot][index] += step
                moved.append(expectation(*both))
            assert float(one[index]) == pytest.approx(float(moved[0] - moved[1]) / 2e-5, abs=1e-7)


def test_the_answer_without_a_thought_is_drawn_to_the_mean_of_those_with_one():
    random = torch.Generator().manual_seed(2)
    scores = torch.randn(2, 3, 4, generator=random, dtype=torch.float64).requires_grad_()
    answers = torch.randn(2, 4, generator=random, dtype=torch.float64).requires_grad_()
    left_out = torch.tensor([[False, True, False, False], [False, False, False, False]])
    losses = distillation_loss(
        scores.masked_fill(left_out[:, None], -torch.inf), answers.masked_fill(left_out, -torch.inf)
    )
    for b in range(2):
        kept = [i for i in range(4) if not left_out[b, i]]
        mean = scores[b][:, kept].softmax(1).mean(0)
        expected = sum(mean[j] * (mean[j].log() - answers[b, kept].log_softmax(0)[j]) for j in range(len(kept)))
        assert losses[b].item() == pytest.approx(expected.item())
        slope = torch.autograd.grad(losses[b], answers, retain_graph=True)[0][b]
        for j, item in enumerate(kept):  # softmax minus target
            assert float(slope[item]) == pytest.approx((answers[b, kept].softmax(0)[j] - mean[j]).item())
        assert not slope[left_out[b]].any()
    (of_scores,) = torch.autograd.grad(losses.sum(), scores, allow_unused=True)
    assert of_scores is None
    assert distillation_loss(answers.detach()[:, None], answers).abs().max().item() < 1e-12
