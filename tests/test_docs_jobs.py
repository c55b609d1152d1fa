"""The pages for jobs run from top to bottom: Python blocks and command lines, in order, in one folder, in small.

Data and trainings are made small and the language model is the tiny one; everything else is as the page has it.
"""

import re
import shlex
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.test_cli import thinkrank
from test_docs_run import films, fused, reader
from thinkrank.data.sources import registry
from thinkrank.options import Options

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "jobs").glob("*.md"))]
MADE: dict[str, Callable[[], Any]] = {"runs/demo": fused, "runs/think": reader}
"""What a page reads that no line of its own has trained."""

NOT_RUN = ("--install-completion", "thinkrank doctor", "thinkrank serve", "thinkrank tune")
"""The first changes a shell's own files, the second depends on the machine, the others run in tests of their own."""

SMALL = {
    "train retrieve": """model.backbone=tiny model.dtype=float32 training.steps=2 training.validation_samples=4
        recpo.validation_samples=2 model.thought.max_new_tokens=4""",
    "train retrieve thinks": """recpo.steps=1 recpo.users=2 recpo.group_size=2 recpo.rollout.max_new_tokens=4
        recpo.warmup_steps=1 training.batch_size=2""",
    "train rank": """model.backbone=tiny model.dtype=float32 model.thought.max_new_tokens=160 traces.lists=6
        traces.reflect=false
        candidates.size=4 cold_start.steps=1 cold_start.users=2 cold_start.validation_samples=2 reinforce.steps=1
        reinforce.users=2 reinforce.negatives=2 reinforce.group_size=2 reinforce.rollout.max_new_tokens=4
        reinforce.validation_samples=2""",
    "train rerank": """data.options.users=40 data.options.lists=1000 evaluator.steps=2 warm_start.steps=2 grpo.steps=2
        grpo.batch_size=4 grpo.group_size=2 grpo.failed_check=warn model.generator.width=16 model.generator.heads=2
        evaluator.validation_lists=20 warm_start.validation_lists=20 grpo.validation_lists=20""",
}


def small(line: str) -> list[str]:
    """Return the words of a command line behind the program's name, with settings that make it quick."""
    words = shlex.split(line, comments=True)[1:]
    if words[0] == "demo":  # its training, without the tuning of baselines; tests/cli/test_demo.py runs all of it
        words = ["train", "retrieve", "movielens-100k", "--out", "runs/demo"]
    if words[0] == "baselines":
        words[words.index("--minutes") + 1] = "0.02"
    if words[0] == "evaluate":
        kept = [word for word in words if word != "--samples" and not word.isdecimal()]
        words = [*kept, "--samples", "6"]
    settings = SMALL.get(" ".join(words[:2]), "")
    if "--preset" in words:
        settings += f" {SMALL['train retrieve thinks']}"
    named = [place for place, word in enumerate(words) if word.startswith("model.backbone=")]
    for place in named:  # a model that is not to be had here
        del words[place - 1 : place + 1]
    if "--device" in words:
        words[words.index("--device") + 1] = "cpu"
    return [*words, *(f"--set={setting}" for setting in settings.split())]


def is_known(line: str) -> bool:
    """Tell whether a line that is not of our program names files, targets and extras that are there."""
    words = shlex.split(line, comments=True)
    match words[0]:
        case "python":
            files = [word for word in words[1:] if word.endswith((".py", ".toml")) and "NAME" not in word]
            arms = [words[n + 1] for n, word in enumerate(words) if word == "--arm"]
            named = [tomllib.loads((ROOT / file).read_text())["arms"] for file in files if file.endswith(".toml")]
            return all((ROOT / file).is_file() for file in files) and all(arm in named[0] for arm in arms)
        case "make":
            return f"\n{words[1]}:" in (ROOT / "Makefile").read_text()
        case "pip":
            extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
            return words[1] in ("install", "wheel", "download") and all(
                extra in extras for extra in re.findall(r"thinkrank\[(\w+)\]", line)
            )
        case "docker":
            return (ROOT / "Dockerfile").is_file()
    return False


def parts(page: Path) -> list[tuple[str, str]]:
    """The blocks of a page in order, but for those that a comment above them keeps from being run."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"(<!-- not run: \S[^>]*-->\s*)?```(python|bash|console)\n(.*?)```", text, re.DOTALL)
    return [(match[2], match[3]) for match in found if not match[1]]


def stand_in(here: Path, text: str) -> None:
    """Make a trained model that a text reads and nothing on its page has made."""
    for folder, make in MADE.items():
        if folder in text and f"--out {folder}" not in text and not (here / folder).exists():
            make().save_pretrained(here / folder / "model")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("movielens-100k",):
        source = registry._Source(Options, lambda path, options: films(), "sometimes")
        monkeypatch.setitem(registry._SOURCES["events"], name, source)
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "interactions.csv").write_text(
        "user,item,timestamp\n"
        + "".join(f"C{u % 30},W{(u * 7 + n) % 12:03d},{10**9 + 1000 * u + n}\n" for u in range(30) for n in range(8))
    )
    (tmp_path / "shop" / "items.csv").write_text(
        "item,title,categories\n" + "".join(f"W{n:03d},Wine {n},red|Rioja\n" for n in range(12))
    )
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_runs_from_top_to_bottom(page, here, monkeypatch, capsys):
    names = {"__name__": "my_module"}
    ran = 0
    for language, block in parts(page):
        if language == "python":
            stand_in(here, block)
            module = type(sys)("my_module")
            module.__dict__.update(names)
            monkeypatch.setitem(sys.modules, "my_module", module)
            exec(compile(block, str(page), "exec"), module.__dict__)
            names = module.__dict__
            ran += 1
            continue
        for line in re.findall(r"^(?:\$ )?([a-z].*)$", block.replace("\\\n", " "), re.MULTILINE):
            if not line.startswith("thinkrank "):
                assert is_known(line) or language == "console", line
                continue
            if any(word in line for word in NOT_RUN):
                continue
            stand_in(here, line)
            done = thinkrank(*small(line), cwd=here)
            expected = (0, 2) if line.startswith("thinkrank data check") else (0,)  # 2 where it finds a fault
            assert done.returncode in expected, f"{line}\n{done.stdout}\n{done.stderr}"
            ran += 1
    assert ran
