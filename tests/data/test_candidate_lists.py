"""A first stage's own lists: what it missed is missed, what is held out stays out of the histories."""

import logging

import numpy as np
import polars as pl
import pytest

from thinkrank.data import Catalogue, Dataset, split_dataset
from thinkrank.data.candidate_lists import read_candidate_lists
from thinkrank.errors import ThinkrankError
from thinkrank.evaluate import evaluate_ranking
from thinkrank.rank.r2rank.groups import TrainingGroups

ITEMS = list("abcdefgh")


@pytest.fixture
def dataset():
    """Two people: ann took a to e at 10, 20, ..., bob b to f at 11, 21, ..."""
    rows = [
        {"user": user, "item": ITEMS[first + step], "timestamp": 10 * (step + 1) + first}
        for first, user in enumerate(("ann", "bob"))
        for step in range(5)
    ]
    return Dataset("two", pl.DataFrame(rows), Catalogue(pl.DataFrame({"item": ITEMS, "title": ITEMS})))


def lists_of(tmp_path, text, name="found.csv"):
    (tmp_path / name).write_text(text)
    return read_candidate_lists(tmp_path / name)


def named(sets):
    ids = sets.samples.dataset.catalogue.ids
    return [{ids[row] for row in items if row >= 0} for items in sets.items_BN.tolist()]


def test_a_target_that_the_stage_missed_counts_as_missed_for_every_system(dataset, tmp_path):
    lists = lists_of(tmp_path, "user,item,score\nann,e,.9\nann,g,.5\nbob,g,3\nbob,h,2\n")
    sets = lists.sets(split_dataset(dataset, "leave-last-out").test)
    assert named(sets) == [{"e", "g"}, {"g", "h"}]
    assert sets.missed_B.tolist() == [False, True]  # ann's e was found, bob's f was not
    all_alike = np.zeros(sets.items_BN.shape, np.float32)
    evaluation = evaluate_ranking({sets.stage: sets.scores_BN, "all alike": all_alike}, sets, cutoffs=(1, 10))
    assert evaluation.values(sets.stage, "hit@1").tolist() == [1, 0]
    assert evaluation.values("all alike", "hit@1").tolist() == [0.5, 0]
    for metric in ("hit@10", "ndcg@10", "mrr"):
        assert evaluation.values(sets.stage, metric).tolist() == [1, 0]
        assert evaluation.values("all alike", metric)[1] == 0
    assert "miss 1 of 2 targets" in evaluation.policy["candidates"]


def test_without_scores_the_order_of_the_file_is_the_stages(dataset, tmp_path):
    sets = lists_of(tmp_path, "user,item\nann,g\nann,e\nann,h\n").sets(split_dataset(dataset, "leave-last-out").test)
    ranked = sets.items_BN[0][np.argsort(-sets.scores_BN[0])]
    assert [ITEMS[row] for row in ranked] == ["g", "e", "h"]


def test_a_set_is_the_same_whatever_others_there_are(dataset, tmp_path):
    text = "user,item\nann,g\nann,e\nann,h\nbob,a\nbob,f\n"
    test = split_dataset(dataset, "leave-last-out").test
    both, alone = lists_of(tmp_path, text).sets(test, seed=5), lists_of(tmp_path, text).sets(test[1:], seed=5)
    assert both.items_BN[1][:2].tolist() == alone.items_BN[0][:2].tolist()


def test_histories_end_before_the_lists_time_or_event(dataset, tmp_path):
    timed = lists_of(tmp_path, "user,item,time\nann,g,30\nann,h,45\n")
    assert [len(past) for past in timed.requests(dataset).histories] == [2, 4]
    numbered = lists_of(tmp_path, "user,item,event\nann,g,1\nann,h,5\n")
    assert [len(past) for past in numbered.requests(dataset).histories] == [1, 5]
    always = lists_of(tmp_path, "user,item\nann,g\n")
    assert [len(past) for past in always.requests(dataset).histories] == [5]
    with pytest.raises(ThinkrankError, match="has 5 events, so none is number 6"):
        lists_of(tmp_path, "user,item,event\nann,g,6\n").requests(dataset)


def test_the_newest_list_before_a_target_serves_it_and_an_event_serves_itself_alone(dataset, tmp_path):
    train = split_dataset(dataset, "leave-last-out").train  # of both people the events 1 and 2
    timed = lists_of(tmp_path, "user,item,time\nann,h,30\nann,g,15\n")
    found = list(zip(train.users.tolist(), train.times.tolist(), timed.serving(train).tolist(), strict=True))
    assert sorted(found) == [(0, 20, 1), (0, 30, 0), (1, 21, -1), (1, 31, -1)]
    numbered = lists_of(tmp_path, "user,item,event\nann,g,1\n")
    assert sorted(numbered.serving(train).tolist()) == [-1, -1, -1, 0]


def test_samples_without_a_list_and_unknown_items_are_left_out_and_said(dataset, tmp_path, caplog):
    test = split_dataset(dataset, "leave-last-out").test
    with caplog.at_level(logging.WARNING, "thinkrank"):
        sets = lists_of(tmp_path, "user,item\nann,e\nann,nothing\nann,g\n").sets(test)
    assert named(sets) == [{"e", "g"}]
    assert "1 of 2 samples have no list" in caplog.text
    assert "1 candidates are not in the catalogue" in caplog.text
    with pytest.raises(ThinkrankError, match="no list is of one of the 2 samples"):
        lists_of(tmp_path, "user,item\nzoe,e\n").sets(test)


def test_training_takes_negatives_from_the_lists_first(dataset, tmp_path):
    lists = lists_of(tmp_path, "user,item\nann,g\nann,h\nann,a\n")
    train = split_dataset(dataset, "leave-last-out").train
    groups = TrainingGroups(train, negatives=2, seed=0, lists=lists)
    of_ann = [group for group in groups if group.user == 0 and len(group.history)]
    assert of_ann
    assert all({ITEMS[row] for row in group.rows[1:]} == {"g", "h"} for group in of_ann)
    again = TrainingGroups(train, negatives=2, seed=0, lists=lists)
    assert [group.rows for group in again] == [group.rows for group in groups]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("user,thing\nann,e\n", "no column 'item'; it has user, thing"),
        ("user,item\nann,\n", "row 1 has an empty cell"),
        ("user,item\nann,e\nann,e\n", "user 'ann' has item 'e' twice"),
        ("user,item,score\nann,e,much\n", "row 1: score 'much' is not a finite number"),
        ("user,item,score\nann,e,nan\n", "not a finite number"),
        ("user,item,event\nann,e,-1\n", "event '-1' is not a whole number from 0"),
        ("user,item,event,time\nann,e,1,5\n", "both time and event"),
    ],
)
def test_a_file_at_fault_is_refused_by_its_row(tmp_path, text, fault):
    with pytest.raises(ThinkrankError, match=fault):
        lists_of(tmp_path, text)


def test_every_format_of_tables_is_read_and_a_header_alone_is_no_list(dataset, tmp_path):
    frame = pl.DataFrame({"user": ["ann", "ann"], "item": ["e", "g"], "score": [1.5, 2.5]})
    frame.write_parquet(tmp_path / "a.parquet")
    frame.write_ndjson(tmp_path / "a.jsonl")
    frame.write_csv(tmp_path / "a.tsv", separator="\t")
    for name in ("a.parquet", "a.jsonl", "a.tsv"):
        lists = read_candidate_lists(tmp_path / name)
        assert (lists.items, lists.scores) == ((("e", "g"),), ((1.5, 2.5),))
    assert len(lists_of(tmp_path, "user,item\n")) == 0
    with pytest.raises(ThinkrankError, match="no such file"):
        read_candidate_lists(tmp_path / "absent.csv")
