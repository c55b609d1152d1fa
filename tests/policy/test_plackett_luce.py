"""Plackett–Luce against the enumeration of all permutations, and samples against exact values."""

import inspect
import itertools
import math

import jaxtyping
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thinkrank.policy import plackett_luce

DISCOUNTS = {"log2": lambda rank: 1 / math.log2(rank + 1), "reciprocal": lambda rank: 1 / rank, "constant": lambda _: 1}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def scores_of(*shape, seed=0, spread=1.0, dtype=torch.float64):
    return spread * torch.randn(*shape, generator=generator(seed), dtype=dtype)


def all_permutations(num_items):
    return list(itertools.permutations(range(num_items)))


def probability(weights, permutation):
    """By the definition, item after item, from exp(score)."""
    product = 1.0
    for place, item in enumerate(permutation):
        product *= weights[item] / sum(weights[other] for other in permutation[place:])
    return product


def dcg(gains, k, discount):
    return sum(gain * DISCOUNTS[discount](rank) for rank, gain in enumerate(gains[:k], start=1))


def ndcg(permutation, gains, k=None, discount="log2"):
    ideal = dcg(sorted(gains, reverse=True), k, discount)
    return dcg([gains[item] for item in permutation], k, discount) / ideal if ideal else 0.0


def enumerated(scores_N, reward, temperature=1.0):
    """E[reward(permutation)] as a tensor with a gradient, over all permutations."""
    weights = list(((scores_N - scores_N.detach().max()) / temperature).exp())
    return sum(
        probability(weights, permutation) * reward(permutation) for permutation in all_permutations(len(weights))
    )


def one_hot(relevant, num_items):
    return torch.nn.functional.one_hot(torch.tensor(relevant), num_items).double()


# probabilities and samples


@pytest.mark.parametrize("num_items", [1, 2, 3, 6])
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_probabilities_are_the_definitions_and_sum_to_one(num_items, temperature):
    scores = scores_of(2, num_items)
    permutations = torch.tensor(all_permutations(num_items))[:, None].expand(-1, 2, -1)
    probabilities = plackett_luce.log_prob(scores, permutations, temperature=temperature).exp()
    torch.testing.assert_close(probabilities.sum(dim=0), torch.ones(2, dtype=torch.float64))
    for m, b in itertools.product(range(len(permutations)), range(2)):
        expected = probability((scores[b] / temperature).exp().tolist(), permutations[m, b].tolist())
        assert probabilities[m, b].item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_cut_off_gives_the_probability_of_the_first_places(k):
    scores = scores_of(1, 4)
    permutations = torch.tensor(all_permutations(4))[:, None]
    whole = plackett_luce.log_prob(scores, permutations).exp()[:, 0]
    begins = plackett_luce.log_prob(scores, permutations, k=k).exp()[:, 0]
    for m, permutation in enumerate(all_permutations(4)):
        alike = [n for n, other in enumerate(all_permutations(4)) if other[:k] == permutation[:k]]
        assert begins[m].item() == pytest.approx(whole[alike].sum().item())


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_samples_come_as_often_as_their_probability_says(temperature):
    scores, num_samples = scores_of(1, 4, spread=0.3), 20_000
    samples = plackett_luce.sample(scores, num_samples, generator(), temperature=temperature)[:, 0]
    numbers = (samples * torch.tensor([1000, 100, 10, 1])).sum(dim=1).tolist()
    weights = (scores[0] / temperature).exp().tolist()
    statistic = 0.0
    for permutation in all_permutations(4):
        expected = num_samples * probability(weights, permutation)
        assert expected > 5  # or the statistic is not distributed as chi-square
        count = numbers.count(int("".join(map(str, permutation))))
        statistic += (count - expected) ** 2 / expected
    assert statistic < 50  # chi-square with 23 degrees of freedom: 49.7 is its .999 quantile


def test_equal_seeds_give_equal_samples_and_noise_can_be_shared():
    scores = scores_of(3, 5)
    first, again = (plackett_luce.sample(scores, 7, generator(4)) for _ in range(2))
    noise = plackett_luce.gumbel_noise((7, 3, 5), generator(4), scores)
    assert first.equal(again)
    assert first.equal(plackett_luce.order(scores, noise))
    assert not first.equal(plackett_luce.sample(scores, 7, generator(5)))


def test_at_a_low_temperature_every_sample_is_the_sorted_list():
    scores = scores_of(3, 8)
    samples = plackett_luce.sample(scores, 5, generator(), temperature=1e-6)
    assert samples.equal(scores.argsort(dim=1, descending=True).expand(5, -1, -1))


def test_log_probabilities_hold_with_gaps_beyond_any_exponent():
    scores = torch.tensor([[0.0, 3000.0, -3000.0]], requires_grad=True)
    permutations = torch.tensor([[[1, 0, 2]], [[2, 0, 1]]])
    logprobs = plackett_luce.log_prob(scores, permutations)
    assert logprobs[:, 0].tolist() == [0.0, -9000.0]
    (gradient,) = torch.autograd.grad(logprobs[1].sum(), scores)
    torch.testing.assert_close(gradient, torch.tensor([[1.0, -2.0, 1.0]]), rtol=1e-3, atol=1e-3)


def test_log_probabilities_have_the_gradient_of_their_definition():
    scores = scores_of(2, 5).requires_grad_()
    permutations = plackett_luce.sample(scores.detach(), 3, generator())
    assert torch.autograd.gradcheck(lambda s: plackett_luce.log_prob(s, permutations, temperature=0.7), scores)


# exact expectations


@pytest.mark.parametrize("num_items", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("spread", [0.0, 1.0, 5.0, 40.0])
def test_the_exact_expectation_is_that_of_enumeration(num_items, spread):
    scores = scores_of(2 if num_items == 7 else 4, num_items, seed=num_items, spread=spread)
    for b, relevant in enumerate(torch.arange(len(scores)) % num_items):
        exact = plackett_luce.expected_ndcg(scores[b : b + 1], relevant[None])
        expected = enumerated(scores[b], lambda p, relevant=int(relevant): 1 / math.log2(p.index(relevant) + 2))
        assert abs(exact.item() - expected.item()) < 1e-12


@pytest.mark.parametrize(("k", "temperature"), [(None, 1.0), (1, 1.0), (3, 0.4), (10, 2.0)])
@pytest.mark.parametrize("discount", DISCOUNTS)
@pytest.mark.parametrize("gains", [[0, 0, 1, 0, 0], [2, 0, 1, 1, 3], [0, 0, 0, 0, 0]])
def test_value_and_gradient_of_every_reward_are_those_of_enumeration(k, temperature, discount, gains):
    scores = scores_of(1, 5, seed=3, spread=1.5).requires_grad_()
    exact = plackett_luce.expected_graded_ndcg(
        scores, torch.tensor([gains]).double(), temperature, k=k, discount=discount
    ).sum()
    expected = enumerated(scores[0], lambda p: ndcg(p, gains, k, discount), temperature)
    torch.testing.assert_close(exact, torch.as_tensor(expected).double(), rtol=0, atol=1e-12)
    gradients = [torch.autograd.grad(value, scores)[0] for value in (exact, expected)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)


@pytest.mark.parametrize("num_items", [20, 100])
@pytest.mark.parametrize("spread", [0.5, 4.0])
def test_long_lists_agree_with_monte_carlo(num_items, spread):
    scores = scores_of(3, num_items, spread=spread)
    relevant = scores.argsort(dim=1, descending=True)[torch.arange(3), torch.tensor([0, 4, 12])]
    exact = plackett_luce.expected_ndcg(scores, relevant, k=10)
    gains = one_hot(relevant.tolist(), num_items)
    rewards = plackett_luce.ndcg_of_permutations(plackett_luce.sample(scores, 20_000, generator()), gains, 10)
    errors = (rewards.mean(dim=0) - exact).abs()
    assert (errors < 4 * rewards.std(dim=0) / len(rewards) ** 0.5).all()


def test_long_lists_of_equal_scores_give_the_mean_over_places():
    for num_items in (20, 300):
        exact = plackett_luce.expected_ndcg(torch.zeros(1, num_items).double(), torch.tensor([4]))
        mean = sum(1 / math.log2(rank + 1) for rank in range(1, num_items + 1)) / num_items
        assert exact.item() == pytest.approx(mean, abs=1e-13)


@given(st.integers(0, 10_000), st.sampled_from([0.3, 1.0, 3.0]), st.sampled_from([None, 1, 5]))
def test_the_relevant_item_is_pulled_up_and_every_other_one_down(seed, spread, k):
    scores = scores_of(1, 20, seed=seed, spread=spread).requires_grad_()
    (gradient,) = torch.autograd.grad(plackett_luce.expected_ndcg(scores, torch.tensor([3]), k=k).sum(), scores)
    others = gradient[0, torch.arange(20) != 3]
    assert gradient[0, 3] > 0
    assert (others <= 0).all()
    assert abs(gradient.sum().item()) < 1e-14


def test_extreme_scores_give_the_sorted_lists_value_and_finite_gradients():
    scores = torch.tensor([[0.0, 1e6, -1e6, 1e30], [0.0, -50.0, -60.0, -1e30]], requires_grad=True)
    exact = plackett_luce.expected_ndcg(scores, torch.tensor([0, 0]))
    torch.testing.assert_close(exact, torch.tensor([0.5, 1.0]))
    (gradient,) = torch.autograd.grad(exact.sum(), scores)
    assert gradient.abs().max() < 1e-6


@pytest.mark.parametrize("spread", [0.1, 1.0, 10.0, 100.0])
def test_single_precision_keeps_single_precision(spread):
    scores, relevant = scores_of(50, 20, spread=spread, dtype=torch.float32), torch.arange(50) % 20
    single, double = (plackett_luce.expected_ndcg(s, relevant) for s in (scores, scores.double()))
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), double, rtol=0, atol=1e-6)


def test_half_precision_is_raised_to_single():
    half = scores_of(2, 6).bfloat16()
    exact = plackett_luce.expected_ndcg(half, torch.tensor([1, 2]))
    assert exact.equal(plackett_luce.expected_ndcg(half.float(), torch.tensor([1, 2])))
    assert plackett_luce.log_prob(half, plackett_luce.sample(half, 2, generator())).dtype == torch.float32


# rewards of permutations


@pytest.mark.parametrize("k", [None, 1, 2, 9])
@pytest.mark.parametrize("discount", DISCOUNTS)
def test_rewards_of_permutations_are_dcg_over_ideal_dcg(k, discount):
    gains = [[0.0, 2.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]
    permutations = torch.tensor(all_permutations(4))[:, None].expand(-1, 3, -1)
    rewards = plackett_luce.ndcg_of_permutations(permutations, torch.tensor(gains), k, discount=discount)
    expected = [[ndcg(p, row, k, discount) for row in gains] for p in all_permutations(4)]
    torch.testing.assert_close(rewards, torch.tensor(expected))


def test_the_return_of_an_item_is_what_stands_from_its_place_on():
    gains = [3.0, 0.0, 1.0, 2.0]
    permutations = torch.tensor(all_permutations(4))[:, None]
    returns = plackett_luce.returns_of_permutations(permutations, torch.tensor([gains]), 3)
    ideal = dcg(sorted(gains, reverse=True), 3, "log2")
    for m, permutation in enumerate(all_permutations(4)):
        for item in range(4):
            place = permutation.index(item)
            earned = dcg([0.0] * place + [gains[other] for other in permutation[place:]], 3, "log2") / ideal
            assert returns[m, 0, item].item() == pytest.approx(earned, abs=1e-6)


# sampled estimates


def gradients_of(estimate, scores, gains, num_samples, repeats, **options):
    """[repeats, N] gradients, and the values, of one list."""
    many = scores.expand(repeats, -1).clone().requires_grad_()
    permutations = plackett_luce.sample(many.detach(), num_samples, generator(1), temperature=options["temperature"])
    all_gains = gains.expand(repeats, -1)
    if estimate == "pl_rank":
        values = plackett_luce.pl_rank_estimate(many, permutations, all_gains, **options)
    else:
        rewards = plackett_luce.ndcg_of_permutations(permutations, all_gains, options["k"])
        values = plackett_luce.score_function_estimate(many, permutations, rewards, **options)
    return torch.autograd.grad(values.sum(), many)[0], values.detach()


SINGLE, GRADED = one_hot([2], 6), torch.tensor([[0.0, 2.0, 1.0, 0.0, 3.0, 0.0]]).double()


@pytest.mark.parametrize(
    ("estimate", "num_samples"), [("score_function", 2), ("score_function", 8), ("pl_rank", 1), ("pl_rank", 8)]
)
@pytest.mark.parametrize("gains", [SINGLE, GRADED], ids=["one relevant", "graded"])
@pytest.mark.parametrize(("k", "temperature"), [(None, 1.0), (2, 0.6)])
def test_sampled_values_and_gradients_are_unbiased(estimate, num_samples, gains, k, temperature):
    scores, repeats = scores_of(1, 6, seed=2), 20_000
    gradients, values = gradients_of(estimate, scores, gains, num_samples, repeats, k=k, temperature=temperature)
    leaf = scores.clone().requires_grad_()
    exact = plackett_luce.expected_graded_ndcg(leaf, gains, temperature, k=k)
    (expected,) = torch.autograd.grad(exact.sum(), leaf)
    deviations = (gradients.mean(dim=0) - expected[0]) / (gradients.std(dim=0) / repeats**0.5)
    assert deviations.abs().max() < 4
    assert deviations.abs().max() > 0.01  # they are estimates, not the exact value itself
    assert abs(values.mean() - exact.item()) < 4 * values.std() / repeats**0.5
    torch.testing.assert_close(gradients.sum(dim=1), torch.zeros(repeats).double(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "gains", [one_hot([3], 20), torch.arange(20).double()[None] % 4], ids=["one relevant", "graded"]
)
def test_taking_the_gradient_apart_by_places_lowers_its_variance(gains):
    scores = scores_of(1, 20, seed=5)
    options = {"num_samples": 8, "repeats": 2000, "k": None, "temperature": 1.0}
    by_place, whole = (
        gradients_of(estimate, scores, gains, **options)[0].var(dim=0).sum()
        for estimate in ("pl_rank", "score_function")
    )
    assert by_place < whole / 2


def test_the_estimates_of_every_permutation_weighted_by_its_probability_are_the_exact_gradient():
    scores = scores_of(1, 5, seed=8, spread=2.0)
    gains = torch.tensor([[0.0, 1.0, 0.0, 2.0, 0.0]]).double()
    total = torch.zeros(1, 5).double()
    for permutation in all_permutations(5):
        leaf = scores.clone().requires_grad_()
        value = plackett_luce.pl_rank_estimate(leaf, torch.tensor([[permutation]]), gains, discount="reciprocal", k=3)
        weight = probability(scores[0].exp().tolist(), permutation)
        total += weight * torch.autograd.grad(value.sum(), leaf)[0]
    leaf = scores.clone().requires_grad_()
    exact = plackett_luce.expected_graded_ndcg(leaf, gains, discount="reciprocal", k=3)
    torch.testing.assert_close(total, torch.autograd.grad(exact.sum(), leaf)[0], rtol=0, atol=1e-12)


def test_a_sample_teaches_by_how_much_better_it_was_than_the_others():
    scores, rewards = scores_of(1, 5).requires_grad_(), torch.tensor([[0.9], [0.2], [0.4]]).double()
    permutations = plackett_luce.sample(scores.detach(), 3, generator())
    value = plackett_luce.score_function_estimate(scores, permutations, rewards)
    logprobs = plackett_luce.log_prob(scores, permutations)[:, 0]
    by_hand = (0.6 * logprobs[0] - 0.45 * logprobs[1] - 0.15 * logprobs[2]) / 3
    gradients = [torch.autograd.grad(one.sum(), scores)[0] for one in (value, by_hand)]
    torch.testing.assert_close(*gradients)
    same = plackett_luce.score_function_estimate(scores, permutations, torch.full((3, 1), 0.7).double())
    assert (torch.autograd.grad(same.sum(), scores)[0] == 0).all()


def test_any_reward_can_be_estimated():
    """Here one that is no sum over places: whether item 0 stands right before item 1."""

    def together(permutation):
        return float(permutation.index(1) == permutation.index(0) + 1)

    scores, repeats = scores_of(1, 4, seed=6), 20_000
    leaf = scores.clone().requires_grad_()
    (expected,) = torch.autograd.grad(enumerated(leaf[0], together), leaf)
    many = scores.expand(repeats, -1).clone().requires_grad_()
    permutations = plackett_luce.sample(many.detach(), 4, generator())
    places = permutations.argsort(dim=-1)
    rewards = (places[..., 1] == places[..., 0] + 1).double()
    values = plackett_luce.score_function_estimate(many, permutations, rewards)
    (gradients,) = torch.autograd.grad(values.sum(), many)
    assert ((gradients.mean(dim=0) - expected[0]).abs() < 4 * gradients.std(dim=0) / repeats**0.5).all()


def test_estimates_hold_with_gaps_beyond_any_exponent():
    scores = torch.tensor([[0.0, 3000.0, -3000.0, 10.0]], requires_grad=True)
    permutations = torch.tensor([[[2, 0, 3, 1]], [[1, 3, 0, 2]]])
    gains = torch.tensor([[1.0, 0.0, 0.0, 2.0]])
    for value in (
        plackett_luce.pl_rank_estimate(scores, permutations, gains),
        plackett_luce.score_function_estimate(scores, permutations, torch.tensor([[0.0], [1.0]])),
    ):
        (gradient,) = torch.autograd.grad(value.sum(), scores)
        assert gradient.isfinite().all()


# padding and order


def values_and_gradients(scores, gains, mask):
    """What every function says of a list, by name, with the gradient of each."""
    permutations = plackett_luce.sample(scores, 6, generator(), mask_BN=mask)
    rewards = plackett_luce.ndcg_of_permutations(permutations, gains, 2)
    found = {}
    for name, function in {
        "log_prob": lambda s: plackett_luce.log_prob(s, permutations, mask_BN=mask).sum(dim=0),
        "log_prob@2": lambda s: plackett_luce.log_prob(s, permutations, k=2, mask_BN=mask).sum(dim=0),
        "exact": lambda s: plackett_luce.expected_graded_ndcg(s, gains, k=2, mask_BN=mask),
        "score_function": lambda s: plackett_luce.score_function_estimate(s, permutations, rewards, mask_BN=mask),
        "pl_rank": lambda s: plackett_luce.pl_rank_estimate(s, permutations, gains, k=2, mask_BN=mask),
    }.items():
        leaf = scores.clone().requires_grad_()
        value = function(leaf)
        found[name] = value.detach(), torch.autograd.grad(value.sum(), leaf)[0]
    return permutations, found


@pytest.mark.parametrize("filler", [0.0, 1e4, -1e4, math.inf, -math.inf, math.nan])
def test_padding_stands_last_changes_nothing_and_gets_no_gradient(filler):
    scores, gains = scores_of(2, 5, seed=9), torch.tensor([[0, 1, 0, 0, 2], [1, 0, 0, 0, 0]]).double()
    padded = torch.cat([scores[:, :2], torch.full((2, 2), filler).double(), scores[:, 2:]], dim=1)
    padded_gains = torch.cat([gains[:, :2], torch.zeros(2, 2).double(), gains[:, 2:]], dim=1)
    real = torch.tensor([0, 1, 4, 5, 6])
    mask = torch.zeros(2, 7, dtype=torch.bool).index_fill(1, real, True)

    permutations, found = values_and_gradients(padded, padded_gains, mask)
    assert (permutations[..., 5:].sort(dim=-1).values == torch.tensor([2, 3])).all()
    # The same permutations of the list without padding.
    unpadded = torch.searchsorted(real, permutations[..., :5].contiguous())
    assert {tuple(row) for row in unpadded.flatten(0, 1).sort(dim=-1).values.tolist()} == {(0, 1, 2, 3, 4)}
    rewards = plackett_luce.ndcg_of_permutations(unpadded, gains, 2)
    plain = {
        "log_prob": lambda s: plackett_luce.log_prob(s, unpadded).sum(dim=0),
        "log_prob@2": lambda s: plackett_luce.log_prob(s, unpadded, k=2).sum(dim=0),
        "exact": lambda s: plackett_luce.expected_graded_ndcg(s, gains, k=2),
        "score_function": lambda s: plackett_luce.score_function_estimate(s, unpadded, rewards),
        "pl_rank": lambda s: plackett_luce.pl_rank_estimate(s, unpadded, gains, k=2),
    }
    for name, (values, gradient) in found.items():
        leaf = scores.clone().requires_grad_()
        expected = plain[name](leaf)
        torch.testing.assert_close(values, expected.detach())
        torch.testing.assert_close(gradient[:, real], torch.autograd.grad(expected.sum(), leaf)[0])
        assert (gradient[:, 2:4] == 0).all()


def test_rows_without_any_real_item_are_worth_nothing_and_harm_no_other():
    scores, gains = scores_of(2, 3), torch.tensor([[0, 1, 0], [0, 0, 0]]).double()
    mask = torch.tensor([[True] * 3, [False] * 3])
    alone = values_and_gradients(scores[:1], gains[:1], mask[:1])[1]
    for name, (values, gradient) in values_and_gradients(scores, gains, mask)[1].items():
        assert values[1].item() == 0
        assert (gradient[1] == 0).all()
        if name == "exact":
            torch.testing.assert_close(values[:1], alone[name][0])


def test_reordering_the_candidates_reorders_the_gradient_and_nothing_else():
    scores, gains = scores_of(3, 6, seed=4), torch.tensor([[0, 1, 0, 2, 0, 0]]).double().expand(3, -1)
    shuffle = torch.randperm(6, generator=generator())
    permutations = plackett_luce.sample(scores, 5, generator())
    moved = torch.argsort(shuffle)[permutations]  # item i of the old list is item argsort(shuffle)[i] of the new one
    for function in (
        lambda s, g, p: plackett_luce.expected_graded_ndcg(s, g, 0.5, k=3),
        lambda s, g, p: plackett_luce.pl_rank_estimate(s, p, g, k=3),
        lambda s, g, p: plackett_luce.log_prob(s, p).sum(dim=0),
        lambda s, g, p: plackett_luce.score_function_estimate(s, p, plackett_luce.ndcg_of_permutations(p, g)),
    ):
        results = []
        for s, g, p in ((scores, gains, permutations), (scores[:, shuffle], gains[:, shuffle], moved)):
            leaf = s.clone().requires_grad_()
            value = function(leaf, g, p)
            results.append((value.detach(), torch.autograd.grad(value.sum(), leaf)[0]))
        torch.testing.assert_close(results[1][0], results[0][0])
        torch.testing.assert_close(results[1][1], results[0][1][:, shuffle])


# refusals


S, P, R, GAINS, MASK = (
    torch.zeros(2, 3),
    torch.arange(3).expand(4, 2, 3),
    torch.zeros(4, 2),
    torch.zeros(2, 3),
    torch.ones(2, 3, dtype=torch.bool),
)
FIRST = torch.zeros(2, dtype=torch.long)
CASES = {
    "sample": (plackett_luce.sample, [S, 2, generator()], {"mask_BN": MASK}),
    "order": (plackett_luce.order, [S, torch.zeros(4, 2, 3)], {"mask_BN": MASK}),
    "log_prob": (plackett_luce.log_prob, [S, P], {"mask_BN": MASK}),
    "ndcg": (plackett_luce.ndcg_of_permutations, [P, GAINS], {}),
    "returns": (plackett_luce.returns_of_permutations, [P, GAINS], {}),
    "expected": (plackett_luce.expected_ndcg, [S, FIRST], {"mask_BN": MASK}),
    "graded": (plackett_luce.expected_graded_ndcg, [S, GAINS], {"mask_BN": MASK}),
    "score_function": (plackett_luce.score_function_estimate, [S, P, R], {"mask_BN": MASK}),
    "pl_rank": (plackett_luce.pl_rank_estimate, [S, P, GAINS], {"mask_BN": MASK}),
}


def wrong_shapes():
    for name, (function, arguments, options) in CASES.items():
        for slot in [*range(len(arguments)), *options]:
            value = arguments[slot] if isinstance(slot, int) else options[slot]
            if not isinstance(value, torch.Tensor):
                continue
            for kind, wrong in {"deeper": value[None], "wider": torch.cat([value, value], dim=-1)}.items():
                changed = [wrong if slot == place else other for place, other in enumerate(arguments)]
                changed_options = {key: wrong if slot == key else other for key, other in options.items()}
                yield pytest.param(function, changed, changed_options, id=f"{name}-{slot}-{kind}")


@pytest.mark.parametrize("name", CASES)
def test_the_right_shapes_pass(name):
    function, arguments, options = CASES[name]
    inspect.unwrap(function)(*arguments, **options)


@pytest.mark.parametrize(("function", "arguments", "options"), list(wrong_shapes()))
def test_wrong_shapes_are_refused_without_type_checks_too(function, arguments, options):
    # What one function leaves to another has the type check of the tests before it.
    with pytest.raises((ValueError, jaxtyping.TypeCheckError), match=r"shape|dimensions|parameter"):
        inspect.unwrap(function)(*arguments, **options)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="temperature must be positive"):
        plackett_luce.sample(S, 1, generator(), temperature=0.0)
    with pytest.raises(ValueError, match="num_samples"):
        plackett_luce.sample(S, 0, generator())
    for score in (math.nan, math.inf):
        with pytest.raises(ValueError, match="finite"):
            plackett_luce.log_prob(torch.full((2, 3), score), P)
    with pytest.raises(ValueError, match="k must be at least 1"):
        plackett_luce.log_prob(S, P, k=0)
    with pytest.raises(ValueError, match="k must be at least 1"):
        plackett_luce.expected_ndcg(S, FIRST, k=0)
    with pytest.raises(ValueError, match="column 3"):
        plackett_luce.expected_ndcg(S, FIRST + 3)
    with pytest.raises(ValueError, match="permutation of 0 to 2"):
        plackett_luce.log_prob(S, torch.zeros_like(P))
    with pytest.raises(ValueError, match="at least 0"):
        plackett_luce.ndcg_of_permutations(P, GAINS - 1)
    with pytest.raises(ValueError, match="at least 2 permutations"):
        plackett_luce.score_function_estimate(S, P[:1], R[:1])


def test_padding_is_no_relevant_item_and_never_stands_before_a_real_one():
    mask = torch.tensor([[False, True, True]] * 2)
    with pytest.raises(ValueError, match="padding has a gain"):
        plackett_luce.expected_ndcg(S, FIRST, mask_BN=mask)
    with pytest.raises(ValueError, match="padding before a real item"):
        plackett_luce.log_prob(S, P, mask_BN=mask)


# the log of standing first


@pytest.mark.parametrize("gains", [[0, 1, 0, 0], [2, 0, 1, 0], [0, 0, 0, 0]])
@pytest.mark.parametrize("temperature", [1.0, 0.4])
def test_the_log_of_standing_first_is_that_of_all_orders_in_which_the_item_does(gains, temperature):
    scores_N = scores_of(4).requires_grad_()
    expected = scores_N.sum() * 0
    for item, gain in enumerate(gains):
        first = enumerated(scores_N, lambda order, item=item: float(order[0] == item), temperature)
        expected = expected + gain / max(1, sum(gains)) * first.log()
    found = plackett_luce.log_first(scores_N[None], torch.tensor(gains)[None].double(), temperature)[0]
    torch.testing.assert_close(found, expected)
    (gradient_N,), (expected_N,) = (torch.autograd.grad(value, scores_N) for value in (found, expected))
    torch.testing.assert_close(gradient_N, expected_N)


def test_padding_neither_stands_first_nor_gets_a_gradient():
    scores = torch.tensor([[0.3, -0.2, math.nan]], requires_grad=True)
    mask, gains = torch.tensor([[True, True, False]]), torch.tensor([[1.0, 0.0, 0.0]])
    found = plackett_luce.log_first(scores, gains, mask_BN=mask)
    torch.testing.assert_close(found, plackett_luce.log_first(scores[:, :2], gains[:, :2]))
    (gradient,) = torch.autograd.grad(found.sum(), scores)
    assert gradient[0, 2] == 0 < gradient[0, 0]
    with pytest.raises(ValueError, match="padding has a gain"):
        plackett_luce.log_first(scores, torch.tensor([[1.0, 0.0, 1.0]]), mask_BN=mask)
