"""What a run logs reaches the trackers that it names."""

import subprocess
import sys
from typing import ClassVar

import pytest
import torch

from thinkrank.errors import ThinkrankError
from thinkrank.training import Run, Trainer, TrainerOptions, tracking, train

CONFIG = {"training": {"steps": 3, "patience": None}, "fields": ("a", "b")}
ROWS = [
    {"step": 0, "valid_ndcg@10": 0.25, "note": "text", "kept": True},
    {"step": 1, "loss": 1.5, "clock": {"write": 0.5}, "lengths": [1, 2]},
    {"step": 2, "loss": 1},
]


class Remembering:
    """A tracker of one's own."""

    calls: ClassVar[list] = []

    def start(self, folder, config, step):
        self.calls.append(("start", folder.name, config, step))

    def log(self, step, figures):
        self.calls.append((step, figures))

    def end(self):
        self.calls.append("end")


@pytest.fixture
def own(monkeypatch):
    monkeypatch.setattr(Remembering, "calls", [])
    monkeypatch.setitem(sys.modules, "my_tracker", sys.modules[__name__])
    return Remembering.calls


def logged(folder, *names, rows=ROWS):
    run = Run(folder, CONFIG, {}, report_to=names)
    for row in rows:
        run.log(row)
    run.close()
    return run


def test_a_tracker_gets_the_settings_once_and_the_numbers_of_every_row(tmp_path, own):
    run = logged(tmp_path / "mine", "my_tracker:Remembering")
    assert own == [
        ("start", "mine", {"training.steps": 3, "fields": ["a", "b"]}, 0),
        (0, {"valid_ndcg@10": 0.25}),
        (1, {"loss": 1.5, "clock.write": 0.5}),
        (2, {"loss": 1.0}),
        "end",
    ]
    assert run.metrics() == ROWS


class Lost(Remembering):
    """A tracker whose server cannot be reached after the first row."""

    def log(self, step, figures):
        if step:
            raise ConnectionError("the server is gone")


def test_a_tracker_that_is_lost_is_told_once_and_the_others_and_the_log_go_on(tmp_path, own, caplog):
    run = logged(tmp_path, "my_tracker:Lost", "my_tracker:Remembering")
    assert [call[0] for call in own if call != "end"] == ["start", "start", 0, 1, 2]
    assert own.count("end") == 2  # the lost one, too, so that nothing of it stays open
    assert run.metrics() == ROWS
    (record,) = caplog.records
    assert record.message.startswith("Lost follows this training no more: the server is gone")


def test_a_run_that_logs_nothing_starts_no_tracker(tmp_path, own):
    logged(tmp_path, "my_tracker:Remembering", rows=[])
    assert own == []


def test_a_tracker_follows_a_training_and_ends_when_it_is_interrupted(tmp_path, own):
    weight = torch.nn.Parameter(torch.zeros(1))

    class Interrupted(Trainer):
        def measure(self):
            return {"valid": 0.5}

        def step(self):
            raise KeyboardInterrupt

        def weights(self):
            return {"weight": weight}

        def set_weights(self, tensors):
            raise AssertionError("nothing is restored")

    run = Run(tmp_path, CONFIG, {}, report_to=["my_tracker:Remembering"])
    with pytest.raises(KeyboardInterrupt):
        train(Interrupted([{"params": [weight], "lr": 0.1, "weight_decay": 0.0}], [weight], TrainerOptions(), run))
    assert [call if call == "end" else call[0] for call in own] == ["start", 0, "end"]


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("tensorbord", r"there is no tracker 'tensorbord': report_to takes tensorboard, mlflow, wandb, trackio, or"),
        ("nowhere:Tracker", r"nowhere:Tracker: cannot be imported"),
    ],
)
def test_an_unknown_tracker_is_refused_before_there_is_a_folder(tmp_path, name, fault):
    with pytest.raises(ThinkrankError, match=fault):
        Run(tmp_path / "mine", CONFIG, {}, report_to=[name])
    assert not (tmp_path / "mine").exists()


def test_a_tracker_that_is_not_installed_or_broken_is_named_with_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ThinkrankError, match="report_to mlflow needs a package: pip install mlflow-skinny"):
        tracking.require_trackers(["mlflow"])
    monkeypatch.undo()
    (tmp_path / "trackio.py").write_text("raise ImportError('half of it is missing')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "trackio", raising=False)
    with pytest.raises(ThinkrankError, match=r"cannot be imported \(half of it is missing\): pip install --upgrade"):
        Run(tmp_path / "run", CONFIG, {}, report_to=["trackio"])
    (tmp_path / "ours.py").write_text("class Tracker:\n    def __init__(self):\n        import no_such_package")
    with pytest.raises(ThinkrankError, match=r"report_to ours:Tracker cannot be imported \(No module named"):
        Run(tmp_path / "run", CONFIG, {}, report_to=["ours:Tracker"])


def test_no_tracker_is_imported_unless_named():
    script = "import sys, thinkrank.training.run; print([m for m in ('tensorboard', 'mlflow') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_tensorboard_reads_what_was_logged_and_not_what_an_interruption_undid(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logged(tmp_path / "mine", "tensorboard")
    logged(tmp_path / "mine", "tensorboard", rows=[{"step": 2, "loss": 4.0}, {"step": 3, "loss": 3.0}])
    found = EventAccumulator(str(tmp_path / "mine" / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in found.Scalars("loss")] == [(1, 1.5), (2, 4.0), (3, 3.0)]
    assert [event.value for event in found.Scalars("valid_ndcg@10")] == [0.25]
    assert "settings/text_summary" in found.Tags()["tensors"]


def test_mlflow_goes_on_in_the_same_run(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="mlflow-skinny is no part of the development environment")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    logged(tmp_path / "mine", "mlflow")
    logged(tmp_path / "mine", "mlflow", rows=[{"step": 3, "loss": 3.0}])
    (run,) = mlflow.search_runs(experiment_names=[tracking.PROJECT], output_format="list")
    assert run.data.params["training.steps"] == "3"
    assert run.data.metrics["loss"] == 3.0
    assert run.data.metrics["valid_ndcg_at_10"] == 0.25


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_wandb_and_trackio_take_what_is_logged(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip(name, reason=f"{name} is no part of the development environment")
    logged(tmp_path / "mine", name)
    logged(tmp_path / "mine", name, rows=[{"step": 3, "loss": 3.0}])
    kept = [path for path in tmp_path.rglob("*") if path.suffix in (".wandb", ".db")]
    assert kept
