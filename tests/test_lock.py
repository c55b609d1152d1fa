"""One training per folder, whatever became of the one before."""

import errno
import json
import os
import platform
import subprocess
import sys

import pytest

from thinkrank._lock import LOCK_FILE, locked
from thinkrank.errors import ThinkrankError


def test_a_folder_is_held_by_one_alone_and_given_back(tmp_path):
    folder = tmp_path / "run"
    with locked(folder):
        (folder / "made").touch()
        with pytest.raises(ThinkrankError, match=f"is being trained by process {os.getpid()} on"), locked(folder):
            pass
    with locked(folder):
        pass
    assert [path.name for path in folder.iterdir()] == ["made"]


def test_another_process_holds_it_too(tmp_path):
    code = "import sys, pathlib, thinkrank._lock as l\nwith l.locked(pathlib.Path(sys.argv[1])): pass"
    with locked(tmp_path):
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert "is being trained by process" in done.stderr


def test_who_waits_gets_it_when_it_is_given_back(tmp_path):
    code = (
        "import sys, pathlib, thinkrank._lock as l\n"
        "print('waits', flush=True)\n"
        "with l.locked(pathlib.Path(sys.argv[1]), waits=True): print((pathlib.Path(sys.argv[1]) / 'made').exists())"
    )
    with locked(tmp_path):
        waiting = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert waiting.stdout.readline() == "waits\n"
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(0.2)
        (tmp_path / "made").touch()
    assert waiting.communicate()[0] == "True\n"


def test_what_a_killed_process_left_is_taken_over(tmp_path):
    (tmp_path / LOCK_FILE).write_text(json.dumps({"pid": 1, "host": platform.node(), "since": "yesterday"}))
    with locked(tmp_path):
        pass
    (tmp_path / LOCK_FILE).write_text('{"pi')
    with locked(tmp_path):
        pass


def test_of_another_host_nobody_can_tell(tmp_path):
    (tmp_path / LOCK_FILE).write_text(json.dumps({"pid": 7, "host": "elsewhere", "since": "yesterday"}))
    with pytest.raises(ThinkrankError, match=f"process 7 on elsewhere.*delete .*{LOCK_FILE}"), locked(tmp_path):
        pass


def test_a_file_system_without_locks_is_told_once_and_used(tmp_path, monkeypatch, caplog):
    def unknown(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", unknown)
    for name in ("first", "second"):
        with locked(tmp_path / name):
            (tmp_path / name / "made").touch()
    assert [record.message for record in caplog.records] == [
        "this file system locks nothing (Function not implemented): let no second process use the same folder"
    ]


def test_a_folder_that_a_failed_start_made_goes_again(tmp_path):
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "run"):
        _ = 1 / 0
    assert not (tmp_path / "run").exists()
