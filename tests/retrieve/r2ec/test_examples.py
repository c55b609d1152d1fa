from itertools import islice

import numpy as np
import pytest

from thinkrank.prompts.options import PromptOptions
from thinkrank.prompts.retrieval import Prompts
from thinkrank.retrieve import ContrastiveOptions
from thinkrank.retrieve.r2ec.examples import Stretch, _epoch, build_batch, endless_batches


@pytest.fixture
def histories(split):
    return split.train_histories()


@pytest.fixture
def targets(histories):
    return [(i, place) for i, history in enumerate(histories) for place in range(1, len(history))]


@pytest.mark.parametrize("supervision", ["every_prefix", "last"])
@pytest.mark.parametrize("stretch", [2, 3, 4, 32])
def test_an_epoch_predicts_every_event_of_every_history_but_the_first(histories, targets, supervision, stretch):
    options = ContrastiveOptions(supervision=supervision, batch_size=4, stretch=stretch)
    predicted = {
        (piece.history, target)
        for batch in _epoch(histories, targets, options, 4, np.random.default_rng(5))
        for piece in batch
        for target in (range(piece.start + 1, piece.stop) if supervision == "every_prefix" else [piece.stop - 1])
    }
    assert predicted == {(i, target) for i, history in enumerate(histories) for target in range(1, len(history))}


def test_the_order_depends_on_the_seed_alone_and_can_be_entered_anywhere(histories, targets):
    options = ContrastiveOptions(batch_size=4, stretch=4)
    whole = list(islice(endless_batches(histories, targets, options, window=4), 60))
    assert whole == list(islice(endless_batches(histories, targets, options, window=4), 60))
    for skip in (1, 17, 45):
        resumed = endless_batches(histories, targets, options, window=4, skip=skip)
        assert list(islice(resumed, 60 - skip)) == whole[skip:]
    other = ContrastiveOptions(batch_size=4, stretch=4, seed=1)
    assert list(islice(endless_batches(histories, targets, other, window=4), 60)) != whole


def test_each_line_predicts_the_line_after_it_and_the_closing_what_comes_last(backbone, dataset, histories):
    prompts = Prompts(backbone, dataset.catalogue, PromptOptions())
    history = next(h for h in histories if len(h) >= 7)
    items = history.items.tolist()
    batch = build_batch(prompts, [history], [Stretch(0, 2, 7)], ContrastiveOptions())
    readouts = sorted(
        zip(batch.columns_P.tolist(), batch.targets_P.tolist(), batch.seen_PI, strict=True), key=lambda r: r[0]
    )
    assert [target for _, target, _ in readouts] == [*items[3:7], items[6]]
    for (column, _, seen), last in zip(readouts, [2, 3, 4, 5, 5], strict=True):
        shown = backbone.tokenizer.decode(batch.sequences[0][: column + 1])
        assert dataset.catalogue.titles[items[last]] in shown
        assert dataset.catalogue.titles[items[6]] not in shown or items[6] in items[2 : last + 1]
        assert set(seen.nonzero()[:, 0].tolist()) == set(items[: last + 1])


def test_under_last_supervision_only_the_closing_predicts(backbone, dataset, histories):
    prompts = Prompts(backbone, dataset.catalogue, PromptOptions())
    batch = build_batch(prompts, histories, [Stretch(0, 0, 3)], ContrastiveOptions(supervision="last"))
    assert batch.columns_P.tolist() == [len(batch.sequences[0]) - 1]
    assert batch.targets_P.tolist() == [int(histories[0].items[2])]


def test_what_the_window_and_budget_cut_is_not_read_out(backbone, dataset, histories):
    prompts = Prompts(backbone, dataset.catalogue, PromptOptions(history_tokens=12))
    history = next(h for h in histories if len(h) >= 7)
    batch = build_batch(prompts, [history], [Stretch(0, 0, 7)], ContrastiveOptions())
    assert 2 <= len(batch.targets_P) < 7
    assert batch.targets_P[-1].item() == batch.targets_P[0].item() == history.items[6]
