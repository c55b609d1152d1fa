import gzip
import json

import pytest

from thinkrank.errors import ThinkrankError
from thinkrank.teachers import JsonlTeacher, Teacher, Verdict


def line(position, item, reasoning, likely, **more):
    return json.dumps({"position": position, "item": item, "reasoning": reasoning, "likely": likely, **more}) + "\n"


@pytest.fixture
def write(tmp_path):
    def write_file(*lines, name="answers.jsonl"):
        path = tmp_path / name
        path.write_bytes("".join(lines).encode())
        return path

    return write_file


def test_answers_are_found_by_position_and_item(write, catalogue, pair):
    path = write(
        line(3, "f0", "Crime again.", True, model="r1"),
        "\n",
        line(3, "f1", "Too loud.\n", False),
        line(4, "f0", "é", True),
    )
    teacher = JsonlTeacher(path, catalogue)
    assert isinstance(teacher, Teacher)
    asked = [pair([], "Heat", position=3), pair([], "Fargo", position=3), pair([], "Fargo", position=4)]
    asked += [pair([], "Heat", position=4), pair([], "Alien", position=3)]
    expected = [Verdict("Too loud.", False), Verdict("Crime again.", True), Verdict("é", True), None, None]
    assert teacher.answer(asked, [None] * 5) == expected


def test_further_lines_answer_reflections(write, catalogue, pair):
    teacher = JsonlTeacher(write(line(0, "f0", "one", False), line(0, "f0", "two", True)), catalogue)
    asked = [pair([], "Fargo")]
    (first,) = teacher.answer(asked, [None])
    (second,) = teacher.answer(asked, [first])
    assert (first, second) == (Verdict("one", False), Verdict("two", True))
    assert teacher.answer(asked, [second]) == [None]


def test_the_name_tells_one_content_from_another(write, catalogue):
    names = {JsonlTeacher(write(line(0, "f0", text, True)), catalogue).name for text in ("a", "b", "a")}
    assert len(names) == 2
    assert all(name.startswith("answers.jsonl ") for name in names)


def test_a_gzipped_file_is_read(write, catalogue, pair, tmp_path):
    path = tmp_path / "answers.jsonl.gz"
    path.write_bytes(gzip.compress(line(0, "f0", "Crime.", True).encode()))
    assert JsonlTeacher(path, catalogue).answer([pair([], "Fargo")], [None]) == [Verdict("Crime.", True)]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (line(-1, "f0", "x", True), r"answers.jsonl, row 3: position is '-1', not a whole number from 0"),
        (line("x", "f0", "x", True), r"row 3: position is 'x'"),
        (line(1.5, "f0", "x", True), r"row 3: position is '1.5'"),
        (line(0, "f99", "x", True), r"row 3: item is 'f99', not the id of an item in the catalogue"),
        (line(0, 0, "x", True), r"row 3: item is '0', not the id"),
        (line(0, "f0", " ", True), r"row 3: reasoning is ' ', not a text"),
        (line(0, "f0", None, True), r"row 3: reasoning is None"),
        (line(0, "f0", "x", "yes"), r"row 3: likely is 'yes', not true or false. Mend the line"),
        (line(0, "f0", "x", 1), r"row 3: likely is '1'"),
        ('{"position": 0, "item": "f0", "reasoning": "x"}\n', r"row 3: likely is None"),
        ("{not json}\n", r"row 3: not JSON"),
        ("[1]\n", r"row 3: not a JSON object"),
    ],
)
def test_a_fault_is_named_with_its_line(write, catalogue, wrong, message):
    with pytest.raises(ThinkrankError, match=message):
        JsonlTeacher(write(line(0, "f0", "x", True), line(1, "f0", "x", False), wrong), catalogue)


def test_a_file_that_is_missing_empty_or_without_a_field_is_refused(write, catalogue, tmp_path):
    with pytest.raises(ThinkrankError, match=r"absent\.jsonl: cannot be read"):
        JsonlTeacher(tmp_path / "absent.jsonl", catalogue)
    with pytest.raises(ThinkrankError, match="is empty"):
        JsonlTeacher(write(), catalogue)
    with pytest.raises(ThinkrankError, match="likely"):
        JsonlTeacher(write('{"position": 0, "item": "f0", "reasoning": "x"}\n'), catalogue)
