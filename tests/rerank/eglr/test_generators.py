import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from thinkrank.rerank import Context, GeneratorOptions, Rows, Slot
from thinkrank.rerank.eglr.attention import sinusoid
from thinkrank.rerank.eglr.generators import make_generator
from thinkrank.testing.generator import JOINT, WIDTH, GeneratorContract, make_case


def make(kind):
    options = GeneratorOptions(kind=kind, width=WIDTH, encoder_width=10, heads=2, pointer_width=5, dropout=0.3)
    generator = make_generator(JOINT, options)
    with torch.no_grad():  # untrained choices are all alike, and nothing would depend on anything
        for parameter in generator.parameters():
            parameter.mul_(2.5)
    return generator.double().eval()


class TestGRUPointer(GeneratorContract):
    @classmethod
    def make(cls):
        return make("gru")


class TestTransformerPointer(GeneratorContract):
    @classmethod
    def make(cls):
        return make("transformer")


class TestMLPPointer(GeneratorContract):
    @classmethod
    def make(cls):
        return make("mlp")


class TestPrefixSum(GeneratorContract):
    @classmethod
    def make(cls):
        return make("prefix_sum")


@dataclass(frozen=True)
class Mean(Rows):
    hidden_RD: Tensor


class NearestLast(nn.Module):
    """A user's own: the next item is one like the running mean."""

    def __init__(self):
        super().__init__()
        self.project = nn.Linear(JOINT, WIDTH)
        self.scale = nn.Parameter(torch.tensor(3.0))

    def encode(self, joint_BNE, mask_BN):
        return Context(self.project(joint_BNE), mask_BN)

    def init_state(self, context):
        return Mean(context.tokens_RND.new_full((len(context.mask_RN), WIDTH), 0.3))

    def step(self, context, state, tokens_RD, slot):
        return Mean((state.hidden_RD + tokens_RD) / 2)

    def logits(self, context, state):
        return self.scale * (context.tokens_RND @ state.hidden_RD[:, :, None])[:, :, 0]


class TestOwnGenerator(GeneratorContract):
    @classmethod
    def make(cls):
        return NearestLast()


def test_a_state_that_is_no_dataclass_is_refused():
    """Its fields would not be known, and thinking would forget them."""

    class Forgetful(Rows):
        def __init__(self, hidden):
            object.__setattr__(self, "hidden", hidden)

    with pytest.raises(TypeError, match="Forgetful must be a dataclass"):
        Forgetful(torch.zeros(2, 3)).take(torch.tensor([0]))


def contexts(kind):
    case = make_case(make(kind), lengths=(5, 3, 4))
    with torch.no_grad():
        return case.generator, case.context()


def test_the_additive_pointer_is_the_formula_with_tanh():
    generator, context = contexts("gru")
    state = torch.randn(3, WIDTH, dtype=torch.float64)
    with torch.no_grad():
        got = generator.logits(context, type(generator.init_state(context))(state))
        keys, query = generator.keys(context.tokens_RND), generator.query(state)
    for row in range(3):
        for candidate in range(5):
            sums = (keys[row, candidate] + query[row]).tolist()
            energies = [-e / 2 for e in generator.energy.weight[0].tolist()]
            expected = sum(v * (math.tanh(x / 2) - 1) for v, x in zip(energies, sums, strict=True))
            assert float(got[row, candidate]) == pytest.approx(expected, abs=1e-12)


def test_the_additive_pointer_neither_overflows_nor_loses_its_gradient_scale():
    generator, context = contexts("gru")
    generator = generator.float()
    context = generator.encode(100 * torch.randn(2, 4, JOINT), torch.ones(2, 4, dtype=torch.bool))
    logits = generator.logits(context, type(generator.init_state(context))(1e3 * torch.randn(2, WIDTH)))
    assert logits.isfinite().all()
    gradients = torch.autograd.grad(logits.sum(), list(generator.energy.parameters()))
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_the_mlp_pointer_scores_the_joined_vectors():
    generator, context = contexts("mlp")
    state = torch.randn(3, WIDTH, dtype=torch.float64)
    joined = torch.cat([context.tokens_RND, state[:, None].expand(-1, 5, -1)], dim=2)
    first = torch.cat([generator.keys.weight, generator.query.weight], dim=1)
    with torch.no_grad():
        expected = generator.score(joined @ first.T + generator.query.bias)[:, :, 0]
        got = generator.logits(context, type(generator.init_state(context))(state))
    torch.testing.assert_close(got, expected, atol=1e-12, rtol=0)


def test_the_prefix_sum_does_not_see_the_order_of_the_past():
    generator, context = contexts("prefix_sum")
    one, two = context.tokens_RND[:, 0], context.tokens_RND[:, 1]
    with torch.no_grad():
        states = []
        for first, second in ((one, two), (two, one)):
            state = generator.step(context, generator.init_state(context), first, Slot(0, None))
            states.append(generator.step(context, state, second, Slot(1, None)).hidden_RD)
        start = generator.start(context.tokens_RND[:, :].sum(1) / context.mask_RN.sum(1, keepdim=True))
        expected = start + (one + two) @ generator.add.weight.T
    torch.testing.assert_close(states[0], states[1], atol=1e-12, rtol=0)
    torch.testing.assert_close(states[0], expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("kind", ["gru", "transformer", "mlp", "prefix_sum"])
def test_the_order_in_which_candidates_are_given_is_not_seen(kind):
    generator, _ = contexts(kind)
    case = make_case(generator, lengths=(5, 5))
    shuffled = torch.tensor([3, 0, 4, 1, 2])
    with torch.no_grad():
        plain, other = case.context(), generator.encode(case.joint[:, shuffled], case.mask)
        one = generator.logits(plain, generator.init_state(plain))
        two = generator.logits(other, generator.init_state(other))
    torch.testing.assert_close(one[:, shuffled], two, atol=1e-12, rtol=0)


def attend(layer, queries, memory, mask):
    """Attention over one row, head by head, with a mask of queries and memory."""
    width = queries.shape[1] // layer.heads
    q = layer.query(queries)
    k, v = layer.memory(memory).split(queries.shape[1], dim=1)
    heads = []
    for head in range(layer.heads):
        part = slice(head * width, (head + 1) * width)
        scores = (q[:, part] @ k[:, part].T / math.sqrt(width)).masked_fill(~mask, -torch.inf)
        heads.append(scores.softmax(dim=1) @ v[:, part])
    return layer.out(torch.cat(heads, dim=1))


def from_scratch(generator, tokens, candidates):
    """All outputs of the causal decoder over a whole sequence of tokens of one row, without any memory."""
    count = len(tokens)
    causal, everything = torch.ones(count, count).tril().bool(), torch.ones(count, len(candidates)).bool()
    hidden = tokens
    for block in generator.blocks:
        normed = block.self_norm(hidden)
        hidden = hidden + attend(block.self_attention, normed, normed, causal)
        hidden = hidden + attend(block.cross_attention, block.cross_norm(hidden), candidates, everything)
        hidden = hidden + block.feed_forward(hidden)
    return generator.norm(hidden)


@pytest.mark.parametrize("mode", ["none", "entropy", "fixed"])
def test_the_remembering_transformer_equals_one_that_computes_everything_anew(mode):
    case = make_case(make("transformer"), mode=mode, token="mean_candidates")
    written = case.write(4, case.draws(4))
    assert mode == "none" or len(set(written.steps_RK.flatten().tolist())) > 1
    context = case.context()
    for row, length in enumerate(case.mask.sum(dim=1).tolist()):
        candidates = context.tokens_RND[row, :length]
        tokens, left = [case.generator.start_D], set(range(length))
        for place, column in enumerate(written.columns_RK[row].tolist()):
            if column < 0:
                break
            code = sinusoid(place, WIDTH, like=candidates)
            tokens += [candidates[sorted(left)].mean(dim=0) + code] * int(written.steps_RK[row, place])
            with torch.no_grad():
                hidden = from_scratch(case.generator, torch.stack(tokens), candidates)[-1]
                keys = case.generator.keys(candidates)
                scores = keys @ case.generator.query(hidden) / math.sqrt(keys.shape[1])
            allowed = scores[sorted(left)] / case.reasoner.options.choose_temperature
            expected = allowed.log_softmax(dim=0)[sorted(left).index(column)]
            assert float(written.logprobs_RK[row, place]) == pytest.approx(float(expected), abs=1e-12)
            tokens.append(candidates[column] + code)
            left.remove(column)


def test_the_code_of_a_place_is_the_published_one():
    code = sinusoid(3, 6, like=torch.zeros(1, dtype=torch.float64))
    expected = [f(3 / 10000 ** (2 * i / 6)) for i in range(3) for f in (math.sin, math.cos)]
    torch.testing.assert_close(code, torch.tensor(expected, dtype=torch.float64))
