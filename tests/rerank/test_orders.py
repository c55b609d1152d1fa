import numpy as np
import pytest

from thinkrank.errors import ThinkrankError
from thinkrank.rerank import FeatureOrder, InitialOrder
from thinkrank.stages.protocols import Reranker
from thinkrank.testing import random_lists


def test_the_initial_order_is_the_displayed_one():
    lists = random_lists()
    slate = InitialOrder().rerank(lists.requests, lists.candidates, 4)
    assert np.array_equal(slate.items_BK, lists.items_LN[:, :4])
    assert isinstance(InitialOrder(), Reranker)


@pytest.mark.parametrize("descending", [True, False])
def test_a_feature_orders_each_list(descending):
    lists = random_lists()
    slate = FeatureOrder("price", descending=descending).rerank(lists.requests, lists.candidates, 6)
    for row, columns in enumerate(slate.columns_BK):
        length = int(lists.lengths_L[row])
        prices = lists.numeric_LNF[row, columns[:length], 0]
        assert sorted(columns[:length]) == list(range(length))
        assert prices.tolist() == sorted(prices.tolist(), reverse=descending)
        assert (columns[length:] == -1).all()


def test_a_missing_feature_is_named():
    with pytest.raises(ThinkrankError, match="no numeric feature 'rate_before'; there are price, rate"):
        FeatureOrder().rerank(random_lists().requests, random_lists().candidates, 3)
