"""Tables in parts are the tables they were."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from thinkrank.data import Dataset, check_source, load_dataset
from thinkrank.data.reading import parts


def table(rows=1000, users=40, seed=0):
    random = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "user": [f"user {number}" for number in random.integers(0, users, rows)],
            "n": random.integers(0, 9, rows),
            "tags": [["a"] * number for number in random.integers(0, 3, rows)],
            "none": [None, 1.5] * (rows // 2),
        }
    )


def test_what_is_laid_together_is_what_it_was():
    frame = table()
    assert_frame_equal(parts.compact(frame[::3]), frame[::3])


@pytest.mark.parametrize("rows", [20, 300, 5000])
def test_parts_together_are_the_sorted_table_and_share_no_user(monkeypatch, rows):
    monkeypatch.setattr(parts, "ROWS_AT_ONCE", rows)
    frame = table()
    dealt = list(parts.in_parts(parts.Rows(frame), "user"))
    assert sum(part.height for part in dealt) == frame.height
    users = [set(part["user"]) for part in dealt]
    assert all(max(one) < min(other) for one, other in pairwise(users) if one and other)
    found = pl.concat(part.sort("user", maintain_order=True) for part in dealt)
    assert_frame_equal(found, frame.sort("user", maintain_order=True))
    if rows == 300:
        assert len(dealt) == 4
        assert max(part.height for part in dealt) < 2 * rows


def shop(folder, files):
    """A log with repeated rows, blanks around ids, unknown items and several events of a second."""
    random = np.random.default_rng(3)
    rows = 600
    frame = pl.DataFrame(
        {
            "user": [f"{'' if number % 5 else ' '}u{number}" for number in random.integers(0, 30, rows)],
            "item": [f"i{number}" for number in random.integers(0, 50, rows)],
            "timestamp": random.integers(1_000_000_000, 1_000_000_400, rows),
            "rating": random.integers(1, 6, rows).astype(float),
        }
    )
    frame = pl.concat([frame, frame.sample(20, seed=1)])
    for number, part in enumerate(frame.iter_slices(-(-frame.height // files))):
        part.write_parquet(folder / f"interactions-{number}.parquet")
    items = [f"i{number}" for number in range(45)]
    pl.DataFrame({"item": items, "title": [f"Item {item}" for item in items]}).write_csv(folder / "items.csv")


@pytest.mark.parametrize("files", [1, 4])
@pytest.mark.parametrize("rows", [20, 299])
def test_a_log_that_is_read_in_parts_is_the_same_data_set(tmp_path, monkeypatch, files, rows):
    shop(tmp_path, files)
    options = {"interactions": "interactions-*.parquet"}
    whole = load_dataset("table", tmp_path, **options)
    assert any("repeat" in notice for notice in whole.notices)
    monkeypatch.setattr(parts, "ROWS_AT_ONCE", rows)
    again = load_dataset("table", tmp_path, **options)
    assert_frame_equal(again.interactions, whole.interactions)
    assert again.describe() == whole.describe()
    again.save(tmp_path / "prepared")
    loaded = Dataset.load(tmp_path / "prepared")
    assert_frame_equal(loaded.interactions, whole.interactions)
    assert loaded.fingerprint == whole.fingerprint


def test_faults_of_a_log_that_is_read_in_parts_are_found_where_they_are(tmp_path, monkeypatch):
    shop(tmp_path, 3)
    broken = pl.read_parquet(tmp_path / "interactions-1.parquet")
    at_fault = broken.with_row_index().with_columns(
        rating=pl.when(pl.col("index") == 5).then(pl.lit("x")).otherwise(pl.lit("2"))
    )
    at_fault.drop("index").write_parquet(tmp_path / "interactions-1.parquet")
    options = {"interactions": "interactions-*.parquet", "on_bad": "drop"}
    whole = check_source("table", tmp_path, **options)
    monkeypatch.setattr(parts, "ROWS_AT_ONCE", 60)
    again = check_source("table", tmp_path, **options)
    assert again.record() == whole.record()
    assert "interactions-1.parquet, row 6" in str(again.faults[0])
