import io
import shlex
import tomllib

import polars as pl
import pytest

from thinkrank.data.reading import ROW, DataFile, Table, read_delimited
from thinkrank.data.reading.intake import STAND, Intake, attempt, current, filter_by, note, opened, setting
from thinkrank.errors import ThinkrankError
from thinkrank.recipes.layers import parse_assignment


@pytest.fixture(params=["python", "command line", "toml"])
def stand(request):
    token = STAND.set(request.param)
    yield request.param
    STAND.reset(token)


VALUES = ["cp1252", ";", True, ["a b", "c"], {"user": "customer id", "item": "sku"}]


@pytest.mark.parametrize("value", VALUES)
def test_advice_can_be_pasted_where_one_stands(stand, value):
    told = setting("name", value)
    if stand == "python":
        assert eval(f"dict({told})") == {"name": value}
    elif stand == "toml":
        assert tomllib.loads(told.removesuffix(" under [data]")) == {"options": {"name": value}}
    else:
        flag, given = shlex.split(told)
        assert flag == "-o"
        assert parse_assignment(given) == ("name", value)


def test_settings_of_the_data_have_their_own_flags(stand):
    told = setting("on_bad", "drop", of_source=False), filter_by("event", "buy")
    expected = {
        "python": ("on_bad='drop'", "filters={'event': 'buy'}"),
        "command line": ("--on-bad drop", "-f event=buy"),
        "toml": ('on_bad = "drop" under [data]', 'filters.event = "buy" under [data]'),
    }
    assert told == expected[stand]


def table() -> Table:
    return Table("x.csv", pl.DataFrame({"a": [1, None, 3, None]}).with_row_index(ROW, offset=1))


def test_without_an_intake_the_first_fault_is_raised():
    with pytest.raises(ThinkrankError, match=r"^x\.csv, row 2: a is missing"):
        table().without(pl.col("a").is_null(), "a is missing")


def test_an_intake_collects_faults_and_their_rows_are_left_out():
    with opened(Intake("drop")) as intake:
        left = (
            table().without(pl.col("a").is_null(), "a is missing").without(pl.col("a") > 2, "{value} is odd", show="a")
        )
        note("twice")
        note("twice")
    assert current() is None
    assert left.frame["a"].to_list() == [1]
    assert [(fault.problem, fault.count, fault.first.row) for fault in intake.faults.values()] == [
        ("a is missing", 2, 2), ("3 is odd", 1, 3)
    ]  # fmt: skip
    assert [row["row"] for row in intake.dropped] == [2, 4, 3]
    assert intake.notices == ["twice"]
    assert "2 more rows are at fault: X lists them all, on_bad='drop' leaves them out." in str(intake.error("X"))


def test_lines_count_the_header_and_breaks_inside_of_rows():
    content = b'a,b\n1,"x\ny\nz"\n2,w\n3\n\n4,"v\nv"\n5\n'
    with opened(Intake()) as intake:
        file = DataFile("x.csv", lambda: io.BytesIO(content))
        rows = [row for block in read_delimited(file) for row in block.rows()]
    assert [row[2] for row in rows] == [1, 2, 5]
    (fault,) = intake.faults.values()
    assert [place.line for place in fault.places] == [6, 10]
    assert content.split(b"\n")[5] == b"3"
    assert content.split(b"\n")[9] == b"5"


def test_a_file_that_cannot_be_read_hides_no_other_if_the_intake_goes_on():
    with opened(Intake(goes_on=True)) as intake, attempt():
        raise ThinkrankError("first")
    assert intake.failures == ["first"]
    with pytest.raises(ThinkrankError, match="second"), opened(Intake()), attempt():
        raise ThinkrankError("second")


def test_rows_of_several_files_keep_their_places():
    joined = Table.joined([table(), Table("y.csv", table().frame)])
    assert [str(joined.place(row)) for row in (1, 4, 5, 8)] == [
        "x.csv, row 1", "x.csv, row 4", "y.csv, row 1", "y.csv, row 4"
    ]  # fmt: skip
