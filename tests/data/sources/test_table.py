import io

import polars as pl
import pytest

from thinkrank.data import load_dataset
from thinkrank.errors import ThinkrankError

EVENTS = pl.DataFrame({"user": ["u", "u", "v"], "item": ["1", "2", "2"], "timestamp": [10, 20, 30]})
ITEMS = pl.DataFrame({"item": ["1", "2"], "title": ["One", "Two"], "categories": ["x|y", "z"], "colour": ["red", None]})


def in_format(frame: pl.DataFrame, suffix: str) -> bytes:
    buffer = io.BytesIO()
    match suffix.removesuffix(".gz"):
        case ".csv":
            frame.write_csv(buffer)
        case ".tsv":
            frame.write_csv(buffer, separator="\t")
        case ".parquet":
            frame.write_parquet(buffer)
        case _:
            frame.write_ndjson(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".jsonl", ".ndjson", ".csv.gz", ".jsonl.gz"])
def test_every_format_says_the_same(write, tmp_path, suffix):
    write(f"interactions{suffix}", in_format(EVENTS, suffix))
    write(f"items{suffix}", in_format(ITEMS, suffix))
    dataset = load_dataset("table", tmp_path)
    assert dataset.interactions.equals(EVENTS)
    assert dataset.catalogue.frame.rows() == [("1", "One", ["x", "y"], "red"), ("2", "Two", ["z"], None)]


def test_files_and_columns_can_have_any_name(write, tmp_path):
    write("clicks.txt.csv", "who;what;when;stars\nu;1;2017-12-01;4,5\n".replace(",", "."))
    write("things.csv", "id;name;cost\n1;Lampe;$5\n")
    dataset = load_dataset(
        "table",
        interactions=tmp_path / "clicks.txt.csv",
        items=str(tmp_path / "things.csv"),
        columns={
            "user": "who",
            "item": "what",
            "timestamp": "when",
            "rating": "stars",
            "title": "name",
            "price": "cost",
        },
        separator=";",
        time_unit="iso",
    )
    assert dataset.interactions.rows() == [("u", "1", 1512086400, 4.5)]
    assert dataset.catalogue.frame.rows() == [("1", "Lampe", 5.0)]
    in_folder = load_dataset(
        "table",
        tmp_path,
        interactions="clicks.txt.csv",
        items="things.csv",
        columns={
            "user": "who",
            "item": "what",
            "timestamp": "when",
            "rating": "stars",
            "title": "name",
            "price": "cost",
        },
        separator=";",
    )
    assert in_folder.fingerprint == dataset.fingerprint


def test_typed_columns_of_parquet_are_understood(tmp_path):
    EVENTS.with_columns(
        pl.col("item").cast(pl.Int64), pl.from_epoch("timestamp"), event=pl.lit("click"), rating=pl.lit(3)
    ).write_parquet(tmp_path / "interactions.parquet")
    pl.DataFrame(
        {
            "item": [1, 2],
            "title": ["One", "Two"],
            "categories": [["x"], None],
            "description": [["a", "b"], []],
            "year": ["1999", "?"],
        }
    ).write_parquet(tmp_path / "items.parquet")
    dataset = load_dataset("table", tmp_path)
    assert dataset.interactions.rows() == [
        ("u", "1", 10, 3.0, "click"),
        ("u", "2", 20, 3.0, "click"),
        ("v", "2", 30, 3.0, "click"),
    ]
    assert dataset.catalogue.frame.rows() == [("1", "One", ["x"], "a b", 1999), ("2", "Two", None, None, None)]


def test_rows_in_another_order_make_the_same_data_set(write, tmp_path):
    write("a/interactions.csv", "user,item,timestamp\nu,1,10\nu,2,20\nv,2,30\n")
    write("a/items.csv", "item,title\n1,One\n2,Two\n10,Ten\n")
    write("b/interactions.csv", "timestamp,item,user\n30,2,v\n20,2,u\n10,1,u\n")
    write("b/items.csv", "item,title\n10,Ten\n2,Two\n1,One\n")
    one, other = (load_dataset("table", tmp_path / name) for name in "ab")
    assert one.fingerprint == other.fingerprint
    assert one.catalogue.ids == ["1", "2", "10"]


def test_repeated_interactions_are_dropped_with_a_notice(write, tmp_path):
    # The same item at another time, or another item at the same time, is no repetition.
    write("interactions.csv", "user,item,timestamp\nu,1,10\nu,2,10\nu,1,10\nu,1,11\nv,1,10\nu,2,10\n")
    write("items.csv", "item,title\n1,One\n2,Two\n")
    dataset = load_dataset("table", tmp_path)
    assert dataset.interactions.rows() == [("u", "1", 10), ("u", "2", 10), ("u", "1", 11), ("v", "1", 10)]
    assert dataset.notices == (
        "interactions.csv: dropped 2 interactions that repeat a user, item and time (first: row 3, line 4)",
    )


def test_an_order_without_times_must_be_asked_for(write, tmp_path):
    write("interactions.csv", "user,item\nv,2\nu,1\nv,1\nv,1\nu,9\n")
    write("items.csv", ITEMS.select("item", "title").write_csv())
    with pytest.raises(ThinkrankError, match="no column 'timestamp'"):
        load_dataset("table", tmp_path)
    dataset = load_dataset("table", tmp_path, order_only=True)
    assert not dataset.has_times
    assert {user: dataset.history(user).items.tolist() for user in dataset.users} == {"u": [0], "v": [1, 0, 0]}


def test_a_whole_column_of_milliseconds_is_converted(write, tmp_path):
    write("interactions.csv", "user,item,timestamp\nu,1,1512086400000\nu,2,1512086401000\n")
    write("items.csv", "item,title\n1,One\n2,Two\n")
    assert load_dataset("table", tmp_path).times_E.tolist() == [1512086400, 1512086401]


def test_latin_1_can_be_asked_for(write, tmp_path):
    write("interactions.csv", "user,item,timestamp\nJosé,1,10\n".encode("latin-1"))
    write("items.csv", "item,title\n1,Café\n".encode("latin-1"))
    dataset = load_dataset("table", tmp_path, encoding="latin-1")
    assert (dataset.users, dataset.catalogue.titles) == (["José"], ["Café"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "where are the interactions"),
        ({"interactions": "nowhere.csv"}, "nowhere.csv: no such file"),
        ({"colums": {}}, "table: unknown option 'colums'; nearest: columns"),
        ({"columns": {"usr": "x"}}, "there is no 'usr'; nearest: user"),
        ({"time_unit": "minutes"}, "option time_unit='minutes'"),
        ({"separator": "::"}, "option separator='::'"),
    ],
)
def test_options_that_lead_nowhere_are_refused(options, message):
    with pytest.raises(ThinkrankError) as caught:
        load_dataset("table", **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
