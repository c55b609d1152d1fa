"""What a run will do, how long that takes here and how much memory it needs: told before it begins.

Each training is rehearsed: a step or two, a little of a validation, and the model is as it was before. From what that
took come the estimate, and validations that cost at most a fifth of the time unless somebody set them.
"""

import contextlib
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from thinkrank.distributed.world import SINGLE, World
from thinkrank.errors import ThinkrankError
from thinkrank.recipes.base import Phase
from thinkrank.training.options import TrainerOptions
from thinkrank.training.progress import INSIDE, Expected, duration, no_progress
from thinkrank.training.rehearsal import Measured, Rehearsal, seconds_of

UNKNOWN = "unknown yet"
_FEWEST = 32
"""Samples of the smallest work by which a larger one is foreseen."""


@dataclass(frozen=True)
class Plan:
    """Hold what a run will do.

    Attributes:
        counts: of the data, in words.
        measured: costs of the trainings that could be measured, by their titles.
        finishing: what follows the trainings, by the titles that its progress has.
        saved: bytes of the model; 0 where nobody looked.
        ranks: processes that share each step evenly.
        beginning: what precedes the trainings.
    """

    counts: str
    measured: Mapping[str, Measured]
    finishing: Mapping[str, Expected] = field(default_factory=dict)
    saved: int = 0
    ranks: int = 1
    beginning: Mapping[str, Expected] = field(default_factory=dict)

    def pieces(self, phases: Sequence[Phase]) -> dict[str, Expected]:
        """Return the pieces of work that the run is, by the titles that its progress has.

        A training that cannot be measured before an earlier one has ended is taken to be like the costliest measured.
        """
        found: dict[str, Expected] = {}
        likely = max(self.measured.values(), key=lambda measured: measured.step, default=None)
        for phase in phases:
            measured = self.measured.get(phase.title, likely)
            if measured is not None:
                found |= measured.expected(work_title(phase), training_of(phase))
        return {**self.beginning, **found, **self.finishing}

    def told(self, phases: Sequence[Phase]) -> str:
        """Write the plan in one line."""
        parts, pieces = [self.counts], self.pieces(phases)
        parts += [f"{title} ≈ {duration(piece.seconds())}" for title, piece in self.beginning.items()]
        for phase in phases if self.measured or self.finishing else ():
            title, options = work_title(phase), training_of(phase)
            is_known = phase.title in self.measured
            seconds = pieces[title].seconds() if title in pieces else 0.0
            parts.append(f"{title} {options.steps:,} steps ≈ {duration(seconds) if is_known else UNKNOWN}")
            if is_known and (count := self.measured[phase.title].validations(options)):
                validations = pieces[f"{title}{INSIDE}"].seconds()
                parts.append(f"{count} validation{'s' if count > 1 else ''} ≈ {duration(validations)}")
        parts += [f"{title} ≈ {duration(piece.seconds())}" for title, piece in self.finishing.items()]
        whole = sum(piece.seconds() for piece in pieces.values())
        if not phases and not pieces:
            return f"{self.counts} · nothing to train: no training has a step"
        if not pieces:
            return self.counts
        if not self.saved:
            return " · ".join([*parts, f"about {duration(whole)}, {memory() / 1e9:.1f} GB"])
        figures = self.figures(phases)
        each = f" for each of {self.ranks} ranks" if self.ranks > 1 else ""
        return " · ".join(
            [
                *parts,
                f"about {duration(whole)} ({figures['hours']:.2f} h)",
                f"{figures['tokens']:,.0f} tokens{each}",
                f"{figures['device_bytes'] / 1e9:.1f} GB of memory{each}",
                f"{figures['disk_bytes'] / 1e6:,.1f} MB on disk",
            ]
        )

    def figures(self, phases: Sequence[Phase]) -> dict[str, float]:
        """Return hours, bytes on the device, on disk, and the tokens of all steps, those of each rank."""
        known = [(phase, self.measured[phase.title]) for phase in phases if phase.title in self.measured]
        figures = {
            "ranks": self.ranks,
            "hours": sum(piece.seconds() for piece in self.pieces(phases).values()) / 3600,
            "tokens": sum(measured.tokens * _steps(phase, measured) for phase, measured in known),
            "device_bytes": memory(),
            "disk_bytes": self.saved + sum(measured.checkpoint for _, measured in known),
        }
        return {name: float(value) for name, value in figures.items()}


def work_title(phase: Phase) -> str:
    """Return what progress calls a training."""
    return phase.title if phase.title[1:] != phase.title[1:].lower() else phase.title.lower()


def _steps(phase: Phase, measured: Measured) -> float:
    """Count the steps of a training, those that its time leaves."""
    piece = measured.expected(work_title(phase), training_of(phase))[work_title(phase)]
    return piece.seconds() / piece.rate


def training_of(phase: Phase) -> TrainerOptions:
    """Return how a phase trains; a class of the user's own has no options that could be foreseen."""
    return cast(TrainerOptions, phase.options)


def rehearsed(phases: Sequence[Phase], model: Any, seconds: float = 0.0, world: World = SINGLE) -> dict[str, Measured]:
    """Measure trainings of a model that is left as it was; one that needs what an earlier one makes is left out.

    Args:
        phases: the trainings.
        model: that they begin with.
        seconds: that the steps of each may take; with 0 there are one or two.
        world: the processes that share what is measured as they share the training.
    """
    found = {}
    for phase in phases:
        run = Rehearsal(world)
        run.seconds = seconds
        with tempfile.TemporaryDirectory() as folder, quiet():
            run.folder = Path(folder)
            with contextlib.suppress(ThinkrankError):  # what is wrong is told when the training begins
                phase.train(model, run, no_progress)
        if run.measured is not None:
            found[phase.title] = run.measured
    return found


def straight(work: Callable[[int], object], whole: int, seconds: float) -> float:
    """Do a work in doubling sizes, and return the seconds of the whole by a line through what they took.

    Args:
        work: does it for so many samples; what it makes only once is not counted.
        whole: samples.
        seconds: after which no larger size is begun; two are done at least.
    """
    sizes, took = [min(_FEWEST, whole)], []
    with quiet():
        work(sizes[0])
        took.append(seconds_of(partial(work, sizes[0])))
        while sizes[-1] < whole and (len(took) < 2 or sum(took) < seconds):
            sizes.append(min(2 * sizes[-1], whole))
            took.append(seconds_of(partial(work, sizes[-1])))
    if sizes[-1] == whole:
        return took[-1]
    slope, _ = np.polyfit(sizes, took, 1)
    return took[-1] + max(0.0, float(slope)) * (whole - sizes[-1])


def lean(settings: Any, phases: Sequence[Phase], measured: Mapping[str, Measured]) -> Any:
    """Return the settings with validations that take no more than their share, where nobody set them."""
    changed, given = {}, settings.given
    for phase in phases:
        if phase.title not in measured:
            continue
        table = next(name for name in type(settings).model_fields if getattr(settings, name) is phase.options)
        known = {key for key in type(phase.options).model_fields if f"{table}.{key}" not in given}
        found = measured[phase.title].lean(training_of(phase), known.__contains__)
        if found:
            changed[table] = phase.options.model_copy(update=found)
    return settings.model_copy(update=changed)


def counts_of(settings: Any, split: Any) -> str:
    """Count what a run learns from, in words."""
    prompt = getattr(settings.model, "prompt", None) if settings.stage_class is None else None
    noun = getattr(prompt, "noun", "item")
    train, dataset = split.train, getattr(split, "dataset", None)
    if dataset is None:
        return f"{len(train):,} lists, {len(train.catalogue):,} {noun}s"
    users = len(np.unique(train.users))
    return f"{users:,} users, {len(dataset.catalogue):,} {noun}s, {len(train):,} examples"


def saved_bytes(model: Any) -> int:
    """Save a model for a moment, and return the bytes that it takes."""
    with tempfile.TemporaryDirectory() as folder, quiet():
        model.save_pretrained(Path(folder))
        return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())


def memory() -> float:
    """Return the bytes that this process has taken at most, on the GPU if it used one; 0 where nobody tells."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return float(torch.cuda.max_memory_allocated())
    if sys.platform == "win32":
        return 0.0
    import resource  # which Windows lacks

    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what the package says of itself off the screen until the end of the block."""
    logger = logging.getLogger("thinkrank")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
