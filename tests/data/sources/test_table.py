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
    assert (list(dataset.users), dataset.catalogue.titles) == (["José"], ["Café"])


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


PLAIN = "user,item,timestamp\nu,1,1600000000\nv,2,1600000001\n"
TWO = "item,title\n1,One\n2,Two\n"


def test_a_data_set_is_called_after_its_folder_or_as_it_is_told(write, tmp_path):
    write("wine shop/interactions.csv", PLAIN)
    write("wine shop/items.csv", TWO)
    assert load_dataset("table", tmp_path / "wine shop").name == "wine shop"
    assert load_dataset("table", tmp_path / "wine shop", name="wines").name == "wines"


def test_a_file_is_found_by_its_path_and_several_are_one_table(write, tmp_path):
    write("items.csv", TWO)
    write("train/clicks.csv", PLAIN)
    write("test/clicks.csv", PLAIN.replace("u,1", "w,1"))
    assert load_dataset("table", tmp_path, interactions="train/clicks.csv").users == ["u", "v"]
    assert load_dataset("table", tmp_path, interactions=tmp_path / "test" / "clicks.csv").users == ["v", "w"]
    for several in (["train/clicks.csv", "test/clicks.csv"], "*/clicks.csv"):
        both = load_dataset("table", tmp_path, interactions=several)
        assert both.users == ["u", "v", "w"]
        assert both.notices == (
            "clicks.csv and 1 more: dropped 1 interactions that repeat a user, item and time "
            "(first: clicks.csv, row 2, line 3)",
        )
    with pytest.raises(
        ThinkrankError, match=r"holds 2 files called clicks\.csv: test/clicks\.csv, train/clicks\.csv\. N"
    ):
        load_dataset("table", tmp_path, interactions="clicks.csv")
    with pytest.raises(ThinkrankError, match=r"holds no valid/clicks\.csv; nearest: "):
        load_dataset("table", tmp_path, interactions="valid/clicks.csv")


def test_files_of_one_role_are_not_chosen_among(write, tmp_path):
    write("interactions.csv", PLAIN)
    write("interactions.tsv", PLAIN.replace(",", "\t"))
    write("items.csv", TWO)
    with pytest.raises(
        ThinkrankError, match=r"several files of interactions: interactions\.csv, interactions\.tsv\. Name one"
    ):
        load_dataset("table", tmp_path)
    assert load_dataset("table", tmp_path, interactions="interactions.tsv").users == ["u", "v"]


def test_usual_names_of_columns_are_recognised(write, tmp_path):
    write("interactions.csv", PLAIN.replace("user,item,timestamp", "Customer_ID,SKU,purchased at"))
    write("items.csv", "id,product name\n1,One\n2,Two\n")
    dataset = load_dataset("table", tmp_path)
    assert (list(dataset.users), dataset.catalogue.titles) == (["u", "v"], ["One", "Two"])
    told = (
        "interactions.csv: read Customer_ID as user, SKU as item, purchased at as timestamp; name others with columns="
    )
    assert dataset.notices[0].startswith(told)


@pytest.mark.parametrize(
    ("header", "options", "message"),
    [
        (
            "customer,client,sku,time",
            {},
            "customer and client may each be the user. Say which: columns={'user': 'customer'}",
        ),
        (
            "a,b,c,d",
            {},
            "no column 'user' and no column 'item' and no column 'timestamp'; it also has: a, b, c, d. Name",
        ),
        ("user,item,x,time", {"columns": {"rating": "time"}}, "cannot be both rating and timestamp"),
        ("user,item,x,time", {"columns": {"item": "user"}}, "the column 'user' cannot be both item and user"),
        ("user,item,x,time", {"columns": {"event": "y"}}, "no column 'y'"),
    ],
)
def test_roles_that_are_not_clear_are_refused(write, tmp_path, header, options, message):
    write("interactions.csv", f"{header}\nu,1,2,3\n")
    write("items.csv", TWO)
    with pytest.raises(ThinkrankError) as caught:
        load_dataset("table", tmp_path, **options)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("ids", "expected", "notice"),
    [
        (["u ", " u"], ["u"], "2 user ids with blanks around them, which were taken off (first: row 1, line 2)"),
        (["10.0", "11.0"], ["10", "11"], "every user id ends in .0, which was taken off (10.0 is 10)"),
        (["10.0", "x"], ["10.0", "x"], None),
    ],
)
def test_ids_are_tidied_with_a_notice(write, tmp_path, ids, expected, notice):
    write("interactions.csv", "user,item,timestamp\n" + "".join(f"{user},{n},1\n" for n, user in enumerate(ids, 1)))
    write("items.csv", TWO)
    dataset = load_dataset("table", tmp_path)
    assert dataset.users == expected
    assert dataset.notices == (() if notice is None else (f"interactions.csv: {notice}",))


@pytest.mark.parametrize(("events", "items"), [(("7", "8"), ("007", "008")), (("007", "008"), ("7", "8"))])
def test_lost_zeros_are_found(write, tmp_path, events, items):
    write("interactions.csv", f"user,item,timestamp\nu,{events[0]},1\nu,{events[1]},2\n")
    write("items.csv", f"item,title\n{items[0]},One\n{items[1]},Two\n")
    dataset = load_dataset("table", tmp_path)
    assert dataset.interactions["item"].to_list() == list(items)
    assert "2 item ids were found by their leading zeros" in dataset.notices[0]


@pytest.mark.parametrize("nothing", ["", "NULL", "nan", "None", r"\N", "#N/A"])
def test_nobody_is_made_of_everybody_without_an_id(write, tmp_path, nothing):
    write("interactions.csv", PLAIN.replace("u,", f"{nothing},"))
    write("items.csv", TWO)
    with pytest.raises(ThinkrankError, match=r"row 1 \(line 2\): user is missing"):
        load_dataset("table", tmp_path)


def test_values_that_cannot_be_read_are_counted(write, tmp_path):
    write("interactions.csv", PLAIN)
    write("items.csv", 'item,title,price,year\n1,One,"12,50",in May\n2,Two,from 3,\n')
    dataset = load_dataset("table", tmp_path)
    assert dataset.catalogue.frame.select("price", "year").rows() == [(12.5, None), (None, None)]
    assert dataset.notices == (
        "items.csv: 1 values of price are not prices and count as unknown, such as 'from 3' (first: row 2, line 3)",
        "items.csv: 1 values of year are not years and count as unknown, such as 'in May' (first: row 1, line 2)",
    )


def test_lists_that_may_be_meant_otherwise_are_told(write, tmp_path):
    write("interactions.jsonl", '{"user":"u","item":1,"timestamp":1}\n{"user":"v","item":[1],"timestamp":1}\n')
    write("items.csv", 'item,title,categories\n1,"[""A"", ""B""]","[\'x\', \'y"\n2,B,"x, y"\n')
    with pytest.raises(ThinkrankError, match=r"row 2: item '\[1\]' is a list or a record"):
        load_dataset("table", tmp_path)
    told = load_dataset("table", tmp_path, on_bad="drop").notices
    assert [notice.split(": ")[1].split(" and were")[0] for notice in told[:3]] == [
        "1 values of title look like lists or records",
        "1 values of categories begin like a list",
        "2 values of categories hold commas",
    ]


def test_moments_below_a_second_order_a_history_and_are_no_repetition(write, tmp_path):
    rows = ("u,2,1587091200003", "u,1,1587091200001", "u,2,1587091200002", "u,2,1587091200002")
    write("interactions.csv", "user,item,timestamp\n" + "\n".join(rows))
    write("items.csv", TWO)
    dataset = load_dataset("table", tmp_path)
    assert dataset.history("u").items.tolist() == [0, 1, 1]
    assert dataset.times_E.tolist() == [1587091200] * 3


@pytest.mark.parametrize(
    "frame",
    [
        EVENTS.with_columns(user=pl.Series([[1], [2], [3]])),
        EVENTS.with_columns(user=pl.Series([b"a", b"b", b"\xff"])),
        EVENTS.with_columns(user=pl.Series([True, False, True])),
        EVENTS.with_columns(item=pl.col("timestamp").cast(pl.Date)),
        EVENTS.with_columns(timestamp=pl.col("timestamp").cast(pl.Duration)),
        EVENTS.with_columns(rating=pl.Series([[1], [2], [3]])),
        EVENTS.with_columns(event=pl.Series([{"a": 1}] * 3)),
    ],
    ids=lambda frame: str(frame.schema),
)
def test_types_of_parquet_that_hold_no_plain_values_are_refused(tmp_path, frame):
    frame.write_parquet(tmp_path / "interactions.parquet")
    ITEMS.write_parquet(tmp_path / "items.parquet")
    with pytest.raises(ThinkrankError, match=r"interactions\.parquet: \w+ is \w+.*Give "):
        load_dataset("table", tmp_path)


def test_further_columns_that_prompts_could_not_show_are_left_out(tmp_path):
    EVENTS.write_parquet(tmp_path / "interactions.parquet")
    wide = ITEMS.with_columns(image=pl.lit(b"x"), size=pl.lit(1), tags=pl.Series([["a"], ["b"]]))
    wide.write_parquet(tmp_path / "items.parquet")
    dataset = load_dataset("table", tmp_path)
    assert dataset.catalogue.frame.columns == ["item", "title", "categories", "colour", "size", "tags"]
    assert dataset.notices == ("items.parquet: left out the column image, which is Binary",)


def test_dropped_rows_leave_the_rest_and_an_item_row_takes_its_interactions_along(write, tmp_path):
    write("interactions.csv", PLAIN + "w,2,noon\n")
    write("items.csv", TWO + "2,Two again\n")
    dataset = load_dataset("table", tmp_path, on_bad="drop")
    assert (list(dataset.users), dataset.catalogue.titles) == (["u", "v"], ["One", "Two"])
