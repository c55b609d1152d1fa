import math
from collections import Counter
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from thinkrank.rerank import Context, GeneratorOptions, Rows
from thinkrank.rerank.eglr.decoding import Noise, Written, joined
from thinkrank.rerank.eglr.generators import make_generator
from thinkrank.testing.generator import JOINT, WIDTH, make_case


@dataclass(frozen=True)
class Nothing(Rows):
    count_R: Tensor


class Given(nn.Module):
    """Scores that are told: the first numbers of the joint embeddings, the same at every place."""

    def __init__(self, scores=None):
        super().__init__()
        self.scores = scores
        self.steps: list[tuple[int, int | None, int]] = []

    def encode(self, joint_BNE, mask_BN):
        return Context(joint_BNE.repeat(1, 1, 2)[:, :, :WIDTH], mask_BN)

    def init_state(self, context):
        return Nothing(torch.zeros(len(context.mask_RN)))

    def step(self, context, state, tokens_RD, slot):
        self.steps.append((*slot, len(tokens_RD)))
        return Nothing(state.count_R + 1)

    def logits(self, context, state):
        return context.tokens_RND[:, :, 0].clone() if self.scores is None else self.scores[: len(context.mask_RN)]


def gru(seed=0):
    torch.manual_seed(seed)
    generator = make_generator(JOINT, GeneratorOptions(kind="gru", width=WIDTH, heads=2, pointer_width=4))
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.mul_(2.0)
    return generator


@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    places=st.integers(1, 8),
    mode=st.sampled_from(["none", "entropy", "fixed", "random"]),
    extreme=st.lists(st.floats(allow_nan=False), min_size=24, max_size=24),
    sampled=st.booleans(),
)
@settings(max_examples=60)
def test_no_scores_whatever_break_the_mask(lengths, places, mode, extreme, sampled):
    scores = torch.tensor(extreme).view(4, 6)[: len(lengths), : max(lengths)]
    case = make_case(Given(scores.double()), lengths=tuple(lengths), mode=mode, threshold=0.5)
    written = case.write(places, case.draws(places) if sampled or mode == "random" else None)
    for row, length in zip(written.columns_RK.tolist(), lengths, strict=True):
        chosen = [column for column in row if column >= 0]
        assert row == chosen + [-1] * (places - len(chosen))
        assert len(chosen) == len(set(chosen)) == min(places, length)
        assert all(0 <= column < length for column in chosen)


def test_scores_that_are_no_numbers_are_refused():
    case = make_case(Given(torch.full((2, 3), math.nan, dtype=torch.float64)), lengths=(3, 2), mode="none")
    with pytest.raises(ValueError, match="no numbers"):
        case.write(2)


def test_as_many_places_as_candidates_give_a_permutation():
    case = make_case(gru(), lengths=(5, 5, 5))
    for draws in (None, case.draws(5)):
        assert [sorted(row) for row in case.write(5, draws).columns_RK.tolist()] == [[0, 1, 2, 3, 4]] * 3


def test_what_lies_beyond_the_last_candidate_is_nothing():
    written = make_case(gru(), lengths=(2, 4), mode="fixed").write(6)
    assert written.columns_RK[0, 2:].tolist() == [-1] * 4
    for name in ("logprobs_RK", "entropies_before_RK", "entropies_after_RK", "steps_RK"):
        assert not getattr(written, name)[0, 2:].any(), name
    assert written.chosen_RK.tolist() == [[True] * 2 + [False] * 4, [True] * 4 + [False] * 2]


@pytest.mark.parametrize("mode", ["entropy", "fixed", "prefix", "random"])
def test_nothing_is_thought_where_one_candidate_is_left(mode):
    case = make_case(gru(), lengths=(1, 3), mode=mode, threshold=0.0, random_rate=1.0)
    written = case.write(3, case.draws(3))
    assert written.steps_RK[0].tolist() == [0, 0, 0]
    assert written.steps_RK[1].tolist() == ([3, 0, 0] if mode == "prefix" else [3, 3, 0])
    assert float(written.logprobs_RK[0, 0]) == 0


def test_of_equal_scores_the_first_candidate_is_chosen():
    case = make_case(Given(torch.zeros(2, 4, dtype=torch.float64)), lengths=(4, 4), mode="none")
    written = case.write(4)
    assert written.columns_RK.tolist() == [[0, 1, 2, 3]] * 2
    expected = [math.log(left) for left in (4, 3, 2, 1)]
    assert written.entropies_before_RK[0].tolist() == pytest.approx(expected)


def test_greedy_lists_are_sorted_by_score_and_their_probabilities_are_of_what_was_left():
    scores = torch.tensor([[0.5, 2.0, -1.0, 1.0]], dtype=torch.float64)
    case = make_case(Given(scores), lengths=(4,), mode="none", choose_temperature=0.5)
    written = case.write(3)
    assert written.columns_RK.tolist() == [[1, 3, 0]]
    left = [2.0, 1.0, 0.5, -1.0]
    for place in range(3):
        expected = left[place] / 0.5 - math.log(sum(math.exp(s / 0.5) for s in left[place:]))
        assert float(written.logprobs_RK[0, place]) == pytest.approx(expected)


def test_modes_think_where_they_say():
    def thoughts(mode, **options):
        case = make_case(gru(), lengths=(6, 6), mode=mode, max_steps=2, **options)
        return case.write(4, case.draws(4))

    assert thoughts("none").steps_RK.tolist() == [[0] * 4] * 2
    assert thoughts("fixed").steps_RK.tolist() == [[2] * 4] * 2
    assert thoughts("prefix").steps_RK.tolist() == [[2, 0, 0, 0]] * 2
    written = thoughts("entropy")
    threshold = make_case(gru(), lengths=(6, 6), max_steps=2).reasoner.reasoning.threshold
    opened = written.entropies_before_RK > threshold
    assert torch.equal(written.steps_RK > 0, opened)
    assert opened.any()
    assert not opened.all()
    # who stopped early did so because the entropy had fallen below the threshold
    stopped = (written.steps_RK == 1) & opened
    assert (written.entropies_after_RK[stopped] <= threshold).all()
    untouched = ~opened
    assert torch.equal(written.entropies_after_RK[untouched], written.entropies_before_RK[untouched])


def test_a_normalised_gate_compares_shares_of_the_largest_entropy():
    case = make_case(gru(), lengths=(6, 6, 4), mode="entropy", threshold=0.8, normalised=True, max_steps=1)
    written = case.write(5)
    left = torch.tensor([[6, 5, 4, 3, 2], [6, 5, 4, 3, 2], [4, 3, 2, 1, 0]])
    share = written.entropies_before_RK / left.clamp(min=2).double().log()
    assert torch.equal(written.steps_RK > 0, (share > 0.8) & (left > 1))
    assert (written.steps_RK > 0).any()


def test_no_steps_are_no_thinking():
    case = make_case(gru(), max_steps=0, threshold=0.0)
    plain = make_case(gru(), mode="none")
    for name in ("columns_RK", "logprobs_RK", "entropies_after_RK"):
        assert torch.equal(getattr(case.write(4), name), getattr(plain.write(4), name))


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.8, 1.0])
def test_random_thinking_has_its_rate(rate):
    case = make_case(
        Given(torch.zeros(800, 5, dtype=torch.float64)), lengths=(5,) * 800, mode="random", random_rate=rate
    )
    thoughts = case.write(4, case.draws(4)).steps_RK
    assert set(thoughts.unique().tolist()) <= {0, 3}
    share = float((thoughts > 0).double().mean())
    assert share == pytest.approx(rate, abs=4 * math.sqrt(rate * (1 - rate) / thoughts.numel()))


def test_only_rows_that_think_are_computed():
    generator = Given(torch.zeros(10, 3, dtype=torch.float64))
    case = make_case(generator, lengths=(3,) * 10, mode="random", random_rate=0.5, max_steps=1)
    draws = case.draws(2)
    generator.steps.clear()
    case.write(2, draws)
    think = [int((draws.thinking_RK[:, place] < 0.5).sum()) for place in range(2)]
    assert 0 < think[0] < 10
    assert generator.steps == [(0, 0, think[0]), (0, None, 10), (1, 0, think[1])]


def test_lists_are_drawn_with_their_probabilities():
    scores = torch.tensor([[1.0, 0.0, 2.0]], dtype=torch.float64)
    rows = 6000
    case = make_case(Given(scores.expand(rows, -1)), lengths=(3,) * rows, mode="none", choose_temperature=0.7)
    written = case.write(3, case.draws(3))
    counts = Counter(tuple(row) for row in written.columns_RK.tolist())
    assert len(counts) == 6
    for order, count in counts.items():
        weights = [math.exp(float(scores[0, i]) / 0.7) for i in order]
        chance = math.prod(weights[k] / sum(weights[k:]) for k in range(3))
        assert count / rows == pytest.approx(chance, abs=4 * math.sqrt(chance * (1 - chance) / rows))
        row = written.columns_RK.tolist().index(list(order))
        assert float(written.logprobs_RK[row].sum()) == pytest.approx(math.log(chance))


def test_the_first_of_several_lists_is_the_greedy_one():
    case = make_case(gru(), lengths=(5, 5, 5, 5, 5, 5), mode="none")
    draws = Noise.sample(6, 4, 5, torch.Generator().manual_seed(0), greedy_every=3)
    several, greedy = case.write(4, draws), case.write(4)
    assert torch.equal(several.columns_RK[::3], greedy.columns_RK[::3])
    assert not torch.equal(several.columns_RK, greedy.columns_RK)


def test_the_best_of_several_lists_is_picked_by_any_value():
    written = make_case(gru(), lengths=(5,) * 6).write(3)
    best = written.best_of(torch.tensor([[0.1, 0.7, 0.7], [0.3, 0.2, 0.9]]))
    for name in ("columns_RK", "logprobs_RK", "steps_RK"):
        assert torch.equal(getattr(best, name), getattr(written, name)[[1, 5]])
    assert torch.equal(joined([written, best]).columns_RK[6:], best.columns_RK)


def test_what_was_wanted_is_added_up_while_it_lasts():
    scores = torch.tensor([[0.5, 2.0, -1.0, 1.0]], dtype=torch.float64)
    case = make_case(Given(scores), lengths=(4,), mode="none", choose_temperature=1.0)
    written = case.write(4)  # 1, 3, 0, 2
    wanted = torch.tensor([[True, False, False, True]])
    replayed = case.replay(written, wanted)

    def share(some, of):
        return math.log(sum(math.exp(float(scores[0, i])) for i in some)) - math.log(
            sum(math.exp(float(scores[0, i])) for i in of)
        )

    expected = [share([0, 3], [0, 1, 2, 3]), share([0, 3], [0, 2, 3]), share([0], [0, 2]), 0.0]
    assert replayed.wanted_logprobs_RK[0].tolist() == pytest.approx(expected)
    chances = [math.exp(float(s)) for s in scores[0]]
    shares = [c / sum(chances) for c in chances]
    assert float(replayed.choice_entropies_RK[0, 0]) == pytest.approx(-sum(p * math.log(p) for p in shares))
    assert not case.replay(written).wanted_logprobs_RK.any()


IMPOSSIBLE = [[[0, 0, 1]], [[0, 1, 3]], [[0, 1, -1]], [[-1, 0, 1]], [[0, 1, 7]]]


@pytest.mark.parametrize("columns", IMPOSSIBLE, ids=str)
def test_a_list_that_could_not_have_been_written_is_not_replayed(columns):
    case = make_case(gru(), lengths=(3,))
    columns = torch.tensor(columns)
    nothing = torch.zeros_like(columns)
    with pytest.raises(ValueError, match="a list repeats a candidate"):
        case.replay(Written(columns, nothing.double(), nothing.double(), nothing.double(), nothing, nothing.double()))


def test_what_a_mode_needs_has_to_be_there():
    with pytest.raises(ValueError, match="needs noise"):
        make_case(gru(), mode="random").write(2)
    case = make_case(gru())
    case.reasoner.set_threshold(None)
    with pytest.raises(ValueError, match="not set"):
        case.write(2)
    with pytest.raises(ValueError, match="at least one place"):
        make_case(gru()).write(0)
