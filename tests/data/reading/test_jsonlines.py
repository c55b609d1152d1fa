import io

import polars as pl
import pytest

from thinkrank.data.reading import DataFile, read_json_lines
from thinkrank.data.reading.jsonlines import json_texts
from thinkrank.errors import ThinkrankError


def rows(content: str | bytes, *fields: str, **options):
    data = content.encode() if isinstance(content, str) else content
    file = DataFile("x.jsonl", lambda: io.BytesIO(data))
    return [row for block in read_json_lines(file, fields or None, **options) for row in block.rows()]


def test_values_of_any_type_come_as_text():
    content = '{"a": 1, "b": "x"}\n{"a": "s", "b": [1, "y"]}\n{"b": true}\n{"a": 1700000000000, "b": null}\n'
    got = [(a, None if b is None else b.replace(" ", ""), row) for a, b, row in rows(content, "a", "b")]
    assert got == [("1", "x", 1), ("s", '[1,"y"]', 2), (None, "true", 3), ("1700000000000", None, 4)]


def test_without_fields_the_first_lines_decide():
    assert rows('{"a": 1}\n{"a": 2, "b": 3}\n') == [("1", None, 1), ("2", "3", 2)]


def test_nan_is_missing_and_numbers_stay_as_they_were_written():
    lines = '{"a": 1.50, "b": 12345678901234567890}\n{"a": NaN, "b": true}\n{"a": "é", "b": ["x", 1]}\n'
    got = [(a, b.replace(" ", ""), row) for a, b, row in rows(lines)]
    assert got == [("1.50", "12345678901234567890", 1), (None, "true", 2), ("é", '["x",1]', 3)]


def test_blank_lines_are_skipped_but_counted():
    assert rows('{"a": 1}\n\n  \n{"a": 2}', "a") == [("1", 1), ("2", 4)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "x.jsonl: is empty"),
        ('{"a": 1}\n{"a": 2\n', "row 2: not JSON"),
        ('{"a": 1}\n\n[1]\n', "row 3: not a JSON object but list"),
        ('{"a": 1}\n{"a": "x', "row 2: not JSON"),
        ("user,item\n1,2\n", "row 1: not JSON"),
        (b'{"a": "\xc3\xa9"}\n{"a": "\xe9"}\n', "row 2: byte 0xe9 is not UTF-8"),
        ('[{"a": 1}]\n', "x.jsonl: is one JSON list"),
    ],
)
def test_faults_are_named_by_row(content, message):
    with pytest.raises(ThinkrankError) as caught:
        rows(content, "a")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_required_field_must_be_in_the_first_line():
    with pytest.raises(ThinkrankError, match="no column 'user_id'; nearest: userid"):
        rows('{"userid": 1}\n', "user_id", required=["user_id"])


def test_lists_of_texts_are_found_by_their_quotes():
    values = pl.Series(
        "c", ['["a \\"b\\"","c\\\\d"]', "[]", "plain", None, '[["x","y"],["z"]]', '["u",null,3]', "[New]"]
    )
    assert json_texts(values).to_list() == [['a "b"', "c\\d"], [], ["plain"], None, ["x", "y", "z"], ["u"], ["[New]"]]
    assert json_texts(values).name == "c"
