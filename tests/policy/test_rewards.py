import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thinkrank.policy import (
    Answer,
    Diversity,
    LengthPenalty,
    format_reward,
    fuse,
    ndcg_reward,
    softmax_similarity,
    weighted_rewards,
)


def answer(*token_ids, finish_reason="closed", rank=None):
    return Answer(token_ids=list(token_ids), finish_reason=finish_reason, rank=rank)


def test_one_relevant_item_earns_its_discount_up_to_the_cut_off():
    rewards = ndcg_reward(torch.tensor([[1, 2, 5], [10, 20, 1000]]), k=10)
    expected = [[1.0, 1 / math.log2(3), 1 / math.log2(6)], [1 / math.log2(11), 0.0, 0.0]]
    torch.testing.assert_close(rewards, torch.tensor(expected))


def test_the_cut_off_may_exceed_the_catalogue_or_be_absent():
    ranks = torch.tensor([1, 500])
    torch.testing.assert_close(ndcg_reward(ranks, k=10_000), ndcg_reward(ranks, k=None))


@pytest.mark.parametrize("k", [1, 2, 4])
def test_over_every_ranking_of_a_small_catalogue_the_reward_is_dcg_over_ideal_dcg(k):
    for ranking in itertools.permutations(range(4)):
        for target in range(4):
            gains = [1.0 if item == target else 0.0 for item in ranking]
            dcg, ideal = (
                sum(gain / math.log2(place + 2) for place, gain in enumerate(order[:k]))
                for order in (gains, sorted(gains, reverse=True))
            )
            reward = ndcg_reward(torch.tensor([ranking.index(target) + 1]), k=k)
            assert reward.item() == pytest.approx(dcg / ideal, rel=1e-6)


@pytest.mark.parametrize(("rank", "k"), [(0, 10), (1, 0)])
def test_ranks_and_cut_offs_start_at_one(rank, k):
    with pytest.raises(ValueError, match="1"):
        ndcg_reward(torch.tensor([rank]), k=k)


@given(st.lists(st.lists(st.floats(-3, 3), min_size=4, max_size=4), min_size=1, max_size=4), st.floats(0.1, 2.0))
def test_the_similarity_is_the_targets_share_of_the_whole_catalogue(rows, temperature):
    scores = torch.tensor(rows, dtype=torch.float64)
    for target in range(4):
        shares = softmax_similarity(scores, torch.full((len(rows),), target), temperature)
        expected = [
            math.exp(row[target] / temperature) / sum(math.exp(score / temperature) for score in row) for row in rows
        ]
        assert shares.tolist() == pytest.approx(expected, rel=1e-9)


def test_an_item_left_out_takes_no_share_and_is_worth_nothing_itself():
    scores = torch.tensor([[1.0, -math.inf, 2.0], [1.0, -math.inf, 2.0]])
    similarity = softmax_similarity(scores, torch.tensor([0, 1]), 1.0)
    assert similarity.tolist() == pytest.approx([1 / (1 + math.e), 0.0])


def test_the_similarity_can_be_differentiated():
    torch.manual_seed(0)
    scores = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: softmax_similarity(s, torch.tensor([0, 4, 2]), 0.5), scores)


def test_half_precision_scores_are_compared_in_fp32():
    scores = torch.tensor([[8.0, 8.0, 0.0]], dtype=torch.bfloat16)
    similarity = softmax_similarity(scores, torch.tensor([0]), 1.0)
    assert similarity.dtype == torch.float32
    assert similarity.item() == pytest.approx(1 / (2 + math.exp(-8)), rel=1e-6)


@pytest.mark.parametrize(
    ("scores", "target", "temperature", "message"),
    [
        ([1.0, 2.0], 0, 0.0, "positive"),
        ([1.0, 2.0], 2, 1.0, "columns 0 to 1"),
        ([1.0, 2.0], -1, 1.0, "column -1"),
        ([math.nan, 2.0], 0, 1.0, "no softmax"),
        ([-math.inf, -math.inf], 0, 1.0, "no softmax"),
    ],
)
def test_a_similarity_that_has_no_meaning_is_refused(scores, target, temperature, message):
    with pytest.raises(ValueError, match=message):
        softmax_similarity(torch.tensor([scores]), torch.tensor([target]), temperature)


def test_beta_is_the_weight_of_the_similarity():
    ndcg, similarity = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    torch.testing.assert_close(fuse(ndcg, similarity, 0.05), torch.tensor([[0.95, 0.05]]))
    with pytest.raises(ValueError, match=r"1\.5"):
        fuse(ndcg, similarity, 1.5)


def test_only_an_answer_that_closed_itself_has_the_format():
    group = [answer(1), answer(1, finish_reason="length"), answer(1, finish_reason="end_of_turn")]
    assert format_reward(group) == [1.0, 0.0, 0.0]


def test_the_length_penalty_falls_from_the_free_length_to_the_limit():
    penalty = LengthPenalty(free=2, limit=6)
    assert penalty([answer(*range(length)) for length in (0, 2, 3, 5, 6, 9)]) == [0.0, 0.0, -0.25, -0.75, -1.0, -1.0]
    with pytest.raises(ValueError, match="free 6 and limit 6"):
        LengthPenalty(free=6, limit=6)


def test_diversity_is_the_share_of_tokens_that_no_sibling_wrote():
    group = [answer(1, 2, 2, 3), answer(3, 4), answer(4, 3, 3), answer()]
    assert Diversity()(group) == pytest.approx([2 / 3, 0.0, 0.0, 0.0])


def test_diversity_of_pairs_sees_the_order_that_diversity_of_tokens_does_not():
    group = [answer(1, 2, 3), answer(3, 2, 1)]
    assert Diversity(1)(group) == [0.0, 0.0]
    assert Diversity(2)(group) == [1.0, 1.0]
    assert Diversity(2)([answer(1, 2, 3), answer(1, 2, 4)]) == [0.5, 0.5]


def test_diversity_needs_siblings_and_tokens():
    with pytest.raises(ValueError, match="got 1"):
        Diversity()([answer(1)])
    with pytest.raises(ValueError, match="n = 0"):
        Diversity(0)


def test_a_users_own_reward_is_weighed_with_the_others():
    def first_place(group):
        return [int(entry.rank == 1) for entry in group]

    groups = [
        [answer(1, rank=1), answer(1, rank=2)],
        [answer(1, finish_reason="length", rank=3), answer(1, finish_reason="length", rank=1)],
    ]
    total = weighted_rewards(groups, [(0.5, format_reward), (2.0, first_place)])
    torch.testing.assert_close(total, torch.tensor([[2.5, 0.5], [0.0, 2.0]]))
    torch.testing.assert_close(weighted_rewards(groups, []), torch.zeros(2, 2))


@pytest.mark.parametrize("values", [[1.0], [1.0, math.nan]])
def test_a_reward_must_give_one_finite_number_per_answer(values):
    with pytest.raises(ValueError, match="2 finite numbers"):
        weighted_rewards([[answer(1), answer(2)]], [(1.0, lambda group: values)])


def test_groups_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match=r"\[1, 2\]"):
        weighted_rewards([[answer(1)], [answer(1), answer(2)]], [(1.0, format_reward)])
