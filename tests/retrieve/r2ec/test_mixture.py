"""The mean of probabilities over several users, against whole matrices."""

import numpy as np
import pytest
import torch

from thinkrank.retrieve.item_table import ItemTable
from thinkrank.retrieve.r2ec.mixture import Mixture


@pytest.mark.parametrize("block_rows", [5, 100])
def test_a_mixture_ranks_by_the_mean_of_probabilities(block_rows):
    random = torch.Generator().manual_seed(0)
    rows_ID, users_BGD = torch.randn(17, 4, generator=random), torch.randn(6, 3, 4, generator=random)
    table = ItemTable(rows_ID, torch.randn(17, generator=random), 0.5, block_rows=block_rows)
    table.withdraw(torch.tensor([2]))
    scores_BGI = users_BGD @ rows_ID.T / 0.5 + table.bias_I
    scores_BGI[:, :, 2] = -torch.inf
    mean_BI = scores_BGI.softmax(dim=2).mean(dim=1)
    mixture, queries_BX = Mixture(table, 3), users_BGD.flatten(1)
    expected_BI = mean_BI.log() + scores_BGI.logsumexp(dim=2).mean(dim=1, keepdim=True)
    torch.testing.assert_close(mixture.scores(queries_BX), expected_BI)
    seen = [np.array([row, 16]) for row in range(6)]
    items_BK, scores_BK = mixture.search(queries_BX, 4, exclude=seen)
    for row, left_out in enumerate(seen):
        expected_BI[row, left_out] = -torch.inf
    found = expected_BI.sort(dim=1, descending=True, stable=True)
    assert torch.equal(items_BK, found.indices[:, :4])
    torch.testing.assert_close(scores_BK, found.values[:, :4])
    assert mixture.target_ranks(queries_BX, found.indices[:, 2], exclude=seen).tolist() == [3] * 6
    some_BN = torch.tensor([[3, 4]] * 6)
    torch.testing.assert_close(mixture.scores_of(queries_BX, some_BN), mixture.scores(queries_BX).gather(1, some_BN))


def test_users_that_are_one_are_answered_as_one():
    random = torch.Generator().manual_seed(1)
    table = ItemTable(torch.randn(9, 4, generator=random))
    users_BD = torch.randn(3, 4, generator=random)
    torch.testing.assert_close(Mixture(table, 2).scores(users_BD.repeat(1, 2)), table.scores(users_BD))
