"""What a training will take, measured on this machine in seconds, before it begins."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from thinkrank.training.options import TrainerOptions
from thinkrank.training.progress import INSIDE, Expected
from thinkrank.training.run import UnsavedRun

SHARE = 0.2
"""Of a training's time that validations may take at most, unless their number or samples were given."""
FEWEST_SAMPLES = 32
"""Validation samples that are left at least: on fewer the best weights are luck."""


@dataclass(frozen=True)
class Measured:
    """Hold what a training costs here.

    Attributes:
        step: seconds of a step.
        encoding: seconds of what has to be done between a step and a validation.
        validation: seconds of validating one sample, in every way that validations answer.
        samples: that a validation looked at when it was measured.
        validates_first: whether there is a validation before the first step.
        tokens: that language models read and write in a step.
        checkpoint: bytes of a checkpoint.
        cpu: seconds of the processor, all threads, that a step takes.
        encoding_cpu: the same of what has to be done between a step and a validation.
    """

    step: float
    encoding: float
    validation: float
    samples: int
    validates_first: bool
    tokens: int = 0
    checkpoint: int = 0
    cpu: float = 0.0
    encoding_cpu: float = 0.0

    def looked_at(self, options: TrainerOptions) -> int:
        """Return the samples that a validation looks at; there may be fewer than when it was measured."""
        return min(self.samples, getattr(options, "validation_samples", self.samples))

    def ending(self, options: TrainerOptions) -> float:
        """Return the seconds that a validation takes with what precedes it."""
        return self.encoding + self.validation * self.looked_at(options)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for a manifest."""
        return {key: round(value, 6) if isinstance(value, float) else value for key, value in asdict(self).items()}

    def shared(self, ranks: int) -> "Measured":
        """Return what it costs each of several processes that share every step evenly."""
        return replace(self, step=self.step / ranks, tokens=round(self.tokens / ranks))

    def validations(self, options: TrainerOptions) -> int:
        """Count the validations of a training."""
        return (math.ceil(options.steps / options.validate_every) + self.validates_first) if self.samples else 0

    def expected(self, title: str, options: TrainerOptions) -> dict[str, Expected]:
        """Return the pieces of work that a training is, by the titles that its progress has."""
        count, limit = self.validations(options), None
        samples, ending = self.looked_at(options), self.ending(options)
        if options.max_minutes is not None:
            limit = max(60 * options.max_minutes - count * ending, 20 * options.max_minutes)
        return {
            title: Expected(options.steps, self.step, limit),
            f"{title}{INSIDE}": Expected(count * samples, ending / max(1, samples)),
        }

    def lean(self, options: TrainerOptions, is_free: Callable[[str], bool]) -> dict[str, int]:
        """Say what keeps validations within their share of the time: fewer samples first, then fewer validations.

        Args:
            options: of the training.
            is_free: tells of a setting's name whether nobody gave it.

        Returns:
            the settings to change, none if validations are cheap enough.
        """
        steps = options.steps * self.step
        whole = steps if options.max_minutes is None else min(steps, (1 - SHARE) * 60 * options.max_minutes)
        allowed = whole * SHARE / (1 - SHARE)
        samples, every = self.samples, options.validate_every

        def count() -> int:
            return math.ceil(options.steps / every) + self.validates_first

        def cost() -> float:
            return count() * (self.encoding + self.validation * samples)

        if is_free("validation_samples"):
            while cost() > allowed and samples > 2 * FEWEST_SAMPLES:
                samples = max(2 * FEWEST_SAMPLES, samples // 2)
        if is_free("validate_every"):
            while cost() > allowed and every < options.steps:
                every = min(2 * every, options.steps)
        if is_free("validation_samples"):
            samples = min(samples, FEWEST_SAMPLES) if cost() > allowed else samples
        changed = {"validation_samples": (self.samples, samples), "validate_every": (options.validate_every, every)}
        return {name: now for name, (before, now) in changed.items() if now != before}


class Rehearsal(UnsavedRun):
    """Run in which a training only measures itself; the model is afterwards as it was before.

    Attributes:
        measured: what was found.
        seconds: that steps may take; with 0 there are one or two.
    """

    measured: Measured | None = None
    seconds: float = 0.0


def seconds_of(work: Callable[[], object]) -> float:
    """Do something and return the seconds it took."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
