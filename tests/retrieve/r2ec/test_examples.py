from itertools import islice
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from thinkrank.data import History
from thinkrank.prompts.options import PromptOptions
from thinkrank.prompts.retrieval import Prompts
from thinkrank.retrieve import ContrastiveOptions
from thinkrank.retrieve.r2ec.examples import Stretch, _epoch, branches, build_batch, endless_batches
from thinkrank.retrieve.r2ec.head import RetrievalHead
from thinkrank.retrieve.r2ec.item_action import CompetingItems, line_loss
from thinkrank.retrieve.r2ec.rollouts import Group
from thinkrank.teachers.history_rules import RuleWriter


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


@pytest.fixture
def days(histories):
    """The same histories with some events on one day, so that they tell nothing of each other; the first day too."""
    tied = np.array([0, 1, 0, 0, 1, 2, 0, 0, 1, 0], dtype=np.int32)
    return [History(past.items, past.times, None, tied[: len(past)]) for past in histories]


@pytest.mark.parametrize("supervision", ["every_prefix", "last"])
@pytest.mark.parametrize("stretch", [2, 3, 32])
def test_what_is_predicted_of_a_day_is_read_after_the_end_of_the_last_day_before(
    backbone, dataset, days, targets, supervision, stretch
):
    options = ContrastiveOptions(supervision=supervision, batch_size=4, stretch=stretch, thought_share=0.5)
    prompts = Prompts(backbone, dataset.catalogue, PromptOptions(history_window=4))
    predicted = set()
    days = days[:3]
    targets = [(i, place) for i, place in targets if i < 3]
    for stretches in _epoch(days, targets, options, 4, np.random.default_rng(5)):
        for piece in stretches:
            batch = build_batch(prompts, days, [piece], options, RuleWriter(dataset.catalogue))
            past = days[piece.history]
            seen_PI = batch.seen.among(None, len(dataset.catalogue))
            for readout, seen in zip(batch.readouts, seen_PI, strict=True):
                end = int(past.reads[readout.target]) + 1  # all earlier events, none of the day itself
                assert piece.start < end <= readout.target
                user = prompts.user(past[piece.start : end], window=end - piece.start)
                read = read_at(batch, readout)
                if supervision == "last":
                    user = prompts.user(past[:end])
                if readout.is_line:
                    assert read == user.prompt.ids[: user.line_ends[-1] + 1]
                else:
                    assert read[: len(user.prompt)] == user.prompt.ids
                assert set(seen.nonzero()[:, 0].tolist()) == set(past.items[:end].tolist())
                predicted.add((piece.history, readout.target))
    assert predicted == {
        (i, place) for i, past in enumerate(days) for place, read in enumerate(past.reads) if read >= 0
    }


def test_line_ends_of_a_rollout_predict_the_days_after_theirs(days):
    past, width = days[0], 3
    groups = [
        Mock(
            spec=Group,
            sample=SimpleNamespace(history=past[:end], target=int(past.items[end])),
            prompt=SimpleNamespace(line_ends=range(shown)),
        )
        for end, shown in ((6, 6), (9, 4), (0, 0))
    ]
    head = Mock(spec=RetrievalHead)
    head.user_vectors = lambda states, is_line: states
    head.scores = lambda users, items: users @ items.T
    random = torch.Generator().manual_seed(0)
    states, items = (torch.randn(size, width, generator=random) for size in (10, 24))
    expected, everything = 0.0, 0.0
    for group, first_state in zip(groups, (0, 6, 10), strict=True):
        history, shown = group.sample.history, len(group.prompt.line_ends)
        asked = [
            *zip(history.items.tolist(), history.reads.tolist(), strict=True),
            (group.sample.target, len(history) - 1),
        ]
        for item, read in asked:
            if read >= len(history) - shown:
                scores = states[first_state + read - (len(history) - shown)] @ items.T
                everything -= torch.log_softmax(scores, 0)[item]
                scores[torch.from_numpy(history.items[: read + 1].astype(np.int64))] = -torch.inf
                expected -= torch.log_softmax(scores, 0)[item]
    catalogue = Mock(spec=CompetingItems, vectors_ND=items)
    torch.testing.assert_close(line_loss(head, states, groups, catalogue, filter_seen=True), expected)
    torch.testing.assert_close(line_loss(head, states, groups, catalogue, filter_seen=False), everything)


def test_the_order_depends_on_the_seed_alone_and_can_be_entered_anywhere(histories, targets):
    options = ContrastiveOptions(batch_size=4, stretch=4)
    whole = list(islice(endless_batches(histories, targets, options, window=4), 60))
    assert whole == list(islice(endless_batches(histories, targets, options, window=4), 60))
    for skip in (1, 17, 45):
        resumed = endless_batches(histories, targets, options, window=4, skip=skip)
        assert list(islice(resumed, 60 - skip)) == whole[skip:]
    other = ContrastiveOptions(batch_size=4, stretch=4, seed=1)
    assert list(islice(endless_batches(histories, targets, other, window=4), 60)) != whole


def read_at(batch, readout):
    """The tokens up to the one that is read."""
    return batch.forest.sequence(readout.node)[: readout.position + 1]


@pytest.mark.parametrize("start", [0, 2])
def test_lines_predict_the_line_after_them_and_closings_what_comes_behind_theirs(backbone, dataset, histories, start):
    prompts = Prompts(backbone, dataset.catalogue, PromptOptions(history_window=4))
    history = next(h for h in histories if len(h) >= 7)
    items = history.items.tolist()
    options = ContrastiveOptions(thought_share=0.5, thought_readings=10**6)
    batch = build_batch(prompts, [history], [Stretch(0, start, 7)], options, RuleWriter(dataset.catalogue))
    seen_PI = batch.seen.among(None, len(dataset.catalogue))
    for readout, target, seen in zip(batch.readouts, batch.targets_P.tolist(), seen_PI, strict=True):
        assert target == items[readout.target]
        assert set(seen.nonzero()[:, 0].tolist()) == set(items[: readout.target])
        user = prompts.user(history[start : readout.target], window=readout.target - start)
        read = batch.forest.sequence(readout.node)[: readout.position + 1]
        if readout.is_line:
            assert read == user.prompt.ids[: user.line_ends[-1] + 1]
        else:
            thought = tuple(read[i] for i in readout.thought)
            assert read == user.prompt.ids + (thought or tuple(prompts.closing_ids))
    lines, closings = ([r for r in batch.readouts if r.is_line is kind] for kind in (True, False))
    assert [readout.target for readout in lines] == list(range(start + 1, 7))
    assert [readout.target for readout in closings] == list(range(start + 1, start + 1 + min(4, 6 - start)))
    assert {bool(readout.thought) for readout in closings} == {True, False}
    assert batch.forest.num_tokens < sum(len(sequence) for sequence in batch.forest.sequences())


def test_closings_stand_behind_as_many_lines_in_training_as_at_test(histories, backbone, dataset):
    """Behind whole stretches they stood behind twice as many lines on films as any prompt shows."""
    window = 4
    prompts = Prompts(backbone, dataset.catalogue, PromptOptions(history_window=window))
    options = ContrastiveOptions(stretch=8, batch_size=4)
    asked = {min(place, window) for history in histories for place in range(1, len(history) + 1)}
    behind = []
    for batch in islice(endless_batches(histories, [], options, window=window), 60):
        for stretch in batch:
            (closing,) = (r for r in build_batch(prompts, histories, [stretch], options).readouts if not r.is_line)
            behind.append(closing.target - stretch.start)
            if stretch.start:
                assert behind[-1] == min(window, stretch.stop - stretch.start - 1)
    assert set(behind) == asked


def test_rows_leave_a_stem_where_they_differ_from_it():
    stem, rows = (1, 2, 3, 4, 5), [(1, 2, 9), (1, 2, 3, 4, 5, 6), (7, 8), (1, 2), (1, 2, 9, 3)]
    tree, end, leaves = branches(stem, rows)
    assert tree.sequence(end) == stem
    assert [tree.sequence(leaf) for leaf in leaves] == rows
    assert tree.num_tokens == len(stem) + 1 + 1 + 2 + 1 + 2
    tree, end, leaves = branches((), rows[:1])
    assert (end, [tree.sequence(leaf) for leaf in leaves]) == (-1, rows[:1])


@pytest.mark.parametrize(("share", "expected"), [(0.5, 5), (0.25, 10), (0.0, 1)])
def test_sequences_get_as_many_closings_as_the_readings_behind_thoughts_take(share, expected):
    options = ContrastiveOptions(steps=100, batch_size=4, accumulate=2, thought_share=share, thought_readings=2000)
    assert options.closings == expected


def test_under_last_supervision_only_the_closing_predicts(backbone, dataset, histories):
    prompts = Prompts(backbone, dataset.catalogue, PromptOptions())
    batch = build_batch(prompts, histories, [Stretch(0, 0, 3)], ContrastiveOptions(supervision="last"))
    assert [readout.position for readout in batch.readouts] == [batch.forest.num_tokens - 1]
    assert batch.targets_P.tolist() == [int(histories[0].items[2])]


def test_what_the_window_and_budget_cut_is_not_read_out(backbone, dataset, histories):
    prompts = Prompts(backbone, dataset.catalogue, PromptOptions(history_tokens=12))
    history = next(h for h in histories if len(h) >= 7)
    batch = build_batch(prompts, [history], [Stretch(0, 0, 7)], ContrastiveOptions())
    lines = [readout.target for readout in batch.readouts if readout.is_line]
    assert 1 <= len(lines) < 6
    assert lines == list(range(7 - len(lines), 7))
