from datetime import datetime

import numpy as np
import polars as pl
import pytest

from thinkrank.data import load_impressions
from thinkrank.errors import ThinkrankError
from thinkrank.testing import ListSourceContract

BEHAVIORS = (
    "1\tU1\t11/15/2019 8:55:22 AM\tN1 N2\tN3-0 N4-1 N5-1\n"
    "2\tU2\t11/14/2019 11:05:58 PM\t\tN4-0 N3-1\n"
    "3\tU1\t11/15/2019 12:00:01 PM\tN1 N2\tN5-0 N4-1\n"
)
NEWS = (
    'N3\tsports\tgolf\tA "great" swing\tAbstract\thttps://x\t[]\t[]\n'
    "N4\tnews\tworld\tFour\t\thttps://x\t[]\t[]\n"
    "N9\tnews\tworld\tNever shown\t\thttps://x\t[]\t[]\n"
)


class TestContract(ListSourceContract):
    name = "mind"

    def write(self, folder):
        (folder / "behaviors.tsv").write_text(BEHAVIORS)
        return folder


def test_the_official_files_give_a_list_per_impression(write, tmp_path):
    write("behaviors.tsv", BEHAVIORS)
    write("news.tsv", NEWS)
    lists = load_impressions("mind", tmp_path)
    ids = lists.catalogue.ids
    assert ids == ["N1", "N2", "N3", "N4", "N5"]
    assert lists.catalogue.titles == ["N1", "N2", 'A "great" swing', "Four", "N5"]
    assert lists.times_L.tolist() == [1573772758, 1573808122, 1573819201]
    assert lists.items_LN.tolist() == [[3, 2, -1], [2, 3, 4], [4, 3, -1]]
    assert lists.feedback().tolist() == [[0, 1, 0], [0, 1, 1], [0, 1, 0]]
    assert [history.items.tolist() for history in lists.histories] == [[], [0, 1], [0, 1]]
    assert np.shares_memory(lists.histories[1].items, lists.histories[2].items)
    assert lists.categorical_names == ("category", "subcategory")
    assert lists.categorical_sizes == (3, 3)
    assert lists.categorical_LNC[1].tolist() == [[2, 1], [1, 2], [0, 0]]


def test_train_and_dev_are_read_as_one(write, tmp_path):
    write("train/behaviors.tsv", BEHAVIORS)
    write("dev/behaviors.tsv", "1\tU3\t11/16/2019 1:00:00 AM\tN1\tN7-0 N1-1\n")
    lists = load_impressions("mind", tmp_path)
    assert len(lists) == 4
    assert lists.catalogue.ids == ["N1", "N2", "N3", "N4", "N5", "N7"]


def test_one_row_per_list_gives_the_same_lists(write, tmp_path):
    write("official/behaviors.tsv", BEHAVIORS)
    rows = [
        ("U1", datetime(2019, 11, 15, 8, 55, 22), ["N1", "N2"], ["N3", "N4", "N5"], [0, 1, 1]),
        ("U2", datetime(2019, 11, 14, 23, 5, 58), [], ["N4", "N3"], [0, 1]),
        ("U1", datetime(2019, 11, 15, 12, 0, 1), ["N1", "N2"], ["N5", "N4"], [0, 1]),
    ]
    (tmp_path / "small").mkdir()
    frame = pl.DataFrame(rows, schema=["user_id", "timestamp", "hist", "items", "clicks"], orient="row")
    frame.write_parquet(tmp_path / "small" / "lists.parquet")
    official, small = (load_impressions("mind", tmp_path / name) for name in ("official", "small"))
    assert official.fingerprint == small.fingerprint


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (BEHAVIORS.replace("N4-0 N3-1", "N4 N3"), "behaviors.tsv, row 2: impressions 'N4 N3' do not say"),
        (BEHAVIORS.replace("11/14/2019 11:05:58 PM", "yesterday"), "behaviors.tsv, row 2: time 'yesterday'"),
        (BEHAVIORS.replace("\tU2", ""), "behaviors.tsv, row 2: 4 fields"),
    ],
)
def test_a_fault_names_its_row(write, tmp_path, wrong, message):
    write("behaviors.tsv", wrong)
    with pytest.raises(ThinkrankError, match=message):
        load_impressions("mind", tmp_path)


def test_a_folder_without_behaviors_says_so(tmp_path):
    with pytest.raises(ThinkrankError, match=r"holds no behaviors\.tsv"):
        load_impressions("mind", tmp_path)


def test_the_test_part_gives_lists_that_are_to_be_answered_under_their_ids(write, tmp_path):
    write("behaviors.tsv", "7\tU2\t11/14/2019 11:05:58 PM\tN9\tN4 N3\n5\tU1\t11/14/2019 10:05:58 PM\t\tN1 N2 N3\n")
    lists = load_impressions("mind", tmp_path)
    assert (lists.signals, lists.ids) == ((), ("5", "7"))
    assert lists.in_source_order().ids == ("7", "5")
    assert [lists.catalogue.ids[row] for row in lists.histories[1].items] == ["N9"]
    with pytest.raises(ThinkrankError, match="can be answered, not learnt from"):
        lists.feedback()


def test_the_test_part_beside_the_others_is_left_out_as_it_does_not_say_what_was_clicked(write, tmp_path):
    write("train/behaviors.tsv", BEHAVIORS)
    write("test/behaviors.tsv", "7\tU2\t11/20/2019 11:05:58 PM\tN9\tN4 N3\n")
    lists = load_impressions("mind", tmp_path)
    assert lists.signals == ("click",)
    assert len(lists) == 3
    assert lists.feedback().sum(axis=1).min() == 1
    assert any("1 lists that do not say what was clicked" in notice for notice in lists.notices)
