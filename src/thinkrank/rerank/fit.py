"""What every training of EGLR shares: optimiser, order of lists, validation, log, checkpoints, the loop around a step.

The order of lists, the draws, the weights and the log are functions of the configuration and the seed, so a run killed
at any moment and started again ends with the same weights, bit for bit on one CPU process.

Shape legend: B lists of a step, V validation lists.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor, nn

from thinkrank.data import ImpressionDataset, ImpressionSplit
from thinkrank.errors import ThinkrankError
from thinkrank.lists import ListBatch, list_batch
from thinkrank.rerank.config import FitOptions
from thinkrank.rerank.model import EGLR
from thinkrank.training import (
    Progress,
    Run,
    latest_checkpoint,
    load_optimizer_tensors,
    no_progress,
    optimizer_tensors,
    warmup_factor,
    write_checkpoint,
)

_VALIDATED_AT_ONCE = 512

OptionsT = TypeVar("OptionsT", bound=FitOptions)

logger = logging.getLogger(__name__)


@dataclass
class Counters:
    """What a resumed run must remember beside its tensors.

    Attributes:
        step: steps made.
        seconds: of training, validations included.
        best: highest value of a validation; None before the first.
        best_step: where it was.
        validations_since_best: for `patience`.
        stopped: why the run ended early; empty if it has not.
    """

    step: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_step: int = 0
    validations_since_best: int = 0
    stopped: str = ""


class Fit(Generic[OptionsT]):
    """One training in progress. A kind of training defines what a step and a validation are.

    Args:
        model: trained in place.
        module: the part of it whose weights change.
        split: train and valid parts are used, test is not touched.
        options: how to train.
        run: the folder for checkpoints and the log.

    Raises:
        ThinkrankError: if the lists have other columns than the model's, or a part has no lists.
    """

    def __init__(self, model: EGLR, module: nn.Module, split: ImpressionSplit, options: OptionsT, run: Run) -> None:
        for name, part in (("train", split.train), ("valid", split.valid)):
            model.schema.check(part)
            if not len(part):
                raise ThinkrankError(f"{part.name}: the {name} part has no lists; choose other shares of the split")
        self.model, self.module, self.split, self.options, self.run = model, module, split, options, run
        self.counters = Counters()
        self.optimizer = torch.optim.AdamW(
            module.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay, betas=(0.9, 0.99)
        )
        self.best: dict[str, Tensor] = {}

    def trainable(self, train: ImpressionDataset) -> Int64[np.ndarray, "M"]:
        """Which lists are worth a step."""
        return np.arange(len(train))

    def prepare(self) -> None:
        """Decide what is decided before the first step."""

    def extra_tensors(self) -> dict[str, Tensor]:
        """What else a checkpoint must keep."""
        return {}

    def restore_extra(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `extra_tensors` gave."""

    def step(self, batch: ListBatch) -> dict[str, Any]:
        """Make one step from some training lists and return what to log of it; its first value is shown."""
        raise NotImplementedError

    def measure(self) -> tuple[float, dict[str, Any]]:
        """Measure on the validation lists: a value, better if higher, and what to log."""
        raise NotImplementedError

    def finish(self) -> None:
        """Do what is left to do with the final weights."""

    def carry_out(self, progress: Progress = no_progress) -> Run:
        """Start or resume the training and bring it to its end."""
        self.start()
        self.train(progress)
        return self.run

    def start(self) -> None:
        """Continue from the newest checkpoint, or begin."""
        checkpoint = latest_checkpoint(self.run.checkpoints)
        if checkpoint is None:
            torch.manual_seed(self.options.seed)
            self.prepare()
            self.run.rewind(-1)
            self.validate()
            return
        self.set_weights(under("now/", checkpoint.tensors))
        self.best = under("best/", checkpoint.tensors)
        self.restore_extra(under("extra/", checkpoint.tensors))
        load_optimizer_tensors(self.optimizer, checkpoint.tensors)
        torch.set_rng_state(checkpoint.tensors["torch_rng"])
        self.counters = Counters(**checkpoint.state)
        self.run.rewind(checkpoint.step)

    def train(self, progress: Progress) -> None:
        """Step, validate and save as the options say, until the last step or `patience`."""
        options, counters = self.options, self.counters
        with progress("training", options.steps) as advance:
            advance(counters.step)
            while counters.step < options.steps and not counters.stopped:
                started = time.perf_counter()
                rate = self.set_rate()
                row = self.step(self.batch(counters.step).to(self.model.device))
                counters.step += 1
                counters.seconds += time.perf_counter() - started
                self.log(**row, learning_rate=rate)
                last = counters.step == options.steps
                if last or counters.step % options.validate_every == 0:
                    self.validate()
                if last or counters.stopped or counters.step % options.checkpoint_every == 0:
                    self.save()
                name, value = next(iter(row.items()))
                advance(1, note=f"{name} {value:.4f}")
        if counters.stopped:
            logger.warning("training stopped after %d of %d steps: %s", counters.step, options.steps, counters.stopped)
        if self.best:
            self.set_weights(self.best)
        self.module.eval()
        self.finish()

    def batch(self, step: int) -> ListBatch:
        """The training lists of a step. Each pass over all of them has its own order, drawn from the seed."""
        lists_M, size = self._trainable, self.options.batch_size
        per_pass = max(1, len(lists_M) // size)
        order = np.random.default_rng([self.options.seed, step // per_pass]).permutation(lists_M)
        start = step % per_pass * size
        return self.read(self.split.train, order[start : start + size])

    @cached_property
    def _trainable(self) -> Int64[np.ndarray, "M"]:
        lists_M = self.trainable(self.split.train)
        if not len(lists_M):
            raise ThinkrankError(f"{self.split.train.name}: no training list has feedback to learn from")
        return lists_M

    @cached_property
    def validation(self) -> list[ListBatch]:
        """The newest validation lists."""
        valid, count = self.split.valid, self.options.validation_lists
        newest_V = np.sort(np.argsort(valid.times_L, kind="stable")[-count:])
        starts = range(0, len(newest_V), _VALIDATED_AT_ONCE)
        return [self.read(valid, newest_V[s : s + _VALIDATED_AT_ONCE]).to(self.model.device) for s in starts]

    def read(self, part: ImpressionDataset, indices_B: Int64[np.ndarray, "B"]) -> ListBatch:
        """Some lists as tensors."""
        history = self.model.config.lists.max_history
        return list_batch(part, indices_B, signal=self.options.signal, max_history=history)

    def random(self) -> torch.Generator:
        """Chance for the draws of the present step, from nothing but the seed and the step."""
        seed = np.random.SeedSequence([self.options.seed, self.counters.step]).generate_state(1, np.uint64)[0]
        return torch.Generator().manual_seed(int(seed >> np.uint64(1)))

    def set_rate(self) -> float:
        """Set the learning rate of this step and return it."""
        options = self.options
        factor = warmup_factor(
            self.counters.step, warmup_steps=options.warmup_steps, total_steps=options.steps, decay=options.schedule
        )
        for group in self.optimizer.param_groups:
            group["lr"] = options.learning_rate * factor
        return options.learning_rate * factor

    def update(self, loss: Tensor) -> float:
        """Go down the gradient of a loss, clipped; returns the gradient's norm before clipping."""
        self.optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.module.parameters(), self.options.grad_clip)
        if not bool(norm.isfinite()):
            raise ThinkrankError(
                f"the gradient of step {self.counters.step + 1} is not finite: lower learning_rate and start anew"
            )
        self.optimizer.step()
        return float(norm)

    def validate(self) -> None:
        """Measure, log, and keep the best weights."""
        started, counters = time.perf_counter(), self.counters
        was_training = self.module.training
        self.module.eval()
        with torch.no_grad():
            value, row = self.measure()
        self.module.train(was_training)
        if counters.best is None or value > counters.best:
            counters.best, counters.best_step, counters.validations_since_best = value, counters.step, 0
            if self.options.keep == "best":
                self.best = {name: tensor.clone() for name, tensor in self.weights().items()}
        else:
            counters.validations_since_best += 1
        counters.seconds += time.perf_counter() - started
        self.log(**row)
        patience = self.options.patience
        waited = patience is not None and counters.validations_since_best >= patience
        if waited and counters.step < self.options.steps:
            counters.stopped = f"no better validation in {patience} tries"

    def save(self) -> None:
        """Write a checkpoint."""
        tensors = {
            **{f"now/{name}": tensor for name, tensor in self.weights().items()},
            **{f"best/{name}": tensor for name, tensor in self.best.items()},
            **{f"extra/{name}": tensor for name, tensor in self.extra_tensors().items()},
            **optimizer_tensors(self.optimizer),
            "torch_rng": torch.get_rng_state(),
        }
        write_checkpoint(self.run.checkpoints, self.counters.step, tensors, vars(self.counters))

    def weights(self) -> dict[str, Tensor]:
        """Everything training changes, as live tensors."""
        return {name: tensor.detach() for name, tensor in self.module.state_dict().items()}

    def set_weights(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy what `weights` returned back."""
        self.module.load_state_dict(tensors)

    def log(self, **values: Any) -> None:
        """Append a row to the run's log."""
        counters = self.counters
        self.run.log({"step": counters.step, "seconds": round(counters.seconds, 3), **values})


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with the prefix, named without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
