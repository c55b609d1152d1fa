"""The Python that the documents show runs, and their command lines are understood."""

import importlib
import io
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import typer

from cli.test_cli import thinkrank
from test_docs import MADE_AT_BUILD
from thinkrank.cli.main import app
from thinkrank.data import Catalogue, Dataset, split_dataset
from thinkrank.data.sources import registry
from thinkrank.errors import ThinkrankError
from thinkrank.language.options import GenerationOptions, LoraOptions
from thinkrank.options import Options
from thinkrank.rank import R2Rank, R2RankConfig
from thinkrank.retrieve import Fused, Popularity, R2ec, R2ecConfig

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *(ROOT / "docs" / f"{name}.md" for name in ("index", "architecture")),
    *sorted((ROOT / "docs" / "guide").glob("*.md")),
    *sorted((ROOT / "docs" / "jobs").glob("*.md")),
    *sorted((ROOT / "docs" / "reference").glob("*.md")),
]
OWN = ROOT / "docs" / "guide" / "own.md"
RUN_APART = {OWN.name, "rerank.md", "README.md", *(page.name for page in (ROOT / "docs" / "jobs").glob("*.md"))}
"""Pages with a test of their own: here, in tests/rerank/test_guide.py and in tests/test_docs_jobs.py."""
TINY = {"backbone": "tiny", "dtype": "float32", "lora": LoraOptions(rank=4)}
THOUGHT = GenerationOptions(max_new_tokens=6)


def python_blocks(page: Path) -> list[str]:
    """The blocks of Python of a page that run; see `blocks`."""
    return [block for language, block in blocks(page) if language == "python"]


def blocks(page: Path) -> list[tuple[str, str]]:
    """The blocks of a page in order, but for those above which a reader is told why they do not run."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"(\*Not run in the tests: \w[^*]*\.\*\s*)?```(python|bash|console)\n(.*?)```", text, re.DOTALL)
    return [(match[2], match[3]) for match in found if not match[1]]


def commands(text: str) -> list[str]:
    """The command lines of a page: those of its blocks, and those within its sentences."""
    blocks = "\n".join(re.findall(r"```(?:bash|console)\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ")
    lines = re.findall(r"^(?:\$ )?(thinkrank .*)$", blocks, re.MULTILINE)
    return [*lines, *(line.replace("\n", " ") for line in re.findall(r"`(thinkrank [^`]+)`", text))]


WITH_PYTHON = [page for page in PAGES if python_blocks(page)]
COMMANDS = sorted({(page.name, line) for page in PAGES for line in commands(page.read_text(encoding="utf-8"))})


def films() -> Dataset:
    """A hundred films with numbers for ids, as MovieLens has them, and sixty people."""
    random = np.random.default_rng(0)
    rows = [
        (str(user), str(item), 10**9 + 10**5 * user + place)
        for user in range(1, 61)
        for place, item in enumerate(random.permutation(100)[:8] + 1)
    ]
    numbers = list(range(1, 101))
    catalogue = {
        "item": [str(number) for number in numbers],
        "title": ["Toy Story", "Aladdin", "The Lion King", *(f"Film {number}" for number in numbers[3:])],
        "categories": [["Drama"] if number % 2 else ["Comedy", "Crime"] for number in numbers],
        "year": [1950 + number % 50 for number in numbers],
    }
    events = pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row")
    return Dataset("movielens-100k", events, Catalogue(pl.DataFrame(catalogue)))


def reader() -> R2ec:
    return R2ec.create(R2ecConfig(**TINY, thought=THOUGHT), films().catalogue)


def fused() -> Fused:
    split = split_dataset(films())
    return Fused({"popularity": Popularity().fit(split), "R²ec": reader()}).fit(split)


MADE: dict[str, Callable[[], Any]] = {
    "runs/demo/model": fused,
    "runs/think/model": reader,
    "runs/rank/model": lambda: R2Rank.create(R2RankConfig(**TINY, thought=THOUGHT), films().catalogue),
}
"""Small stand-ins for the trained models that the documents name."""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder to run in, and a small stand-in for the data that the documents name."""
    monkeypatch.chdir(tmp_path)
    source = registry._Source(Options, lambda path, options: films(), "sometimes")
    monkeypatch.setitem(registry._SOURCES["events"], "movielens-100k", source)


def run(page: Path) -> dict:
    """Run the blocks of a page one after the other, as one program."""
    names = {"__name__": page.stem}
    for block in python_blocks(page):
        for folder, make in MADE.items():
            if folder in block:
                make().save_pretrained(folder)
        exec(compile(block, str(page), "exec"), names)
    return names


def rewards_were_given(names: dict) -> bool:
    return any("reward" in row for row in names["run"].metrics())


def gradients_flow(names: dict) -> bool:
    weights = dict(names["backbone"].model.named_parameters())
    return all(weight.grad.abs().sum() > 0 for name, weight in weights.items() if "lora_B" in name)


CHECKS = {"recpo": rewards_were_given, "language": gradients_flow}
"""What a page promises that its output does not show."""


@pytest.mark.parametrize(
    "page", [page for page in WITH_PYTHON if page.name not in RUN_APART], ids=lambda page: page.name
)
def test_the_python_of_a_page_runs_as_it_stands(page, here, monkeypatch):
    printed = io.StringIO()
    monkeypatch.setattr("sys.stdout", printed)
    names = run(page)
    assert printed.getvalue() or page.stem in CHECKS
    assert CHECKS.get(page.stem, bool)(names)


def test_what_is_added_as_the_guide_writes_it_keeps_its_contracts(tmp_path):
    """The page is a file of tests, run as a user would run it; its retriever takes R²ec's place in a run."""
    (tmp_path / "test_mine.py").write_text("\n\n".join(python_blocks(OWN)), encoding="utf-8")
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "test_mine.py"]
    done = subprocess.run(tests, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 50
    (tmp_path / "mine.py").write_text(python_blocks(OWN)[0], encoding="utf-8")
    (line,) = (line for name, line in COMMANDS if name == OWN.name and "mine:NextItem" in line)
    words = shlex.split(line.replace("movielens-100k", "synthetic -o users=30 -o items=50"))
    for words_of_it in (words[1:], ["evaluate", "runs/mine"]):
        called = thinkrank(*words_of_it, cwd=tmp_path)
        assert called.returncode == 0, called.stderr
    assert "NextItem" in (tmp_path / "runs" / "mine" / "results.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=lambda part: part.partition("#")[0].strip())
def test_a_command_line_is_understood(page, line):
    """Each word is a command, an argument or an option of it; nothing is run."""
    command, words = typer.main.get_command(app), shlex.split(line, comments=True)[1:]
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        command = command.commands[words.pop(0)]
    if hasattr(command, "commands") or not words:  # what is only named, or an option of the whole program
        assert set(words) <= {name for parameter in command.params for name in parameter.opts}
    else:
        try:
            command.make_context(command.name, words)
        except ThinkrankError as error:
            if "no run here" not in str(error):  # the page has one; here there is none
                raise


def test_the_pages_hold_what_these_tests_look_for():
    assert {page.stem for page in WITH_PYTHON} >= {"README", "own", "rank", "rerank", "recpo", "evaluate", "language"}
    assert len(COMMANDS) > 20
    assert not python_blocks(ROOT / "docs" / "reference" / "language.md")


def test_the_reference_names_modules_that_are_there():
    for page in sorted((ROOT / "docs" / "reference").glob("*.md")):
        for name in re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE):
            importlib.import_module(name)


def test_every_page_can_be_reached():
    shown = set(re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE))
    there = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    assert shown == there | MADE_AT_BUILD
