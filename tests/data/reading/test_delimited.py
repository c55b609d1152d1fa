import io
import zipfile

import pytest

from thinkrank.data.reading import DataFile, Files, read_delimited
from thinkrank.errors import ThinkrankError


def rows(content: str | bytes, **options):
    data = content.encode() if isinstance(content, str) else content
    blocks = read_delimited(DataFile("x.csv", lambda: io.BytesIO(data)), **options)
    return [row for block in blocks for row in block.rows()]


def test_values_are_text_and_rows_are_numbered_from_the_header_on():
    assert rows("a,b\n1,x\n2,\n") == [("1", "x", 1), ("2", None, 2)]


@pytest.mark.parametrize(
    "content", ["a,b\r\n1,x\r\n2,y\r\n", "\ufeffa,b\n1,x\n2,y", 'a,b\n"1","x"\n2,y\n', b"a,b\n1,x\n2,y\n"]
)
def test_line_ends_marks_and_quotes_make_no_difference(content):
    assert rows(content) == [("1", "x", 1), ("2", "y", 2)]


def test_blank_lines_are_skipped_but_counted():
    assert rows("a,b\n\n1,x\n\n\n2,y\n\n") == [("1", "x", 2), ("2", "y", 5)]


def test_quoted_fields_hold_separators_quotes_and_line_breaks():
    assert rows('a,b\n1,"x, ""y""\n\nz"\n2,w\n') == [("1", 'x, "y"\n\nz', 1), ("2", "w", 2)]


def test_quotes_are_letters_where_they_are_told_to_be():
    assert rows('1\t3" nail\n', separator="\t", header=["a", "b"], quoted=False) == [("1", '3" nail', 1)]


def test_long_separators_and_other_encodings():
    content = "1::Misérables, Les::x|y\n".encode("latin-1")
    options = {"separator": "::", "header": ["a", "b", "c"], "quoted": False, "encoding": "latin-1"}
    assert rows(content, **options) == [("1", "Misérables, Les", "x|y", 1)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 16])
def test_the_size_of_the_blocks_makes_no_difference(monkeypatch, size):
    content = 'a,b\n1,"x\ny"\n\n2,"é, ""q"""\r\n3,z'
    expected = rows(content)
    assert len(expected) == 3
    original = DataFile.pieces
    monkeypatch.setattr(DataFile, "pieces", lambda self: original(self, size))
    assert rows(content) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "x.csv: is empty"),
        ("\n1,2\n", "the first line is blank"),
        ("a,a\n1,2\n", "the header names 'a' twice"),
        ("a,b\r1,2\r", "its lines end in carriage returns"),
        ("a,b\n1,2\n3\n4,5\n", "row 2: 1 fields where there should be 2"),
        ("a,b\n1,2\n\n3,4,5\n", "row 3: 3 fields where there should be 2"),
        ("a,b\n1\n2,3,4\n", "row 1: 1 fields where there should be 2"),
        ('a,b\n1,"x\ny"\n3\n', "row 2: 1 fields"),
        ('a,b\n1,"2\n3,4\n', "row 1: a double quote is never closed"),
        ('a,b\n1,"2"x\n3,4\n', "row 1: a double quote is never closed, or stands inside a field"),
        (b"a,b\n\xc3\xa9,2\n3,caf\xe9\n", "row 2: byte 0xe9 is not UTF-8, as other rows are. Save the file as UTF-8."),
        (b'a,b\n1,"x\n\xc3\xa9"\n3,"\n\xe9"\n', "row 2: byte 0xe9 is not UTF-8"),
        (b"a,b\n\xe9,2\n3,\x81\n", "row 2: byte 0x81 is neither UTF-8 nor Windows-1252"),
        ("a,b\n1,2\n".encode("utf-16-le"), "as UTF-16 without its mark does. Use encoding='utf-16-le'."),
    ],
)
def test_faults_are_named_by_row(content, message):
    with pytest.raises(ThinkrankError) as caught:
        rows(content)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "cp1252"])
def test_an_encoding_is_recognised(encoding):
    assert rows("a,b\n1,é\n".encode(encoding)) == [("1", "é", 1)]
    assert rows("a,b\n1,é\n".encode(encoding), encoding=encoding) == [("1", "é", 1)]


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_a_separator_is_recognised(mark):
    content = 'a,b,c\n1,"x;|\t",2.5\n3,y,4\n'.replace(",", mark)
    assert rows(content)[1:] == [("3", "y", "4", 2)]
    assert rows(f"sep={mark}\n{content}")[1:] == [("3", "y", "4", 2)]


def test_a_comma_inside_of_fields_is_no_separator():
    assert rows("a;b\n1;2,5\n3;4,5\n") == [("1", "2,5", 1), ("3", "4,5", 2)]


def test_quotes_inside_of_a_field_are_letters():
    assert rows('a,b\n1,4" nail\n2,5" nail\n3,"6"\n') == [("1", '4" nail', 1), ("2", '5" nail', 2), ("3", "6", 3)]


def test_quotes_may_be_written_with_a_backslash():
    content = 'a,b\n1,"27\\""\n2,"C:\\\\"\n3,"3\\" x ""4"""\n'
    assert rows(content) == [("1", '27"', 1), ("2", "C:\\", 2), ("3", '3" x "4"', 3)]
    # Where they are written twice, a backslash is a letter.
    assert rows('a,b\n"C:\\",2\n"D:\\",3\n') == [("C:\\", "2", 1), ("D:\\", "3", 2)]


@pytest.mark.parametrize("encoding", ["cp1251", "koi8-r"])
def test_another_alphabet_is_not_taken_for_western_letters(encoding):
    content = "a,b\n1,Привет\n2,мир\n".encode(encoding)
    with pytest.raises(ThinkrankError, match="as Windows-1252 it makes no words"):
        rows(content)
    assert rows(content, encoding=encoding) == [("1", "Привет", 1), ("2", "мир", 2)]


def test_an_encoding_that_does_not_fit_or_exist_is_refused():
    with pytest.raises(ThinkrankError, match="is not ascii"):
        rows(b"a,b\n1,\xe9\n", encoding="ascii")
    for name in ("utf-9", "rot13", "base64", "undefined", "idna"):
        with pytest.raises(ThinkrankError, match=f"unknown encoding '{name}'"):
            rows(b"a,b\n1,2\n", encoding=name)


def test_rows_are_counted_across_blocks(monkeypatch):
    original = DataFile.pieces
    monkeypatch.setattr(DataFile, "pieces", lambda self: original(self, 64))
    content = "a,b\n" + "1,2\n" * 1000 + "3\n"
    with pytest.raises(ThinkrankError, match="row 1001: 1 fields"):
        rows(content)


def test_a_zip_is_read_like_the_folder_in_it(tmp_path, write):
    write("set/ratings.csv", "a,b\n1,2\n")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.write(tmp_path / "set" / "ratings.csv", "deep/ratings.csv")
        archive.writestr("__MACOSX/ratings.csv", "junk")
        archive.writestr("../../escape.csv", "junk")
    for where in (tmp_path / "set", tmp_path / "set.zip", tmp_path):
        (block,) = read_delimited(Files.at(where).require("RATINGS.csv"))
        assert block.rows() == [("1", "2", 1)]
    assert not (tmp_path.parent / "escape.csv").exists()
