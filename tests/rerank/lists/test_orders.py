import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from thinkrank import metrics
from thinkrank.rerank.lists import ndcg
from thinkrank.stages.order import slate_from_scores
from thinkrank.testing import random_lists


@given(seed=st.integers(0, 60), k=st.integers(1, 9), grades=st.integers(1, 3))
def test_validation_agrees_with_evaluation(seed, k, grades):
    lists = random_lists(seed, grades=grades)
    scores_LN = np.random.default_rng(seed).integers(0, 4, lists.items_LN.shape).astype(np.float32)
    slate = slate_from_scores(lists, scores_LN, 6)
    feedback_LN = np.take_along_axis(lists.feedback(), np.maximum(slate.columns_BK, 0), axis=1)
    expected = metrics.ndcg(np.where(slate.columns_BK >= 0, feedback_LN, 0), k, gain="exponential")
    tensors = (torch.from_numpy(array.copy()) for array in (scores_LN, lists.feedback(), lists.mask_LN))
    np.testing.assert_allclose(ndcg(*tensors, k), expected, rtol=1e-5, atol=1e-6)
