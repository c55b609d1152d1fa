import polars as pl
import pytest

from thinkrank.data.reading import ROW, Table
from thinkrank.data.timestamps import holds_dates, in_seconds, parse_times
from thinkrank.errors import ThinkrankError


def seconds(values, unit="auto"):
    table = Table("ratings.csv", pl.DataFrame({"timestamp": values}).with_row_index(ROW, offset=1))
    dates = unit == "iso" or holds_dates(table.frame["timestamp"])
    table = parse_times(table, "timestamp", dates=dates)
    return (table if dates else in_seconds(table, "timestamp", unit)).frame["timestamp"].to_list()


@pytest.mark.parametrize("value", [1512086400, 1512086400000, 1512086400000000])
@pytest.mark.parametrize("form", [int, float, str, lambda value: f" {value}.0 "])
def test_the_unit_of_a_whole_column_is_told_by_its_size(value, form):
    assert seconds([form(value), form(value)]) == [1512086400, 1512086400]


def test_small_numbers_are_seconds():
    assert seconds(["0", "1", "2"]) == [0, 1, 2]


@pytest.mark.parametrize(
    "date",
    [
        "2017-12-01",
        "2017-12-01T00:00:00Z",
        "2017-12-01 00:00",
        "2017-12-01 02:00:00.5+02:00",
        "2017-11-30T19:00:00-0500",
    ],
)
def test_dates_are_utc_unless_they_say_otherwise(date):
    assert seconds([date]) == [1512086400]


def test_typed_dates_are_dates():
    assert seconds(pl.Series(["2017-12-01"]).str.to_date()) == [1512086400]
    assert seconds(pl.Series(["2017-12-01"]).str.to_datetime("%Y-%m-%d", time_zone="UTC")) == [1512086400]


@pytest.mark.parametrize(
    ("values", "unit", "message"),
    [
        (
            ["1512086400"] * 16 + ["1512086400000"],
            "auto",
            "ratings.csv, row 17: timestamp 1512086400000 looks like milliseconds; the other rows are seconds. "
            "Use time_unit='ms' or mend the row.",
        ),
        ([1512086400000, 1512086400000, 0], "auto", "row 3: timestamp 0 looks like seconds; the other rows are mil"),
        ([1512086400000], "s", "row 1: timestamp 1512086400000 looks like milliseconds; time_unit is 's'. Use time_"),
        ([1512086400000000000], "auto", "row 1: timestamp 1512086400000000000 looks like nanoseconds"),
        (["12", "noon"], "auto", "row 2: timestamp 'noon' is not a number"),
        (["2017-12-01", "2017-13-01"], "auto", "row 2: timestamp '2017-13-01' is not an ISO date"),
        (["1512086400"], "iso", "row 1: timestamp '1512086400' is not an ISO date"),
        (["12", ""], "auto", "row 2: timestamp is missing"),
        (["12", None], "auto", "row 2: timestamp is missing"),
        ([1.0, float("nan")], "auto", "row 2: timestamp 'NaN' is not a number"),
        (["12", "-1"], "auto", "row 2: timestamp '-1' is before 1970"),
    ],
)
def test_a_time_that_cannot_be_right_is_named(values, unit, message):
    with pytest.raises(ThinkrankError) as caught:
        seconds(values, unit)
    assert message in str(caught.value)


def test_told_milliseconds_small_numbers_are_early_times():
    assert seconds([5000, 1512086400000], "ms") == [5, 1512086400]
