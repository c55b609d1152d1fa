"""What every trained order does: learn, ignore padding, come back from disk, and name what it cannot read."""

import json
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from thinkrank.data import Candidates, ImpressionSplit
from thinkrank.errors import ThinkrankError
from thinkrank.evaluate import evaluate_reranking
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
    train_network,
)
from thinkrank.rerank.dlcm import backwards
from thinkrank.rerank.lists import ListEncoder, ListEncoderOptions, training_batch, training_batches
from thinkrank.rerank.network_trainer import NetworkTrainer
from thinkrank.rerank.seq2slate import left_to_choose
from thinkrank.stages.protocols import Reranker
from thinkrank.testing import KilledError, TrainerContract, random_lists, widened
from thinkrank.training import Run

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


def scores(model, lists):
    return model.scores(lists.requests, lists.candidates)


def fitted(kind, options, data, **given):
    """A trained model."""
    model = kind(options, device="cpu")
    train_network(model, data, **given)
    return model


def validations(run) -> list[float]:
    return [row["valid_ndcg@10"] for row in run.metrics() if "valid_ndcg@10" in row]


def untrained(kind, lists, seed: int = 0):
    torch.manual_seed(seed)
    model = kind(MODELS[kind], device="cpu")
    network = model.build(ListEncoder.of(lists, ENCODER)).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.install(network, lists.catalogue)
    return model


@every_model
def test_a_plain_rule_is_learnt(kind):
    split = priced_lists().split(0.2, 0.2)
    model = kind(MODELS[kind], device="cpu")
    run = train_network(model, split)
    assert isinstance(model, Reranker)
    evaluation = evaluate_reranking({"it": model}, split.test)
    assert evaluation.values("it", "mrr").mean() > 0.93
    assert max(validations(run)) > 0.93


@every_model
def test_scores_are_the_same_in_any_company_and_padding(kind):
    lists = random_lists(2)
    model = untrained(kind, lists)
    scores_LN = scores(model, lists)
    assert np.isneginf(scores_LN[~lists.mask_LN]).all()
    for index in range(0, 20, 3):
        alone = scores(model, lists.subset(np.array([index])))[0]
        np.testing.assert_allclose(scores_LN[index, : len(alone)], alone, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scores(model, widened(lists, 3))[:, :6], scores_LN, rtol=1e-4, atol=1e-5)


@every_model
def test_the_loss_does_not_depend_on_padding(kind):
    lists = random_lists(2)
    model = untrained(kind, lists)
    short = np.flatnonzero(lists.lengths_L == 3)
    narrow = training_batch(lists, short)
    wide = training_batch(lists, np.append(short, 0))
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
    np.testing.assert_array_equal(scores(loaded, lists), scores(model, lists))


def test_given_item_vectors_come_back_too(tmp_path):
    lists = priced_lists(40)
    vectors_IE = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
    options = MODELS[Pointwise].model_copy(update={"max_epochs": 1})
    model = fitted(Pointwise, options, lists, item_vectors_IE=vectors_IE)
    model.save_pretrained(tmp_path)
    loaded = Pointwise.from_pretrained(tmp_path, device="cpu")
    np.testing.assert_array_equal(scores(loaded, lists), scores(model, lists))


@every_model
def test_equal_seeds_give_equal_scores_and_leave_other_chance_alone(kind):
    lists = priced_lists(40)
    options = MODELS[kind].model_copy(update={"max_epochs": 1})
    torch.manual_seed(5)
    one = scores(fitted(kind, options, lists), lists)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))
    np.testing.assert_array_equal(one, scores(fitted(kind, options, lists), lists))
    other = scores(fitted(kind, options.model_copy(update={"seed": 1}), lists), lists)
    assert not np.array_equal(one, other)


def test_training_stops_early_and_keeps_the_best_weights():
    split = priced_lists(100).split(0.3, 0.1)
    options = MODELS[Pointwise].model_copy(update={"learning_rate": 0.3, "patience": 2, "max_epochs": 50})
    model = Pointwise(options, device="cpu")
    values = validations(train_network(model, split))
    best = int(np.argmax(values))
    assert len(values) == best + 3
    evaluation = evaluate_reranking({"it": model}, split.valid)
    assert evaluation.values("it", "ndcg@10").mean() == pytest.approx(max(values))


def test_progress_counts_epochs():
    seen = []

    class Watch:
        def __enter__(self):
            return lambda n=1, note="": seen.append(n)

        def __exit__(self, *error):
            return None

    options = MODELS[Pointwise].model_copy(update={"max_epochs": 3})
    fitted(Pointwise, options, priced_lists(20), progress=lambda title, total: Watch())
    assert seen == [0, 1, 1, 1]  # made before this run, then one after the other


def test_another_signal_can_be_learnt():
    lists = priced_lists(60)
    feedback = lists.feedback_LNS.copy()
    feedback[:, :, 0] = 0
    options = MODELS[Pointwise].model_copy(update={"signal": "like"})
    model = fitted(Pointwise, options, replace(lists, feedback_LNS=feedback))
    assert evaluate_reranking({"it": model}, lists).values("it", "mrr").mean() > 0.9


def test_nothing_to_learn_and_nothing_learnt_are_refused():
    lists = random_lists(share_empty=1.0)
    with pytest.raises(ThinkrankError, match="no training list has feedback"):
        fitted(Pointwise, None, lists)
    with pytest.raises(ThinkrankError, match="PRM has learnt nothing yet: train it with train_network"):
        PRM(device="cpu").rerank(lists.requests, lists.candidates, 3)


def test_lists_with_other_columns_are_refused():
    lists = random_lists()
    other = replace(lists, numeric_names=("price", "b"), context_names=("day",))
    with pytest.raises(ThinkrankError, match=r"^tiny: no rate \(numeric\), hour \(context\), which the model"):
        scores(untrained(PRM, lists), other)


def test_columns_are_found_by_name_and_others_are_passed_over():
    lists = random_lists()
    model = untrained(Pointwise, lists)
    more = replace(
        lists,
        numeric_LNF=np.concatenate([lists.numeric_LNF[:, :, ::-1], lists.numeric_LNF[:, :, :1] + 7], axis=2)
        * lists.mask_LN[:, :, None],
        numeric_names=("rate", "price", "weight"),
    )
    np.testing.assert_array_equal(scores(model, more), scores(model, lists))


def test_damaged_files_are_found_out(tmp_path):
    lists = random_lists()
    untrained(PRM, lists).save_pretrained(tmp_path)
    with pytest.raises(ThinkrankError, match="of kind 'prm', not 'dlcm'"):
        DLCM.from_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file({**weights, "out.weight": np.zeros((1, 9), np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(ThinkrankError, match="damaged or its files do not fit"):
        PRM.from_pretrained(tmp_path)
    (tmp_path / "lists.json").write_text(json.dumps({"num_items": 3}))
    with pytest.raises(ThinkrankError, match="damaged or its files do not fit"):
        PRM.from_pretrained(tmp_path)
    with pytest.raises(ThinkrankError, match="no saved model here"):
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
        model.install(model.build(encoder), lists.catalogue)
        torch.nn.init.normal_(encoder.items.weight)
        if positions:
            torch.nn.init.normal_(encoder.places.weight)
        same = np.allclose(turn(scores(model, lists)), scores(model, shuffled), rtol=1e-4, atol=1e-5)
        assert same != positions


def test_dlcm_reads_from_the_last_place_to_the_first():
    mask = torch.tensor([[True, True, True], [True, False, False], [True, True, False]])
    assert backwards(mask).tolist() == [[2, 1, 0], [0, 1, 2], [1, 0, 2]]
    lists = random_lists(3)
    network = untrained(DLCM, lists).network
    index = int(np.flatnonzero(lists.lengths_L == 4)[0])
    batch = training_batch(lists, np.array([index]))
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
    for batch in training_batches(lists, 7):
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
    batch = training_batch(lists, np.arange(20))
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
    assert left_to_choose(columns_BT, batch.mask_BN)[:, 0].equal(batch.mask_BN)


def test_seq2slate_draws_as_its_softmax_says():
    lists = random_lists(3, num_lists=1, longest=3)
    network = untrained(Seq2Slate, lists).network
    batch = training_batch(lists, np.zeros(4000, dtype=np.int64))
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
    network.loss(training_batch(lists, np.arange(20))).backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters() if parameter.grad is not None)


def test_without_validation_lists_all_epochs_are_made():
    lists = priced_lists(20)
    empty = lists.subset(np.zeros(0, dtype=np.int64))
    model = Pointwise(MODELS[Pointwise], device="cpu")
    rows = train_network(model, ImpressionSplit(lists, empty, empty)).metrics()
    assert [row["step"] for row in rows] == list(range(1, 16))
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_of_equally_good_epochs_the_last_is_kept(monkeypatch):
    split = priced_lists(40).split(0.2, 0.2)
    monkeypatch.setattr("thinkrank.rerank.network_trainer.list_ndcg", lambda *_: np.array([0.5]))
    options = MODELS[Pointwise].model_copy(update={"max_epochs": 3, "patience": 9})
    last = fitted(Pointwise, options, split.train)
    np.testing.assert_array_equal(scores(fitted(Pointwise, options, split), split.test), scores(last, split.test))


class TestNetworkTrainer(TrainerContract):
    @pytest.fixture(scope="class", params=[Pointwise, Seq2Slate])
    @classmethod
    def make(cls, request):
        kind, lists = request.param, ENCODER.model_copy(update={"dropout": 0.2})
        options = MODELS[kind].model_copy(update={"max_epochs": 5, "lists": lists})
        split = priced_lists(60).split(0.2, 0.2)

        def made(folder):
            torch.manual_seed(9)  # what was drawn before does not matter
            model = kind(options, device="cpu")
            return NetworkTrainer(model, split.train, split.valid, None, Run(folder, {}, {}))

        return made


def test_a_run_that_was_killed_leaves_a_model_that_answers_alike(tmp_path):
    split = priced_lists(60).split(0.2, 0.2)
    whole = fitted(Seq2Slate, MODELS[Seq2Slate], split)

    @contextmanager
    def killing(title, total):
        def advance(n=1, note=""):
            if "loss" in note:
                raise KilledError

        yield advance

    with pytest.raises(KilledError):
        fitted(Seq2Slate, MODELS[Seq2Slate], split, run=Run(tmp_path, {}, {}), progress=killing)
    resumed = fitted(Seq2Slate, MODELS[Seq2Slate], split, run=Run(tmp_path, {}, {}))
    np.testing.assert_array_equal(scores(resumed, split.test), scores(whole, split.test))


def test_plain_ids_are_accepted_and_a_request_without_candidates_gets_none():
    lists = random_lists()
    bare = replace(
        lists,
        numeric_LNF=lists.numeric_LNF[:, :, :0],
        numeric_names=(),
        categorical_LNC=lists.categorical_LNC[:, :, :0],
        categorical_names=(),
        categorical_values=(),
        context_LF=lists.context_LF[:, :0],
        context_names=(),
    )
    model = untrained(PRM, bare)
    asked = model.rerank([["i03", "i01"], [], ["i00"]], [["i05", "i02", "i07"], [], ["i01"]], 2)
    rows = model.rerank([[3, 1], [], [0]], [[5, 2, 7], [], [1]], 2)
    np.testing.assert_array_equal(asked.items_BK, rows.items_BK)
    assert set(asked.items_BK[0].tolist()) < {5, 2, 7}
    assert asked.items_BK[1:].tolist() == [[-1, -1], [1, -1]]
    assert model.rerank([[1]], [[]], 2).items_BK.tolist() == [[-1, -1]]
    for candidates, match in (
        ([["i05", "i99"]], "i99"),
        ([[1, -1, 2]], "gap"),
        ([[1], [2]], "2 candidate lists"),
    ):
        with pytest.raises(ThinkrankError, match=match):
            model.rerank([["i03"]], candidates, 2)
    nan = Candidates(np.array([[1, 2]], np.int32), None, np.array([[[1.0], [np.nan]]], np.float32), ("price",))
    with pytest.raises(ThinkrankError, match="list 0: price is not finite"):
        model.rerank([["i03"]], nan, 2)


@pytest.mark.shared_data
def test_on_trivago_a_trained_order_beats_what_was_seen_last(shared_data):
    from thinkrank.data import load_impressions
    from thinkrank.rerank import FeatureOrder

    split = load_impressions("trivago", shared_data / "trivago-rsc19-100k", min_candidates=5).split()
    model = fitted(Pointwise, PointwiseOptions(max_epochs=2), split)
    evaluation = evaluate_reranking({"trained": model, "seen": FeatureOrder("seen_lately")}, split.test)
    assert evaluation.values("trained", "ndcg@10").mean() > evaluation.values("seen", "ndcg@10").mean()
