import json
import tomllib

import pytest
import torch

from thinkrank.errors import ThinkrankError
from thinkrank.training import Run, write_checkpoint

CONFIG = {"training": {"steps": 10, "patience": None, "rate": 0.5}, "fields": ("a", "b")}


def test_a_run_writes_what_it_was_asked_and_what_it_was_made_from(tmp_path):
    run = Run(tmp_path, CONFIG, {"seed": 3})
    config = tomllib.loads((tmp_path / "config.toml").read_text())
    assert config == {"training": {"steps": 10, "rate": 0.5}, "fields": ["a", "b"]}
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["seed"] == 3
    assert {"python", "torch"} <= manifest["versions"].keys()
    assert run.metrics() == []


def begun(folder):
    """A run that has a checkpoint."""
    run = Run(folder, CONFIG, {"split": {"fingerprint": "abc"}, "seed": 1})
    write_checkpoint(run.checkpoints, 2, {"weight": torch.ones(2)}, {"step": 2})
    return run


def test_the_same_settings_open_the_same_run_and_others_are_refused(tmp_path):
    begun(tmp_path)
    Run(tmp_path, CONFIG, {"split": {"fingerprint": "abc"}})
    changed = {**CONFIG, "training": {**CONFIG["training"], "steps": 11}}
    with pytest.raises(ThinkrankError, match=r"its training\.steps is 10, not 11"):
        Run(tmp_path, changed, {})


def test_a_start_that_left_no_checkpoint_is_taken_over(tmp_path):
    Run(tmp_path, CONFIG, {"split": {"fingerprint": "abc"}}).log({"step": 0})
    Run(tmp_path / "recpo", CONFIG, {})
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / ".config.toml.1.part").touch()
    changed = {**CONFIG, "fields": ("c",)}
    run = Run(tmp_path, changed, {"split": {"fingerprint": "xyz"}})
    assert tomllib.loads((tmp_path / "config.toml").read_text())["fields"] == ["c"]
    assert run.manifest["split"] == {"fingerprint": "xyz"}


@pytest.mark.parametrize("made", ["model/config.json", "recpo/checkpoints/step-00000001/state.json", "traces.jsonl"])
def test_what_was_made_is_never_taken_over(made, tmp_path):
    Run(tmp_path, CONFIG, {})
    (tmp_path / made).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / made).touch()
    with pytest.raises(ThinkrankError, match="holds another run"):
        Run(tmp_path, {**CONFIG, "fields": ("c",)}, {})


def test_damaged_files_are_named_with_the_way_out(tmp_path):
    run = begun(tmp_path)
    run.metrics_file.write_text('{"step": 0}\n{"ste\n{"step": 2}\n')
    with pytest.raises(ThinkrankError, match=r"metrics\.jsonl: line 2 is damaged"):
        run.metrics()
    (tmp_path / "manifest.json").write_text('{"spl')
    with pytest.raises(ThinkrankError, match=r"manifest\.json: damaged.*delete it"):
        Run(tmp_path, CONFIG, {})
    (tmp_path / "config.toml").write_text("[trai")
    with pytest.raises(ThinkrankError, match=r"config\.toml: damaged"):
        Run.open(tmp_path, {})


def test_rewinding_drops_what_will_be_done_again(tmp_path):
    run = Run(tmp_path, CONFIG, {})
    for step in range(5):
        run.log({"step": step, "loss": 1.0})
    run.rewind(2)
    assert [row["step"] for row in run.metrics()] == [0, 1, 2]


def test_a_line_cut_short_by_a_kill_is_not_read(tmp_path):
    run = Run(tmp_path, CONFIG, {})
    run.log({"step": 1})
    with run.metrics_file.open("a") as file:
        file.write('{"step": 2, "lo')
    assert run.metrics() == [{"step": 1}]


def test_a_full_disk_names_the_log_and_the_way_out(tmp_path):
    run = Run(tmp_path, CONFIG, {})
    run.metrics_file.symlink_to("/dev/full")
    run.log({"step": 1})
    with pytest.raises(ThinkrankError, match=r"metrics\.jsonl cannot be written: No space left .*the same command"):
        run.flush()


def test_other_data_is_refused_and_the_manifest_of_the_start_is_kept(tmp_path):
    begun(tmp_path)
    again = Run(tmp_path, CONFIG, {"split": {"fingerprint": "abc"}, "seed": 2})
    assert again.manifest["seed"] == 1
    with pytest.raises(ThinkrankError, match="made from other data"):
        Run(tmp_path, CONFIG, {"split": {"fingerprint": "xyz"}})


def test_an_existing_run_opens_as_it_was_made_if_the_data_is_the_same(tmp_path):
    begun(tmp_path)
    assert Run.open(tmp_path, {"fingerprint": "abc"}).manifest["seed"] == 1
    assert Run.open(tmp_path, {"fingerprint": "abc"}).config["training"]["steps"] == 10
    with pytest.raises(ThinkrankError, match="made from other data"):
        Run.open(tmp_path, {"fingerprint": "xyz"})
