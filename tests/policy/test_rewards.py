import math

import pytest
import torch

from thinkrank.policy import ndcg_reward


def test_one_relevant_item_earns_its_discount_up_to_the_cut_off():
    rewards = ndcg_reward(torch.tensor([[1, 2, 5], [10, 20, 1000]]), k=10)
    expected = [[1.0, 1 / math.log2(3), 1 / math.log2(6)], [1 / math.log2(11), 0.0, 0.0]]
    torch.testing.assert_close(rewards, torch.tensor(expected))


def test_the_cut_off_may_exceed_the_catalogue_or_be_absent():
    ranks = torch.tensor([1, 500])
    torch.testing.assert_close(ndcg_reward(ranks, k=10_000), ndcg_reward(ranks, k=None))


@pytest.mark.parametrize(("rank", "k"), [(0, 10), (1, 0)])
def test_ranks_and_cut_offs_start_at_one(rank, k):
    with pytest.raises(ValueError, match="1"):
        ndcg_reward(torch.tensor([rank]), k=k)
