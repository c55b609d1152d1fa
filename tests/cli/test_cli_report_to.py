"""`--set report_to=...`: every training of a run is followed, and a run does not depend on who follows it."""

import tomllib

import pytest

from cli.test_cli import thinkrank

TINY = ["-o", "users=40", "-o", "lists=1000", "--set", "grpo.failed_check=warn"]
STEPS = [f"--set={part}.steps=2" for part in ("evaluator", "warm_start", "grpo")]
COMMAND = ["train", "rerank", "synthetic", *TINY, *STEPS]


def test_every_training_of_a_run_is_followed_and_its_settings_stay_what_they_are(tmp_path):
    first = thinkrank(*COMMAND, "--out", "run", "--set", "report_to=tensorboard", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    followed = {path.parent.parent.name for path in tmp_path.rglob("events.out.*")}
    assert followed == {"evaluator", "warm-start", "grpo"}
    assert "report_to" not in tomllib.loads((tmp_path / "run" / "config.toml").read_text(encoding="utf-8"))
    again = thinkrank(*COMMAND, "--out", "run", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "reusing it" in again.stderr


@pytest.mark.parametrize("given", ["tensorbord", "tensorboard, wandbb"])
def test_an_unknown_tracker_ends_the_command_before_there_is_a_folder(tmp_path, given):
    done = thinkrank(*COMMAND, "--out", "run", "--set", f"report_to={given}", cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "report_to takes tensorboard, mlflow, wandb, trackio" in done.stderr
    assert not (tmp_path / "run").exists()
