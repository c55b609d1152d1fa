import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thinkrank.rerank.lists import training_batch
from thinkrank.rerank.losses import attention_weights, point_loss, softmax_loss
from thinkrank.testing import random_lists


def lists_and_logits(seed: int, grades: int = 2):
    batch = training_batch(random_lists(seed, grades=grades), np.arange(20))
    logits = torch.randn(batch.mask_BN.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return logits, batch.feedback_BN.double(), batch.mask_BN


@given(seed=st.integers(0, 40))
def test_the_softmax_loss_is_a_sum_over_lists_and_candidates(seed):
    logits, weights, mask = lists_and_logits(seed)
    losses = []
    for scores, worth, there in zip(logits.tolist(), weights.tolist(), mask.tolist(), strict=True):
        shown = [(score, weight) for score, weight, real in zip(scores, worth, there, strict=True) if real]
        total = math.log(sum(math.exp(score) for score, _ in shown))
        if any(weight for _, weight in shown):
            losses.append(-sum(weight * (score - total) for score, weight in shown))
    assert softmax_loss(logits, weights, mask).item() == pytest.approx(sum(losses) / max(1, len(losses)))


@given(seed=st.integers(0, 40))
def test_the_point_loss_is_a_mean_over_candidates(seed):
    logits, feedback, mask = lists_and_logits(seed)
    losses = [
        math.log1p(math.exp(-score if taken else score))
        for score, taken in zip(logits[mask].tolist(), (feedback[mask] > 0).tolist(), strict=True)
    ]
    assert point_loss(logits, feedback, mask).item() == pytest.approx(sum(losses) / len(losses))


def test_padding_gets_no_gradient_and_lists_without_feedback_give_none():
    logits, feedback, mask = lists_and_logits(1)
    logits.requires_grad_()
    softmax_loss(logits, feedback, mask).backward()
    assert not logits.grad[~mask].any()
    silent = ~(feedback > 0).any(dim=1)
    assert silent.any()
    assert not logits.grad[silent].any()
    assert softmax_loss(logits, torch.zeros_like(feedback), mask).item() == 0


def test_attention_goes_to_what_got_feedback():
    weights = attention_weights(torch.tensor([[0.0, 1.0, 2.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    shares = np.exp([1, 2]) / np.exp([1, 2]).sum()
    np.testing.assert_allclose(weights, [[0, *shares], [0, 0, 0], [0, 1, 0]], rtol=1e-6)
