"""`thinkrank score` as a user meets it."""

import json
import sys
from unittest.mock import patch

import polars as pl
import pytest

from cli.test_cli import thinkrank
from cli.test_cli_recommend import run  # noqa: F401 - the same run is asked


@pytest.fixture
def people(tmp_path):
    pl.DataFrame({"user": [f"c{user}" for user in range(9)]}).write_parquet(tmp_path / "people.parquet")
    return tmp_path / "people.parquet"


def test_users_are_answered_into_a_folder_and_a_job_that_is_done_says_so(run, people, tmp_path):  # noqa: F811
    command = ("score", str(run), "--input", str(people), "--out", str(tmp_path / "out"), "--block", "4", "-k", "2")
    done = thinkrank(*command)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"answered 9 users into {tmp_path / 'out'}\n"
    assert pl.read_parquet(tmp_path / "out" / "*.parquet").height == 18
    assert "3 of 3 parts were there already" in thinkrank(*command).stdout
    refused = thinkrank(*command, "--no-seen")
    assert refused.returncode == 2
    assert "holds answers of another job: its filter_seen differs (None then, True now)" in refused.stderr


def test_a_dry_run_says_what_it_takes_for_each_worker_and_writes_nothing(run, people, tmp_path):  # noqa: F811
    command = ("score", str(run), "--input", str(people), "--out", str(tmp_path / "out"), "--dry-run")
    done = thinkrank(*command, "--workers", "3")
    assert "9 users in 1 parts, 3 users for each of 3 workers · 0 tokens for each" in done.stdout
    assert json.loads(thinkrank(*command, "--json").stdout)["users"] == 9
    assert not (tmp_path / "out").exists()


def test_faults_end_in_one_line_with_the_way_out(run, people, tmp_path):  # noqa: F811
    out = ("--out", str(tmp_path / "out"))
    assert "there is no such file or folder" in thinkrank("score", str(run), "--input", "nowhere", *out).stderr
    assert "no trained retriever here" in thinkrank("score", str(tmp_path), "--input", str(people), *out).stderr
    wrong = thinkrank("score", str(run), "--input", str(people), *out, "--engine", "spark")
    assert "--engine must be local or ray, not 'spark'" in wrong.stderr
    with patch.dict(sys.modules, {"ray": None}):
        absent = thinkrank("score", str(run), "--input", str(people), *out, "--engine", "ray")
    assert absent.returncode == 2
    assert "--engine ray needs Ray Data: pip install 'thinkrank[ray]'" in absent.stderr
