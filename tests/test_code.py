"""Results say which code made them."""

import shutil
import subprocess

import pytest

from thinkrank import _code
from thinkrank._version import __version__


@pytest.fixture
def asked(monkeypatch):
    def asked_in(package):
        monkeypatch.setattr(_code, "PACKAGE", package)
        return _code.code_version.__wrapped__()

    return asked_in


def test_an_installed_package_names_its_version(tmp_path, asked):
    package = tmp_path / "site-packages" / "thinkrank"
    package.mkdir(parents=True)
    assert asked(package) == f"thinkrank {__version__}"


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_checkout_names_its_commit_and_whether_files_differ_from_it(tmp_path, asked):
    def git(*arguments):
        who = ["-c", "user.name=n", "-c", "user.email=e"]
        done = subprocess.run(["git", *who, "-C", tmp_path, *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    package = tmp_path / "src" / "thinkrank"
    package.mkdir(parents=True)
    results = tmp_path / "studies" / "method" / "results"
    results.mkdir(parents=True)
    (package / "one.py").write_text("1", encoding="utf-8")
    git("init", "-q")
    assert asked(package) == f"thinkrank {__version__}"
    git("add", ".")
    git("commit", "-qm", "one")
    commit = git("rev-parse", "--short=12", "HEAD")
    (results / "arm-0.json").write_text("{}", encoding="utf-8")
    assert asked(package) == commit
    (package / "two.py").write_text("2", encoding="utf-8")
    assert asked(package) == f"{commit}+dirty"
