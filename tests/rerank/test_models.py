"""What every trained order does: learn, ignore padding, come back from disk, and name what it cannot read."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from thinkrank.errors import ThinkrankError
from thinkrank.evaluate import evaluate_lists
from thinkrank.rerank import (
    DLCM,
    PRM,
    DLCMOptions,
    Pointwise,
    PointwiseOptions,
    PRMOptions,
    Seq2Slate,
    Seq2SlateOptions,
    SetRank,
    SetRankOptions,
)
from thinkrank.rerank.dlcm import _backwards
from thinkrank.rerank.lists import ListEncoder, ListEncoderOptions, batches, list_batch
from thinkrank.rerank.network import _train
from thinkrank.rerank.seq2slate import _left
from thinkrank.stages.protocols import Reranker
from thinkrank.testing import random_lists, widened

ENCODER = ListEncoderOptions(width=8, embedding_width=4, dropout=0, min_count=1)
SHARED = {"lists": ENCODER, "learning_rate": 1e-2, "max_epochs": 15, "batch_size": 32}
MODELS = {
    Pointwise: PointwiseOptions(**SHARED, hidden=8, dropout=0),
    DLCM: DLCMOptions(**SHARED, states=8, hidden=4),
    PRM: PRMOptions(**SHARED, width=8, blocks=1, dropout=0),
    SetRank: SetRankOptions(**SHARED, width=8, blocks=1, points=3, dropout=0),
    Seq2Slate: Seq2SlateOptions(**SHARED, states=8, steps=3),
}
every_model = pytest.mark.parametrize("kind", MODELS)


def priced_lists(num_lists: int = 200):
    """The dearest candidate of a list is taken, and nothing else."""
    lists = random_lists(4, num_lists=num_lists)
    prices_LN = np.where(lists.mask_LN, lists.numeric_LNF[:, :, 0], -np.inf)
    clicks_LN = (prices_LN == prices_LN.max(axis=1, keepdims=True)).astype(np.float32)
    return replace(lists, feedback_LNS=np.stack([clicks_LN, clicks_LN], axis=2))


def untrained(kind, lists, seed: int = 0):
    torch.manual_seed(seed)
    model = kind(MODELS[kind], device="cpu")
    network = model.build(ListEncoder.of(lists, ENCODER)).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model._network = network
    return model


@every_model
def test_a_plain_rule_is_learnt(kind):
    split = priced_lists().split(0.2, 0.2)
    model = kind(MODELS[kind], device="cpu").fit(split)
    assert isinstance(model, Reranker)
    evaluation = evaluate_lists({"it": model}, split.test)
    assert evaluation.values("it", "mrr").mean() > 0.93
    assert max(model.validations) > 0.93


@every_model
def test_scores_are_the_same_in_any_company_and_padding(kind):
    lists = random_lists(2)
    model = untrained(kind, lists)
    scores_LN = model.scores(lists)
    assert np.isneginf(scores_LN[~lists.mask_LN]).all()
    for index in range(0, 20, 3):
        alone = model.scores(lists.subset(np.array([index])))[0]
        np.testing.assert_allclose(scores_LN[index, : len(alone)], alone, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.scores(widened(lists, 3))[:, :6], scores_LN, rtol=1e-4, atol=1e-5)


@every_model
def test_the_loss_does_not_depend_on_padding(kind):
    lists = random_lists(2)
    model = untrained(kind, lists)
    short = np.flatnonzero(lists.lengths_L == 3)
    narrow = list_batch(lists, short)
    wide = list_batch(lists, np.append(short, 0))
    wide = type(wide)(**{name: value[: len(short)] for name, value in vars(wide).items()})
    assert wide.mask_BN.shape[1] > narrow.mask_BN.shape[1]
    losses = []
    for batch in (narrow, wide):
        if kind is Seq2Slate:  # what is drawn depends on how many numbers are drawn, so draw nothing
            model.network.write = lambda batch, sample: Seq2SlateWrite(model.network, batch)
        losses.append(model.network.loss(batch).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def Seq2SlateWrite(network, batch):
    return type(network).write(network, batch, sample=False)


@every_model
def test_a_model_comes_back_from_disk(kind, tmp_path):
    lists = random_lists(2)
    model = untrained(kind, lists)
    model.save_pretrained(tmp_path / "saved")
    loaded = kind.from_pretrained(tmp_path / "saved", device="cpu")
    assert loaded.config == model.config
    np.testing.assert_array_equal(loaded.scores(lists), model.scores(lists))


def test_given_item_vectors_come_back_too(tmp_path):
    lists = priced_lists(40)
    vectors_IE = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
    options = MODELS[Pointwise].model_copy(update={"max_epochs": 1})
    model = Pointwise(options, device="cpu").fit(lists, item_vectors_IE=vectors_IE)
    model.save_pretrained(tmp_path)
    loaded = Pointwise.from_pretrained(tmp_path, device="cpu")
    np.testing.assert_array_equal(loaded.scores(lists), model.scores(lists))


@every_model
def test_equal_seeds_give_equal_scores_and_leave_other_chance_alone(kind):
    lists = priced_lists(40)
    options = MODELS[kind].model_copy(update={"max_epochs": 1})
    torch.manual_seed(5)
    one = kind(options, device="cpu").fit(lists).scores(lists)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))
    np.testing.assert_array_equal(one, kind(options, device="cpu").fit(lists).scores(lists))
    other = kind(options.model_copy(update={"seed": 1}), device="cpu").fit(lists).scores(lists)
    assert not np.array_equal(one, other)


def test_training_stops_early_and_keeps_the_best_weights():
    split = priced_lists(100).split(0.3, 0.1)
    options = MODELS[Pointwise].model_copy(update={"learning_rate": 0.3, "patience": 2, "max_epochs": 50})
    model = Pointwise(options, device="cpu").fit(split)
    best = int(np.argmax(model.validations))
    assert len(model.validations) == best + 3
    evaluation = evaluate_lists({"it": model}, split.valid)
    assert evaluation.values("it", "ndcg@10").mean() == pytest.approx(max(model.validations), abs=1e-6)


def test_progress_counts_epochs():
    seen = []

    class Watch:
        def __enter__(self):
            return lambda n=1, note="": seen.append(n)

        def __exit__(self, *error):
            return None

    options = MODELS[Pointwise].model_copy(update={"max_epochs": 3})
    Pointwise(options, device="cpu").fit(priced_lists(20), progress=lambda title, total: Watch())
    assert seen == [1, 1, 1]


def test_another_signal_can_be_learnt():
    lists = priced_lists(60)
    feedback = lists.feedback_LNS.copy()
    feedback[:, :, 0] = 0
    options = MODELS[Pointwise].model_copy(update={"signal": "like"})
    model = Pointwise(options, device="cpu").fit(replace(lists, feedback_LNS=feedback))
    assert evaluate_lists({"it": model}, lists).values("it", "mrr").mean() > 0.9


def test_nothing_to_learn_and_nothing_learnt_are_refused():
    lists = random_lists(share_empty=1.0)
    with pytest.raises(ThinkrankError, match="no training list has feedback"):
        Pointwise(device="cpu").fit(lists)
    with pytest.raises(ThinkrankError, match="PRM has learnt nothing yet: call fit first"):
        PRM(device="cpu").rerank(lists, 3)


def test_lists_with_other_columns_are_refused():
    lists = random_lists()
    with pytest.raises(ThinkrankError, match="numeric_names"):
        untrained(PRM, lists).scores(replace(lists, numeric_names=("a", "b")))


def test_damaged_files_are_found_out(tmp_path):
    lists = random_lists()
    untrained(PRM, lists).save_pretrained(tmp_path)
    with pytest.raises(ThinkrankError, match="is not of DLCM"):
        DLCM.from_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file({**weights, "out.weight": np.zeros((1, 9), np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(ThinkrankError, match="do not fit each other"):
        PRM.from_pretrained(tmp_path)
    (tmp_path / "lists.json").write_text(json.dumps({"num_items": 3}))
    with pytest.raises(ThinkrankError, match="do not fit each other"):
        PRM.from_pretrained(tmp_path)
    with pytest.raises(ThinkrankError, match="holds no saved PRM"):
        PRM.from_pretrained(tmp_path / "nowhere")


def test_setrank_does_not_care_for_the_order_unless_told_the_places():
    lists = random_lists(7)
    random = np.random.default_rng(0)
    turned = np.argsort(np.where(lists.mask_LN, random.random(lists.items_LN.shape), 2), axis=1)

    def turn(array):
        return np.take_along_axis(array, turned if array.ndim == 2 else turned[:, :, None], axis=1)

    shuffled = replace(
        lists,
        items_LN=turn(lists.items_LN),
        numeric_LNF=turn(lists.numeric_LNF),
        categorical_LNC=turn(lists.categorical_LNC),
    )
    for positions in (False, True):
        torch.manual_seed(0)
        model = SetRank(MODELS[SetRank], device="cpu")
        encoder = ListEncoder.of(lists, ENCODER.model_copy(update={"positions": positions}))
        model._network = model.build(encoder).eval()
        torch.nn.init.normal_(encoder.items.weight)
        if positions:
            torch.nn.init.normal_(encoder.places.weight)
        same = np.allclose(turn(model.scores(lists)), model.scores(shuffled), rtol=1e-4, atol=1e-5)
        assert same != positions


def test_dlcm_reads_from_the_last_place_to_the_first():
    mask = torch.tensor([[True, True, True], [True, False, False], [True, True, False]])
    assert _backwards(mask).tolist() == [[2, 1, 0], [0, 1, 2], [1, 0, 2]]
    lists = random_lists(3)
    network = untrained(DLCM, lists).network
    index = int(np.flatnonzero(lists.lengths_L == 4)[0])
    batch = list_batch(lists, np.array([index]))
    joint_ND = network.joint(batch)[0]
    state = torch.zeros(8)
    states = {}
    for place in reversed(range(4)):
        _, state = network.reader(joint_ND[None, place : place + 1], state[None, None])
        state = states[place] = state[0, 0]
    weights_AH = torch.tanh(network.local(state)).reshape(8, 4)
    expected = [network.out(states[place] @ weights_AH).item() for place in range(4)]
    np.testing.assert_allclose(network.scores(batch)[0].detach(), expected, rtol=1e-4, atol=1e-6)


def test_seq2slate_writes_its_first_places_one_by_one():
    lists = random_lists(3)
    network = untrained(Seq2Slate, lists).network
    for batch in batches(lists, 7):
        columns_BT, logits_BTN = network.write(batch, sample=False)
        order_BN = network.scores(batch).masked_fill(~batch.mask_BN, -torch.inf).argsort(dim=1, descending=True)
        for row, columns in enumerate(columns_BT.tolist()):
            length = int(batch.mask_BN[row].sum())
            written = columns[: min(3, length)]
            assert len(set(written)) == len(written)
            assert order_BN[row, : len(written)].tolist() == written
            left = [column for column in range(length) if column not in written]
            rest = sorted(left, key=lambda column: -logits_BTN[row, -1, column].item())
            assert order_BN[row, len(written) : length].tolist() == rest


def test_the_loss_of_seq2slate_is_a_sum_over_steps(monkeypatch):
    lists = random_lists(3, grades=2)
    network = untrained(Seq2Slate, lists).network
    batch = list_batch(lists, np.arange(20))
    torch.manual_seed(0)
    columns_BT, logits_BTN = network.write(batch, sample=True)
    total, with_feedback = 0.0, 0
    for row in range(20):
        left = batch.mask_BN[row].clone()
        with_feedback += bool((batch.feedback_BN[row] > 0).any())
        for step in range(3):
            wanted = batch.feedback_BN[row] * left
            if wanted.sum() > 0:
                logprobs = logits_BTN[row, step][left].log_softmax(dim=0)
                share = (wanted / wanted.sum())[left]
                total -= (share * logprobs).sum().item() / np.log2(step + 2)
            left[columns_BT[row, step]] = False
    torch.manual_seed(0)
    assert network.loss(batch).item() == pytest.approx(total / with_feedback, rel=1e-4)
    assert _left(columns_BT, batch.mask_BN)[:, 0].equal(batch.mask_BN)


def test_seq2slate_draws_as_its_softmax_says():
    lists = random_lists(3, num_lists=1, longest=3)
    network = untrained(Seq2Slate, lists).network
    batch = list_batch(lists, np.zeros(4000, dtype=np.int64))
    with torch.no_grad():
        columns_BT, logits_BTN = network.write(batch, sample=True)
    expected = logits_BTN[0, 0].softmax(dim=0)
    shares = torch.bincount(columns_BT[:, 0], minlength=3) / 4000
    assert (shares - expected).abs().max() < 4 * 0.5 / 4000**0.5
    assert (columns_BT.sort(dim=1).values == torch.arange(3)).all()


@pytest.mark.parametrize("options", [PRMOptions, SetRankOptions])
def test_heads_must_divide_the_width(options):
    with pytest.raises(ValueError, match="multiple of the heads"):
        options(width=10, heads=3)


def test_a_gradient_of_lists_that_are_used_up_is_finite():
    lists = random_lists(5, share_empty=0)
    network = untrained(Seq2Slate, lists).network.train()
    network.loss(list_batch(lists, np.arange(20))).backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters() if parameter.grad is not None)


def test_without_validation_lists_all_epochs_are_made():
    lists = priced_lists(20)
    model = untrained(Pointwise, lists)
    empty = lists.subset(np.zeros(0, dtype=np.int64))
    calls = _train(model.network, lists, empty, MODELS[Pointwise], torch.device("cpu"), NoWatch)
    assert calls == []


class NoWatch:
    def __init__(self, title, total):
        pass

    def __enter__(self):
        return lambda n=1, note="": None

    def __exit__(self, *error):
        return None


@pytest.mark.shared_data
def test_on_trivago_a_trained_order_beats_what_was_seen_last(shared_data):
    from thinkrank.data import load_impressions
    from thinkrank.rerank import FeatureOrder

    split = load_impressions("trivago", shared_data / "trivago-rsc19-100k", min_candidates=5).split()
    model = Pointwise(PointwiseOptions(max_epochs=2), device="cpu").fit(split)
    evaluation = evaluate_lists({"trained": model, "seen": FeatureOrder("seen_lately")}, split.test)
    assert evaluation.values("trained", "ndcg@10").mean() > evaluation.values("seen", "ndcg@10").mean()
