"""Files that say who asks."""

import polars as pl
import pytest

from thinkrank.data.asked import read_who
from thinkrank.errors import ThinkrankError


def nobody():
    """No data set is asked for."""
    raise AssertionError


def test_lists_under_a_name_that_nothing_reads_are_refused(tmp_path):
    file = tmp_path / "users.parquet"
    pl.DataFrame({"user": ["a"], "history": [["1", "2"]]}).write_parquet(file)
    with pytest.raises(ThinkrankError, match="nothing reads the lists of 'history': call the column items"):
        read_who(file, nobody, slice(0, 1))
    pl.DataFrame({"user": ["a"], "age": [3], "items": [["1", "2"]]}).write_parquet(file)
    assert read_who(file, nobody, slice(0, 1)).users == ("a",)
