"""Trackers of experiments: what a run logs goes on to TensorBoard, MLflow, Weights & Biases, trackio or your own.

    run = Run("runs/mine", config, manifest, report_to=["tensorboard"])

Each tracker gets the settings once and the numbers of every row of `metrics.jsonl`. None is imported unless named.
"""

import hashlib
import importlib.util
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from thinkrank.errors import ThinkrankError
from thinkrank.pretrained import imported

PROJECT = "thinkrank"
"""Name of the project or experiment under which MLflow, Weights & Biases and trackio keep runs."""

logger = logging.getLogger(__name__)

_MLFLOW_BATCH = 100
"""Settings that MLflow takes in one call."""


@runtime_checkable
class Tracker(Protocol):
    """Follow one training; a class of your own is named as `package.module:Name` and made without arguments."""

    def start(self, folder: Path, config: Mapping[str, Any], step: int) -> None:
        """Begin to follow a training, or go on with it after an interruption.

        Args:
            folder: of the run.
            config: every setting by its dotted name.
            step: of the first row that will be logged; what was logged at later steps is logged again.
        """

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Take the numbers of one row of the log."""

    def end(self) -> None:
        """Write what is still held back."""


class TensorBoard:
    """Write event files into `tensorboard/` in the run's folder; `tensorboard --logdir runs` shows all runs."""

    def __init__(self) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._open = SummaryWriter

    def start(self, folder: Path, config: Mapping[str, Any], step: int) -> None:
        """Open a file; what an interrupted training wrote after this step is hidden."""
        self._writer = self._open(str(folder / "tensorboard"), purge_step=step)
        rows = "\n".join(f"| {name} | {value} |" for name, value in config.items())
        self._writer.add_text("settings", f"| setting | value |\n| --- | --- |\n{rows}", step)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Add one scalar for each number."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def end(self) -> None:
        """Close the file."""
        self._writer.close()


class MLflow:
    """Log to where `MLFLOW_TRACKING_URI` points; an interrupted training goes on in the same MLflow run."""

    def __init__(self) -> None:
        import mlflow

        self._mlflow = mlflow

    def start(self, folder: Path, config: Mapping[str, Any], step: int) -> None:
        """Open the MLflow run of this folder, which is found again by a tag."""
        tag = str(folder.resolve())
        self._mlflow.set_experiment(PROJECT)
        found = self._mlflow.search_runs(
            experiment_names=[PROJECT], filter_string=f"tags.folder = {tag!r}", max_results=1, output_format="list"
        )
        run_id = found[0].info.run_id if found else None
        self._mlflow.start_run(run_id=run_id, run_name=folder.name, tags={"folder": tag})
        if run_id is None:
            settings = [(name, str(value)[:500]) for name, value in config.items()]
            for first in range(0, len(settings), _MLFLOW_BATCH):
                self._mlflow.log_params(dict(settings[first : first + _MLFLOW_BATCH]))

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Log the numbers; MLflow takes no `@` in names, so `ndcg@10` becomes `ndcg_at_10`."""
        self._mlflow.log_metrics({name.replace("@", "_at_"): value for name, value in figures.items()}, step=step)

    def end(self) -> None:
        """End the MLflow run."""
        self._mlflow.end_run()


class WandbLike:
    """Log to Weights & Biases, or to a package with its functions; an interrupted training goes on in the same run.

    Args:
        module: that has `init`, `log` and `finish`.
        names_runs: whether runs are told apart by their name alone, as in trackio.
    """

    def __init__(self, module: Any, *, names_runs: bool = False) -> None:
        self._module, self._names_runs = module, names_runs

    def start(self, folder: Path, config: Mapping[str, Any], step: int) -> None:
        """Open the run of this folder."""
        key = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
        names = {"name": f"{folder.name}-{key}"} if self._names_runs else {"name": folder.name, "id": key}
        self._module.init(project=PROJECT, config=dict(config), resume="allow", **names)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Log the numbers of one step."""
        self._module.log(dict(figures), step=step)

    def end(self) -> None:
        """Finish the run."""
        self._module.finish()


def _wandb() -> Tracker:
    import wandb

    return WandbLike(wandb)


def _trackio() -> Tracker:
    import trackio

    return WandbLike(trackio, names_runs=True)


TRACKERS: dict[str, tuple[str, str, Callable[[], Tracker]]] = {
    "tensorboard": ("tensorboard", "tensorboard", TensorBoard),
    "mlflow": ("mlflow", "mlflow-skinny", MLflow),
    "wandb": ("wandb", "wandb", _wandb),
    "trackio": ("trackio", "trackio", _trackio),
}
"""Per name: the module that it needs, the package that brings it, and what makes it."""


def require_trackers(names: Sequence[str]) -> None:
    """Check that trackers can be had, without importing them.

    Raises:
        ThinkrankError: naming the one that is unknown or not installed, and how to get it.
    """
    for name in names:
        if ":" in name:
            continue
        if name not in TRACKERS:
            raise ThinkrankError(
                f"there is no tracker {name!r}: report_to takes {', '.join(TRACKERS)}, or a class of your own as "
                "package.module:Name"
            )
        module, package, _ = TRACKERS[name]
        if importlib.util.find_spec(module) is None:
            raise ThinkrankError(f"report_to {name} needs a package: pip install {package}")


def made_trackers(names: Sequence[str]) -> list[Tracker]:
    """Import and make trackers.

    Raises:
        ThinkrankError: if one is unknown, not installed, or its import fails.
    """
    require_trackers(names)
    made = []
    for name in names:
        try:
            made.append(imported(name)() if ":" in name else TRACKERS[name][2]())
        except ImportError as error:
            way_out = f": pip install --upgrade {TRACKERS[name][1]}" if name in TRACKERS else ""
            raise ThinkrankError(f"report_to {name} cannot be imported ({error}){way_out}") from error
    return made


class Following:
    """Hand rows of a run's log on to its trackers, which start with the first row; an outage is told once.

    Args:
        names: of the trackers.
        folder: of the run.
        config: its settings.
    """

    def __init__(self, names: Sequence[str], folder: Path, config: Mapping[str, Any]) -> None:
        self._folder, self._config, self._started = folder, config, False
        self._trackers = made_trackers(names)

    def log(self, row: Mapping[str, Any]) -> None:
        """Hand on the numbers of a row, those inside its tables too; texts and lists stay in the log."""
        step = int(row["step"])
        if not self._started:
            self._started = True
            self._tell(lambda tracker: tracker.start(self._folder, dict(_leaves(self._config)), step))
        figures = {name: float(value) for name, value in _leaves(row) if name != "step" and _is_number(value)}
        self._tell(lambda tracker: tracker.log(step, figures))

    def end(self) -> None:
        """End the trackers that were started; a later row starts them again."""
        if self._started:
            self._started = False
            self._tell(lambda tracker: tracker.end())

    def _tell(self, what: Callable[[Tracker], None]) -> None:
        """Tell the trackers something; one that fails is told nothing more, and the training goes on."""
        for tracker in [*self._trackers]:
            try:
                what(tracker)
            except Exception as error:  # an outage is of any kind
                self._trackers.remove(tracker)
                with suppress(Exception):  # what it holds open, if it still can
                    tracker.end()
                name = type(tracker).__name__
                logger.warning("%s follows this training no more: %s; metrics.jsonl has every row", name, error)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
