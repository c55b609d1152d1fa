"""A search for settings on the validation part, within a time; the next start goes on from the log of what was tried.

The first trial has the defaults. Every trial trains for an equal share of the minutes, so that no setting is chosen for
needing longer. Needs the extra `tune` (Optuna's tree-structured Parzen estimator).
"""

import importlib.util
import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from thinkrank._files import atomic_write
from thinkrank._lock import locked
from thinkrank.errors import ThinkrankError
from thinkrank.pretrained import imported
from thinkrank.recipes.base import RECIPES, Recipe, logs_of, phases_of
from thinkrank.recipes.layers import Layers, flat, toml_of
from thinkrank.recipes.running import train
from thinkrank.training import Progress, no_progress
from thinkrank.training.trainer import DivergedError

TRIALS, BEST, STUDY = "trials.jsonl", "best.toml", "tuning.json"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Between:
    """A number between two bounds, by its logarithm if `by_factor`."""

    low: float
    high: float
    by_factor: bool = True


Space = Mapping[str, Between | tuple[int, ...]]
SPACES: dict[str, Space] = {
    "retrieve": {
        "training.head_learning_rate": Between(2e-3, 3e-2),
        "training.learning_rate": Between(2e-4, 4e-3),
        "training.item_dropout": Between(0.0, 0.5, by_factor=False),
        "training.weight_decay": Between(1e-4, 1e-1),
        "model.lora.rank": (4, 8, 16, 32),
    },
    "rank": {
        "cold_start.learning_rate": Between(2e-4, 4e-3),
        "cold_start.head_learning_rate": Between(2e-3, 3e-2),
        "reinforce.learning_rate": Between(5e-5, 2e-3),
        "model.lora.rank": (4, 8, 16, 32),
    },
    "rerank": {
        "evaluator.learning_rate": Between(3e-4, 1e-2),
        "warm_start.learning_rate": Between(3e-4, 1e-2),
        "grpo.learning_rate": Between(1e-4, 5e-3),
        "model.generator.width": (32, 64, 128),
    },
}
"""Per stage, the settings that are searched; one that the user gives is left as it is."""


@dataclass(frozen=True)
class Trial:
    """Hold one try.

    Attributes:
        number: from 0, which has the defaults.
        settings: what was tried; empty for the defaults.
        value: of the validation that the run keeps weights by.
        metric: its name.
        seconds: from loading to the last validation.
        minutes: that each training of it was allowed.
        fault: why it could not be trained; its value is then the worst so far.
    """

    number: int
    settings: dict[str, Any]
    value: float
    metric: str
    seconds: float
    minutes: float
    fault: str = ""


def require_optuna() -> None:
    """Refuse a search without the library that makes it.

    Raises:
        ThinkrankError: with the line that installs it.
    """
    if importlib.util.find_spec("optuna") is None:
        raise ThinkrankError("the search needs Optuna: run `pip install 'thinkrank[tune]'`")


def tune(
    stage: str,
    make: Callable[[Layers], Any],
    layers: Layers,
    folder: str | Path,
    *,
    minutes: float,
    trials: int = 12,
    seed: int = 0,
    device: str = "auto",
    progress: Progress = no_progress,
) -> list[Trial]:
    """Try settings of a stage until the minutes are over, and write the best as a TOML file that training takes.

    Args:
        stage: retrieve, rank or rerank.
        make: settings of the stage from layers.
        layers: what is given, and so not searched.
        folder: for the log of trials and the best settings; a search there goes on.
        minutes: for all trials together, those of earlier starts included.
        trials: at most so many; each may train for an equal share of the minutes.
        seed: of the search.
        device: auto, cpu, cuda, cuda:1 or mps.
        progress: how to show the work.

    Returns:
        what was tried, the best first.

    Raises:
        ThinkrankError: without Optuna, with nothing to search, if the folder holds a search of other settings, or if
            every trial failed.
    """
    require_optuna()
    folder = Path(folder)
    recipe: Recipe = imported(RECIPES[stage])
    given = make(layers).given
    space = {name: what for name, what in SPACES[stage].items() if name not in given}
    if not space:
        raise ThinkrankError(f"all of {', '.join(SPACES[stage])} are given, so nothing is left to search")
    with locked(folder):
        settings = make(layers)
        with progress("reading the data", 0):
            split = settings.data.load_split()
        _same_search(folder, {"stage": stage, "given": flat(settings.model_dump(mode="json")), "seed": seed})
        done = read_trials(folder)
        with progress("trials", trials) as advance:
            advance(len(done), **_told(done))
            while len(done) < trials and (share := _share(done, minutes, trials)) is not None:
                tried = {} if not done else _proposed(done, space, seed)
                done.append(_try(recipe, make, layers, split, folder, done, tried, share, device, progress))
                with atomic_write(folder / TRIALS) as file:
                    file.write("".join(json.dumps(asdict(trial)) + "\n" for trial in done).encode())
                advance(1, **_told(done))
    best = sorted(done, key=lambda trial: (bool(trial.fault), -trial.value))
    if best:
        if best[0].fault:
            raise ThinkrankError(f"{folder}: none of {len(done)} trials could be trained; the first: {done[0].fault}")
        chosen = recipe.sized(make(_with(layers, best[0].settings)), split)
        with atomic_write(folder / BEST) as file:
            file.write(toml_of(chosen).encode())
    return best


def read_trials(folder: Path) -> list[Trial]:
    """Read the log of a search; a last line that a kill cut short is left out.

    Raises:
        ThinkrankError: if a line is damaged.
    """
    path = folder / TRIALS
    if not path.is_file():
        return []
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(keepends=True), 1):
        try:
            found += [Trial(**json.loads(line))] if line.endswith("\n") else []
        except (ValueError, TypeError) as error:
            raise ThinkrankError(f"{path}: line {number} is damaged: delete that line") from error
    return found


def _share(done: Sequence[Trial], minutes: float, trials: int) -> float | None:
    """Return the minutes that the next trial may train, in all its trainings; None if they would be too many.

    What a trial takes beside training is known from those before it.
    """
    beside = max((trial.seconds / 60 - trial.minutes for trial in done), default=0.0)
    left = minutes - sum(trial.seconds for trial in done) / 60
    share = max(0.25 * minutes / trials, minutes / trials - max(0.0, beside))
    return None if done and left < 0.5 * (share + max(0.0, beside)) else round(share, 4)


def _try(
    recipe: Recipe,
    make: Callable[[Layers], Any],
    layers: Layers,
    split: Any,
    folder: Path,
    done: Sequence[Trial],
    tried: dict[str, Any],
    share: float,
    device: str,
    progress: Progress,
) -> Trial:
    """Train with some settings in a folder that goes again, and say what validation says.

    Settings with which nothing can be learnt count as the worst, so that the search goes on elsewhere.
    """
    started, inside = time.perf_counter(), folder / f"trial-{len(done):03d}"
    settings = make(_with(layers, tried))
    if "crowd" in type(settings).model_fields:  # what is fused changes no training
        settings = settings.model_copy(update={"crowd": ()})
    phases = phases_of(recipe, recipe.sized(settings, split), split)
    names = [n for n in type(settings).model_fields if getattr(getattr(settings, n), "steps", 0)]
    limits = {n: getattr(settings, n).model_copy(update={"max_minutes": share / max(1, len(phases))}) for n in names}
    settings = settings.model_copy(update=limits)
    try:
        run, _ = train(recipe, settings, inside, split=split, device=device, progress=progress)
        found = recipe.validations(settings, logs_of(recipe, recipe.settings.from_run(inside), split, run))[-1]
        value, metric, fault = found.value, f"{found.label} {found.how}".strip(), ""
    except DivergedError as error:
        value, metric, fault = min((trial.value for trial in done), default=0.0), "failed", str(error)
    shutil.rmtree(inside)
    return Trial(len(done), tried, value, metric, round(time.perf_counter() - started, 1), share, fault)


def _proposed(done: Sequence[Trial], space: Space, seed: int) -> dict[str, Any]:
    """Return what to try next; the same trials give the same."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions: dict[str, Any] = {
        name: (
            optuna.distributions.FloatDistribution(what.low, what.high, log=what.by_factor)
            if isinstance(what, Between)
            else optuna.distributions.CategoricalDistribution(what)
        )
        for name, what in space.items()
    }
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed + len(done), n_startup_trials=4)
    )
    for trial in done:
        if trial.settings.keys() == distributions.keys():
            study.add_trial(
                optuna.trial.create_trial(params=trial.settings, distributions=distributions, value=trial.value)
            )
    found = study.ask(distributions).params
    return {name: float(f"{value:.3g}") if isinstance(value, float) else value for name, value in found.items()}


def _with(layers: Layers, tried: Mapping[str, Any]) -> Layers:
    return replace(layers, assignments=[*layers.assignments, *(f"{name}={value}" for name, value in tried.items())])


def _told(done: Sequence[Trial]) -> dict[str, str]:
    return {"note": f"best {max(trial.value for trial in done):.4f}"} if done else {}


def _same_search(folder: Path, what: dict[str, Any]) -> None:
    """Keep what is searched, and refuse to go on with something else.

    Raises:
        ThinkrankError: naming the first difference.
    """
    path = folder / STUDY
    what = json.loads(json.dumps(what))
    if path.is_file() and (folder / TRIALS).is_file():
        kept = flat(json.loads(path.read_text(encoding="utf-8")))
        here = flat(what)
        for key in sorted(kept.keys() | here.keys()):
            if kept.get(key) != here.get(key):
                raise ThinkrankError(
                    f"{folder} holds another search: its {key.removeprefix('given.')} is {kept.get(key)!r}, "
                    f"not {here.get(key)!r}. Give another folder, or delete this one."
                )
        return
    with atomic_write(path) as file:
        file.write(json.dumps(what, indent=1).encode() + b"\n")
