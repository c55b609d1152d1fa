import logging
import math

import numpy as np
import pytest
import torch

from thinkrank.data import ListWorld, ListWorldOptions
from thinkrank.errors import ThinkrankError
from thinkrank.rerank import EGLR, EvaluatorTrainerOptions, WarmStartOptions, train_eglr
from thinkrank.rerank.eglr.orders import ordered
from thinkrank.rerank.eglr.supervised import EvaluatorTrainer, WarmStartTrainer, left_before
from thinkrank.rerank.lists import training_batch
from thinkrank.testing import KilledError, kill_at, timeless
from thinkrank.training import Run, train


@pytest.fixture
def warm() -> WarmStartOptions:
    return WarmStartOptions(
        steps=6, batch_size=8, length=5, validate_every=3, checkpoint_every=2, warmup_steps=0, patience=None
    )


@pytest.fixture
def judging() -> EvaluatorTrainerOptions:
    return EvaluatorTrainerOptions(
        steps=6, batch_size=8, slate_length=4, validate_every=3, checkpoint_every=2, warmup_steps=0, patience=None
    )


def test_a_place_teaches_as_long_as_something_wanted_is_left():
    columns = torch.tensor([[2, 0, 1, 3], [1, 0, -1, -1], [3, 2, 1, 0], [0, 1, 2, 3]])
    wanted = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]]).bool()
    expected = [[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]
    assert left_before(columns, wanted).int().tolist() == expected


@pytest.mark.parametrize("prefix", ["own", "clicked_first"])
def test_the_warm_start_is_taught_one_of_the_clicked_items_that_are_left(model, split, warm, tmp_path, prefix):
    fit = WarmStartTrainer(model, split, warm.model_copy(update={"prefix": prefix}), Run(tmp_path, {}, {}))
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.writer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    batch = fit.batch(0)
    lists = fit.prefixes(batch)
    clicked = batch.feedback_BN > 0
    if prefix == "clicked_first":
        for row, count in zip(lists.tolist(), clicked.sum(dim=1).tolist(), strict=True):
            hits = [bool(clicked[lists.tolist().index(row), column]) for column in row if column >= 0]
            assert hits == sorted(hits, reverse=True)
            assert sum(hits) == min(count, len(hits))
    model.writer.eval()
    losses = []
    for row, columns in enumerate(lists.tolist()):
        left = set(torch.nonzero(batch.mask_BN[row])[:, 0].tolist())
        for place, column in enumerate(columns):
            wanted = [i for i in left if clicked[row, i]]
            if column < 0 or not wanted:
                break
            with torch.no_grad():
                prefix_RK = torch.tensor([[*columns[:place], w] for w in wanted])
                one = training_batch(split.train, batch.indices_B[row : row + 1].numpy(), max_history=3)
                context = model.writer.context(one, len(wanted))
                chances = model.writer.replay(context, prefix_RK, torch.zeros_like(prefix_RK)).logprobs_RK[:, -1].exp()
            losses.append(-math.log(float(chances.sum())))
            left.remove(column)
    replayed = model.writer.replay(model.writer.context(batch), lists, torch.zeros_like(lists), clicked)
    taught = left_before(lists, clicked)
    assert len(losses) == int(taught.sum())
    assert float(-replayed.wanted_logprobs_RK[taught].mean().detach()) == pytest.approx(
        sum(losses) / len(losses), rel=1e-4
    )


def test_lists_without_feedback_do_not_train_the_generator(model, split, warm, tmp_path):
    fit = WarmStartTrainer(model, split, warm, Run(tmp_path, {}, {}))
    chosen = fit.trainable(split.train)
    assert 0 < len(chosen) < len(split.train)
    for index in range(len(split.train)):
        teaches = bool((split.train.feedback()[index] > 0).any()) and split.train.lengths_L[index] > 1
        assert (index in chosen) == teaches
    silent = split.train.subset(np.setdiff1d(np.arange(len(split.train)), chosen))
    nothing = type(split)(silent, split.valid, split.test)
    with pytest.raises(ThinkrankError, match="no training list has feedback"):
        train(WarmStartTrainer(model, nothing, warm, Run(tmp_path / "silent", {}, {})))


def test_each_pass_over_the_lists_reads_every_one_once_in_another_order(model, split, warm, tmp_path):
    fit = EvaluatorTrainer(model, split, EvaluatorTrainerOptions(batch_size=6), Run(tmp_path, {}, {}))
    per_pass = len(split.train) // 6
    passes = [[fit.batch(step + start).indices_B.tolist() for step in range(per_pass)] for start in (0, per_pass)]
    flat = [[index for batch in one for index in batch] for one in passes]
    assert all(len(set(one)) == 6 * per_pass for one in flat)
    assert flat[0] != flat[1]
    assert fit.batch(2).indices_B.tolist() == passes[0][2]


@pytest.mark.parametrize("kind", ["evaluator", "warm start"])
@pytest.mark.parametrize("stop", [1, 3, 5])
def test_a_training_that_was_killed_ends_the_same(config, split, warm, judging, tmp_path, kind, stop):
    def fit_in(folder):
        model = EGLR.create(config, split.train, device="cpu")
        if kind == "evaluator":
            return EvaluatorTrainer(model, split, judging, Run(folder, {}, {}))
        return WarmStartTrainer(model, split, warm, Run(folder, {}, {}))

    whole = fit_in(tmp_path / "whole")
    train(whole)
    killed = fit_in(tmp_path / "killed")
    kill_at(killed, "learn", stop + 1)
    with pytest.raises(KilledError):
        train(killed)
    resumed = fit_in(tmp_path / "killed")
    train(resumed)
    for name, tensor in whole.weights().items():
        assert torch.equal(tensor, resumed.weights()[name]), name
    assert timeless(resumed.run) == timeless(whole.run)
    assert resumed.model.report == whole.model.report


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_share_of_the_lists_is_judged_in_a_random_order(model, split, judging, tmp_path, share):
    fit = EvaluatorTrainer(model, split, judging.model_copy(update={"shuffled": share}), Run(tmp_path, {}, {}))
    kept, orders = 0, set()
    long = np.flatnonzero(split.train.lengths_L >= 4)
    batch = training_batch(split.train, np.repeat(long, 40))
    columns = ordered(fit.order_keys(batch), batch.mask_BN)
    displayed = torch.arange(columns.shape[1]).masked_fill(~batch.mask_BN, -1)
    for row, place in zip(columns.tolist(), displayed.tolist(), strict=True):
        assert sorted(row) == sorted(place)  # every candidate once, and padding where it was
        kept += row == place
        orders.add(tuple(row))
    rows = len(columns)
    chance = 1 - share  # and hardly ever a random order is the displayed one
    assert abs(kept / rows - chance) < 4 * (chance * share / rows) ** 0.5 + 1 / 24 + 1e-9
    assert (len(orders) > 100) == (share > 0)
    again = EvaluatorTrainer(model, split, fit.options, Run(tmp_path, {}, {}))
    assert torch.equal(
        again.order_keys(batch), fit.order_keys(batch)
    )  # of seed and step alone, so a killed run can go on


def test_a_training_that_keeps_its_start_says_so(model, split, warm, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        train(WarmStartTrainer(model, split, warm.model_copy(update={"learning_rate": 1e-9}), Run(tmp_path, {}, {})))
    assert "nothing learnt was kept" in caplog.text


def test_a_trained_evaluator_is_judged_and_frozen(model, split, judging, tmp_path):
    assert vars(model)["report"] is None
    train_eglr(model, split, judging, Run(tmp_path, {}, {}))
    assert model.report.lists == len(split.valid)
    assert not any(parameter.requires_grad for parameter in model.evaluator.parameters())
    assert not model.evaluator.training


def test_patience_ends_a_training_and_keeps_the_best_weights(model, split, warm, tmp_path):
    changes = {"steps": 40, "validate_every": 1, "patience": 2, "learning_rate": 1e-8}
    fit = WarmStartTrainer(model, split, warm.model_copy(update=changes), Run(tmp_path, {}, {}))
    start = {name: tensor.clone() for name, tensor in fit.weights().items()}
    train(fit)
    assert fit.counters.step < 40
    assert "2 tries" in fit.counters.stopped
    best = fit.counters.best_step
    assert best == 0
    assert all(torch.equal(tensor, start[name]) for name, tensor in fit.weights().items())


def test_lists_of_other_columns_and_empty_parts_are_refused(model, split, warm, tmp_path):
    other = ListWorld(ListWorldOptions(lists=30, users=10)).lists.split(0.2, 0.2)
    with pytest.raises(
        ThinkrankError,
        match=r"no price \(numeric\), rate \(numeric\), hour \(context\), which the model",
    ):
        WarmStartTrainer(model, other, warm, Run(tmp_path, {}, {}))
    empty = type(split)(split.train, split.valid.subset(np.array([], dtype=np.int64)), split.test)
    with pytest.raises(ThinkrankError, match="the valid part has no lists"):
        WarmStartTrainer(model, empty, warm, Run(tmp_path, {}, {}))


def test_the_evaluator_teaches_what_it_would_put_next_among_what_is_left(model, split, warm, tmp_path):
    options = warm.model_copy(update={"target": "evaluator", "target_temperature": 0.7, "thought_share": 0.5})
    fit = WarmStartTrainer(model, split, options, Run(tmp_path, {}, {}))
    batch = fit.batch(0)
    columns = fit.prefixes(batch)
    likely, steps = fit.likely_next(batch, columns), fit.thoughts(batch, columns)
    joint = model.evaluator.joint(batch)
    for row, place in ((0, 0), (1, 2), (3, 1)):
        above = [column for column in columns[row, :place].tolist() if column >= 0]
        left = [i for i in torch.nonzero(batch.mask_BN[row])[:, 0].tolist() if i not in above]
        lists = [torch.tensor([[*above, item]]) for item in left]
        odds = torch.stack([model.evaluator(joint[row : row + 1], one)[0, -1] for one in lists]) / 0.7
        expected = torch.zeros(batch.mask_BN.shape[1]).index_put_((torch.tensor(left),), odds.exp() / odds.exp().sum())
        if left and columns[row, place] >= 0:
            torch.testing.assert_close(likely[row, place], expected.detach(), atol=1e-5, rtol=1e-4)
    thinking = steps[columns >= 0] > 0
    assert 0.1 < thinking.float().mean() < 0.7
    assert set(steps.unique().tolist()) == {0, 1, 2}
    last = batch.mask_BN.sum(dim=1, keepdim=True) - torch.arange(columns.shape[1]) <= 1
    assert not steps[last].any()
    model.writer.eval()
    with torch.no_grad():
        replayed = model.writer.replay(model.writer.context(batch), columns, steps, None, likely)
    loss = -replayed.taught_logprobs_RK[columns >= 0].mean()
    model.writer.generator.encoder.apply(lambda part: setattr(part, "training", False))
    row = fit.learn(batch)
    assert row["taught_places"] == pytest.approx(float((columns >= 0).float().mean()))
    assert row["loss"] == pytest.approx(float(loss), rel=0.2)  # dropout is on
    assert model.writer.reasoner.codes_SD.abs().max() > 0  # thoughts were there to be learnt
