"""A log that goes through the disk is the log it would be in memory."""

import gzip
import json

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from thinkrank.data import Catalogue, Dataset, FilterOptions, apply_filters, check_source, load_dataset, split_dataset
from thinkrank.data.reading import parts
from thinkrank.errors import ThinkrankError
from thinkrank.evaluate import evaluate_retrieval
from thinkrank.recipes.data import DataSettings
from thinkrank.retrieve import ItemKNN, Popularity


@pytest.fixture
def to_disk(monkeypatch):
    """Let everything with more than 100 rows go to the disk, 90 rows at a time."""

    def lower():
        monkeypatch.setattr(parts, "ROWS_AT_ONCE", 90)
        monkeypatch.setattr(parts, "ROWS_IN_MEMORY", 100)

    return lower


def log(rows=300, seed=3):
    """Interactions with repeated rows, blanks around ids, unknown items, lost zeros and several events of a second."""
    random = np.random.default_rng(seed)
    kinds = random.choice(["view", "purchase", ""], rows).tolist()
    frame = pl.DataFrame(
        {
            "user": [f"{'' if number % 5 else ' '}u{number}" for number in random.integers(0, 30, rows)],
            "item": [str(number) for number in random.integers(0, 50, rows)],
            "timestamp": random.integers(1_000_000_000_000, 1_000_000_200_000, rows),
            "rating": random.integers(1, 6, rows).astype(float),
            "event": kinds,
        }
    )
    return pl.concat([frame, frame.sample(20, seed=1)])


def write(folder, form):
    frame = log()
    items = [f"{number:02}" for number in range(45)]
    titles = [f"Item {item}" if item != "07" else None for item in items]
    pl.DataFrame({"item": items, "title": titles}).write_csv(folder / "items.csv")
    texts = frame.with_columns(pl.col("rating").cast(pl.String), pl.col("timestamp").cast(pl.String))
    broken = texts.with_row_index("n").with_columns(
        rating=pl.when(pl.col("n") % 97 == 5).then(pl.lit("x")).otherwise("rating"),
        timestamp=pl.when(pl.col("n") == 200).then(pl.lit("?")).otherwise("timestamp"),
        user=pl.when(pl.col("n") == 150).then(pl.lit("")).otherwise("user"),
    )
    lines = broken.drop("n").write_csv()
    if form == "csv":
        (folder / "interactions.csv").write_text(lines)
    elif form == "csv.gz":
        (folder / "interactions.csv.gz").write_bytes(gzip.compress(lines.encode()))
    elif form == "jsonl":
        (folder / "interactions.jsonl").write_text(broken.drop("n").write_ndjson())
    elif form == "parquet":
        frame.write_parquet(folder / "interactions.parquet")
    else:
        for number, part in enumerate(frame.iter_slices(70)):
            part = part.drop("rating") if number == 1 else part  # a column that one file lacks
            part.write_parquet(folder / f"interactions-{number}.parquet")
        return {"interactions": "interactions-*.parquet"}
    return {}


FILTERS = [
    {},
    {"min_rating": 3.0},
    {"event": "purchase,view", "k_core": 2},
    {"event": {"purchase": 1.0, "view": 0.25}, "seen_items_only": True, "since": "2001-09-09"},
]


def prepared(folder, source, options, filters):
    """Return all that somebody sees of a log that is prepared."""
    bad = folder.with_suffix(".csv")
    data = load_dataset("table", source, on_bad="drop", bad_rows=bad, **options)
    data = apply_filters(data, FilterOptions.model_validate(filters))
    data.save(folder)
    files = {file.name: file.read_bytes() for file in sorted(folder.iterdir())}
    return data, files | {"bad": bad.read_bytes() if bad.exists() else b""}


@pytest.mark.parametrize(
    ("form", "filters"),
    [(form, 0) for form in ("csv", "csv.gz", "jsonl", "parquet", "partitions")]
    + [("partitions", n) for n in (1, 2, 3)],
)
def test_what_is_prepared_through_the_disk_is_the_same(tmp_path, monkeypatch, to_disk, form, filters):
    source = tmp_path / "log"
    source.mkdir()
    options = write(source, form)
    monkeypatch.chdir(tmp_path)
    in_memory, files = prepared(tmp_path / "prepared", source, options, FILTERS[filters])
    assert not in_memory.rows.is_on_disk
    assert len(in_memory.items_E) > 100
    (tmp_path / "prepared.csv").unlink(missing_ok=True)
    to_disk()
    on_disk, others = prepared(tmp_path / "prepared", source, options, FILTERS[filters])
    assert on_disk.rows.is_on_disk
    assert json.loads(others["dataset.json"]) == json.loads(files["dataset.json"])
    assert others == files
    same_data(on_disk, in_memory)
    same_data(Dataset.load(tmp_path / "prepared"), in_memory)


def same_data(one, other):
    assert one.fingerprint == other.fingerprint
    assert one.notices == other.notices
    assert one.users == other.users
    assert one.describe() == other.describe()
    for name in ("offsets", "items_E", "times_E", "ratings_E", "weights_E", "tied_E"):
        mine, its = getattr(one, name), getattr(other, name)
        assert mine is its is None or (mine.dtype == its.dtype and np.array_equal(mine, its, equal_nan=True)), name
    assert split_dataset(one, "leave-last-out").manifest() == split_dataset(other, "leave-last-out").manifest()
    assert_frame_equal(one.interactions, other.interactions)


def test_nothing_from_the_files_to_a_trained_model_reads_all_rows_at_once(tmp_path, monkeypatch, to_disk):
    options = write(tmp_path, "partitions")
    to_disk()
    whole = vars(parts.Rows)["frame"].func

    def frame(rows):
        assert not rows.is_on_disk, "the whole log was read"
        return whole(rows)

    monkeypatch.setattr(parts.Rows, "frame", property(frame))
    settings = DataSettings(source="table", path=str(tmp_path), options=options, filters=FilterOptions(k_core=2))
    settings.load_split().dataset.save(tmp_path / "prepared")
    split = DataSettings(source=str(tmp_path / "prepared"), split="leave-last-out").load_split()
    assert split.dataset.rows.is_on_disk
    report = evaluate_retrieval({"popular": Popularity().fit(split), "knn": ItemKNN().fit(split)}, split.test)
    assert len(report.users_S) == len(split.test) > 10
    with pytest.raises(AssertionError, match="the whole log was read"):
        split.dataset.interactions.head()


@pytest.mark.parametrize("form", ["csv", "partitions"])
def test_a_check_through_the_disk_finds_the_same_faults(tmp_path, to_disk, form):
    options = write(tmp_path, form)
    whole = check_source("table", tmp_path, **options)
    to_disk()
    again = check_source("table", tmp_path, **options)
    assert again.data.rows.is_on_disk
    assert again.record() == whole.record()


def test_a_log_without_times_keeps_its_order_through_the_disk(tmp_path, to_disk):
    log().drop("timestamp").write_csv(tmp_path / "interactions.csv")
    options = {"order_only": True, "untitled": "id"}
    in_memory = load_dataset("table", tmp_path, **options)
    to_disk()
    on_disk = load_dataset("table", tmp_path, **options)
    assert on_disk.rows.is_on_disk
    same_data(on_disk, in_memory)
    assert on_disk.catalogue.frame.equals(in_memory.catalogue.frame)


@pytest.mark.parametrize("seed", range(3))
def test_rows_in_any_order_with_unknown_items_are_sorted_through_the_disk(to_disk, seed):
    frame = log(seed=seed).with_columns(pl.col("user").str.strip_chars(), pl.col("timestamp") // 1000)
    items = pl.DataFrame({"item": [str(number) for number in range(40)], "title": "x"})
    in_memory = Dataset("made", frame, Catalogue(items))
    to_disk()
    on_disk = Dataset("made", parts.Rows.gathered(frame.iter_slices(7)), Catalogue(items))
    assert on_disk.rows.is_on_disk
    same_data(on_disk, in_memory)
    expected = sorted(frame.filter(pl.col("item").cast(pl.Int64) < 40).rows(), key=lambda row: (row[0], row[2]))
    assert on_disk.interactions.rows() == expected


def test_a_missing_value_is_named_by_its_row_through_the_disk(to_disk):
    to_disk()
    frame = log().with_row_index("n").with_columns(item=pl.when(pl.col("n") != 171).then("item")).drop("n")
    with pytest.raises(ThinkrankError, match="row 171: item is missing"):
        Dataset(
            "made", parts.Rows.gathered(frame.iter_slices(9)), Catalogue(pl.DataFrame({"item": ["1"], "title": "x"}))
        )


def test_folders_on_the_disk_go_with_the_data(tmp_path, monkeypatch, to_disk):
    write(tmp_path, "parquet")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    to_disk()
    data = load_dataset("table", tmp_path)
    filtered = apply_filters(data, FilterOptions(k_core=2))
    assert len(list(scratch.iterdir())) == 2
    del data
    assert len(list(scratch.iterdir())) == 1
    assert filtered.interactions.height
    del filtered
    assert not list(scratch.iterdir())


def test_a_full_disk_is_told_with_the_way_out(tmp_path, monkeypatch, to_disk):
    write(tmp_path, "parquet")
    to_disk()

    def no_space(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", no_space)
    with pytest.raises(ThinkrankError, match=r"can't hold a log of this size .*TMPDIR"):
        load_dataset("table", tmp_path)


def test_a_prepared_log_that_is_changed_while_it_is_in_use_is_refused(tmp_path, to_disk):
    write(tmp_path, "parquet")
    load_dataset("table", tmp_path).save(tmp_path / "prepared")
    to_disk()
    data = Dataset.load(tmp_path / "prepared")
    assert data.rows.is_on_disk
    path = tmp_path / "prepared" / "interactions.parquet"
    path.write_bytes(path.read_bytes())
    with pytest.raises(ThinkrankError, match="was changed or removed"):
        data.interactions.head()


def test_a_prepared_log_is_filtered_into_its_own_folder(tmp_path, to_disk):
    write(tmp_path, "parquet")
    load_dataset("table", tmp_path).save(tmp_path / "prepared")
    to_disk()
    data = apply_filters(Dataset.load(tmp_path / "prepared"), FilterOptions(min_rating=3))
    assert data.rows.is_on_disk
    data.save(tmp_path / "prepared")
    assert Dataset.load(tmp_path / "prepared").interactions["rating"].min() == 3


def test_a_damaged_piece_of_a_prepared_log_is_found(tmp_path, to_disk):
    write(tmp_path, "parquet")
    load_dataset("table", tmp_path).save(tmp_path / "prepared")
    to_disk()
    path = tmp_path / "prepared" / "interactions.parquet"
    content = bytearray(path.read_bytes())
    content[40:60] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(ThinkrankError, match="damaged"):
        Dataset.load(tmp_path / "prepared")


def test_ids_that_are_whole_numbers_only_at_first_are_refused(tmp_path, to_disk):
    frame = log().with_columns(user=pl.Series([1.0] * 200 + [1.5] * 120))
    frame.write_parquet(tmp_path / "interactions.parquet")
    assert load_dataset("table", tmp_path, untitled="id").users == ["1.0", "1.5"]
    to_disk()
    with pytest.raises(ThinkrankError, match="user is whole numbers first"):
        load_dataset("table", tmp_path, untitled="id")
