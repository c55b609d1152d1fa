"""Pages run from top to bottom, in one folder, in small: every command line, and the Python of the pages for jobs.

Data and trainings are made small and the language model is the tiny one; everything else is as the page has it. What
two pages train alike is trained once. The Python of guides runs in tests/test_docs_run.py.
"""

import os
import re
import shlex
import shutil
import signal
import sys
import threading
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.test_cli import thinkrank
from test_docs_run import PAGES as ALL_PAGES
from test_docs_run import blocks, films, fused, python_blocks, reader
from thinkrank.data.sources import registry
from thinkrank.options import Options
from thinkrank.serve import server

ROOT = Path(__file__).parents[1]
JOBS = ROOT / "docs" / "jobs"
PAGES = [page for page in ALL_PAGES if any(language != "python" for language, _ in blocks(page)) or page.parent == JOBS]
WHOLE = {"README", "data", *(page.stem for page in JOBS.glob("*.md"))}
"""Pages whose Python runs here, too."""
MADE: dict[str, Callable[[], Any]] = {"runs/demo": fused, "runs/think": reader}
"""What a page reads that no line of its own has trained."""

TINY = "model.backbone=tiny model.dtype=float32"
RETRIEVE = f"{TINY} training.steps=2 training.validation_samples=4"
RANK = f"""{TINY} model.thought.max_new_tokens=160 traces.lists=6 traces.reflect=false candidates.size=4
    cold_start.steps=1 cold_start.users=2 cold_start.validation_samples=2 reinforce.steps=1 reinforce.users=2
    reinforce.negatives=2 reinforce.group_size=2 reinforce.rollout.max_new_tokens=4 reinforce.validation_samples=2"""
RERANK = """evaluator.steps=2 warm_start.steps=2 grpo.steps=2 grpo.batch_size=4 grpo.group_size=2 grpo.failed_check=warn
    model.generator.width=16 model.generator.heads=2 evaluator.validation_lists=20 warm_start.validation_lists=20
    grpo.validation_lists=20"""
SMALL = {
    "demo": f"{TINY} training.steps=2 model.lora.top_layers=1",
    "tune": RETRIEVE,
    "train retrieve": f"{RETRIEVE} recpo.validation_samples=2 model.thought.max_new_tokens=4",
    "train retrieve thinks": """recpo.steps=1 recpo.users=2 recpo.group_size=2 recpo.rollout.max_new_tokens=4
        recpo.warmup_steps=1 training.batch_size=2""",
    "train rank": RANK,
    "train rerank": RERANK,
    "train rerank synthetic": "data.options.users=40 data.options.lists=1000",
    "train cascade": f"{RETRIEVE} training.batch_size=4 stages.samples=50 stages.folds=2 cascade.candidates=12",
}
MORE = {"demo": ["--samples", "10"], "tune": ["--trials", "2"], "--install-completion": ["bash"]}
"""Further words of a command."""
ENDS = {"data": (0, 2), "doctor": (0, 1), "serve": (0, 130)}
"""Exit codes: a check that finds a fault, a machine that lacks something, a server that Ctrl-C ended."""


def small(line: str) -> list[str]:
    """Return the words of a command line behind the program's name, with settings that make it quick."""
    words = shlex.split(line, comments=True)[1:]
    if "--minutes" in words:
        words[words.index("--minutes") + 1] = "0.1" if words[0] == "tune" else "0.02"
    if words[0] == "evaluate":
        words = [*(word for word in words if word != "--samples" and not word.isdecimal()), "--samples", "6"]
    settings = "".join(f" {SMALL.get(' '.join(words[:count]), '')}" for count in (1, 2, 3))
    if "--preset" in words:
        settings += f" {SMALL['train retrieve thinks']}"
    named = [place for place, word in enumerate(words) if word.startswith("model.backbone=")]
    for place in named:  # a model that is not to be had here
        del words[place - 1 : place + 1]
    if "--device" in words:
        words[words.index("--device") + 1] = "cpu"
    return [*words, *MORE.get(words[0], []), *(f"--set={setting}" for setting in settings.split())]


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
        case "curl":
            return words[1].startswith("http://127.0.0.1:8000/v1/")
        case "mkdir":
            return True
        case "docker":
            return (ROOT / "Dockerfile").is_file()
    return False


def stand_in(here: Path, text: str) -> None:
    """Make a trained model that a text reads and nothing on its page has made."""
    for folder, make in MADE.items():
        if folder in text and f"--out {folder}" not in text and not (here / folder).exists():
            make().save_pretrained(here / folder / "model")
    if "data/music" in text:
        films().save(here / "data" / "music")


@pytest.fixture(scope="module")
def trained() -> dict[tuple[str, ...], Path]:
    """Folders of runs by the words that trained them, for pages that train alike."""
    return {}


@pytest.fixture
def served(monkeypatch) -> list[httpx.Response]:
    """What a server answered; each is asked once on a free port, and ended as by Ctrl-C."""
    answers, run, bound = [], server.run, server.bound

    def ask(address: str, known: Sequence[str]) -> None:
        key = {"X-API-Key": Path("key.txt").read_text()} if Path("key.txt").is_file() else {}
        here = address.replace("0.0.0.0", "127.0.0.1")
        asked = {"history": known[:2], "k": 2}
        answers.append(httpx.post(f"{here}/v1/recommend", json=asked, headers=key, timeout=30))
        os.kill(os.getpid(), signal.SIGINT)

    def asked_once(app, listener, *, ready):
        def begin(address: str) -> None:
            ready(address)
            threading.Thread(target=ask, args=(address, app.state.thinkrank.served.catalogue.ids)).start()

        run(app, listener, ready=begin)

    monkeypatch.setattr(server, "run", asked_once)
    monkeypatch.setattr(server, "bound", lambda host, port: bound(host, 0))
    return answers


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the files that pages name, where MovieLens-100K is small."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")  # the shell is named, not looked for
    source = registry._Source(Options, lambda path, options: films(), "sometimes")
    monkeypatch.setitem(registry._SOURCES["events"], "movielens-100k", source)
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for name in ("docs", "studies"):  # as in a copy of the source
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "mine.py").write_text(python_blocks(ROOT / "docs" / "guide" / "own.md")[0])
    return tmp_path


def lines(*rows: str) -> str:
    return "".join(f"{row}\n" for row in rows)


def clicked(sessions: range) -> str:
    """Lists of hotels as trivago logs them, each with a click on one of three to five."""
    rows = [
        "user_id,session_id,timestamp,step,action_type,reference,platform,city,device,current_filters,impressions,prices"
    ]
    for n in sessions:
        hotels = [str(10 * (1 + (n + place) % 9)) for place in range(3 + n % 3)]
        prices = "|".join(str(50 + n % 7 + place) for place in range(len(hotels)))
        shown = "|".join(hotels)
        rows.append(
            f"u{n % 20},s{n},{10**9 + 100 * n},1,clickout item,{hotels[n % 3]},DE,Rome,mobile,,{shown},{prices}"
        )
    return lines(*rows)


WINES = [f"W{n:03d}" for n in range(12)]
FILES = {
    "shop/interactions.csv": lines(
        "user,item,timestamp",
        *(f"C{u},{WINES[(u * 7 + n) % 12]},{10**9 + 1000 * u + n}" for u in range(30) for n in range(8)),
    ),
    "shop/items.csv": lines("item,title,categories", *(f"{item},Wine {item},red|Rioja" for item in WINES)),
    "found.csv": lines(
        "user,item,score",
        *(f"C{u},{item},{n / 9}" for u in range(30) for n, item in enumerate(WINES[u % 3 : u % 3 + 9])),
    ),
    "today.csv": lines("user,item,score", *(f"C{u},{item},1" for u in (3, 4) for item in WINES[:3])),
    "candidates.csv": lines("user,item", *(f"{user},{item}" for user in (1, 42) for item in (3, 14, 15))),
    "new.csv": lines("user,item,timestamp", "ann,1,100", "ann,2,200", "bob,3,100"),
    "office/interactions.csv": lines(
        "user_id,item_id,asin,rating,timestamp,seen_in",
        *(
            f"A{u},{(u + n) % 12},B{(u + n) % 12},4.0,{10**9 + 10**6 * u + 1000 * n},hist"
            for u in range(20)
            for n in range(6)
        ),
    ),
    "office/items.csv": lines("item_id,asin,title", *(f"{n},B{n},Pen {n}" for n in range(12))),
    "office.toml": "[training]\nlearning_rate = 1e-4\n",
    "trivago/train.csv": clicked(range(60)),
    "more/train.csv": clicked(range(60, 64)),
    "lists/lists.csv": lines(
        "list,user,item,position,time,click,bought,price",
        *(f"{n},u{n % 4},i{place},{place},{100 + n},{int(place == 1)},0,2.5" for n in range(8) for place in (1, 2, 3)),
    ),
}
"""What pages name and do not write: tables of a shop, of a first stage, of other shops and of hotels."""


def answered(line: str, here: Path, trained: dict[tuple[str, ...], Path]) -> str:
    """Run a command line and return what it prints; a training that another page had is copied."""
    words = small(line)
    folder = Path(words[words.index("--out") + 1] if "--out" in words else "runs/demo")
    made = None
    if words[0] in ("train", "demo") and "--dry-run" not in words and not {"--path", "data/shop"} & {*words}:
        made = tuple(word for word in words if word != str(folder))
    if made in trained and not (here / folder).exists():
        shutil.copytree(trained[made], here / folder)
        return ""
    done = thinkrank(*words, cwd=here)
    assert done.returncode in ENDS.get(words[0], (0,)), f"{line}\n{done.stdout}\n{done.stderr}"
    if made is not None:
        trained[made] = here / folder
    if "--new-key" in words:  # as the page says: the hash into a file
        key, hashed = (told.split()[1] for told in done.stdout.splitlines())
        (here / "keys.txt").write_text(hashed + "\n")
        (here / "key.txt").write_text(key)
    return done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_runs_from_top_to_bottom(page, here, monkeypatch, trained, served):
    names = {"__name__": "my_module"}
    ran, serving = 0, 0
    if page.stem == "data":  # it writes its own
        shutil.rmtree(here / "shop")
    for language, block in blocks(page):
        if language == "python":
            if page.stem not in WHOLE:
                continue
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
            stand_in(here, line)
            answered(line, here, trained)
            serving += line.startswith("thinkrank serve") and "--new-key" not in line
            ran += 1
    assert ran
    assert [answer.status_code for answer in served] == [200] * serving
