import numpy as np
import pytest
import torch

from thinkrank.rerank.eglr.orders import along, displayed_places, ordered


@pytest.fixture(scope="module")
def judged():
    """Feedback with grades, lists without any, and orders of them of which some end early."""
    random = np.random.default_rng(0)
    feedback = random.integers(0, 3, (30, 7)) * (random.random((30, 7)) < 0.4)
    feedback[:3] = 0
    columns = np.argsort(random.random((30, 7)), axis=1)[:, :5]
    columns[10:15, 3:] = -1
    relevance = np.where(columns >= 0, np.take_along_axis(feedback, np.maximum(columns, 0), axis=1), 0)
    return torch.from_numpy(columns), torch.from_numpy(feedback).float(), relevance


def test_values_follow_their_candidates(judged):
    columns, feedback, relevance = judged
    assert torch.equal(along(columns, feedback), torch.from_numpy(relevance).float())


def test_an_order_leaves_padding_out_and_keeps_ties_as_they_stood():
    mask = torch.tensor([[True, True, True, True], [True, True, False, False]])
    keys = torch.tensor([[2.0, 1.0, 2.0, 0.0], [1.0, 0.0, -5.0, -5.0]])
    assert ordered(keys, mask).tolist() == [[3, 1, 0, 2], [1, 0, -1, -1]]
    assert ordered(keys, mask, 2).tolist() == [[3, 1], [1, 0]]
    assert ordered(displayed_places(mask), mask, 3).tolist() == [[0, 1, 2], [0, 1, -1]]
