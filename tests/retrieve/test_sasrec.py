"""SASRec against a forward pass written out by hand, and on data whose right answer is known."""

import math
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from thinkrank.data import Catalogue, Dataset, History, split_dataset
from thinkrank.errors import ThinkrankError
from thinkrank.evaluate import evaluate_retrieval
from thinkrank.pretrained import finish
from thinkrank.retrieve import Popularity, SASRec, SasrecOptions, train_sequential
from thinkrank.retrieve.sequential.model import fill_up
from thinkrank.retrieve.sequential.sasrec import CausalEncoder
from thinkrank.retrieve.sequential.trainer import SequentialTrainer, next_item_loss, readouts, windows
from thinkrank.testing import LearnsTasteContract, TrainerContract, two_tribes
from thinkrank.testing.worlds import COLD_ITEM
from thinkrank.training import Run, UnsavedRun, train

SMALL = SasrecOptions(width=16, heads=2, max_length=6, learning_rate=1e-2, max_epochs=12, dropout=0.1)
NUM_WINES = 12


def walks(*starts: int, length: int = 8) -> Dataset:
    """Users who each begin at some wine and go on to the next one, from the last back to the first."""
    titles = [f"wine {n:02d}" for n in range(NUM_WINES)]
    rows = [
        (f"u{user:02d}", titles[(start + step) % NUM_WINES], 1000 * user + step)
        for user, start in enumerate(starts)
        for step in range(length)
    ]
    interactions = pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row")
    return Dataset("walks", interactions, Catalogue(pl.DataFrame({"item": titles, "title": titles})))


def encoder_of(num_items: int = 9, **options: object) -> CausalEncoder:
    """An encoder in double precision with every parameter drawn at random, biases and gains included."""
    torch.manual_seed(0)
    encoder = CausalEncoder(num_items, SMALL.model_copy(update={"dropout": 0.0, **options})).double()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.normal_(std=0.3)
    return encoder


def trained(data, options=SMALL, **changes) -> SASRec:
    model = SASRec(options.model_copy(update=changes), device="cpu")
    train_sequential(model, data)
    return model


def validations(run: Run) -> list[float]:
    return [row["valid_ndcg@10"] for row in run.metrics() if "valid_ndcg@10" in row]


class TestSASRec(LearnsTasteContract):
    @classmethod
    def fit(cls, dataset):
        return trained(dataset)


class TestSASRecOfManyShortWindows(LearnsTasteContract):
    @classmethod
    def fit(cls, dataset):
        return trained(dataset, max_length=2, norm="post")


class TestGatedLayersAndSampledItems(LearnsTasteContract):
    @classmethod
    def fit(cls, dataset):
        return trained(dataset, layers="ligr", negatives=8)


class TestSequentialTrainer(TrainerContract):
    @pytest.fixture(scope="class")
    @classmethod
    def make(cls):
        split = split_dataset(walks(*range(NUM_WINES), *range(NUM_WINES), length=10), "leave-last-out")
        changes = {"max_epochs": 6, "patience": 6, "batch_size": 8, "dropout": 0.3, "negatives": 7}
        options = SMALL.model_copy(update=changes)
        return lambda folder: SequentialTrainer(SASRec(options, device="cpu"), split, Run(folder, {}, {}))


def written_out(encoder: CausalEncoder, items: list[int], *, heads: int, norm: str) -> Tensor:
    """The state after the newest item, place by place and head by head, from the formulas of the paper."""
    weights = dict(encoder.named_parameters())
    width = encoder.items.embedding_dim

    def normalised(x: Tensor, name: str) -> Tensor:
        spread = ((x - x.mean()) ** 2).mean()
        return (x - x.mean()) / (spread + 1e-5).sqrt() * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def attended(xs: list[Tensor], name: str) -> list[Tensor]:
        projected = [weights[f"{name}.in_proj_weight"] @ x + weights[f"{name}.in_proj_bias"] for x in xs]
        outputs = []
        for place in range(len(xs)):
            parts = []
            for head in range(heads):
                size = width // heads
                here = slice(head * size, (head + 1) * size)
                query = projected[place][:width][here]
                scores = [query @ p[width : 2 * width][here] / math.sqrt(size) for p in projected[: place + 1]]
                exponentials = [score.exp() for score in scores]
                values = [p[2 * width :][here] for p in projected[: place + 1]]
                parts.append(sum(e * v for e, v in zip(exponentials, values, strict=True)) / sum(exponentials))
            outputs.append(weights[f"{name}.out_proj.weight"] @ torch.cat(parts) + weights[f"{name}.out_proj.bias"])
        return outputs

    def fed_forward(x: Tensor, name: str) -> Tensor:
        inner = (weights[f"{name}.linear1.weight"] @ x + weights[f"{name}.linear1.bias"]).clamp(min=0)
        return weights[f"{name}.linear2.weight"] @ inner + weights[f"{name}.linear2.bias"]

    xs = [weights["items.weight"][i] * math.sqrt(width) + weights["positions.weight"][t] for t, i in enumerate(items)]
    for block in range(2):
        name = f"blocks.layers.{block}"
        if norm == "pre":
            attention = attended([normalised(x, f"{name}.norm1") for x in xs], f"{name}.self_attn")
            xs = [x + a for x, a in zip(xs, attention, strict=True)]
            xs = [x + fed_forward(normalised(x, f"{name}.norm2"), name) for x in xs]
        else:
            attention = attended(xs, f"{name}.self_attn")
            xs = [normalised(x + a, f"{name}.norm1") for x, a in zip(xs, attention, strict=True)]
            xs = [normalised(x + fed_forward(x, name), f"{name}.norm2") for x in xs]
    return normalised(xs[-1], "blocks.norm") if norm == "pre" else xs[-1]


@pytest.mark.parametrize(("norm", "days"), [("pre", False), ("post", False), ("pre", True)])
def test_loss_and_gradients_are_those_of_the_formulas_written_out_and_no_target_sees_its_own_day(norm, days):
    encoder = encoder_of(norm=norm)
    histories, times = [[3, 1, 4, 1], [5, 8], [2, 7, 0]], [[0, 1, 1, 2], [0, 0], [0, 1, 2]]
    losses, pasts = [], []
    for history, when in zip(histories, times, strict=True):
        tied = np.array([when[:place].count(time) for place, time in enumerate(when)], dtype=np.int32)
        pasts.append(History(np.array(history, dtype=np.int32), tied=tied if days else None))
        for place in range(1, len(history)):
            seen = [event for event in range(place) if not days or when[event] < when[place]]
            if not seen:
                continue
            state = written_out(encoder, [history[event] for event in seen], heads=2, norm=norm)
            scores = [state @ embedding for embedding in encoder.items.weight]
            losses.append(-scores[history[place]] + sum(score.exp() for score in scores).log())
    expected = sum(losses) / len(losses)
    expected_gradients = torch.autograd.grad(expected, list(encoder.parameters()))

    rows = [row for past in pasts for row in windows(past, 9, np.random.default_rng(0))]
    loss = next_item_loss(encoder, fill_up([row.items_W for row in rows])[0], *readouts(rows))
    torch.testing.assert_close(loss, expected)
    for gradient, wanted in zip(torch.autograd.grad(loss, list(encoder.parameters())), expected_gradients, strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("changed", range(1, 6))
def test_a_later_event_changes_no_earlier_state(changed):
    encoder = encoder_of()
    items_BT = torch.tensor([[3, 1, 4, 1, 5, 2]])
    other_BT = items_BT.clone()
    other_BT[0, changed] = 8
    before, after = encoder(items_BT)[0], encoder(other_BT)[0]
    assert torch.equal(before[:changed], after[:changed])
    assert (before[changed:] != after[changed:]).any(dim=1).all()


def test_the_blocks_begin_with_weights_of_their_own():
    first, second = CausalEncoder(9, SMALL).blocks.layers
    assert not torch.equal(first.linear1.weight, second.linear1.weight)


@given(
    length=st.integers(0, 40), max_length=st.integers(1, 9), seed=st.integers(0, 99), days=st.sampled_from([1, 2, 8])
)
def test_every_event_with_an_earlier_one_is_predicted_once_from_the_events_right_before_it(
    length, max_length, seed, days
):
    predicted = []
    times = np.sort(np.random.default_rng(seed).integers(0, 1 + length // days, length))
    tied = np.array([np.count_nonzero(times[:place] == time) for place, time in enumerate(times)], dtype=np.int32)
    history = History(np.arange(length, dtype=np.int32), tied=tied if days > 1 else None)
    for window in windows(history, max_length, np.random.default_rng(seed)):
        assert 1 <= len(window.items_W) <= max_length
        assert (np.diff(window.items_W) == 1).all()
        predicted += zip(window.targets_P.tolist(), window.items_W[window.reads_P].tolist(), strict=True)
    earlier = [
        (place, place - 1 if days == 1 else int(np.searchsorted(times, times[place])) - 1) for place in range(length)
    ]
    assert predicted == [(place, newest) for place, newest in earlier if newest >= 0]


def test_long_histories_are_cut_at_changing_places():
    generator = np.random.default_rng(0)
    firsts = {len(next(windows(History.of(range(20)), 4, generator)).items_W) for _ in range(60)}
    assert firsts == {1, 2, 3, 4}


@pytest.fixture(scope="module")
def walker():
    """A model that has seen the walk, with its split and its run."""
    split = split_dataset(walks(*range(NUM_WINES), *range(NUM_WINES)), "leave-last-out")
    model, run = SASRec(SMALL.model_copy(update={"max_epochs": 40, "patience": 8}), device="cpu"), UnsavedRun()
    train_sequential(model, split, run=run)
    return model, split, run


def test_a_cycle_is_learnt_where_popularity_knows_nothing(walker):
    model, split, _ = walker
    systems = {"sasrec": model, "popularity": Popularity().fit(split)}
    evaluation = evaluate_retrieval(systems, split.test, cutoffs=[10])
    assert evaluation.values("sasrec", "ndcg@10").mean() > 0.99
    assert evaluation.values("popularity", "ndcg@10").mean() < 0.7


def test_the_weights_of_the_best_validation_are_kept_and_waiting_has_an_end(walker):
    model, split, run = walker
    again = evaluate_retrieval({"sasrec": model}, split.valid).values("sasrec", "ndcg@10").mean()
    assert again == pytest.approx(max(validations(run)), abs=1e-6)
    assert len(validations(run)) == int(np.argmax(validations(run))) + 1 + model.config.patience


def test_weights_that_got_worse_are_given_back():
    split = split_dataset(walks(*range(NUM_WINES)), "leave-last-out")

    def trained_as_if_judged(*judgements: float, **options: int) -> tuple[SASRec, list[float]]:
        model, remaining = SASRec(SMALL.model_copy(update=options), device="cpu"), iter(judgements)
        trainer = SequentialTrainer(model, split, UnsavedRun())
        trainer.measure = lambda: {"valid_ndcg@10": next(remaining)}
        return model, validations(train(trainer))

    stopped, values = trained_as_if_judged(0.1, 0.5, 0.2, 0.3, 0.9, patience=2)
    assert values == [0.1, 0.5, 0.2, 0.3]
    best, _ = trained_as_if_judged(0.1, 0.5, max_epochs=2)
    asked = [History.of([0, 1]), History.of([7])]
    np.testing.assert_array_equal(stopped.scores(asked), best.scores(asked))


def test_a_whole_data_set_is_learnt_for_all_epochs():
    shown = []

    class Bar:
        def __init__(self, title, total):
            shown.append((title, total))

        def __enter__(self):
            return lambda n=1, note="": shown.append((n, note))

        def __exit__(self, *fault):
            return None

    run = train_sequential(SASRec(SMALL, device="cpu"), two_tribes(), progress=Bar)
    assert validations(run) == []
    assert [row["step"] for row in run.metrics()] == list(range(1, SMALL.max_epochs + 1))
    assert shown[:2] == [("training SASRec", SMALL.max_epochs), (0, "")]
    notes = [note for n, note in shown if n == 1 and note]
    assert len(notes) == SMALL.max_epochs
    assert all("loss" in note for note in notes)


def test_a_run_in_a_folder_is_resumed_and_one_that_is_over_gives_its_weights(tmp_path):
    split = split_dataset(walks(*range(NUM_WINES)), "leave-last-out")
    first = SASRec(SMALL, device="cpu")
    log = train_sequential(first, split, run=Run(tmp_path, {}, {})).metrics()
    second = SASRec(SMALL, device="cpu")
    assert train_sequential(second, split, run=Run(tmp_path, {}, {})).metrics() == log
    np.testing.assert_array_equal(first.scores([[1, 2]]), second.scores([[1, 2]]))


def test_importing_it_does_not_load_transformers():
    code = "import sys; import thinkrank.retrieve.sequential.trainer; print('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout == "False\n"


def test_company_and_filling_up_change_no_score(walker):
    model, _, _ = walker
    histories = [History.of([3]), History.of(list(range(12))), History.of([]), History.of([5, 5, 6])]
    together = model.scores(histories)
    for row, history in zip(together, histories, strict=True):
        np.testing.assert_allclose(model.scores([history])[0], row, rtol=0, atol=1e-5)
    np.testing.assert_allclose(model.scores(histories * 100)[-4:], together, rtol=0, atol=1e-5)


def test_only_the_newest_items_are_read(walker):
    model, _, _ = walker
    newest = [4, 5, 6, 7, 8, 9]
    np.testing.assert_array_equal(
        model.scores([History.of([1, 2, 3, *newest])]), model.scores([History.of([9, 0, *newest])])
    )
    order = model.scores([History.of(newest), History.of([5, 4, *newest[2:]])])
    assert (order[0] != order[1]).any()


@pytest.mark.parametrize("history", [History.of([]), History.of([COLD_ITEM]), History.of([COLD_ITEM, COLD_ITEM])])
def test_a_history_of_which_nothing_is_known_is_answered_with_popularity(history):
    dataset = two_tribes()
    model = trained(dataset)
    np.testing.assert_array_equal(model.scores([history]), Popularity().fit(dataset).scores([history]))


def test_items_that_training_never_saw_are_left_out_of_a_history():
    model = trained(two_tribes())
    np.testing.assert_array_equal(
        model.scores([History.of([1, COLD_ITEM, 2, COLD_ITEM])]), model.scores([History.of([1, 2])])
    )


def test_the_seed_decides_and_the_world_outside_does_not():
    torch.manual_seed(1)
    first = trained(two_tribes())
    after = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(3), after)
    second = trained(two_tribes())
    other = trained(two_tribes(), seed=1)
    asked = [History.of([0, 1])]
    np.testing.assert_array_equal(first.scores(asked), second.scores(asked))
    assert (first.scores(asked) != other.scores(asked)).any()


def test_config_and_device_survive_the_disk_and_other_shapes_are_refused(tmp_path):
    trained(two_tribes()).save_pretrained(tmp_path)
    restored = SASRec.from_pretrained(tmp_path, device="cpu")
    assert restored.config == SMALL
    assert restored.encoder.device == restored.device == torch.device("cpu")
    finish(tmp_path, "sasrec", SMALL.model_copy(update={"width": 8}))
    with pytest.raises(ThinkrankError, match="do not fit"):
        SASRec.from_pretrained(tmp_path)


def test_another_kind_is_refused_by_name(tmp_path):
    Popularity().fit(two_tribes()).save_pretrained(tmp_path)
    with pytest.raises(ThinkrankError, match="kind 'popularity', not 'sasrec'"):
        SASRec.from_pretrained(tmp_path)


def test_senseless_options_are_errors():
    with pytest.raises(ValidationError, match="multiple of the heads"):
        SasrecOptions(width=10, heads=4)
    with pytest.raises(ValidationError, match="hidden"):
        SasrecOptions.model_validate({"hidden": 3})
    with pytest.raises(ThinkrankError, match="unknown device"):
        SASRec(device="abacus")


def test_nothing_to_learn_or_nothing_learnt_is_an_error(tmp_path):
    with pytest.raises(ThinkrankError, match="no user has two"):
        trained(walks(1, 2, length=1))
    with pytest.raises(ThinkrankError, match="call train_sequential first"):
        SASRec().scores([History.of([])])
    with pytest.raises(ThinkrankError, match="call train_sequential first"):
        SASRec().save_pretrained(tmp_path)
