"""Actors of a real Ray cluster write the bytes that one process writes."""

import logging

import polars as pl
import pytest

from thinkrank.errors import ThinkrankError
from thinkrank.offline import score_users
from thinkrank.recipes.answering import Manner

ray = pytest.importorskip("ray", reason="Ray Data is not installed: pip install '.[ray]'", exc_type=ImportError)


@pytest.fixture
def cluster():
    """Ray on this machine, with a processor and little memory."""
    ray.init(num_cpus=1, object_store_memory=100_000_000, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()
    logging.getLogger("ray").handlers.clear()


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_cluster_writes_the_bytes_of_one_process_goes_on_and_tells_faults(run, people, tmp_path, cluster):
    def contents(folder):
        return {file.name: file.read_bytes() for file in folder.iterdir()}

    how = Manner(k=3)
    score_users(run, people, tmp_path / "local", how, block=20)
    told = score_users(run, people, tmp_path / "ray", how, block=20, engine="ray", threads=1)
    assert (told.parts, told.kept, told.users) == (6, 0, 100)
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    lost = sorted((tmp_path / "ray").glob("*.parquet"))[3]
    users = pl.read_parquet(lost)["user"].n_unique()
    lost.unlink()
    told = score_users(run, people, tmp_path / "ray", how, block=20, engine="ray", threads=1)
    assert (told.kept, told.users) == (5, users)
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    pl.DataFrame({"user": ["nobody"]}).write_parquet(tmp_path / "wrong.parquet")
    with pytest.raises(ThinkrankError, match="no user has the id 'nobody'"):
        score_users(run, tmp_path / "wrong.parquet", tmp_path / "fault", how, engine="ray", threads=1)
