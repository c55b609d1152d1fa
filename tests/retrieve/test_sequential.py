"""What SASRec and GRU4Rec can be told beside the paper's ways: another network, sampled items, the file's order."""

import math
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from thinkrank.data import Catalogue, Dataset, History
from thinkrank.retrieve import GRU4Rec, Gru4recOptions, SASRec, SasrecOptions, train_sequential
from thinkrank.retrieve.sequential.gru4rec import RecurrentEncoder
from thinkrank.retrieve.sequential.model import fill_up
from thinkrank.retrieve.sequential.sasrec import CausalEncoder, GatedLayer
from thinkrank.retrieve.sequential.trainer import Negatives, SequentialTrainer, next_item_loss, readouts, windows
from thinkrank.testing import RetrieverContract
from thinkrank.training import Run, UnsavedRun

SMALL = Gru4recOptions(width=16, max_length=6, learning_rate=3e-2, max_epochs=12, dropout=0.1)


class TestGRU4Rec(RetrieverContract):
    @classmethod
    def fit(cls, dataset):
        model = GRU4Rec(SMALL, device="cpu")
        train_sequential(model, dataset)
        return model

    def test_it_knows_what_came_next(self, stage):
        ranking = stage.retrieve([History.of([0, 1, 2]), History.of([7, 5])], 1)
        assert ranking.items_BK.tolist() == [[3], [6]]


class TestGRU4RecOfTwoLayersAndSampledItems(RetrieverContract):
    @classmethod
    def fit(cls, dataset):
        model = GRU4Rec(SMALL.model_copy(update={"blocks": 2, "negatives": 8}), device="cpu")
        train_sequential(model, dataset)
        return model


def drawn_at_random(module: torch.nn.Module) -> torch.nn.Module:
    """The same network in double precision with every parameter drawn anew, without dropout."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.double().parameters():
            parameter.normal_(std=0.3)
    return module.eval()


def test_the_recurrent_network_is_the_formula_of_gated_recurrent_units():
    encoder = drawn_at_random(RecurrentEncoder(9, SMALL))
    items = [3, 1, 4, 1, 5]
    weights, state = dict(encoder.named_parameters()), torch.zeros(16, dtype=torch.double)
    for place, item in enumerate(items):
        inputs = weights["items.weight"][item] * 4
        given = weights["gru.weight_ih_l0"] @ inputs + weights["gru.bias_ih_l0"]
        kept = weights["gru.weight_hh_l0"] @ state + weights["gru.bias_hh_l0"]
        reset, update = (given[:16] + kept[:16]).sigmoid(), (given[16:32] + kept[16:32]).sigmoid()
        state = (1 - update) * (given[32:] + reset * kept[32:]).tanh() + update * state
        torch.testing.assert_close(encoder(torch.tensor([items]))[0, place], state)


def test_a_gated_layer_is_its_formula_and_looks_at_nothing_later():
    layer = drawn_at_random(GatedLayer(4, 1, 0.5))
    weights = dict(layer.named_parameters())
    x_TD = torch.randn(3, 4, dtype=torch.double)

    def normalised(x: Tensor, name: str) -> Tensor:
        spread = ((x - x.mean()) ** 2).mean()
        return (x - x.mean()) / (spread + 1e-5).sqrt() * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def linear(x: Tensor, name: str) -> Tensor:
        return weights[f"{name}.weight"] @ x + weights.get(f"{name}.bias", 0)

    projected = [
        weights["self_attn.in_proj_weight"] @ normalised(x, "norm1") + weights["self_attn.in_proj_bias"] for x in x_TD
    ]
    for place, x in enumerate(x_TD):
        scores = torch.stack([projected[place][:4] @ other[4:8] / 2 for other in projected[: place + 1]]).softmax(0)
        seen = sum(score * other[8:] for score, other in zip(scores, projected, strict=False))
        x = x + linear(x, "gate1").sigmoid() * linear(seen, "self_attn.out_proj")
        inner = normalised(x, "norm2")
        wide = linear(inner, "linear1")
        fed = linear(wide * wide.sigmoid() * linear(inner, "linear2"), "linear3")
        expected = x + linear(x, "gate2").sigmoid() * fed
        future_TT = torch.nn.Transformer.generate_square_subsequent_mask(3, dtype=torch.double)
        torch.testing.assert_close(layer(x_TD[None], future_TT)[0, place], expected)


def readings(encoder: torch.nn.Module, *histories: list[int]) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    rows = [row for items in histories for row in windows(History.of(items), 9, np.random.default_rng(0))]
    return fill_up([row.items_W for row in rows])[0], readouts(rows)


@torch.no_grad()
def test_drawn_items_stand_for_the_catalogue_by_how_often_they_are_drawn():
    encoder = drawn_at_random(CausalEncoder(9, SasrecOptions(width=4, heads=1, max_length=6, dropout=0)))
    history, items_N, log_q_N = [3, 1, 4], torch.tensor([1, 7, 7, 4]), torch.tensor([-0.5, 0.3, 0.3, 1.0])
    items_BT, asked = readings(encoder, history)
    states, table, losses = encoder(items_BT)[0], encoder.items.weight, []
    for place, (_, target) in enumerate(pairwise(history)):
        total = math.exp(states[place] @ table[target])
        for item, log_q in zip(items_N.tolist(), log_q_N.tolist(), strict=True):
            if item != target:
                total += math.exp(states[place] @ table[item]) / math.exp(log_q)
        losses.append(math.log(total) - float(states[place] @ table[target]))
    found = next_item_loss(encoder, items_BT, *asked, (items_N, log_q_N))
    assert found.item() == pytest.approx(sum(losses) / len(losses))


def test_the_whole_catalogue_is_what_all_draws_come_to_on_average():
    counts_I = np.array([5, 0, 1, 9, 0, 0, 2])
    negatives = Negatives(counts_I, 40)
    np.testing.assert_allclose(negatives.shares_I, 0.5 * counts_I / 17 + 0.5 / 7)
    scores_I, generator, totals, drawn_I = np.linspace(-1, 2, 7), np.random.default_rng(0), [], np.zeros(7)
    for _ in range(3000):
        items_N, log_q_N = negatives.draw(generator)
        totals.append(np.exp(scores_I[items_N] - log_q_N.numpy()).sum())
        drawn_I += np.bincount(items_N, minlength=7)
    np.testing.assert_allclose(drawn_I / drawn_I.sum(), negatives.shares_I, atol=0.005)
    assert np.mean(totals) == pytest.approx(np.exp(scores_I).sum(), rel=0.01)


@pytest.mark.parametrize(("in_file_order", "predicted"), [(False, [3]), (True, [1, 2, 3])])
def test_training_in_the_files_order_predicts_what_happened_at_one_time_too(in_file_order, predicted):
    rows = [("a", "w0", 0), ("a", "w1", 0), ("a", "w2", 0), ("a", "w3", 86_400)]
    items = [f"w{item}" for item in range(4)]
    interactions = pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row")
    days = Dataset("days", interactions, Catalogue(pl.DataFrame({"item": items, "title": items})))
    options = SasrecOptions(width=4, heads=1, train_in_file_order=in_file_order)
    (history,) = SequentialTrainer(SASRec(options, device="cpu"), days, UnsavedRun()).histories
    targets = [row.targets_P.tolist() for row in windows(history, 9, np.random.default_rng(0))]
    assert targets == [predicted]


ROWS = SMALL.model_copy(update={"negatives": 8, "row_updates": True})


class TestGRU4RecThatUpdatesRows(RetrieverContract):
    @classmethod
    def fit(cls, dataset):
        model = GRU4Rec(ROWS, device="cpu")
        train_sequential(model, dataset)
        return model


def test_items_that_no_update_touches_stay_and_have_no_optimiser_state():
    ids = [str(row) for row in range(500)]
    frame = pl.DataFrame({"user": ["a"] * 6, "item": ids[:6], "timestamp": range(6)})
    data = Dataset("few of many", frame, Catalogue(pl.DataFrame({"item": ids, "title": ids})))
    trainer = SequentialTrainer(GRU4Rec(ROWS, device="cpu"), data, UnsavedRun())
    trainer.start()
    before = trainer.encoder.items.weight.detach().clone()
    trainer.step()
    changed = (trainer.encoder.items.weight != before).any(dim=1).nonzero()[:, 0].tolist()
    assert changed
    assert set(range(6)) <= set(changed)
    assert sorted(trainer.extra_tensors()["rows_S"].tolist()) == changed
    assert len(changed) <= 6 + 8


def test_row_updates_with_what_touches_every_row_are_refused():
    for wrong in ({"negatives": None}, {"weight_decay": 0.1}):
        with pytest.raises(ValueError, match="row_updates needs negatives, and weight_decay = 0"):
            Gru4recOptions.model_validate(ROWS.model_dump() | wrong)


def test_a_run_that_updates_rows_is_resumed_with_their_moments(tmp_path):
    ids = [str(row) for row in range(9)]
    frame = pl.DataFrame({"user": ["a"] * 9, "item": ids, "timestamp": range(9)})
    data = Dataset("a line", frame, Catalogue(pl.DataFrame({"item": ids, "title": ids})))
    two, four = (ROWS.model_copy(update={"max_epochs": epochs}) for epochs in (2, 4))
    whole, parts = GRU4Rec(four, device="cpu"), GRU4Rec(four, device="cpu")
    train_sequential(whole, data)
    train_sequential(GRU4Rec(two, device="cpu"), data, run=Run(tmp_path, {}, {}))
    train_sequential(parts, data, run=Run(tmp_path, {}, {}))
    np.testing.assert_array_equal(parts.scores([[1, 2]]), whole.scores([[1, 2]]))
