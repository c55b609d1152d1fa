import math
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thinkrank.errors import ThinkrankError
from thinkrank.rerank import EvaluatorOptions
from thinkrank.rerank.eglr.evaluator import Evaluator, click_loss, place_rewards
from thinkrank.rerank.eglr.orders import displayed_places, ordered
from thinkrank.rerank.eglr.report import auc_of, calibration, evaluator_report
from thinkrank.rerank.lists import ListEncoder, training_batch
from thinkrank.testing import random_lists

KINDS = ["gru", "transformer", "five_channel"]


def make(kind, lists, seed=0):
    torch.manual_seed(seed)
    options = EvaluatorOptions(kind=kind, width=8, heads=2, length=6, dropout=0.2)
    options = options.model_copy(update={"lists": options.lists.model_copy(update={"width": 6})})
    evaluator = Evaluator(ListEncoder.of(lists, options.lists), options).double()
    with torch.no_grad():  # embeddings begin at zero
        for parameter in evaluator.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return evaluator.eval()


def batch_of(lists, rows=range(20)):
    return training_batch(lists, torch.tensor(list(rows)).numpy())


def displayed(batch):
    return ordered(displayed_places(batch.mask_BN), batch.mask_BN)


@pytest.mark.parametrize("kind", KINDS)
def test_a_list_is_judged_alike_alone_and_filled_up_among_others(kind):
    lists = random_lists(longest=5)
    evaluator, batch = make(kind, lists), batch_of(lists)
    with torch.no_grad():
        together = evaluator(evaluator.joint(batch), displayed(batch))
    assert len(set(batch.mask_BN.sum(dim=1).tolist())) > 3
    for row in range(20):
        one = batch_of(lists, [row])
        with torch.no_grad():
            alone = evaluator(evaluator.joint(one), displayed(one))[0]
        torch.testing.assert_close(alone, together[row, : len(alone)], atol=1e-9, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_several_lists_of_a_request_are_judged_by_its_candidates(kind):
    lists = random_lists(longest=5)
    evaluator, batch = make(kind, lists), batch_of(lists, [0, 3, 4])
    columns = torch.cat([displayed(batch), ordered(-displayed_places(batch.mask_BN), batch.mask_BN)], dim=1)
    columns = columns.view(6, -1)  # displayed and reversed, of each request in turn
    with torch.no_grad():
        joint = evaluator.joint(batch)
        got = evaluator.probabilities(joint, columns)
        for row in range(6):
            expected = evaluator.probabilities(joint[row // 2 : row // 2 + 1], columns[row : row + 1])
            torch.testing.assert_close(got[row : row + 1], expected, atol=1e-9, rtol=0)
    assert torch.equal(got > 0, columns >= 0)


def test_a_forward_evaluator_judges_a_place_by_what_stands_above_it_and_the_others_by_all():
    lists = random_lists(longest=6)
    batch = batch_of(lists, [0])
    one, other = torch.tensor([[0, 1, 2, 3, 4, 5]]), torch.tensor([[0, 1, 2, 5, 4, 3]])
    for kind in KINDS:
        evaluator = make(kind, lists)
        joint = evaluator.joint(batch)
        first, second = evaluator(joint, one)[0], evaluator(joint, other)[0]
        same_above = torch.allclose(first[:3], second[:3], atol=1e-9)
        assert same_above == (kind == "gru")


def test_the_loss_is_the_mean_cross_entropy_of_the_places_there_are():
    logits = torch.tensor([[0.3, -2.0, 5.0], [1.0, 0.2, -0.7]], dtype=torch.float64)
    clicked = torch.tensor([[True, False, True], [False, True, False]])
    there = torch.tensor([[True, True, False], [True, True, True]])
    total, count = 0.0, 0
    for row, place in product(range(2), range(3)):
        if there[row, place]:
            chance = 1 / (1 + math.exp(-float(logits[row, place])))
            total -= math.log(chance if clicked[row, place] else 1 - chance)
            count += 1
    assert float(click_loss(logits, clicked, there)) == pytest.approx(total / count)


def test_the_worth_of_a_list_is_what_its_places_add():
    chances = torch.tensor([[0.5, 0.25, 0.125], [0.8, 0.1, 0.0]], dtype=torch.float64)
    lengths = torch.tensor([3, 2])
    worth = {kind: place_rewards(chances, kind, lengths).sum(dim=1).tolist() for kind in ("mean", "sum", "discounted")}
    assert worth["sum"] == pytest.approx([0.875, 0.9])
    assert worth["mean"] == pytest.approx([0.875 / 3, 0.45])
    assert worth["discounted"] == pytest.approx([0.5 + 0.25 / math.log2(3) + 0.125 / 2, 0.8 + 0.1 / math.log2(3)])


PREDICTIONS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]), st.booleans()), min_size=1, max_size=30
)


@given(PREDICTIONS)
def test_auc_counts_pairs(pairs):
    predictions, clicked = (torch.tensor(values) for values in zip(*pairs, strict=True))
    wins = [
        1.0 if high > low else 0.5 if high == low else 0.0
        for (high, yes), (low, no) in product(pairs, pairs)
        if yes and not no
    ]
    expected = sum(wins) / len(wins) if wins else None
    assert auc_of(predictions, clicked) == (None if expected is None else pytest.approx(expected))


@given(PREDICTIONS, st.integers(1, 7))
def test_calibration_is_the_weighted_gap_of_the_bins(pairs, num_bins):
    predictions, clicked = (torch.tensor(values) for values in zip(*pairs, strict=True))
    bounds = [torch.tensor(i / num_bins).double().item() for i in range(num_bins + 1)]
    expected, counts = 0.0, []
    for index, (low, high) in enumerate(pairwise(bounds)):
        inside = [
            (float(p), c)
            for p, c in zip(predictions.tolist(), clicked.tolist(), strict=True)
            if low < round(p, 6) <= high + 1e-9 or (index == 0 and p == 0)
        ]
        if inside:
            mean, rate = sum(p for p, _ in inside) / len(inside), sum(c for _, c in inside) / len(inside)
            expected += len(inside) / len(pairs) * abs(mean - rate)
            counts.append(len(inside))
    error, bins = calibration(predictions.double().round(decimals=6), clicked, num_bins)
    assert error == pytest.approx(expected, abs=1e-6)
    assert [found.count for found in bins] == counts


def test_the_report_says_what_the_evaluator_predicts_of_logged_lists():
    lists = random_lists(num_lists=40, longest=6)
    evaluator = make("gru", lists)
    batches = [batch_of(lists, range(25)), batch_of(lists, range(25, 40))]
    report = evaluator_report(evaluator, batches, slate_length=3)
    predictions, clicks = [], []
    for row in range(40):
        one = batch_of(lists, [row])
        chances = evaluator.probabilities(evaluator.joint(one), displayed(one))[0].tolist()
        predictions += chances
        clicks += (one.feedback_BN[0] > 0).tolist()
    losses = [-math.log(p if c else 1 - p) for p, c in zip(predictions, clicks, strict=True)]
    rate = sum(clicks) / len(clicks)
    assert report.lists == 40
    assert report.places == len(clicks)
    assert report.click_rate == pytest.approx(rate)
    assert report.log_loss == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert report.base_log_loss == pytest.approx(-rate * math.log(rate) - (1 - rate) * math.log(1 - rate))
    assert report.auc == pytest.approx(auc_of(torch.tensor(predictions), torch.tensor(clicks)), abs=1e-4)
    places = [place for row in range(40) for place in range(int(lists.lengths_L[row]))]
    right = pairs = 0.0
    odds = [math.log(p / (1 - p)) for p in predictions]
    rows = [row for row in range(40) for _ in range(int(lists.lengths_L[row]))]
    means = [np.mean([x for x, other in zip(odds, rows, strict=True) if other == row]) for row in range(40)]
    told = list(zip(places, [x - means[row] for x, row in zip(odds, rows, strict=True)], clicks, strict=True))
    for place, high, clicked in told:
        for other, low, neglected in told:
            if place == other and clicked and not neglected:
                right, pairs = right + (high > low) + (high == low) / 2, pairs + 1
    assert report.auc_within_place == pytest.approx(right / pairs, abs=1e-4)
    first = [sum(evaluator.probabilities(evaluator.joint(b), displayed(b)[:, :3]).sum(1).tolist()) for b in batches]
    assert report.worth["sum"].logged == pytest.approx(sum(first) / 40, rel=1e-5)
    assert type(report).model_validate_json(report.model_dump_json()) == report
    with pytest.raises(ValueError, match="at least one list"):
        evaluator_report(evaluator, [])


class Fixed(torch.nn.Module):
    """An evaluator whose probabilities at each place are told by the displayed place of what stands there."""

    def __init__(self, chances):
        super().__init__()
        self.chances = torch.tensor(chances)

    def joint(self, batch):
        return batch.mask_BN[:, :, None].float()

    def probabilities(self, joint, columns):
        places = torch.arange(columns.shape[1])
        return self.chances[columns.clamp(min=0), places].masked_fill(columns < 0, 0.0)


class KnowsLists(torch.nn.Module):
    """An evaluator of one list at a time: its click rate times what a place is worth, and nothing of candidates."""

    def joint(self, batch):
        self.rates_B = (batch.feedback_BN > 0).float().sum(dim=1) / batch.mask_BN.sum(dim=1)
        return batch.mask_BN[:, :, None].float()

    def probabilities(self, joint, columns):
        odds = torch.logit(self.rates_B.clamp(0.05, 0.9))[:, None] - 0.3 * torch.arange(columns.shape[1])
        return odds.sigmoid().masked_fill(columns < 0, 0.0)


def test_knowing_lists_and_places_is_not_telling_items_apart(monkeypatch):
    lists, knows = random_lists(num_lists=60, longest=4), KnowsLists()
    evaluator = make("gru", lists)
    monkeypatch.setattr(evaluator, "joint", knows.joint)
    monkeypatch.setattr(evaluator, "probabilities", knows.probabilities)
    same = lists.subset(np.flatnonzero(lists.lengths_L == lists.lengths_L.max()))
    report = evaluator_report(evaluator, [batch_of(same, range(len(same)))])
    assert report.auc > 0.6
    assert report.auc_within_place == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize(("fond_of", "passed"), [("shown", True), ("any", False)])
def test_an_evaluator_must_prefer_logged_lists_to_shuffled_ones(monkeypatch, fond_of, passed):
    lists = random_lists(num_lists=60, longest=4)
    evaluator = make("gru", lists)
    chances = [[0.9 if fond_of == "any" or item == place else 0.1 for place in range(4)] for item in range(4)]
    fixed = Fixed(chances)
    monkeypatch.setattr(evaluator, "joint", fixed.joint)
    monkeypatch.setattr(evaluator, "probabilities", fixed.probabilities)
    worth = evaluator_report(evaluator, [batch_of(lists, range(60))]).worth["mean"]
    assert worth.passed == passed
    batch = batch_of(lists, range(60))
    clustered, apart = (
        evaluator_report(evaluator, [replace(batch, users_B=users)]).worth["mean"]
        for users in (torch.arange(60) // 30, torch.arange(60))
    )
    assert clustered.difference == apart.difference
    if passed:
        assert clustered.difference_error != apart.difference_error  # lists of one user are no independent ones
        assert worth.logged == pytest.approx(0.9)
        assert worth.shuffled < worth.logged


def test_a_frozen_evaluator_has_no_dropout_and_no_gradient():
    lists = random_lists()
    evaluator, batch = make("transformer", lists), batch_of(lists)
    evaluator.train()
    noisy = [evaluator(evaluator.joint(batch), displayed(batch)) for _ in range(2)]
    assert not torch.equal(*noisy)
    evaluator.freeze()
    still = [evaluator(evaluator.joint(batch), displayed(batch)) for _ in range(2)]
    assert torch.equal(*still)
    assert not still[0].requires_grad
    assert not any(parameter.requires_grad for parameter in evaluator.parameters())


def test_five_channels_read_no_longer_lists_than_they_were_made_for():
    lists = random_lists(longest=6)
    evaluator = make("five_channel", lists)
    batch = batch_of(random_lists(longest=8))
    with pytest.raises(ThinkrankError, match=r"reads 6 places, the lists have 8: raise evaluator\.length"):
        evaluator(evaluator.joint(batch), displayed(batch))
