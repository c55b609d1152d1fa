import numpy as np
import polars as pl
import pytest

from thinkrank.data import load_impressions
from thinkrank.data.features import RUNNING_NAMES
from thinkrank.errors import ThinkrankError
from thinkrank.testing import ListSourceContract

LISTS = (
    "list,user,item,position,time,click,grade,price,colour,hour\n"
    "a,ann,x,2,100,0,0,2.5,red,7\n"
    "a,ann,y,1,100,1,3,1.5,,7\n"
    "b,bob,x,1,90,,0,2,red,6\n"
    "b,bob,z,2,90,1,1,3,blue,6\n"
    "c,ann,z,1,200,0,0,4,blue,8\n"
    "c,ann,y,2,200,1,2,5,red,8\n"
)
OPTIONS = {"feedback": ("click", "grade"), "numeric": ("price",), "categorical": ("colour",), "context": ("hour",)}


class TestContract(ListSourceContract):
    name, options = "table", OPTIONS

    def write(self, folder):
        (folder / "lists.csv").write_text(LISTS)
        return folder


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "tsv", "parquet"])
def test_rows_become_lists(write, tmp_path, suffix):
    if suffix == "parquet":
        pl.read_csv(LISTS.encode()).write_parquet(tmp_path / "lists.parquet")
    else:
        write(f"lists.{suffix}", LISTS.replace(",", "\t") if suffix == "tsv" else LISTS)
    write("items.csv", "item,title\nx,An x\ny,A y\n")
    lists = load_impressions("table", tmp_path, running_features=False, **OPTIONS)
    assert lists.catalogue.titles == ["An x", "A y", "z"]
    assert lists.times_L.tolist() == [90, 100, 200]
    assert lists.items_LN.tolist() == [[0, 2], [1, 0], [2, 1]]
    assert lists.feedback("click").tolist() == [[0, 1], [1, 0], [0, 1]]
    assert lists.feedback("grade").tolist() == [[0, 1], [3, 0], [0, 2]]
    assert lists.numeric_LNF[:, :, 0].tolist() == [[2, 3], [1.5, 2.5], [4, 5]]
    assert lists.categorical_LNC[:, :, 0].tolist() == [[2, 1], [0, 2], [1, 2]]
    assert lists.context_LF.tolist() == [[6], [7], [8]]
    assert [history.items.tolist() for history in lists.histories] == [[], [], [1]]


def test_columns_may_have_other_names_and_dates(write, tmp_path):
    text = "session,who,product,slot,at,click\n1,u,x,1,2024-01-01T00:00:05Z,1\n1,u,y,2,2024-01-01T00:00:05Z,0\n"
    write("impressions.csv", text)
    columns = {"list": "session", "user": "who", "item": "product", "position": "slot", "time": "at"}
    lists = load_impressions("table", tmp_path, columns=columns)
    assert lists.times_L.tolist() == [1704067205]
    assert lists.numeric_names == RUNNING_NAMES


def test_the_order_of_rows_makes_no_difference(write, tmp_path):
    header, *rows = LISTS.splitlines(keepends=True)
    write("a/lists.csv", LISTS)
    write("b/lists.csv", header + "".join(np.random.default_rng(0).permutation(rows)))
    one, other = (load_impressions("table", tmp_path / name, **OPTIONS) for name in "ab")
    assert one.fingerprint == other.fingerprint


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("bob,z,2,90,1", "bob,z,2,90,often", r"row 4 \(line 5\): click 'often' is not a number"),
        ("bob,z,2,90,1", "bob,z,2,90,-1", r"row 4 \(line 5\): click -1.0 is negative"),
        ("bob,z,2", "eve,z,2", r"row 4 \(line 5\): user 'eve' is not that of the list's other rows"),
        ("bob,z,2,90", "bob,z,2,91", r"row 4 \(line 5\): time 91 is not that of the list's other rows"),
        ("0,0,2.5,red", "0,0,,red", r"row 1 \(line 2\): price is missing"),
        ("ann,x,2,", "ann,,2,", r"row 1 \(line 2\): item is missing"),
        (",position,", ",zzz,", r"no column 'position'.*Name yours, as in columns=\{'position'"),
        ("list,user", "list,usr", "no column 'user'; nearest: usr"),
    ],
)
def test_a_fault_names_its_row(write, tmp_path, old, new, message):
    write("lists.csv", LISTS.replace(old, new))
    with pytest.raises(ThinkrankError, match=message) as caught:
        load_impressions("table", tmp_path, **OPTIONS)
    assert str(caught.value).startswith("lists.csv")


def test_an_unknown_role_is_refused(tmp_path):
    with pytest.raises(ThinkrankError, match="there is no 'rank'"):
        load_impressions("table", tmp_path, columns={"rank": "x"})


def test_lists_keep_their_ids_and_their_order_and_need_no_feedback(write, tmp_path):
    write("lists.csv", "list,user,item,position,time\nB,u,a,1,200\nB,u,b,2,200\nA,v,a,1,100\nA,v,b,2,100\n")
    lists = load_impressions("table", tmp_path)
    assert (lists.ids, lists.in_source_order().ids, lists.signals) == (("A", "B"), ("B", "A"), ())
    assert any("no column 'click'" in notice for notice in lists.notices)
    assert lists.numeric_names == RUNNING_NAMES
    with pytest.raises(ThinkrankError, match="no column 'like'"):
        load_impressions("table", tmp_path, feedback=("like",))


def test_an_item_shown_twice_keeps_the_greatest_feedback(write, tmp_path):
    rows = "1,u,a,1,100,0\n1,u,a,2,100,1\n1,u,b,3,100,0\n"
    write("lists.csv", "list,user,item,position,time,click\n" + rows)
    assert load_impressions("table", tmp_path).feedback().tolist() == [[1, 0]]


def test_propensities_are_read_and_checked(write, tmp_path):
    header = "list,user,item,position,time,click,p\n"
    write("lists.csv", header + "1,u,a,1,100,0,.5\n1,u,b,2,100,1,.25\n")
    lists = load_impressions("table", tmp_path, propensity="p")
    assert lists.propensities_LN.tolist() == [[0.5, 0.25]]
    assert lists.describe()["propensities"]["min"] == 0.25
    write("lists.csv", header + "1,u,a,1,100,0,.5\n1,u,b,2,100,1,0\n")
    with pytest.raises(ThinkrankError, match=r"row 2 .*p 0.0 is not above 0 and at most 1"):
        load_impressions("table", tmp_path, propensity="p")
