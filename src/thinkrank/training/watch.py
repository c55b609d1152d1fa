"""Whether a reinforcement has anything to learn from, and whether it is better than where it began."""

import logging
from dataclasses import dataclass, field
from typing import Any

PATIENCE = 3
"""Batches in a row without anything to learn, after which it is said."""

MOST_TIED = 0.95
"""Share of groups with equal rewards from which on a batch teaches nothing."""

ROUNDING = 1e-6
"""Largest advantage, or norm of a gradient, that is no more than rounding."""

logger = logging.getLogger(__name__)


@dataclass
class Watch:
    """Watch a reinforcement, and warn once of each fault.

    Attributes:
        way_out: what a user may set where batches teach nothing.
        silent: batches in a row that taught nothing.
        start: the validation before the first step; None before it.
        told: faults that were told already.
    """

    way_out: str
    silent: int = 0
    start: float | None = None
    told: list[str] = field(default_factory=list)

    def batch(self, step: int, *, tied: float, advantage: float, gradient: float | None = None) -> None:
        """Look at a batch.

        Args:
            step: its number.
            tied: share of its groups whose rewards are equal.
            advantage: the largest size of one, of what was written.
            gradient: norm of the gradient of what was written; None where it was not measured.
        """
        fault = ""
        if tied >= MOST_TIED:
            fault = f"rewards tie in {tied:.0%} of the groups"
        elif advantage <= ROUNDING:
            fault = "no advantage differs from 0"
        elif gradient is not None and gradient <= ROUNDING:
            fault = "what was written has no gradient"
        self.silent = self.silent + 1 if fault else 0
        if self.silent == PATIENCE:
            self._tell("silent", f"step {step}: nothing to learn from for {PATIENCE} batches, {fault}: {self.way_out}")

    def validation(self, step: int, value: float, keep: str) -> None:
        """Look at a validation; the first one is the start.

        Args:
            step: after which it is.
            value: higher is better.
            keep: which weights the training ends with.
        """
        if self.start is None:
            self.start = value
        elif value < self.start:
            kept = "the start is kept unless a later one is better"
            if keep == "last":
                kept = "with keep = last the last weights stay all the same, keep = best would keep the start"
            self._tell("below", f"step {step}: validation {value:.4f} is below the start's {self.start:.4f}; {kept}")

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must keep."""
        return {"silent": self.silent, "start": self.start, "told": [*self.told]}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned."""
        self.silent, self.start, self.told = state["silent"], state["start"], [*state["told"]]

    def _tell(self, fault: str, message: str) -> None:
        if fault not in self.told:
            self.told.append(fault)
            logger.warning("%s", message)
