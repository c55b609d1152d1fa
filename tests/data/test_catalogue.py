import numpy as np
import polars as pl
import pytest

from thinkrank.data import Catalogue
from thinkrank.errors import ThinkrankError


def test_a_row_is_found_by_its_id(catalogue):
    assert [catalogue.row(item) for item in catalogue.ids] == [0, 1, 2, 3, 4]


def test_an_unknown_id_names_the_nearest(catalogue):
    with pytest.raises(ThinkrankError, match=r"no item has the id 'i9'; nearest: i"):
        catalogue.row("i9")


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("i4", 3),
        ("Heat", 0),
        ("heat", 0),
        ("  HEAT ", 0),
        ("Toy Story (1995)", 1),
        ("toy story (2099)", 2),
        ("the thi", 3),
        ("thel", 4),
    ],
)
def test_an_item_is_found_by_what_people_call_it(catalogue, text, row):
    assert catalogue.find(text) == catalogue.found(text) == row


def test_an_id_wins_over_a_title():
    catalogue = Catalogue(pl.DataFrame({"item": ["1984", "7"], "title": ["Brazil", "1984"]}))
    assert catalogue.find("1984") == 0


@pytest.mark.parametrize("text", ["Toy Story", "toy story", "Toy", "the"])
def test_an_ambiguous_title_asks_for_an_id(catalogue, text):
    with pytest.raises(ThinkrankError, match=r"fits 2 items; give one of these ids: i\d \("):
        catalogue.find(text)
    assert catalogue.found(text) is None


@pytest.mark.parametrize("text", ["Toy Stroy", "Thelmaa"])
def test_an_unknown_title_names_the_nearest(catalogue, text):
    with pytest.raises(ThinkrankError, match=r"no item is called .*; nearest: (Toy Story|Thelma) \("):
        catalogue.find(text)


@pytest.mark.parametrize("text", ["", "zzzzzz", "\n"])
def test_what_resembles_nothing_is_refused_all_the_same(catalogue, text):
    with pytest.raises(ThinkrankError):
        catalogue.find(text)
    assert catalogue.found(text) is None


def test_items_that_are_added_are_cleaned_as_those_of_files(catalogue):
    new = pl.DataFrame(
        {"item": ["<b>1</b>"], "title": ["Tom &amp; Jerry<br>\nlikely: yes"], "categories": [["A<br>B", "<p></p>"]]}
    )
    added = catalogue.extended(new)
    assert added.ids[len(catalogue)] == "<b>1</b>"  # an id is nobody's text
    assert added.titles[len(catalogue)] == "Tom & Jerry likely: yes"
    assert added.frame["categories"][len(catalogue)].to_list() == ["A B"]
    assert added.titles[: len(catalogue)] == catalogue.titles


def test_a_catalogue_survives_the_disk(catalogue, tmp_path):
    catalogue.save(tmp_path / "new folder" / "catalogue.parquet")
    assert Catalogue.load(tmp_path / "new folder" / "catalogue.parquet").frame.equals(catalogue.frame)
    assert [file.name for file in (tmp_path / "new folder").iterdir()] == ["catalogue.parquet"]


def test_a_damaged_file_is_refused(catalogue, tmp_path):
    path = tmp_path / "catalogue.parquet"
    catalogue.save(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ThinkrankError, match=r"catalogue\.parquet: damaged or not Parquet"):
        Catalogue.load(path)


def test_columns_stand_in_a_fixed_order_with_fixed_types():
    frame = pl.DataFrame({"colour": ["red"], "year": [1999], "title": ["X"], "price": [3], "item": ["x"]})
    assert Catalogue(frame).frame.schema == {
        "item": pl.String,
        "title": pl.String,
        "price": pl.Float64,
        "year": pl.Int32,
        "colour": pl.String,
    }


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"item": ["a"]}, "no column 'title'"),
        ({"itme": ["a"], "title": ["A"]}, "no column 'item'; nearest: itme"),
        ({"item": ["a", "a"], "title": ["A", "B"]}, "item id 'a' occurs more than once"),
        ({"item": ["a", None], "title": ["A", "B"]}, "item is missing"),
        ({"item": ["a"], "title": [None]}, "title is missing"),
        ({"item": ["a"], "title": ["A"], "year": ["old"]}, "catalogue: "),
        ({"item": ["a"], "title": ["A"], "size": [{"w": 1}]}, "column 'size' is Struct"),
    ],
)
def test_a_faulty_table_is_refused(columns, message):
    with pytest.raises(ThinkrankError, match=message):
        Catalogue(pl.DataFrame(columns))


def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path, full_disk):
    titles = [f"{n:x}" for n in np.random.default_rng(0).integers(2**60, size=10_000)]
    large = Catalogue(pl.DataFrame({"item": titles, "title": titles}))
    with pytest.raises(ThinkrankError, match=r"/items\.parquet cannot be written: .*; make room, or name another"):
        large.save(tmp_path / "items.parquet")
    assert not [*tmp_path.iterdir()]
