import numpy as np
import polars as pl
import pytest

from thinkrank.data import load_impressions
from thinkrank.errors import ThinkrankError
from thinkrank.testing import ListSourceContract

HEADER = (
    "user_id,session_id,timestamp,step,action_type,reference,platform,city,device,current_filters,impressions,prices\n"
)
LOG = (
    HEADER
    + "u1,s1,100,1,search for destination,Rome,DE,Rome,mobile,,,\n"
    + "u1,s1,110,2,interaction item image,30,DE,Rome,mobile,,,\n"
    + "u1,s1,120,3,clickout item,20,DE,Rome,mobile,,10|20|30,50|60|70\n"
    + "u1,s1,130,4,clickout item,30,DE,Rome,mobile,,10|20|30,50|60|70\n"
    + "u1,s2,140,1,clickout item,40,DE,Rome,desktop,,40|10,80|55\n"
    + "u0,s3,105,1,clickout item,99,DE,Rome,tablet,,10|20,50|60\n"
    + "u0,s3,106,2,interaction item deals,20,DE,Rome,tablet,,,\n"
    + "u0,s3,107,3,clickout item,10,DE,Rome,tablet,,10|20,50|60\n"
)


def ids(lists, rows):
    return [lists.catalogue.ids[row] for row in rows if row >= 0]


class TestContract(ListSourceContract):
    name = "trivago"

    def write(self, folder):
        (folder / "train.csv").write_text(LOG)
        return folder


def test_the_official_log_gives_a_list_per_click_out(write, tmp_path):
    write("train.csv", LOG)
    write("item_metadata.csv", "item_id,properties\n10,Wifi|Pool\n77,Gym\n")
    lists = load_impressions("trivago", tmp_path, running_features=False)
    assert lists.times_L.tolist() == [107, 120, 130, 140]
    assert [ids(lists, row) for row in lists.items_LN] == [
        ["10", "20"],
        ["10", "20", "30"],
        ["10", "20", "30"],
        ["40", "10"],
    ]
    assert lists.feedback_LNS[:, :, 0].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert [lists.users[user] for user in lists.users_L] == ["u0", "u1", "u1", "u1"]
    np.testing.assert_allclose(lists.numeric_LNF[1, :, 0], np.log1p([50, 60, 70]), rtol=1e-6)
    assert lists.context_LF[:, :3].tolist() == [[0, 0, 1], [0, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert lists.notices == ("dropped 1 lists whose clicked item was not shown",)
    assert lists.catalogue.frame.filter(item="10")["categories"].to_list() == [["Wifi", "Pool"]]
    assert "77" not in lists.catalogue.ids


def test_a_history_is_the_hotels_of_the_session_so_far(write, tmp_path):
    write("train.csv", LOG)
    lists = load_impressions("trivago", tmp_path)
    assert [ids(lists, history.items) for history in lists.histories] == [["99", "20"], ["30"], ["30", "20"], []]
    assert lists.histories[2].times.tolist() == [110, 120]


def test_one_row_per_list_gives_the_same_lists(write, tmp_path):
    write("log/train.csv", LOG)
    rows = [
        ("u1", 120, "mobile", [10, 20, 30], [50, 60, 70], 1, [30]),
        ("u1", 130, "mobile", [10, 20, 30], [50, 60, 70], 2, [30, 20]),
        ("u1", 140, "desktop", [40, 10], [80, 55], 0, []),
        ("u0", 105, "tablet", [10, 20], [50, 60], -1, []),
        ("u0", 107, "tablet", [10, 20], [50, 60], 0, [99, 20]),
    ]
    columns = ["user_id", "timestamp", "device", "items", "prices", "clicked_index", "history"]
    (tmp_path / "lists").mkdir()
    pl.DataFrame(rows, schema=columns, orient="row").write_parquet(tmp_path / "lists" / "lists.parquet")
    of_log, of_lists = (load_impressions("trivago", tmp_path / name) for name in ("log", "lists"))
    for array in ("items_LN", "feedback_LNS", "numeric_LNF", "context_LF", "times_L", "users_L"):
        assert np.array_equal(getattr(of_log, array), getattr(of_lists, array)), array
    assert of_log.notices == of_lists.notices
    assert [a.items.tolist() for a in of_log.histories] == [b.items.tolist() for b in of_lists.histories]


def test_click_outs_to_be_predicted_are_left_out_with_a_notice(write, tmp_path):
    write("train.csv", LOG.replace("clickout item,40", "clickout item,"))
    lists = load_impressions("trivago", tmp_path)
    assert len(lists) == 3
    assert lists.notices[0] == "dropped 1 lists that do not say what was clicked"


def test_short_and_long_lists_can_be_left_out(write, tmp_path):
    write("train.csv", LOG)
    assert load_impressions("trivago", tmp_path, min_candidates=3).lengths_L.tolist() == [3, 3]
    short = load_impressions("trivago", tmp_path, max_candidates=2)
    assert short.items_LN.shape == (2, 2)
    assert short.notices[1] == "dropped 2 lists of more than 2 candidates"
    with pytest.raises(ThinkrankError, match=r"no lists are left .*fewer than 9"):
        load_impressions("trivago", tmp_path, min_candidates=9)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (LOG.replace("50|60|70", "50|60", 1), r"train.csv, row 3 \(line 4\): has not as many prices"),
        (LOG.replace(",110,2,", ",noon,2,"), r"train.csv, row 2 \(line 3\): timestamp 'noon' is not a number"),
        (LOG.replace(",110,2,", ",110,two,"), r"train.csv, row 2 \(line 3\): step .* is not a number"),
        (LOG.replace("reference", "ref"), "train.csv: no column 'reference'; nearest: ref"),
    ],
)
def test_a_fault_names_its_row(write, tmp_path, wrong, message):
    write("train.csv", wrong)
    with pytest.raises(ThinkrankError, match=message):
        load_impressions("trivago", tmp_path)


def test_the_test_part_gives_the_lists_that_are_to_be_answered(write, tmp_path):
    asked = (
        LOG.splitlines()[0]
        + "\nu1,s1,110,1,interaction item info,30,DE,Rome,mobile,,,"
        + "\nu1,s1,120,2,clickout item,20,DE,Rome,mobile,,10|20|30,50|60|70"
        + "\nu1,s1,130,3,clickout item,,DE,Rome,mobile,,10|20,50|60"
        + "\nu2,s2,140,1,clickout item,,DE,Rome,desktop,,40|10,80|55\n"
    )
    write("test.csv", asked)
    lists = load_impressions("trivago", tmp_path, running_features=False)
    assert [ids(lists, row) for row in lists.items_LN] == [["10", "20"], ["40", "10"]]
    assert lists.ids == ("s1/3", "s2/1")
    assert [ids(lists, history.items) for history in lists.histories] == [["30", "20"], []]
    assert lists.signals == ()
    with pytest.raises(ThinkrankError, match="can be answered, not learnt from"):
        lists.feedback()
