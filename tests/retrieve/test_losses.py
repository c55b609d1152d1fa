import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thinkrank.retrieve.losses import contrastive_loss

scores = st.lists(st.lists(st.floats(-20, 20), min_size=4, max_size=4), min_size=1, max_size=5)


@given(scores, st.data())
def test_the_loss_is_the_mean_negative_log_share_of_the_target_among_its_competitors(rows, data):
    targets = [data.draw(st.integers(0, 3)) for _ in rows]
    excluded = [[data.draw(st.booleans()) for _ in range(4)] for _ in rows]
    losses = []
    for row, target, out in zip(rows, targets, excluded, strict=True):
        competing = [math.exp(s - row[target]) for n, s in enumerate(row) if n == target or not out[n]]
        losses.append(math.log(sum(competing)))
    loss = contrastive_loss(torch.tensor(rows, dtype=torch.float64), torch.tensor(targets), torch.tensor(excluded))
    assert loss.item() == pytest.approx(sum(losses) / len(losses), rel=1e-9, abs=1e-9)


def test_an_excluded_candidate_gets_no_gradient_and_others_do():
    values = torch.zeros(1, 3, requires_grad=True)
    contrastive_loss(values, torch.tensor([0]), torch.tensor([[False, True, False]])).backward()
    assert values.grad is not None
    assert values.grad[0, 1].item() == 0
    assert values.grad[0, 0].item() < 0 < values.grad[0, 2].item()


def test_a_target_outside_the_candidates_is_refused():
    with pytest.raises(ValueError, match="outside the 3 candidates"):
        contrastive_loss(torch.zeros(1, 3), torch.tensor([3]))
