"""How a run goes: settings and data, trainings one after the other, a saved model.

run, model = train(retrieval.RECIPE, settings, "runs/mine", progress=console_progress)
"""

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from thinkrank._lock import locked
from thinkrank.distributed.world import SINGLE, World
from thinkrank.options import spelt
from thinkrank.pretrained import MODEL, is_saved
from thinkrank.recipes import own
from thinkrank.recipes.base import (
    EvaluationOptions,
    Phase,
    Recipe,
    is_trained,
    load_model,
    notices_of,
    phases_of,
)
from thinkrank.recipes.baselines import crowd_bytes
from thinkrank.recipes.layers import resumed, run_config
from thinkrank.recipes.plan import Plan, counts_of, lean, rehearsed, saved_bytes, training_of, work_title
from thinkrank.training import Progress, Run, no_progress
from thinkrank.training.progress import Expected, estimated, retitled
from thinkrank.training.rehearsal import Measured
from thinkrank.training.run import FollowingRun, is_begun, read_manifest

logger = logging.getLogger(__name__)

LOADING, MEASURING = "loading the model", "measuring what steps take here"
MEASURING_END = "measuring what follows"


def train(
    recipe: Recipe,
    settings: Any,
    folder: str | Path,
    *,
    split: Any = None,
    device: str = "auto",
    world: World = SINGLE,
    progress: Progress = no_progress,
    measure: bool = False,
) -> tuple[Run, Any]:
    """Train a stage, or go on where the folder's run was interrupted, or only load what it finished.

    Args:
        recipe: of the stage.
        settings: of the run.
        folder: of the run; another process that trains there is not disturbed.
        split: the data of the settings, if it is loaded already.
        device: auto, cpu, cuda, cuda:1 or mps.
        world: the processes that train together; the first one saves, and returns what is saved, the others what they
            trained.
        progress: how to show the work.
        measure: measure first what steps and validations take on this machine, say so, and have validations that take
            at most a fifth of the time, where their number and samples are not set. The run keeps what was chosen.

    Raises:
        ThinkrankError: if the folder holds a run with other settings or of other data, or another process trains there.
    """
    folder = Path(folder)
    with locked(folder) if world.is_first else nullcontext():
        work = world.ahead(lambda: _Work(recipe, settings, folder, split, world.device or device, world, progress))
        if world.broadcast(is_trained(folder)):
            logger.info("%s holds the finished training of these settings: reusing it", folder)
            return work.opened(folder), load_model(recipe, work.settings, folder / MODEL, device=device)
        return work.trained(folder, measure=measure)


@dataclass(frozen=True)
class Planned:
    """Hold what a run would be.

    Attributes:
        settings: complete.
        text: the plan in one line.
        seconds: of each piece of the run, by its title; empty if nothing was measured.
        figures: hours, tokens, bytes on the device and on disk, for each of the ranks; empty if nothing was measured.
    """

    settings: Any
    text: str
    figures: Mapping[str, float]
    seconds: Mapping[str, float] = field(default_factory=dict)


def planned(
    recipe: Recipe,
    settings: Any,
    split: Any,
    *,
    device: str = "auto",
    ranks: int = 1,
    judging: EvaluationOptions | None = None,
    seconds: float = 20.0,
    progress: Progress = no_progress,
) -> Planned:
    """Measure steps and validations, and tell what a run would be; nothing is written.

    Where a known language model is not on this machine, one layer of its shape is measured: see `foreseen`.

    Args:
        recipe: of the stage.
        settings: of the run.
        split: the data of the settings.
        device: auto, cpu, cuda, cuda:1 or mps.
        ranks: processes that would share every step, each as fast as this one.
        judging: how the run will be judged; None for a run that only trains.
        seconds: that steps of each training may take, one at least; each rehearsal of what follows has half of it.
        progress: how to show the work.
    """
    work = _Work(recipe, settings, None, split, device, SINGLE, progress)
    from thinkrank.language.shapes import absent_shape
    from thinkrank.recipes.foreseen import foreseen

    if shape := absent_shape(getattr(getattr(work.settings, "model", None), "backbone", "")):
        text, figures = foreseen(work.settings, work.split, shape, device, ranks)
        return Planned(work.settings, f"{counts_of(work.settings, work.split)} · {text}", figures)
    began = time.perf_counter()
    model = work.begun()
    loading = {LOADING: Expected(1, time.perf_counter() - began)}
    plan = work.measured(model, seconds)
    if not plan.measured:
        return Planned(work.settings, plan.told(work.phases), {})
    crowd = getattr(work.settings, "crowd", ())
    saved = saved_bytes(model) + (crowd_bytes(crowd, len(split.dataset.catalogue)) if crowd else 0)
    shared = {title: measured.shared(ranks) for title, measured in plan.measured.items()}
    with progress(MEASURING_END, 0):
        ending = recipe.ending(work.settings, work.split, model, judging, seconds / 2)
    plan = replace(plan, measured=shared, finishing=ending, saved=saved, ranks=ranks, beginning=loading)
    took = {title: piece.seconds() for title, piece in plan.pieces(work.phases).items()}
    return Planned(work.settings, plan.told(work.phases), plan.figures(work.phases), took)


@dataclass
class _Work:
    """A run in progress; without a folder it is only planned."""

    recipe: Recipe
    settings: Any
    folder: Path | None
    split: Any
    device: str
    world: World
    progress: Progress

    def __post_init__(self) -> None:
        chosen, given = self.settings.stage_class, self.settings.given
        self.own = None  # a class that does not fit is refused before there is a run
        if chosen is not None and not (self.folder and is_trained(self.folder)):
            self.own = own.create(chosen, self.recipe.stage)
        self.split = self.settings.data.load_split(self.folder) if self.split is None else self.split
        self.settings = self.recipe.sized(self.settings, self.split)
        self.is_new = self.folder is None or not is_begun(self.folder)
        if self.folder is not None and not self.is_new:
            self.settings = resumed(self.settings, self.folder)
        self.manifest = {
            "split": self.split.manifest(),
            "seed": self.recipe.seed(self.settings),
            "device": self.device,
            "given": sorted(given),
            "notices": list(notices_of(self.split)),
        }

    @property
    def phases(self) -> Sequence[Phase]:
        """Return the trainings of the settings."""
        return phases_of(self.recipe, self.settings, self.split)

    def begun(self) -> Any:
        """Return the model that the first training begins with."""
        if self.own is not None:
            return self.own
        with self.progress(LOADING, 0):
            return self.recipe.create(self.settings, self.split, device=self.device, progress=self.progress)

    def measured(self, model: Any, seconds: float = 0.0) -> Plan:
        """Measure the trainings, and choose validations that are worth their time."""
        if self.settings.stage_class is not None:
            return Plan(counts_of(self.settings, self.split), {})
        with self.progress(MEASURING, 0):
            measured = rehearsed(self.phases, model, seconds, self.world)
            told = self.world.broadcast({title: asdict(one) for title, one in measured.items()})
            found = {title: Measured(**values) for title, values in told.items()}
            self.settings = lean(self.settings, self.phases, found)
            finishing = self.recipe.finishing(self.settings, self.split) if self.world.is_first else {}
        return Plan(counts_of(self.settings, self.split), found, finishing)

    def opened(self, folder: Path, inside: Phase | None = None) -> Run:
        """Open the folder of the run, or of a later training inside it."""
        values = self.settings
        if inside is not None:
            folder, values = folder / inside.folder, inside.options
        if not self.world.is_first:
            return FollowingRun(folder, self.world)
        made_from = {**self.manifest, "seed": getattr(values, "seed", self.manifest["seed"])}
        config = run_config(folder) if is_begun(folder) else spelt(values) | {"report_to": None}
        return Run(folder, config, made_from, report_to=self.settings.report_to or (), world=self.world)

    def trained(self, folder: Path, *, measure: bool) -> tuple[Run, Any]:
        """Bring every training to its end, and save what answers."""
        chosen = self.settings.stage_class
        starts = [n for n, phase in enumerate(self.phases) if phase.start and is_saved(folder / phase.start)]
        starts = self.world.broadcast(starts)
        first = starts[-1] if starts else 0
        told = {} if self.is_new else read_manifest(folder).get("measured", {})
        found = {title: Measured(**values) for title, values in told.items()}
        plan = Plan(counts_of(self.settings, self.split), found)
        if starts:
            with self.progress(LOADING, 0):
                start = folder / self.phases[first].start
                model = load_model(self.recipe, self.settings, start, device=self.device)
        else:
            model = self.begun()
        if measure and self.is_new:
            plan = self.measured(model)
            self.manifest["measured"] = {title: value.as_dict() for title, value in plan.measured.items()}
        phases = self.phases
        if measure:
            logger.info("%s", plan.told(phases[first:]))
        run = self.opened(folder)
        with estimated(plan.pieces(phases[first:]) if plan.measured else {}):
            for phase in phases[first:]:
                if phase.start and not is_saved(folder / phase.start) and self.world.is_first:
                    model.save_pretrained(folder / phase.start)
                log = self.opened(folder, phase) if phase.folder else run
                if phase.title in plan.measured:
                    log.ending = plan.measured[phase.title].ending(training_of(phase))
                phase.train(model, log, retitled(self.progress, work_title(phase)))
            if chosen is None and self.world.is_first:
                model = self.recipe.completed(self.settings, self.split, model, self.progress, folder)
        if self.world.is_first:
            if chosen is None:
                model.save_pretrained(folder / MODEL)
            else:
                own.save(chosen, model, folder / MODEL)
        self.world.first(lambda: None)  # however long the first one takes
        return run, model
