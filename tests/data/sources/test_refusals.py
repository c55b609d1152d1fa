"""Every source says what is wrong with a broken file: which file, which row, in one line."""

import gzip
from dataclasses import dataclass

import polars as pl
import pytest

from thinkrank.data import SOURCES, load_dataset
from thinkrank.errors import ThinkrankError
from thinkrank.testing import SourceContract

TIMES = [1512086400 + day * 86400 for day in range(4)]
ITEMS = ["1", "2", "3", "1"]


@dataclass(frozen=True)
class Layout:
    """Two small files of a source, the first with four interactions by two users."""

    source: str
    events_file: str
    events: list[str]  # lines, the header included
    items_file: str
    items: list[str]
    header: bool = True
    encoding: str = "utf-8"

    def write(self, folder, *, events: list[str] | None = None, items: list[str] | None = None) -> None:
        for name, lines in ((self.events_file, events or self.events), (self.items_file, items or self.items)):
            data = "".join(line + "\n" for line in lines).encode(self.encoding)
            (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)

    def place(self, row: int, file: str = "") -> str:
        """Say where a row is, as messages do: lines count the header."""
        has_header = self.header if file in ("", self.events_file) else file.endswith((".csv", ".item"))
        return f"{file or self.events_file}, row {row}" + (f" (line {row + 1})" if has_header else "")

    def break_row(self, row: int, old: str, new: str) -> list[str]:
        lines = self.events.copy()
        index = row - 1 + self.header
        assert old in lines[index]
        lines[index] = lines[index].replace(old, new, 1)
        return lines


def _lines(form: str) -> list[str]:
    return [
        form % {"user": f"u{row // 2}", "item": item, "rating": 3, "time": time}
        for row, (item, time) in enumerate(zip(ITEMS, TIMES, strict=True))
    ]


LAYOUTS = [
    Layout(
        "movielens-100k",
        "u.data",
        _lines("%(user)s\t%(item)s\t%(rating)s\t%(time)s"),
        "u.item",
        [f"{item}|Movie {item} (1999)|||x|" + "|".join("0" * 19) for item in "123"],
        header=False,
        encoding="latin-1",
    ),
    Layout(
        "movielens-100k",
        "ml-100k.inter",
        [
            "user_id:token\titem_id:token\trating:float\ttimestamp:float",
            *_lines("%(user)s\t%(item)s\t%(rating)s\t%(time)s"),
        ],
        "ml-100k.item",
        [
            "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq",
            *(f"{i}\tMovie {i}\t1999\tDrama" for i in "123"),
        ],
    ),
    Layout(
        "movielens",
        "ratings.csv",
        ["userId,movieId,rating,timestamp", *_lines("%(user)s,%(item)s,%(rating)s,%(time)s")],
        "movies.csv",
        ["movieId,title,genres", *(f"{i},Movie {i} (1999),Drama" for i in "123")],
    ),
    Layout(
        "movielens",
        "ratings.dat",
        _lines("%(user)s::%(item)s::%(rating)s::%(time)s"),
        "movies.dat",
        [f"{i}::Movie {i} (1999)::Drama" for i in "123"],
        header=False,
        encoding="latin-1",
    ),
    Layout(
        "amazon-2018",
        "Books.json.gz",
        _lines('{"reviewerID": "%(user)s", "asin": "%(item)s", "overall": %(rating)s, "unixReviewTime": %(time)s}'),
        "meta_Books.json.gz",
        [f'{{"asin": "{i}", "title": "Book {i}"}}' for i in "123"],
        header=False,
    ),
    Layout(
        "amazon-2018",
        "interactions.csv",
        ["user_id,item_id,rating,timestamp", *_lines("%(user)s,%(item)s,%(rating)s,%(time)s")],
        "items.csv",
        ["item_id,title", *(f"{i},Book {i}" for i in "123")],
    ),
    Layout(
        "amazon-2023",
        "Books.csv.gz",
        ["user_id,parent_asin,rating,timestamp", *_lines("%(user)s,%(item)s,%(rating)s,%(time)s")],
        "meta_Books.jsonl.gz",
        [f'{{"parent_asin": "{i}", "title": "Book {i}"}}' for i in "123"],
    ),
    Layout(
        "amazon-2023",
        "reviews.jsonl",
        _lines(
            '{"user_id": "%(user)s", "parent_asin": "%(item)s", "rating": %(rating)s, "timestamp": %(time)s, '
            '"item_title": "T"}'
        ),
        "titles.csv",
        ["asin,title", *(f"{i},Book {i}" for i in "123")],
        header=False,
    ),
    Layout(
        "table",
        "interactions.csv",
        ["user,item,rating,timestamp", *_lines("%(user)s,%(item)s,%(rating)s,%(time)s")],
        "items.csv",
        ["item,title", *(f"{i},Thing {i}" for i in "123")],
    ),
]
MADE = {"synthetic", "synthetic-relay"}
"""The sources that read nothing; see test_synthetic.py."""
READ = [source for source in SOURCES if source not in MADE]

each_layout = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: f"{layout.source}-{layout.events_file}")


def refusal(layout: Layout, folder) -> str:
    with pytest.raises(ThinkrankError) as caught:
        load_dataset(layout.source, folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestSourcesOfFiles(SourceContract):
    @pytest.fixture(params=LAYOUTS, ids=lambda layout: f"{layout.source}-{layout.events_file}", autouse=True)
    def layout(self, request):
        self.name, self.write_files = request.param.source, request.param.write

    def write(self, folder):
        self.write_files(folder)
        return folder


def test_every_source_is_here():
    assert {layout.source for layout in LAYOUTS} == set(READ)


@each_layout
def test_a_sound_pair_is_read_without_a_word(layout, tmp_path):
    layout.write(tmp_path)
    dataset = load_dataset(layout.source, tmp_path)
    assert (len(dataset.users), len(dataset.catalogue), len(dataset.items_E)) == (2, 3, 4)
    assert dataset.notices == ()


@each_layout
def test_a_time_that_is_none_is_named(layout, tmp_path):
    layout.write(tmp_path, events=layout.break_row(3, str(TIMES[2]), '"noon"' if "{" in layout.events[-1] else "noon"))
    assert refusal(layout, tmp_path).startswith(f"{layout.place(3)}: timestamp 'noon' is not a number")


@each_layout
def test_milliseconds_among_seconds_are_named(layout, tmp_path):
    layout.write(tmp_path, events=layout.break_row(4, str(TIMES[3]), f"{TIMES[3]}000"))
    assert refusal(layout, tmp_path) == (
        f"{layout.place(4)}: timestamp {TIMES[3]}000 looks like milliseconds; the other rows are seconds. "
        "Mend or remove the row."
    )


@each_layout
def test_a_missing_user_is_named(layout, tmp_path):
    layout.write(tmp_path, events=layout.break_row(2, "u0", ""))
    assert refusal(layout, tmp_path).startswith(f"{layout.place(2)}: user is missing")


@each_layout
def test_a_rating_that_is_no_number_is_named(layout, tmp_path):
    old, new = ('ing": 3', 'ing": "good"') if '"rating' in layout.events[-1] else ("3", "good")
    if "overall" in layout.events[-1]:
        old, new = '"overall": 3', '"overall": "good"'
    layout.write(tmp_path, events=layout.break_row(2, old, new))
    assert refusal(layout, tmp_path).startswith(f"{layout.place(2)}: rating 'good' is not a number")


@each_layout
def test_a_row_of_the_wrong_shape_is_named(layout, tmp_path):
    lines = layout.events.copy()
    lines[-1] = lines[-1][: len(lines[-1]) // 3]
    layout.write(tmp_path, events=lines)
    assert refusal(layout, tmp_path).startswith(f"{layout.place(4)}: ")


@each_layout
def test_a_repeated_item_is_named(layout, tmp_path):
    layout.write(tmp_path, items=[*layout.items, layout.items[-1]])
    if "meta_Books.json.gz" in layout.items_file:  # the official files repeat products
        assert "repeat an item id" in load_dataset(layout.source, tmp_path).notices[0]
    else:
        assert "item id '3' occurs a second time" in refusal(layout, tmp_path)


@each_layout
@pytest.mark.parametrize("which", ["events_file", "items_file"])
def test_an_empty_file_is_named(layout, tmp_path, which):
    layout.write(tmp_path)
    name = getattr(layout, which)
    (tmp_path / name).write_bytes(gzip.compress(b"") if name.endswith(".gz") else b"")
    assert refusal(layout, tmp_path) in (f"{name}: is empty", f"{name}: has no rows")


@each_layout
@pytest.mark.parametrize("which", ["events_file", "items_file"])
def test_a_missing_file_is_named(layout, tmp_path, which):
    layout.write(tmp_path)
    (tmp_path / getattr(layout, which)).unlink()
    if layout.items_file == "titles.csv" and which == "items_file":
        assert load_dataset(layout.source, tmp_path).catalogue.titles == ["T", "T", "T"]
    else:
        assert "holds n" in refusal(layout, tmp_path)


@each_layout
def test_items_nobody_could_have_met_leave_nothing(layout, tmp_path):
    form = layout.events[-1]
    strangers = [
        line.replace(f'"{item}"', '"9"') if "{" in line else line
        for line, item in zip(layout.events, ITEMS, strict=False)
    ]
    if "{" not in form:
        lines = layout.events if not layout.header else layout.events[1:]
        separator = next(mark for mark in ("::", "\t", ",") if mark in form)
        fields = [line.split(separator) for line in lines]
        strangers = layout.events[: layout.header] + [separator.join([f[0], "9", *f[2:]]) for f in fields]
    if layout.items_file == "titles.csv":
        strangers = [line.replace('"T"', "null") for line in strangers]
    layout.write(tmp_path, events=strangers)
    assert "no interactions are left" in refusal(layout, tmp_path)


@each_layout
def test_a_truncated_gzip_is_named(layout, tmp_path):
    layout.write(tmp_path)
    path = tmp_path / layout.events_file
    packed = gzip.compress(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())
    path.write_bytes(packed[:-12])
    assert refusal(layout, tmp_path).startswith(f"{layout.events_file}: truncated")


@each_layout
def test_bytes_that_are_not_utf_8_are_read_as_windows_writes_them(layout, tmp_path):
    if layout.encoding == "latin-1":
        pytest.skip("these files are Latin-1, in which every byte is a letter")
    layout.write(tmp_path)
    path = tmp_path / layout.events_file
    lines = [line.encode() for line in layout.events]
    lines[-1] = lines[-1].replace(b"u1", b"Jos\xe9")
    data = b"\n".join(lines)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    dataset = load_dataset(layout.source, tmp_path)
    assert "José" in dataset.users
    assert dataset.notices[0].startswith(f"{layout.events_file}: is not UTF-8 and was read as Windows-1252, as in ")


@each_layout
def test_a_row_that_is_not_utf_8_among_others_is_named(layout, tmp_path):
    if layout.encoding == "latin-1":
        pytest.skip("these files are Latin-1, in which every byte is a letter")
    layout.write(tmp_path)
    path = tmp_path / layout.events_file
    lines = [line.encode() for line in layout.events]
    lines[-1], lines[-2] = lines[-1].replace(b"u1", b"Jos\xe9"), lines[-2].replace(b"u1", "José".encode())
    data = b"\n".join(lines)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    told = f"{layout.place(4)}: byte 0xe9 is not UTF-8, as other rows are. Save the file as UTF-8."
    assert refusal(layout, tmp_path).startswith(told)


@each_layout
def test_every_row_at_fault_is_counted_and_can_be_left_out(layout, tmp_path):
    lines = layout.break_row(2, "u0", "")
    at = 3 - 1 + layout.header
    lines[at] = lines[at].replace(str(TIMES[2]), '"noon"' if "{" in lines[at] else "noon")
    layout.write(tmp_path, events=lines)
    told = refusal(layout, tmp_path)
    assert told.startswith(f"{layout.place(2)}: user is missing")
    assert "1 more row is at fault" in told
    kept = load_dataset(layout.source, tmp_path, on_bad="drop", bad_rows=tmp_path / "bad.csv")
    assert len(kept.items_E) == 2
    assert [notice for notice in kept.notices if "dropped 1 rows: user is missing (first: row 2" in notice]
    bad = pl.read_csv(tmp_path / "bad.csv")
    assert bad["row"].to_list() == [2, 3]
    assert bad["line"].to_list() == [2 + layout.header, 3 + layout.header]


@pytest.mark.parametrize(
    "layout", [layout for layout in LAYOUTS if layout.header or "{" in layout.events[0]], ids=lambda x: x.events_file
)
def test_a_missing_column_names_the_nearest(layout, tmp_path):
    layout.write(
        tmp_path, events=[line.replace("user", "usr").replace("reviewerID", "reviewID") for line in layout.events]
    )
    assert "no column '" in refusal(layout, tmp_path)
    assert "; nearest: " in refusal(layout, tmp_path)


@pytest.mark.parametrize(
    "layout", [layout for layout in LAYOUTS if layout.source != "movielens-100k"], ids=lambda x: x.events_file
)
def test_an_item_without_a_title_goes_with_its_interactions(layout, tmp_path):
    if layout.items_file == "titles.csv":
        pytest.skip("these reviews bring titles of their own")
    last = layout.items[-1]
    for title in ("Book 3", "Thing 3", "Movie 3 (1999)"):
        last = last.replace(title, "<br>")
    layout.write(tmp_path, items=[*layout.items[:-1], last])
    dataset = load_dataset(layout.source, tmp_path)
    assert (len(dataset.catalogue), len(dataset.items_E)) == (2, 3)

    def line(file: str) -> str:
        return ", line 4" if ".csv" in file else ""

    assert dataset.notices == (
        f"{layout.items_file}: dropped 1 items without a title (first: row 3{line(layout.items_file)})",
        f"{layout.events_file}: dropped 1 interactions whose item has no title "
        f"(first: row 3{line(layout.events_file)})",
    )


@pytest.mark.parametrize("source", SOURCES)
def test_an_unknown_option_names_those_there_are(source):
    with pytest.raises(ThinkrankError, match=f"{source}: unknown option 'k_core'"):
        load_dataset(source, ".", k_core=5)


def test_an_unknown_source_names_the_nearest():
    with pytest.raises(ThinkrankError, match="unknown source 'movielens100k'; nearest: movielens-100k"):
        load_dataset("movielens100k")


@pytest.mark.parametrize("source", READ)
def test_a_path_that_is_not_there_is_named(source, tmp_path):
    with pytest.raises(ThinkrankError, match="nowhere: no such file or folder"):
        load_dataset(source, tmp_path / "nowhere")


@pytest.mark.parametrize("source", READ)
def test_a_path_never_touches_the_network(source, tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("the network was asked")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(ThinkrankError, match="holds n"):
        load_dataset(source, tmp_path)
