"""Two processes against one: every training ends with the same, whoever begins and whoever ends it."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from golden import together

MOVING = ("seconds", "cpu_seconds", "share_", "sampled_tokens_per_second", "token_cosine")
"""What a clock measured, and the cosine between halves of a batch, which are other halves."""


def free_ports(count):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [str(one.getsockname()[1]) for one in held]
    for one in held:
        one.close()
    return ports


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """The folder in which all jobs were brought to their ends, and the two processes that did so."""
    base = tmp_path_factory.mktemp("together")
    for name in together.JOBS:
        together.bring_to_end(name, base / "one", half=base / "half-by-one" if name in together.RESUMED else None)
    environment = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "golden.together", str(base), *free_ports(3)]
    pair = []
    for rank in ("0", "1"):
        own = {**environment, "RANK": rank, "LOCAL_RANK": rank}
        pair.append(subprocess.Popen(command, env=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    told = [process.communicate(timeout=1200) for process in pair]
    for name in together.RESUMED:
        together.bring_to_end(name, base / "half-by-two")
    return base, [process.returncode for process in pair], told


def end_of(folder):
    told = json.loads((folder / "end.json").read_text())
    rows = [{key: value for key, value in row.items() if not key.startswith(MOVING)} for row in told["rows"]]
    return rows, load_file(folder / "weights.safetensors"), told["hashes"]


def assert_close(one, other, where=""):
    """Numbers within what fp32 rounds, everything else alike."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key, value in one.items():
            assert_close(value, other[key], f"{where}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for number, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_close(a, b, f"{where}[{number}]")
    elif isinstance(one, float):
        assert other == pytest.approx(one, rel=1e-4, abs=1e-5), where
    else:
        assert one == other, where


def assert_same_ends(base, expected, found, name, exact=False):
    ends = sorted((base / expected / "ends" / name).iterdir())
    assert ends
    for end in ends:
        rows, weights, _ = end_of(end)
        other_rows, other_weights, hashes = end_of(base / found / "ends" / name / end.name)
        assert len(set(hashes)) == 1, "the processes hold different weights"
        if name.startswith("recpo"):  # how many prompts share what they begin with depends on what is read together
            rows, other_rows = ([{**row, "tokens": 0} for row in some] for some in (rows, other_rows))
        if exact:
            assert rows == other_rows
        assert_close(rows, other_rows, f"{name} {end.name}")
        for key, tensor in weights.items():
            torch.testing.assert_close(other_weights[key], tensor, rtol=0 if exact else 1e-4, atol=0 if exact else 1e-5)


@pytest.mark.parametrize("name", together.JOBS)
def test_two_processes_learn_what_one_learns(ended, name):
    assert_same_ends(ended[0], "one", "two", name)
    hashes = end_of(next((ended[0] / "two" / "ends" / name).iterdir()))[2]
    assert len(hashes) == 2


@pytest.mark.parametrize("begun", ["half-by-one", "half-by-two"])
@pytest.mark.parametrize("name", together.RESUMED)
def test_another_number_of_processes_goes_on_from_a_checkpoint(ended, name, begun):
    assert_same_ends(ended[0], "one", begun, name)


@pytest.mark.parametrize("name", together.DROPPED)
def test_with_dropout_a_resumed_run_of_two_ends_as_one_that_was_not_stopped(ended, name):
    assert_same_ends(ended[0], "two", "half-by-two", name, exact=True)


def test_a_command_trains_with_two_processes_of_which_the_first_writes(ended):
    base, _, ((stdout, stderr), (other_stdout, _)) = ended
    assert (base / "command" / "model" / "config.json").is_file()
    assert (base / "command" / "report.html").is_file()
    rows = [json.loads(line) for line in (base / "command" / "grpo" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(7))
    assert "the model is in" in stdout
    assert "reinforcement" in stderr
    assert other_stdout == ""


def test_when_a_process_is_killed_the_other_ends_with_one_line_that_says_so(ended):
    base, codes, ((_, stderr), _) = ended
    assert codes == [2, -9]
    assert not (base / "killed" / "model").exists()
    assert stderr.splitlines()[-1].startswith("thinkrank: process 0 of 2: another process has ended")
    assert "goes on from the last checkpoint" in stderr.splitlines()[-1]
    assert "Traceback" not in stderr


def test_rows_and_their_gradients_sums_and_faults_cross_processes(ended):
    first, second = (json.loads((ended[0] / f"answers-{rank}.json").read_text()) for rank in (0, 1))
    assert first["gathered"] == second["gathered"] == [[1.0, 1.0], [2.0, 2.0], [2.0, 2.0]]
    assert first["gradient"] == [[11.0, 11.0]]  # 1 from its own loss, 10 from the other one's
    assert second["gradient"] == [[22.0, 22.0], [33.0, 33.0]]
    assert first["mean"] == second["mean"] == {"a": 1.5, "b": 2.0}
    assert (first["fraction"], second["fraction"]) == (1 / 3, 2 / 3)
    assert (first["spread"], second["spread"]) == ([5, 0], [5, 2])
    assert first["broadcast"] == second["broadcast"] == {"rank": 0}
    assert first["gathered values"] == second["gathered values"] == ["a\nb"]
    assert first["fault"] == second["fault"] == "the disk is full"


def test_parts_of_a_table_answer_as_the_whole_does(ended):
    table, queries_SD, left_out = together.table_and_queries()
    exclude = [torch.tensor(rows, dtype=torch.long).numpy() for rows in left_out]
    items_SK, scores_SK = table.search(queries_SD, 6, exclude=exclude)
    queries_SD.requires_grad_()
    total_S = table.log_normaliser(queries_SD, exclude=exclude)
    total_S[total_S.isfinite()].square().sum().backward()
    answers = [json.loads((ended[0] / f"answers-{rank}.json").read_text()) for rank in (0, 1)]
    assert [row for told in answers for row in told["items"]] == items_SK.tolist()
    assert [row for told in answers for row in told["scores"]] == scores_SK.tolist()
    totals = torch.tensor([total for told in answers for total in told["normaliser"]])
    torch.testing.assert_close(totals, total_S.detach())
    gradients = torch.tensor([row for told in answers for row in told["normaliser's gradient"]])
    torch.testing.assert_close(gradients, queries_SD.grad)
