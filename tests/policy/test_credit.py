"""Credit of rationales, against brute force, and in a small world where learning can be watched."""

import inspect
import itertools
import math

import jaxtyping
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thinkrank.policy import ListReward, head_surrogate, plackett_luce, rationale_advantages, score_gradients

CREDITS = ["plgrad", "counterfactual", "list", "rank_return", "pointwise"]
ESTIMATORS = ["exact", "pl_rank", "score_function"]
RAW = {"normalise": False, "clip": None}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def scores_of(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def one_hot(relevant, num_candidates):
    return torch.nn.functional.one_hot(torch.tensor(relevant), num_candidates).double()


def advantages_of(scores, gains, credit, estimator="exact", **options):
    """With an estimator that the credit takes: rank_return has to sample."""
    estimator = "pl_rank" if credit == "rank_return" and estimator == "exact" else estimator
    reward = ListReward(estimator=estimator, num_samples=options.pop("num_samples", 16))
    return rationale_advantages(scores, gains, reward, credit=credit, **{"generator": generator(), **options})


def expected(scores_N, gains_N, k=None):
    return plackett_luce.expected_graded_ndcg(scores_N[None], gains_N[None], k=k).item()


def against_siblings(values):
    """[g][i] minus the mean over the other g, by loops."""
    return [
        [
            values[g][i] - sum(values[h][i] for h in range(len(values)) if h != g) / (len(values) - 1)
            for i in range(len(values[0]))
        ]
        for g in range(len(values))
    ]


# each credit against its definition


def test_counterfactual_credit_is_the_marginal_contribution_by_brute_force():
    scores, gains = scores_of(2, 3, 4), torch.tensor([[0, 1, 0, 0], [2, 0, 1, 0]]).double()
    found = rationale_advantages(scores, gains, ListReward(k=3), credit="counterfactual", **RAW)
    for b in range(2):
        worth = [[0.0] * 4 for _ in range(3)]
        for company, g, i in itertools.product(range(3), range(3), range(4)):
            changed = scores[b, company].clone()
            changed[i] = scores[b, g, i]
            worth[g][i] += expected(changed, gains[b], k=3) / 3
        torch.testing.assert_close(found[b], torch.tensor(against_siblings(worth)).double())


def test_plgrad_credit_is_the_slope_times_the_lead_over_the_siblings():
    scores, gains = scores_of(1, 3, 5), one_hot([2], 5)
    found = rationale_advantages(scores, gains, **RAW)
    step = 1e-6
    slopes = [0.0] * 5
    for g, i in itertools.product(range(3), range(5)):
        up, down = scores[0, g].clone(), scores[0, g].clone()
        up[i] += step
        down[i] -= step
        slopes[i] += (expected(up, gains[0]) - expected(down, gains[0])) / (2 * step) / 3
    leads = against_siblings(scores[0].tolist())
    torch.testing.assert_close(found[0], torch.tensor(leads).double() * torch.tensor(slopes), rtol=1e-6, atol=1e-9)


def test_list_credit_compares_whole_lists_and_gives_all_candidates_the_same():
    scores, gains = scores_of(1, 3, 4), one_hot([1], 4)
    found = rationale_advantages(scores, gains, credit="list", **RAW)
    rewards = [[expected(scores[0, g], gains[0])] for g in range(3)]
    torch.testing.assert_close(found[0], torch.tensor(against_siblings(rewards)).double().expand(3, 4))


def test_pointwise_credit_is_that_of_a_classifier():
    scores, gains = scores_of(1, 3, 4), one_hot([1], 4)
    found = rationale_advantages(scores, gains, ListReward(temperature=0.5), credit="pointwise", **RAW)
    correctness = [
        [-math.log1p(math.exp((-2 if i == 1 else 2) * scores[0, g, i].item())) for i in range(4)] for g in range(3)
    ]
    torch.testing.assert_close(found[0], torch.tensor(against_siblings(correctness)).double())


def test_rank_return_is_the_expected_reward_from_the_own_place_on():
    scores, gains = scores_of(1, 2, 4), one_hot([1], 4)
    reward = ListReward(estimator="score_function", num_samples=40_000)
    found = rationale_advantages(scores, gains, reward, credit="rank_return", generator=generator(), **RAW)
    returns = [[0.0] * 4 for _ in range(2)]
    for g, permutation in itertools.product(range(2), itertools.permutations(range(4))):
        probability = plackett_luce.log_prob(scores[0, g][None], torch.tensor([[permutation]])).exp().item()
        rank = permutation.index(1) + 1
        for i in range(4):
            returns[g][i] += probability * (permutation.index(i) < rank) / math.log2(rank + 1)
    torch.testing.assert_close(found[0], torch.tensor(against_siblings(returns)).double(), rtol=0, atol=0.01)


@pytest.mark.parametrize("credit", ["counterfactual", "list"])
def test_sampled_rewards_give_the_credit_of_the_exact_ones_on_average(credit):
    scores, gains = scores_of(1, 2, 4), one_hot([1], 4)
    exact = rationale_advantages(scores, gains, credit=credit, **RAW)
    sampled = advantages_of(scores, gains, credit, "score_function", num_samples=30_000, **RAW)
    torch.testing.assert_close(sampled, exact, rtol=0, atol=0.01)


def test_lists_that_are_compared_share_their_noise():
    """With noise of their own, two scores that hardly differ would differ by chance in what they are worth."""
    scores = scores_of(1, 1, 6).repeat(1, 2, 1)
    scores[0, 1] += 1e-9
    sampled = advantages_of(scores, one_hot([1], 6), "counterfactual", "score_function", **RAW)
    assert sampled.abs().max() < 1e-9


# the policy gradient


def enumerated_gradients(table_NR, gains_N, credit):
    """True gradient with respect to the logits of N uniform policies over R rationales, and E[Σ A ∇ log π] of two."""
    num_candidates, num_rationales = table_NR.shape
    options = list(itertools.product(range(num_rationales), repeat=num_candidates))
    share = 1 / num_rationales
    own = torch.eye(num_rationales).double() - share  # ∇ log π(r) with respect to the logits
    lists = torch.stack([table_NR[range(num_candidates), rationales] for rationales in options])
    values = plackett_luce.expected_graded_ndcg(lists, gains_N.expand(len(options), -1))
    true, found = torch.zeros_like(table_NR), torch.zeros_like(table_NR)
    for value, rationales in zip(values, options, strict=True):
        true += value * own[list(rationales)] / len(options)
    pairs = torch.tensor(list(itertools.product(range(len(options)), repeat=2)))
    scores = lists[pairs]
    advantages = rationale_advantages(scores, gains_N.expand(len(pairs), -1), credit=credit, **RAW)
    chosen = torch.tensor(options)[pairs]
    for i in range(num_candidates):
        found[i] = (advantages[:, :, i, None] * own[chosen[:, :, i]]).mean(dim=(0, 1))
    return true, found


@pytest.mark.parametrize("credit", ["list", "counterfactual"])
def test_over_all_rationales_list_and_counterfactual_credit_are_the_policy_gradient(credit):
    true, found = enumerated_gradients(scores_of(3, 2, seed=3), one_hot([1], 3)[0], credit)
    torch.testing.assert_close(found, true, rtol=0, atol=1e-12)


def test_over_all_rationales_plgrad_credit_is_nearly_the_policy_gradient():
    true, found = enumerated_gradients(scores_of(3, 2, seed=3), one_hot([1], 3)[0], "plgrad")
    assert torch.cosine_similarity(found.flatten(), true.flatten(), dim=0) > 0.97
    assert 0.8 < found.norm() / true.norm() < 1.2


# what all have in common


@pytest.mark.parametrize("credit", CREDITS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_advantages_sum_to_zero_over_the_rationales_of_a_candidate(credit, estimator):
    advantages = advantages_of(scores_of(3, 4, 6), one_hot([0, 3, 5], 6), credit, estimator)
    torch.testing.assert_close(advantages.sum(dim=1), torch.zeros(3, 6).double(), rtol=0, atol=1e-12)
    assert advantages.abs().max() > 0.1


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("gains", [[0, 0, 1, 0, 0, 0], [1, 0, 2, 0, 1, 0]])
def test_slopes_sum_to_zero(estimator, gains):
    reward = ListReward(estimator=estimator, num_samples=8)
    slopes = score_gradients(scores_of(4, 3, 6), torch.tensor([gains] * 4).double(), reward, generator=generator())
    torch.testing.assert_close(slopes.sum(dim=1), torch.zeros(4).double(), rtol=0, atol=1e-12)


@given(st.integers(0, 1000), st.integers(0, 5), st.sampled_from([None, 1, 3]))
def test_the_slope_of_the_relevant_candidate_is_positive_and_no_other_is(seed, relevant, k):
    slopes = score_gradients(scores_of(1, 2, 6, seed=seed), one_hot([relevant], 6), ListReward(k=k))[0]
    assert slopes[relevant] > 0
    assert (slopes[torch.arange(6) != relevant] <= 0).all()


@pytest.mark.parametrize("credit", ["plgrad", "counterfactual", "list", "pointwise"])
def test_reordering_the_candidates_reorders_the_advantages(credit):
    scores, gains = scores_of(2, 3, 6), one_hot([1, 4], 6)
    shuffle = torch.randperm(6, generator=generator())
    plain, moved = (
        rationale_advantages(s, g, credit=credit)
        for s, g in ((scores, gains), (scores[..., shuffle], gains[:, shuffle]))
    )
    torch.testing.assert_close(moved, plain[..., shuffle])


@pytest.mark.parametrize("credit", CREDITS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("filler", [0.0, math.nan, math.inf])
def test_padding_has_no_advantage_and_leaves_the_others_alone(credit, estimator, filler):
    scores, gains = scores_of(2, 3, 4), one_hot([1, 3], 4)
    padded = torch.cat([scores, torch.full((2, 3, 2), filler).double()], dim=2)
    padded_gains = torch.cat([gains, torch.zeros(2, 2).double()], dim=1)
    mask = torch.tensor([True] * 4 + [False] * 2).expand(2, -1)
    found = advantages_of(padded, padded_gains, credit, estimator, mask_BN=mask)
    assert (found[..., 4:] == 0).all()
    assert found.isfinite().all()
    if credit == "pointwise" or (estimator == "exact" and credit != "rank_return"):
        torch.testing.assert_close(found[..., :4], rationale_advantages(scores, gains, credit=credit))


def test_normalising_gives_all_real_rationales_of_the_batch_a_deviation_of_one():
    scores, gains = scores_of(3, 4, 5), one_hot([0, 1, 2], 5)
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[1, 3:] = False
    raw, scaled = (
        rationale_advantages(scores, gains, mask_BN=mask, clip=None, normalise=normalise) for normalise in (False, True)
    )
    real = scaled.transpose(1, 2)[mask].flatten()
    assert real.std(correction=0).item() == pytest.approx(1, abs=1e-6)
    assert real.mean().item() == pytest.approx(0, abs=1e-9)
    ratios = (scaled / raw).transpose(1, 2)[mask]
    torch.testing.assert_close(ratios, ratios[:1, :1].expand_as(ratios))


def test_outliers_are_clipped_after_normalising():
    scores, gains = 0.01 * scores_of(30, 2, 20), one_hot([0] * 30, 20)
    scores[0, 0, 0] += 3
    wide, cut = (rationale_advantages(scores, gains, clip=clip) for clip in (None, 5.0))
    assert wide.abs().max() > 5
    assert cut.equal(wide.clamp(-5, 5))


def test_rationales_that_all_tie_give_nothing_to_learn():
    scores = scores_of(2, 1, 5).expand(2, 4, 5)
    for credit in ("plgrad", "counterfactual", "list", "pointwise"):
        assert (rationale_advantages(scores, one_hot([0, 3], 5), credit=credit) == 0).all()


@pytest.mark.parametrize("credit", ["plgrad", "counterfactual", "pointwise"])
def test_a_single_rationale_is_compared_with_the_score_before_it(credit):
    scores, before, gains = scores_of(2, 1, 4), scores_of(2, 4, seed=7), one_hot([1, 2], 4)
    found = rationale_advantages(scores, gains, credit=credit, baseline_BN=before, **RAW)
    # The relevant candidate is praised for a higher score than before, the others for a lower one.
    signs = torch.where(gains.bool(), 1.0, -1.0)
    assert (found[:, 0].sign() == signs * (scores[:, 0] - before).sign()).all()
    equal = rationale_advantages(scores, gains, credit=credit, baseline_BN=scores[:, 0], **RAW)
    assert (equal == 0).all()


# what naive credit by rank rewards


@pytest.mark.parametrize(("credit", "praised"), [("rank_return", True), ("plgrad", False), ("counterfactual", False)])
def test_a_negative_is_praised_for_standing_above_the_positive_by_naive_credit_only(credit, praised):
    scores = torch.zeros(1, 2, 20).double()
    scores[0, 0, 5], scores[0, 1, 5] = 2.0, -2.0  # the negative's first rationale puts it above the positive, 0
    advantages = advantages_of(scores, one_hot([0], 20), credit, num_samples=4000, **RAW)
    assert (advantages[0, 0, 5].item() > 0.01) is praised
    assert (advantages[0, 0, 5].item() < -0.01) is not praised


def learnt(credit, estimator, num_samples, steps=100, rationales=4):
    """E[NDCG] before and after learning which of 6 rationales to write about each of 20 candidates, and the best."""
    draws = generator(1)
    table = torch.randn(4, 20, 6, generator=generator())
    gains = torch.nn.functional.one_hot(torch.tensor([3, 11, 0, 19]), 20).float()

    def drawn(logits, count):
        chosen = torch.multinomial(logits.softmax(-1).flatten(0, 1), count, replacement=True, generator=draws)
        return chosen.view(4, 20, count)

    def value(logits):
        lists = table.gather(2, drawn(logits, 200)).transpose(1, 2).flatten(0, 1)
        return plackett_luce.expected_graded_ndcg(lists, gains.repeat_interleave(200, dim=0)).mean().item()

    logits = torch.zeros(4, 20, 6, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    reward = ListReward(estimator=estimator, num_samples=num_samples)
    before = value(logits.detach())
    for _ in range(steps):
        chosen = drawn(logits.detach(), rationales)
        scores = table.gather(2, chosen).transpose(1, 2)
        advantages = rationale_advantages(scores, gains, reward, credit=credit, generator=draws)
        loss = -(advantages.transpose(1, 2) * logits.log_softmax(-1).gather(2, chosen)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    best = torch.where(gains.bool(), table.max(dim=-1).values, table.min(dim=-1).values)
    return before, value(logits.detach()), plackett_luce.expected_graded_ndcg(best, gains).mean().item()


@pytest.mark.parametrize(
    ("credit", "estimator", "num_samples", "least"),
    [
        ("plgrad", "exact", 1, 0.9),
        ("plgrad", "pl_rank", 8, 0.9),
        ("counterfactual", "score_function", 2, 0.9),
        ("list", "exact", 1, 0.5),
        ("list", "score_function", 1, 0.3),
    ],
)
def test_credit_teaches_which_rationale_to_write(credit, estimator, num_samples, least):
    before, after, best = learnt(credit, estimator, num_samples)
    assert best - before > 0.2
    assert (after - before) / (best - before) > least


def test_naive_credit_by_rank_teaches_nothing():
    before, after, best = learnt("rank_return", "score_function", 16)
    assert abs(after - before) / (best - before) < 0.1


@pytest.mark.parametrize(("credit", "clue"), [("plgrad", "telling"), ("list", "telling"), ("pointwise", "timid")])
def test_only_the_reward_of_the_list_prefers_the_thought_that_makes_the_better_list(credit, clue):
    """A telling thought says yes of every positive and a fifth of the negatives, a timid one hardly ever says yes."""
    draws = generator()
    yes = torch.stack([torch.rand(800, 20, generator=draws) < share for share in (0.2, 1 / 24)])
    yes[:, :, 0] = torch.stack([torch.ones(800).bool(), torch.rand(800, generator=draws) < 0.3])
    scores = torch.where(yes, 3.0, torch.tensor([-4.0, -1.0])[:, None, None])
    gains = one_hot([0], 20).float().expand(800, -1)
    telling, timid = (plackett_luce.expected_graded_ndcg(own, gains).mean() for own in scores)
    assert telling > timid + 0.05
    chosen = (torch.rand(800, 4, 20, generator=draws) < 0.5).long()
    advantages = rationale_advantages(scores.permute(1, 0, 2).gather(1, chosen), gains, credit=credit, **RAW)
    leads = (advantages * (1 - 2 * chosen)).mean(dim=(1, 2))
    in_standard_errors = leads.mean() / leads.std() * len(leads) ** 0.5
    assert (in_standard_errors if clue == "telling" else -in_standard_errors) > 3


# rewarded by log-probability


def test_the_log_of_standing_first_is_carried_back_as_what_is_missing_to_certainty():
    scores, gains = scores_of(2, 3, 5), one_hot([1, 4], 5)
    reward = ListReward(measure="log_probability", temperature=0.5)
    slopes = score_gradients(scores, gains, reward)
    torch.testing.assert_close(slopes, ((gains[:, None] - (scores / 0.5).softmax(dim=2)) / 0.5).mean(dim=1))
    found = rationale_advantages(scores, gains, reward, credit="list", **RAW)
    logs = [[(scores[b, g] / 0.5).log_softmax(0)[row].item() for g in range(3)] for b, row in enumerate((1, 4))]
    for b in range(2):
        expected = torch.tensor(against_siblings([[value] for value in logs[b]])).double()
        torch.testing.assert_close(found[b], expected.expand(-1, 5), rtol=1e-6, atol=1e-6)
    (gradient,) = torch.autograd.grad(head_surrogate(scores.requires_grad_(), gains, reward), scores)
    torch.testing.assert_close(gradient, (gains[:, None] - (scores / 0.5).softmax(dim=2)) / 0.5 / -6)


def test_the_log_of_standing_first_is_neither_cut_off_nor_sampled():
    for options in ({"k": 3}, {"estimator": "pl_rank"}):
        with pytest.raises(ValueError, match="neither a cut-off k nor sampled lists"):
            ListReward(measure="log_probability", **options)


# the head


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_heads_loss_is_the_negative_expected_reward(estimator):
    scores, gains = scores_of(2, 3, 5).requires_grad_(), torch.tensor([[0, 1, 0, 0, 0], [0, 2, 1, 0, 0]]).double()
    exact = sum(
        plackett_luce.expected_graded_ndcg(scores[b, g][None], gains[b][None], 0.7, k=3).sum() / 6
        for b, g in itertools.product(range(2), range(3))
    )
    reward = ListReward(temperature=0.7, k=3, estimator=estimator, num_samples=50_000)
    loss = head_surrogate(scores, gains, reward, generator=generator())
    (gradient,), (expected_gradient,) = (torch.autograd.grad(value, scores) for value in (-loss, exact))
    tolerance = 1e-12 if estimator == "exact" else 5e-3
    torch.testing.assert_close(-loss.detach(), exact.detach(), rtol=0, atol=tolerance)
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=tolerance)


def test_the_heads_loss_gives_padding_no_gradient():
    scores = scores_of(2, 3, 5)
    scores[:, :, 4] = math.nan
    scores.requires_grad_()
    mask = torch.tensor([True] * 4 + [False]).expand(2, -1)
    for estimator in ESTIMATORS:
        reward = ListReward(estimator=estimator)
        loss = head_surrogate(scores, one_hot([0, 1], 5), reward, mask_BN=mask, generator=generator())
        (gradient,) = torch.autograd.grad(loss, scores)
        assert (gradient[..., 4] == 0).all()
        assert gradient[..., :4].abs().max() > 0


def test_half_precision_scores_are_compared_in_fp32():
    scores, gains = scores_of(2, 3, 5).bfloat16(), one_hot([0, 1], 5).float()
    for credit in CREDITS:
        advantages = advantages_of(scores, gains, credit)
        assert advantages.dtype == torch.float32
        assert advantages.equal(advantages_of(scores.float(), gains, credit))


# refusals


def test_what_has_nothing_to_be_compared_with_is_refused():
    gains = one_hot([0, 1], 4)
    with pytest.raises(ValueError, match="no siblings"):
        rationale_advantages(scores_of(2, 1, 4), gains)
    with pytest.raises(ValueError, match='"list" does not compare scores'):
        rationale_advantages(scores_of(2, 2, 4), gains, credit="list", baseline_BN=gains)


def test_sampling_needs_a_generator_and_rank_return_needs_sampling():
    scores, gains = scores_of(2, 2, 4), one_hot([0, 1], 4)
    for estimator in ESTIMATORS[1:]:
        with pytest.raises(ValueError, match="needs a generator"):
            rationale_advantages(scores, gains, ListReward(estimator=estimator))
    with pytest.raises(ValueError, match="an estimator that samples"):
        rationale_advantages(scores, gains, credit="rank_return")


def test_scores_that_are_no_numbers_and_senseless_rewards_are_refused():
    with pytest.raises(ValueError, match="finite"):
        rationale_advantages(torch.full((1, 2, 3), math.nan), one_hot([0], 3))
    for options in ({"temperature": 0.0}, {"num_samples": 0}, {"k": 0}):
        with pytest.raises(ValueError, match="must be positive"):
            ListReward(**options)


@pytest.mark.parametrize("function", [rationale_advantages, score_gradients, head_surrogate])
def test_wrong_shapes_are_refused_without_type_checks_too(function):
    scores, gains, mask = scores_of(2, 3, 4), one_hot([0, 1], 4), torch.ones(2, 4, dtype=torch.bool)
    bare = inspect.unwrap(function)
    bare(scores, gains, mask_BN=mask)
    calls = [
        (scores[0], gains, mask),
        (scores, gains[:, :3], mask),
        (scores, gains[:1], mask),
        (scores, gains, mask[0]),
    ]
    for wrong_scores, wrong_gains, wrong_mask in calls:
        with pytest.raises((ValueError, jaxtyping.TypeCheckError), match="shape"):
            bare(wrong_scores, wrong_gains, mask_BN=wrong_mask)
