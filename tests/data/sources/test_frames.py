import polars as pl
import pytest

from thinkrank.data import from_frames, load_dataset
from thinkrank.errors import ThinkrankError

EVENTS = pl.DataFrame(
    {"customer_id": ["u ", "u", "v"], "sku": [1, 2, 2], "time": [10, 20, 30], "event": ["a", "b", "a"]}
)
ITEMS = pl.DataFrame({"id": [1, 2], "name": ["One", "Two"], "price": ["1,50 €", "?"], "colour": ["red", None]})


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frames")
    EVENTS.write_parquet(folder / "interactions.parquet")
    ITEMS.write_parquet(folder / "items.parquet")
    return load_dataset("table", folder)


def test_frames_of_polars_are_read_like_files(files):
    made = from_frames(EVENTS, ITEMS.lazy())
    assert made.fingerprint == files.fingerprint
    assert made.users == ["u", "v"]
    assert made.catalogue.frame["price"].to_list() == [1.5, None]
    assert "items: 1 values of price are not prices and count as unknown, such as '?' (first: row 2)" in made.notices


def test_frames_of_pandas_are_read_like_files(files):
    pandas = pytest.importorskip("pandas")
    events, items = (pandas.DataFrame(frame.to_dict(as_series=False)) for frame in (EVENTS, ITEMS))
    assert load_dataset("table", interactions=events, items=items, name="shop").fingerprint == files.fingerprint
    events["time"] = pandas.to_datetime(events["time"], unit="s")
    assert from_frames(events, items).fingerprint == files.fingerprint


def test_without_items_ids_are_titles():
    assert from_frames(EVENTS, name="bare").catalogue.titles == ["1", "2"]


def test_faults_name_the_frame_and_its_row():
    broken = EVENTS.with_columns(time=pl.Series([10, None, 30]))
    with pytest.raises(ThinkrankError, match=r"^interactions, row 2: timestamp is missing"):
        from_frames(broken, ITEMS)
    assert len(from_frames(broken, ITEMS, on_bad="drop").items_E) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["u"],), "interactions: list is no frame. Give one of polars or pandas"),
        ((EVENTS, {"item": [1]}), "items: dict is no frame"),
        ((EVENTS.drop("sku"),), "interactions: no column 'item'"),
    ],
)
def test_what_is_no_frame_of_interactions_is_refused(arguments, message):
    with pytest.raises(ThinkrankError) as caught:
        from_frames(*arguments)
    assert message in str(caught.value)


def test_a_frame_and_a_path_do_not_go_together(tmp_path):
    with pytest.raises(ThinkrankError, match="leave it out"):
        load_dataset("table", tmp_path, interactions=EVENTS)


def test_an_unknown_option_is_refused():
    with pytest.raises(ThinkrankError, match="unknown option 'colums'; nearest: columns"):
        from_frames(EVENTS, ITEMS, colums={})
