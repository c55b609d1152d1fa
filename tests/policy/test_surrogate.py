import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thinkrank.policy import clipped_objective, clipped_surrogate, combine_surrogates, denominators, grpo_advantages

NORMALISATIONS = ["token", "sequence", "constant", "sum"]
LEVELS = ["token", "sequence"]
EVERYTHING = {"clip_low": 0.15, "clip_high": 0.28, "weight_cap": 1.3, "kl_coefficient": 0.1, "entropy_coefficient": 0.2}


def parts(mask, normalisation):
    constant_length = 7 if normalisation == "constant" else None
    return denominators(mask.sum(dim=1), normalisation, constant_length=constant_length)


def batch(seed=0, spread=0.3):
    """Five sequences of up to six tokens, one of them without any action, a mask with holes; all of it in fp64."""
    generator = torch.Generator().manual_seed(seed)

    def noise(scale=1.0):
        return scale * torch.randn(5, 6, generator=generator, dtype=torch.float64)

    old = noise().abs().neg() - 0.1
    mask = torch.rand(5, 6, generator=generator) < 0.6
    mask[0], mask[3] = True, False
    return {
        "logprobs": old + noise(spread),
        "old": old,
        "advantages": torch.tensor([1.2, -0.7, 0.4, 2.0, -1.1], dtype=torch.float64),
        "mask": mask,
        "sampled": old + noise(spread),
        "reference": old + noise(spread),
        "entropies": noise().abs(),
    }


def surrogate(data, rows=slice(None), *, denominators_B, extras=True, **options):
    if extras:
        options |= {
            "sampled_logprobs_BT": data["sampled"][rows],
            "reference_logprobs_BT": data["reference"][rows],
            "entropies_BT": data["entropies"][rows],
        }
    names = ("logprobs", "old", "advantages", "mask")
    return clipped_surrogate(*(data[name][rows] for name in names), denominators_B=denominators_B[rows], **options)


def gradient(loss, tensor):
    (got,) = torch.autograd.grad(loss, tensor)
    return got


def loops(data, normalisation, level, options):
    """The loss and the clipped share, one number at a time."""
    batch_size, num_tokens = data["mask"].shape
    lengths = [sum(row) for row in data["mask"].tolist()]
    total, clipped, units = 0.0, 0, 0
    for b in range(batch_size):
        places = [t for t in range(num_tokens) if data["mask"][b, t]]
        lp, old, sampled, reference, entropy = (
            [data[name][b, t].item() for t in places]
            for name in ("logprobs", "old", "sampled", "reference", "entropies")
        )
        advantage = data["advantages"][b].item()
        ratios = [math.exp(x - y) for x, y in zip(lp, old, strict=True)]
        weights = [math.exp(x - y) for x, y in zip(old, sampled, strict=True)]
        if level == "sequence":
            ratios, weights = ([math.prod(ratios)], [math.prod(weights)]) if places else ([], [])
        loss = 0.0
        for ratio, weight in zip(ratios, weights, strict=True):
            within = max(1 - options["clip_low"], min(1 + options["clip_high"], ratio))
            gain = min(ratio * advantage, within * advantage)
            loss -= min(weight, options["weight_cap"]) * gain
            clipped += gain != ratio * advantage
            units += 1
        for x, y, h in zip(lp, reference, entropy, strict=True):
            loss += options["kl_coefficient"] * (math.exp(y - x) - (y - x) - 1) - options["entropy_coefficient"] * h
        total += (
            loss
            / {
                "token": sum(lengths),
                "sequence": batch_size * max(1, lengths[b]),
                "constant": batch_size * 7,
                "sum": batch_size,
            }[normalisation]
        )
    return total, clipped / units


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_the_loss_equals_the_one_written_as_loops(normalisation, level):
    for seed in range(5):
        data = batch(seed)
        result = surrogate(data, denominators_B=parts(data["mask"], normalisation), ratio_level=level, **EVERYTHING)
        loss, clip_share = loops(data, normalisation, level, EVERYTHING)
        assert result.loss.item() == pytest.approx(loss, rel=1e-9)
        assert result.clip_share.item() == pytest.approx(clip_share, rel=1e-9)
        assert 0 < clip_share < 1


@pytest.mark.parametrize("level", LEVELS)
def test_the_gradients_are_those_of_finite_differences(level):
    data = batch(spread=0.1)

    def loss(logprobs, entropies):
        moved = data | {"logprobs": logprobs, "entropies": entropies}
        denominators_B = parts(data["mask"], "token")
        return surrogate(moved, denominators_B=denominators_B, ratio_level=level, **EVERYTHING).loss

    inputs = (data["logprobs"].requires_grad_(), data["entropies"].requires_grad_())
    assert torch.autograd.gradcheck(loss, inputs)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_before_the_first_update_the_gradient_is_that_of_reinforce(normalisation, level):
    data = batch()
    logprobs = data["old"].clone().requires_grad_()
    denominators_B = parts(data["mask"], normalisation)
    result = surrogate(data | {"logprobs": logprobs}, denominators_B=denominators_B, extras=False, ratio_level=level)
    reinforce = -(data["advantages"] / denominators_B)[:, None] * data["mask"]
    torch.testing.assert_close(gradient(result.loss, logprobs), reinforce)
    assert result.mean_ratio.item() == 1
    assert result.clip_share.item() == 0


def test_the_old_policy_and_the_advantages_are_constants_even_if_they_carry_a_gradient():
    logprobs = torch.tensor([[-1.0, -2.0]], requires_grad=True)
    advantages = torch.tensor([0.5], requires_grad=True)
    mask = torch.ones(1, 2, dtype=torch.bool)
    result = clipped_surrogate(
        logprobs,
        logprobs,
        advantages,
        mask,
        denominators_B=parts(mask, "sum"),
        reference_logprobs_BT=logprobs,
        kl_coefficient=1.0,
    )
    slope, of_advantages = torch.autograd.grad(result.loss, (logprobs, advantages), allow_unused=True)
    assert slope.tolist() == [[-0.5, -0.5]]
    assert of_advantages is None


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@given(rewards=st.lists(st.floats(0, 1), min_size=4, max_size=4).filter(lambda row: max(row) - min(row) > 0.01))
def test_a_group_whose_advantages_sum_to_zero_still_moves_each_of_its_rows(normalisation, rewards):
    advantages = grpo_advantages(torch.tensor([rewards]))[0]
    logprobs = torch.full((4, 3), -1.0, requires_grad=True)
    mask = torch.ones(4, 3, dtype=torch.bool)
    result = clipped_surrogate(logprobs, logprobs.detach(), advantages, mask, denominators_B=parts(mask, normalisation))
    downhill = -gradient(result.loss, logprobs)
    assert torch.equal(downhill.sign(), advantages.sign()[:, None].expand(4, 3))
    assert downhill.abs().max() > 1e-3


def test_the_clip_stops_only_the_gradient_that_would_go_further():
    for ratio, advantage, moves in [
        (1.5, 1.0, False),
        (1.5, -1.0, True),
        (0.5, -1.0, False),
        (0.5, 1.0, True),
        (1.25, 1.0, True),
        (0.75, -1.0, False),
    ]:
        logprobs = torch.tensor([[math.log(ratio)]], requires_grad=True)
        result = clipped_surrogate(
            logprobs,
            torch.zeros(1, 1),
            torch.tensor([advantage]),
            torch.tensor([[True]]),
            denominators_B=torch.ones(1),
            clip_low=0.2,
            clip_high=0.28,
        )
        assert (gradient(result.loss, logprobs).item() != 0) == moves
        assert result.clip_share.item() == float(not moves)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_micro_batches_add_up_to_the_batch(normalisation, level):
    data = batch()
    data["logprobs"].requires_grad_()
    denominators_B = parts(data["mask"], normalisation)
    options = {"denominators_B": denominators_B, "ratio_level": level, **EVERYTHING}
    whole = surrogate(data, **options)
    pieces = [surrogate(data, rows, **options) for rows in (slice(0, 1), slice(1, 4), slice(4, 5))]
    total = torch.stack([piece.loss for piece in pieces]).sum()
    torch.testing.assert_close(total, whole.loss)
    torch.testing.assert_close(gradient(total, data["logprobs"]), gradient(whole.loss, data["logprobs"]))
    combined = combine_surrogates(pieces)
    for name, value in vars(whole).items():
        torch.testing.assert_close(getattr(combined, name), value.detach(), check_dtype=False)
    assert not combined.loss.requires_grad


def test_micro_batches_without_options_have_no_statistics_of_them():
    data = batch()
    result = surrogate(data, denominators_B=parts(data["mask"], "token"), extras=False)
    combined = combine_surrogates([result, result])
    assert (combined.mean_weight, combined.mean_kl, combined.mean_entropy) == (None, None, None)
    with pytest.raises(ValueError, match="no micro-batches"):
        combine_surrogates([])


@given(st.permutations(range(5)))
def test_permuting_sequences_permutes_gradients(order):
    data = batch()
    data["logprobs"].requires_grad_()
    denominators_B = parts(data["mask"], "sequence")
    straight = surrogate(data, denominators_B=denominators_B, **EVERYTHING)
    permuted = {name: tensor[order].detach() for name, tensor in data.items()}
    permuted["logprobs"].requires_grad_()
    other = surrogate(permuted, denominators_B=denominators_B[order], **EVERYTHING)
    torch.testing.assert_close(other.loss, straight.loss)
    torch.testing.assert_close(
        gradient(other.loss, permuted["logprobs"]), gradient(straight.loss, data["logprobs"])[order]
    )


@pytest.mark.parametrize("filling", [0.0, -50.0, math.nan, math.inf])
@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("level", LEVELS)
def test_padding_changes_nothing_whatever_stands_in_it(level, left, filling):
    data = batch()
    data["logprobs"].requires_grad_()
    sides = (3, 0) if left else (0, 3)
    padded = {
        name: tensor if name == "advantages" else torch.nn.functional.pad(tensor, sides, value=filling)
        for name, tensor in data.items()
        if name != "mask"
    }
    padded["mask"] = torch.nn.functional.pad(data["mask"], sides, value=False)
    padded = {
        name: torch.where(padded["mask"], t, filling) if t.ndim == 2 and name != "mask" else t
        for name, t in padded.items()
    }
    results = [
        surrogate(each, denominators_B=parts(each["mask"], "token"), ratio_level=level, **EVERYTHING)
        for each in (data, padded)
    ]
    for name, value in vars(results[0]).items():
        torch.testing.assert_close(getattr(results[1], name), value)
    torch.testing.assert_close(*(gradient(result.loss, data["logprobs"]) for result in results))


def test_importance_weights_scale_each_tokens_gradient_and_are_cut():
    logprobs = torch.log(torch.tensor([[0.2, 0.5, 0.9]])).requires_grad_()
    sampled = torch.log(torch.tensor([[0.4, 0.5, 0.1]])).requires_grad_()
    mask = torch.ones(1, 3, dtype=torch.bool)
    result = clipped_surrogate(
        logprobs,
        logprobs.detach(),
        torch.tensor([1.0]),
        mask,
        denominators_B=parts(mask, "sum"),
        sampled_logprobs_BT=sampled,
        weight_cap=3.0,
    )
    slope, of_sampled = torch.autograd.grad(result.loss, (logprobs, sampled), allow_unused=True)
    torch.testing.assert_close(slope, torch.tensor([[-0.5, -1.0, -3.0]]))
    assert of_sampled is None
    assert result.mean_weight is not None
    assert result.mean_weight.item() == pytest.approx(1.5)


def test_importance_weights_make_the_sampled_gradient_that_of_the_policy():
    """Enumerated: the mean over what a tempered sampler draws equals the policy's own expected gradient."""
    torch.manual_seed(0)
    logits = torch.randn(5, dtype=torch.float64, requires_grad=True)
    rewards = torch.randn(5, dtype=torch.float64)
    policy = logits.log_softmax(0)
    sampler = (logits.detach() / 2).log_softmax(0)
    mask = torch.ones(5, 1, dtype=torch.bool)
    result = clipped_surrogate(
        policy[:, None],
        policy.detach()[:, None],
        rewards,
        mask,
        denominators_B=1 / sampler.exp(),
        sampled_logprobs_BT=sampler[:, None],
        weight_cap=1e9,
    )
    expected = gradient(-(logits.softmax(0) * rewards).sum(), logits)
    torch.testing.assert_close(gradient(result.loss, logits), expected)


def test_the_kl_estimate_is_unbiased_where_the_policy_draws():
    """Enumerated: weighting k3 of every token by the policy's probability gives the divergence itself."""
    torch.manual_seed(0)
    policy, reference = torch.randn(2, 6, dtype=torch.float64).log_softmax(dim=1)
    divergence = (policy.exp() * (policy - reference)).sum()
    mask = torch.ones(6, 1, dtype=torch.bool)
    result = clipped_surrogate(
        policy[:, None],
        policy[:, None],
        torch.zeros(6, dtype=torch.float64),
        mask,
        denominators_B=1 / policy.exp(),
        reference_logprobs_BT=reference[:, None],
        kl_coefficient=1.0,
    )
    torch.testing.assert_close(result.loss, divergence)


def test_a_coefficient_of_zero_measures_without_changing_the_loss():
    data = batch()
    denominators_B = parts(data["mask"], "token")
    plain = surrogate(data, denominators_B=denominators_B, extras=False)
    measured = clipped_surrogate(
        data["logprobs"],
        data["old"],
        data["advantages"],
        data["mask"],
        denominators_B=denominators_B,
        reference_logprobs_BT=data["reference"],
        entropies_BT=data["entropies"],
    )
    torch.testing.assert_close(measured.loss, plain.loss)
    assert measured.mean_entropy is not None
    torch.testing.assert_close(measured.mean_entropy, data["entropies"][data["mask"]].mean())
    assert measured.mean_kl is not None
    assert measured.mean_kl.item() > 0


@pytest.mark.parametrize("advantage", [1.0, 0.0, -1.0])
def test_a_ratio_far_beyond_floating_point_gives_finite_gradients(advantage):
    logprobs = torch.full((1, 400), -0.1, requires_grad=True)
    mask = torch.ones(1, 400, dtype=torch.bool)
    result = clipped_surrogate(
        logprobs,
        torch.full((1, 400), -5.0),
        torch.tensor([advantage]),
        mask,
        denominators_B=parts(mask, "sum"),
        ratio_level="sequence",
    )
    assert result.loss.isfinite()
    assert gradient(result.loss, logprobs).isfinite().all()


def test_sequences_without_actions_give_a_loss_of_zero():
    logprobs = torch.full((2, 3), -1.0, requires_grad=True)
    mask = torch.zeros(2, 3, dtype=torch.bool)
    for normalisation in NORMALISATIONS:
        result = clipped_surrogate(
            logprobs, logprobs.detach(), torch.ones(2), mask, denominators_B=parts(mask, normalisation)
        )
        assert result.loss.item() == 0
        assert gradient(result.loss, logprobs).abs().max().item() == 0


def test_half_precision_log_probabilities_are_summed_in_fp32():
    logprobs = torch.full((1, 1000), -0.0078125, dtype=torch.bfloat16)
    mask = torch.ones(1, 1000, dtype=torch.bool)
    result = clipped_surrogate(
        logprobs,
        torch.zeros_like(logprobs),
        torch.tensor([1.0]),
        mask,
        denominators_B=parts(mask, "sum"),
        ratio_level="sequence",
    )
    assert result.loss.dtype == torch.float32
    assert result.mean_ratio.item() == pytest.approx(math.exp(-7.8125), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kl_coefficient": 0.1}, "reference"),
        ({"entropy_coefficient": 0.1}, "entropies"),
        ({"weight_cap": 0.0}, "weight_cap"),
        ({"clip_low": 1.5}, "clip_low"),
        ({"clip_high": -0.1}, "clip_high"),
    ],
)
def test_options_without_meaning_are_refused(options, message):
    data = batch()
    with pytest.raises(ValueError, match=message):
        surrogate(data, denominators_B=parts(data["mask"], "token"), extras=False, **options)


def test_a_constant_length_goes_with_the_constant_normalisation():
    lengths = torch.tensor([3, 1])
    assert denominators(lengths, "constant", constant_length=8).tolist() == [16.0, 16.0]
    for normalisation, constant_length in [("constant", None), ("token", 8), ("constant", 0)]:
        with pytest.raises(ValueError, match="constant_length"):
            denominators(lengths, normalisation, constant_length=constant_length)


def test_the_objective_is_the_lower_of_the_two_at_every_ratio():
    ratios = torch.tensor([0.1, 0.8, 1.0, 1.28, 9.0])
    gained = clipped_objective(ratios, torch.ones(5), 0.2, 0.28)
    lost = clipped_objective(ratios, -torch.ones(5), 0.2, 0.28)
    torch.testing.assert_close(gained, torch.tensor([0.1, 0.8, 1.0, 1.28, 1.28]))
    torch.testing.assert_close(lost, torch.tensor([-0.8, -0.8, -1.0, -1.28, -9.0]))
