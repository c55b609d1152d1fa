import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thinkrank.errors import ThinkrankError
from thinkrank.rerank import GeneratorOptions, ReasoningOptions, Rows
from thinkrank.rerank.eglr.generators import Context, make_generator
from thinkrank.rerank.eglr.reasoning import (
    Reasoner,
    calibrate_threshold,
    entropy,
    log_probabilities,
    masked_scores,
    normalised_entropy,
)
from thinkrank.testing.generator import JOINT, WIDTH, make_case

LOGITS = st.lists(st.floats(-50, 50), min_size=1, max_size=8)


def row(values, available=None):
    logits = torch.tensor([values], dtype=torch.float64)
    return masked_scores(logits, torch.ones_like(logits, dtype=torch.bool) if available is None else available)


@given(LOGITS, st.floats(0.2, 5), st.data())
def test_the_entropy_is_that_of_the_available_candidates_alone(logits, temperature, data):
    kept = data.draw(st.sets(st.integers(0, len(logits) - 1), min_size=1))
    available = torch.tensor([[i in kept for i in range(len(logits))]])
    weights = [math.exp((logits[i] - max(logits[j] for j in kept)) / temperature) for i in sorted(kept)]
    shares = [w / sum(weights) for w in weights]
    expected = -sum(p * math.log(p) for p in shares if p > 0)
    logprobs = log_probabilities(row(logits, available), temperature)
    assert float(entropy(logprobs)) == pytest.approx(expected, abs=1e-9)
    assert logprobs.exp()[0][sorted(kept)].tolist() == pytest.approx(shares, abs=1e-12)
    assert not logprobs.exp()[~available].any()


def test_equal_candidates_have_the_logarithm_of_their_number():
    assert float(entropy(log_probabilities(row([3.0] * 7)))) == pytest.approx(math.log(7))
    assert float(entropy(log_probabilities(row([3.0])))) == 0


def test_the_gradient_of_the_entropy_is_finite_beside_impossible_candidates():
    logits = torch.tensor([[0.0, 400.0, -400.0, 1.0]], requires_grad=True)
    available = torch.tensor([[True, True, True, False]])
    entropy(log_probabilities(masked_scores(logits, available))).sum().backward()
    assert logits.grad.isfinite().all()


def test_half_precision_is_computed_with_in_fp32():
    scores = masked_scores(torch.randn(2, 5, dtype=torch.bfloat16), torch.ones(2, 5, dtype=torch.bool))
    assert scores.dtype == torch.float32


def test_normalised_entropy_is_a_share_of_what_is_possible():
    values = normalised_entropy(torch.tensor([math.log(4) / 2, 0.0, 0.0]), torch.tensor([4, 1, 0]))
    torch.testing.assert_close(values, torch.tensor([0.5, 0.0, 0.0]))


@given(st.lists(st.floats(0.001, 3), min_size=1, max_size=40, unique=True), st.floats(0, 1))
def test_the_threshold_is_exceeded_by_the_wanted_share(entropies, rate):
    threshold = calibrate_threshold(torch.tensor(entropies, dtype=torch.float64), rate)
    assert threshold >= 0
    assert sum(value > threshold for value in entropies) == round(rate * len(entropies))


def test_ties_are_all_above_the_threshold_or_none_is():
    threshold = calibrate_threshold(torch.tensor([1.0, 1.0, 1.0, 0.2]), 0.5)
    assert sum(value > threshold for value in (1.0, 1.0, 1.0, 0.2)) in (0, 3)
    assert calibrate_threshold(torch.zeros(4), 0.5) == 0


@pytest.mark.parametrize(("entropies", "rate"), [([], 0.5), ([1.0, math.nan], 0.5), ([1.0], 1.5)])
def test_a_threshold_of_nothing_is_refused(entropies, rate):
    with pytest.raises(ValueError, match=r"entrop|rate"):
        calibrate_threshold(torch.tensor(entropies), rate)


def thinker(token, **options):
    torch.manual_seed(0)
    reasoner = Reasoner(3, ReasoningOptions(token=token, think_temperature=2.0, **options)).double()
    tokens = torch.randn(2, 4, 3, dtype=torch.float64)
    available = torch.tensor([[True, True, False, True], [False, True, True, False]])
    return reasoner, Context(tokens, torch.ones_like(available)), available


NOTHING = Rows()


def token_of(reasoner, context, available, logits, state=NOTHING, thought=0):
    return reasoner.token(masked_scores(logits, available), available, context, state, thought)


LOGITS_24 = torch.tensor([[0.3, -1.0, 9.0, 2.0], [8.0, 0.5, 0.1, 7.0]], dtype=torch.float64)


def test_a_thought_is_the_mixture_of_what_is_left_at_the_thinking_temperature():
    reasoner, context, available = thinker("soft_candidates")
    got = token_of(reasoner, context, available, LOGITS_24)
    for r, kept in enumerate(([0, 1, 3], [1, 2])):
        weights = [math.exp(float(LOGITS_24[r, i]) / 2.0) for i in kept]
        expected = sum(w / sum(weights) * context.tokens_RND[r, i] for w, i in zip(weights, kept, strict=True))
        torch.testing.assert_close(got[r], expected, atol=1e-12, rtol=0)


def test_the_other_tokens_are_what_they_are_called():
    from thinkrank.rerank.eglr.generators.base import Hidden

    reasoner, context, available = thinker("mean_candidates")
    expected = torch.stack([context.tokens_RND[0, [0, 1, 3]].mean(0), context.tokens_RND[1, [1, 2]].mean(0)])
    torch.testing.assert_close(token_of(reasoner, context, available, LOGITS_24), expected)
    reasoner, context, available = thinker("argmax_item")
    expected = torch.stack([context.tokens_RND[0, 3], context.tokens_RND[1, 1]])
    assert torch.equal(token_of(reasoner, context, available, LOGITS_24), expected)
    reasoner, context, available = thinker("learned_pause")
    assert torch.equal(token_of(reasoner, context, available, LOGITS_24), reasoner.pause_D.expand(2, -1))
    reasoner, context, available = thinker("last_state")
    state = Hidden(torch.randn(2, 3, dtype=torch.float64))
    assert torch.equal(token_of(reasoner, context, available, LOGITS_24, state), state.hidden_RD)
    with pytest.raises(ThinkrankError, match="no hidden_RD"):
        token_of(reasoner, context, available, LOGITS_24)


def test_a_detached_thought_carries_no_gradient_but_its_step_code_learns():
    reasoner, context, available = thinker("soft_candidates", detach=True, step_codes=True, max_steps=2)
    assert not reasoner.codes_SD.any()
    logits = LOGITS_24.clone().requires_grad_()
    token = token_of(reasoner, context, available, logits, thought=1)
    token.sum().backward()
    assert logits.grad is None
    torch.testing.assert_close(reasoner.codes_SD.grad, torch.tensor([[0.0] * 3, [2.0] * 3], dtype=torch.float64))


def test_another_way_of_thinking_shares_the_weights_or_is_refused():
    reasoner, *_ = thinker("learned_pause", step_codes=True, max_steps=2)
    other = reasoner.under(reasoner.options.model_copy(update={"max_steps": 1}))
    assert other.pause_D is reasoner.pause_D
    assert other.options.max_steps == 1
    assert reasoner.options.max_steps == 2
    with pytest.raises(ThinkrankError, match="not trained"):
        reasoner.under(reasoner.options.model_copy(update={"max_steps": 3}))
    plain, *_ = thinker("soft_candidates")
    with pytest.raises(ThinkrankError, match="not trained"):
        plain.under(ReasoningOptions(token="learned_pause"))


def test_the_gradient_of_a_choice_through_a_soft_mixture_is_that_of_finite_differences():
    """A row, two thoughts, one choice; the gradient with respect to what the candidates look like."""
    torch.manual_seed(1)
    generator = make_generator(JOINT, GeneratorOptions(kind="gru", width=WIDTH, heads=2, pointer_width=4))
    case = make_case(generator, mode="fixed", max_steps=2, lengths=(4,))
    written = case.write(1)
    case.joint.requires_grad_()
    (gradient,) = torch.autograd.grad(case.replay(written).logprobs_RK.sum(), case.joint)
    case.joint = case.joint.detach()
    for candidate in range(4):
        for dimension in (0, 3):
            values = []
            for sign in (1, -1):
                case.joint[0, candidate, dimension] += sign * 1e-6
                with torch.no_grad():
                    values.append(float(case.replay(written).logprobs_RK.sum()))
                case.joint[0, candidate, dimension] -= sign * 1e-6
            slope = (values[0] - values[1]) / 2e-6
            assert slope == pytest.approx(float(gradient[0, candidate, dimension]), rel=1e-5, abs=1e-8)
    case.reasoner.options = case.reasoner.options.model_copy(update={"detach": True})
    case.joint.requires_grad_()
    (detached,) = torch.autograd.grad(case.replay(written).logprobs_RK.sum(), case.joint)
    assert float((detached - gradient).abs().max()) > 1e-5  # part of it did flow through the thoughts
