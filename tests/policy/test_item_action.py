import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thinkrank.policy import grpo_advantages, item_logprobs, item_surrogate, locate_targets, selection_weights


def gradient(loss, tensor):
    (got,) = torch.autograd.grad(loss, tensor)
    return got


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.lists(st.integers(0, 5), max_size=4), st.data())
def test_each_item_competes_once_among_the_batch_and_what_stands_behind_it(targets, remote, data):
    candidates = targets + remote
    rows = [[data.draw(st.floats(-5, 5)) for _ in candidates] for _ in targets]
    columns, excluded = locate_targets(torch.tensor(targets), torch.tensor(candidates))
    got = item_logprobs(torch.tensor(rows, dtype=torch.float64), columns, excluded)
    for row, target, logprob in zip(rows, targets, got.tolist(), strict=True):
        scores = {}
        for item, score in zip(candidates, row, strict=True):
            scores.setdefault(item, score)
        expected = scores[target] - math.log(sum(math.exp(score) for score in scores.values()))
        assert logprob == pytest.approx(expected, abs=1e-9)


def test_a_shared_target_is_nobodys_negative():
    scores = torch.zeros(3, 3, requires_grad=True)
    columns, excluded = locate_targets(torch.tensor([7, 7, 9]), torch.tensor([7, 7, 9]))
    slope = gradient(item_logprobs(scores, columns, excluded).sum(), scores)
    torch.testing.assert_close(slope, torch.tensor([[0.5, 0.0, -0.5], [0.5, 0.0, -0.5], [-0.5, 0.0, 0.5]]))


def test_over_the_whole_table_the_probabilities_of_all_items_sum_to_one_without_those_excluded():
    torch.manual_seed(0)
    scores = torch.randn(1, 6, dtype=torch.float64).expand(6, 6)
    items = torch.arange(6)
    torch.testing.assert_close(item_logprobs(scores, items).exp().sum().item(), 1.0)
    excluded = torch.zeros(4, 6, dtype=torch.bool)
    excluded[:, [1, 5]] = True
    kept = item_logprobs(scores[:4], torch.tensor([0, 2, 3, 4]), excluded)
    torch.testing.assert_close(kept.exp().sum().item(), 1.0)


def test_a_target_competes_even_if_it_is_excluded():
    excluded = torch.tensor([[True, True, False]])
    logprob = item_logprobs(torch.zeros(1, 3), torch.tensor([0]), excluded)
    assert logprob.item() == pytest.approx(math.log(0.5))
    assert excluded.tolist() == [[True, True, False]]


def test_the_log_probability_can_be_differentiated():
    torch.manual_seed(0)
    scores = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    excluded = torch.zeros(3, 4, dtype=torch.bool)
    excluded[1, 2] = True
    assert torch.autograd.gradcheck(lambda s: item_logprobs(s, torch.tensor([0, 1, 3]), excluded), scores)


def test_a_target_that_is_no_candidate_is_refused():
    with pytest.raises(ValueError, match="target 8 is not among the 2 candidates"):
        locate_targets(torch.tensor([1, 8]), torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="columns 0 to 2"):
        item_logprobs(torch.zeros(1, 3), torch.tensor([3]))


numbers = st.floats(-2, 2)
trajectories = st.lists(st.tuples(numbers, numbers, numbers, st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=6)


@given(trajectories, st.integers(0, 4))
def test_the_item_loss_equals_the_one_written_as_a_loop(rows, others):
    logprobs, old, advantages, weights = torch.tensor(rows, dtype=torch.float64).T
    result = item_surrogate(
        logprobs, old, advantages, weights, num_trajectories=len(rows) + others, clip_low=0.2, clip_high=0.28
    )
    total = 0.0
    for logprob, before, advantage, weight in rows:
        ratio = math.exp(logprob - before)
        total -= weight * min(ratio * advantage, max(0.8, min(1.28, ratio)) * advantage)
    assert result.loss.item() == pytest.approx(total / (len(rows) + others), abs=1e-9)
    assert result.num_units.item() == sum(weight > 0 for *_, weight in rows)


def test_rows_that_were_not_selected_have_exactly_no_gradient():
    rewards = torch.tensor([[0.1, 0.9, 0.4, 0.2], [0.3, 0.3, 0.3, 1.0]])
    advantages = grpo_advantages(rewards)
    weights = selection_weights(advantages, "best")
    logprobs = torch.tensor([-0.1, -2.0, -math.inf, -300.0, -1.0, -1.0, -1.0, -0.5], requires_grad=True)
    result = item_surrogate(
        logprobs, torch.full((8,), -0.5), advantages.flatten(), weights.flatten(), num_trajectories=8
    )
    slope = gradient(result.loss, logprobs)
    assert slope[[0, 2, 3, 4, 5, 6]].tolist() == [0.0] * 6
    assert slope[1].item() == pytest.approx(-math.exp(-1.5) * advantages[0, 1].item() / 8)
    assert slope[7].item() == pytest.approx(-advantages[1, 3].item() / 8)


def test_before_the_first_update_the_item_gradient_is_that_of_reinforce():
    logprobs = torch.tensor([-1.0, -2.0, -3.0], requires_grad=True)
    advantages, weights = torch.tensor([1.5, -0.5, 0.7]), torch.tensor([1.0, 1.0, 0.5])
    result = item_surrogate(logprobs, logprobs.detach(), advantages, weights, num_trajectories=4)
    torch.testing.assert_close(gradient(result.loss, logprobs), -weights * advantages / 4)
    assert result.mean_ratio.item() == 1
    assert result.clip_share.item() == 0


def test_item_micro_batches_add_up_and_report_the_selected_rows_only():
    logprobs = torch.tensor([0.5, -0.5, 0.5, 0.1], requires_grad=True)
    old, advantages = torch.zeros(4), torch.tensor([1.0, -1.0, 2.0, 1.0])
    weights = torch.tensor([1.0, 1.0, 0.0, 1.0])
    whole = item_surrogate(logprobs, old, advantages, weights, num_trajectories=4)
    pieces = [
        item_surrogate(logprobs[rows], old[rows], advantages[rows], weights[rows], num_trajectories=4).loss
        for rows in (slice(0, 3), slice(3, 4))
    ]
    torch.testing.assert_close(pieces[0] + pieces[1], whole.loss)
    torch.testing.assert_close(gradient(pieces[0] + pieces[1], logprobs), gradient(whole.loss, logprobs))
    assert whole.clip_share.item() == pytest.approx(2 / 3)
    assert whole.mean_ratio.item() == pytest.approx((math.exp(0.5) + math.exp(-0.5) + math.exp(0.1)) / 3)


def test_the_old_item_probabilities_are_constants_even_if_they_carry_a_gradient():
    logprobs = torch.tensor([-1.0], requires_grad=True)
    result = item_surrogate(logprobs, logprobs, torch.tensor([2.0]), torch.ones(1), num_trajectories=1)
    assert gradient(result.loss, logprobs).item() == -2.0


@pytest.mark.parametrize(("weight", "num_trajectories", "message"), [(-1.0, 2, "negative"), (1.0, 1, "at least 2")])
def test_negative_weights_and_too_small_a_batch_are_refused(weight, num_trajectories, message):
    values = torch.zeros(2)
    with pytest.raises(ValueError, match=message):
        item_surrogate(values, values, values, torch.full((2,), weight), num_trajectories=num_trajectories)
