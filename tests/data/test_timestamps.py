from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from thinkrank.data.reading import ROW, Table
from thinkrank.data.timestamps import FINE, read_times
from thinkrank.errors import ThinkrankError


def seconds(values, unit="auto"):
    table = Table("ratings.csv", pl.DataFrame({"timestamp": values}).with_row_index(ROW, offset=1))
    return read_times(table, "timestamp", unit).frame["timestamp"].to_list()


@pytest.mark.parametrize("value", [1512086400, 1512086400000, 1512086400000000, 1512086400000000000])
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
        "2017-12-01 01:00:00+01",
        "2017-12-01 00:00:00 UTC",
        "2017-12-1 0:00",
        "2017/12/01 00:00:00",
        "01.12.2017",
        "20171201 00:00",
        "20171201T000000Z",
        "20171201 00:00:00.5",
        "1.12.2017 00:00:00,5",
    ],
)
def test_dates_are_utc_unless_they_say_otherwise(date):
    assert seconds([date]) == [1512086400]


def test_whole_numbers_may_be_days_or_dates():
    assert seconds(["20171201", "20171202"]) == [1512086400, 1512172800]
    assert seconds([17501, 17502]) == [17501 * 86400, 17502 * 86400]
    assert seconds(["43070", "43070.5"]) == [1512086400, 1512129600]
    assert seconds([5, 6], "days") == [5 * 86400, 6 * 86400]


def test_the_order_of_day_and_month_is_told_by_the_column():
    assert seconds(["01/12/2017", "13/12/2017"]) == [1512086400, 1513123200]
    assert seconds(["01-12-2017", "13-12-2017"]) == [1512086400, 1513123200]
    assert seconds(["12/01/2017", "12/13/2017"]) == [1512086400, 1513123200]


@pytest.mark.parametrize(
    "text", ["01.12.17", "13/12/17 10:00", "Dec 1, 2017", "1 Dec 2017 10:00:00", "1-Dec-17", "12/31/17, 11:59 PM"]
)
def test_the_format_that_an_error_names_reads_the_column(text):
    with pytest.raises(ThinkrankError) as caught:
        seconds([text])
    form = str(caught.value).split("time_format=")[1].split("'")[1]
    table = Table("x.csv", pl.DataFrame({"time": [text]}).with_row_index(ROW, offset=1))
    assert datetime.fromtimestamp(read_times(table, "time", form=form).frame["time"][0], UTC).year == 2017


def test_any_format_of_dates_can_be_named():
    table = Table("x.csv", pl.DataFrame({"time": ["1 Dec 17", "2 Dec 17"]}).with_row_index(ROW, offset=1))
    assert read_times(table, "time", form="%d %b %y").frame["time"].to_list() == [1512086400, 1512172800]


@pytest.mark.parametrize(
    "times",
    [[1587091200003, 1587091200001], [1587091200.5, 1587091200.25], ["2020-04-17 02:40:00.2", "2020-04-17 02:40"]],
)
def test_what_is_below_a_second_is_kept_for_the_order(times):
    table = Table("x.csv", pl.DataFrame({"time": times}).with_row_index(ROW, offset=1))
    read = read_times(table, "time").frame
    assert read["time"].to_list() == [1587091200, 1587091200]
    assert read.sort("time", FINE)[ROW].to_list() == [2, 1]


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
            "Mend or remove the row.",
        ),
        ([1512086400000, 1512086400000, 0], "auto", "row 3: timestamp 0 looks like seconds; the other rows are mil"),
        ([1512086400000], "s", "row 1: timestamp 1512086400000 looks like milliseconds; time_unit='s'. Use time_u"),
        (
            ["20200131", "20209931", *["20200201"] * 18],
            "auto",
            "row 2: timestamp 20209931 is no such date; the other rows",
        ),
        (["9999-12-31"], "auto", "row 1: timestamp '9999-12-31' is after 2100, as dates are that stand for none"),
        (
            ["05/06/2020"],
            "auto",
            "may be day/month or month/day (no day is above 12). Say which: time_format='%d/%m/%Y'",
        ),
        (["25/06/2020", "06/25/2020"], "auto", "some have the day first and some the month"),
        (pl.Series([timedelta(days=1)]), "auto", "timestamp is Duration(time_unit='us'). Give numbers, dates or text."),
        (pl.Series([[1], [2]]), "auto", "timestamp is List(Int64)"),
        (pl.Series([True, False]), "auto", "timestamp is Boolean"),
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
