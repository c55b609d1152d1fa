"""The loop that every training of the package runs in.

The order of examples, the weights and the log are functions of the configuration and the seed, so a run killed at any
moment and started again ends with the same weights, bit for bit on one CPU process.
"""

import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from thinkrank.devices import random_state, set_random_state
from thinkrank.errors import ThinkrankError
from thinkrank.language.counting import counted_tokens
from thinkrank.training.checkpoint import latest_checkpoint, write_checkpoint
from thinkrank.training.optimizer import load_optimizer_tensors, optimizer_tensors
from thinkrank.training.options import AdapterTrainerOptions, TrainerOptions
from thinkrank.training.progress import INSIDE, Advance, Progress, no_progress
from thinkrank.training.rehearsal import Measured, Rehearsal, seconds_of
from thinkrank.training.run import Run
from thinkrank.training.schedule import warmup_factor
from thinkrank.training.watch import Watch

OptionsT = TypeVar("OptionsT", bound=TrainerOptions)
AdapterOptionsT = TypeVar("AdapterOptionsT", bound=AdapterTrainerOptions)

_QUICK = 2.0
"""Seconds of a step below which a second one is measured."""

logger = logging.getLogger(__name__)


class DivergedError(ThinkrankError):
    """Tell that what is learnt is no number any more: its settings are at fault, and nothing else."""


@dataclass
class Counters:
    """Hold what a resumed run must remember beside its tensors.

    Attributes:
        step: steps made.
        examples: predictions, or lists, trained on.
        tokens: tokens read with gradient; 0 where no language model is trained.
        drawn: training samples drawn so far, where a step draws samples.
        seconds: of training, validations included.
        cpu_seconds: of the processor, all threads, that steps and the encoding behind them took, validations left out.
        first: of those, the seconds before the first step.
        ending: seconds that what follows a step took at most, which the last step needs too.
        cpu_ending: the same of the processor's, validations left out.
        best: highest value of a validation; None before the first.
        best_step: where it was.
        validations_since_best: for `patience`.
        stopped: why the run ended early; empty if it has not.
    """

    step: int = 0
    examples: int = 0
    tokens: int = 0
    drawn: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    first: float = 0.0
    ending: float = 0.0
    cpu_ending: float = 0.0
    best: float | None = None
    best_step: int = 0
    validations_since_best: int = 0
    stopped: str = ""


class Trainer(ABC, Generic[OptionsT]):
    """One training in progress: what a method adds is a step, a validation, and what its weights are.

    Args:
        groups: of the optimiser, each with ``params``, ``lr`` and ``weight_decay``.
        clipped: parameters whose gradient is clipped.
        options: how to train.
        run: the folder for checkpoints and the log. Of several processes each takes its share of a step, by `world`.
    """

    betas: tuple[float, float] = (0.9, 0.99)
    """Decay rates of AdamW's two moments."""
    validates_first = True
    """Whether the untrained weights are validated too, and kept if none were better."""
    title = "training"
    """The name that progress shows."""
    validation_size = 1
    """Samples that a validation looks at, which `measure` counts by `validated`."""
    clipped_apart: Sequence[Tensor] = ()
    """Parameters whose gradient is clipped by a norm of its own."""
    watch: Watch | None = None
    """Warns of a reinforcement that learns nothing; None where there is no reinforcement."""

    def __init__(
        self,
        groups: Sequence[dict[str, Any]],
        clipped: Sequence[Tensor],
        options: OptionsT,
        run: Run,
    ) -> None:
        self.options, self.run, self.world = options, run, run.world
        self.counters = Counters()
        self.clipped = clipped
        self.rates = [group["lr"] for group in groups]
        self.optimizer = torch.optim.AdamW(groups, betas=self.betas)
        self.progress: Progress = no_progress
        self.validated: Advance = _uncounted
        self.best: dict[str, Tensor] = {}
        self.clock: dict[str, float] = {}
        self.chances = 0

    @abstractmethod
    def step(self) -> str:
        """Make one step and return a short note on it for the progress bar."""

    @abstractmethod
    def weights(self) -> dict[str, Tensor]:
        """Return everything training changes, as live tensors."""

    @abstractmethod
    def set_weights(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy what `weights` returned back into the model."""

    @abstractmethod
    def measure(self) -> dict[str, Any]:
        """Validate. The first value, higher is better, chooses the best weights; none if nothing is held out."""

    def prepare(self) -> None:
        """Decide what is decided before the first step."""

    def extra_tensors(self) -> dict[str, Tensor]:
        """Return what else a checkpoint must keep."""
        return {}

    def restore_extra(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `extra_tensors` gave."""

    def extra_state(self) -> dict[str, Any]:
        """Return what else a checkpoint must keep that is no tensor, as plain JSON values."""
        return {}

    def restore_state(self, state: dict[str, Any]) -> None:
        """Take back what `extra_state` gave."""

    def after_step(self, *, validates: bool) -> None:
        """Do what has to be done between a step and the validation that may follow it."""

    def start(self) -> None:
        """Continue from the newest checkpoint, or prepare a fresh run."""
        checkpoint = latest_checkpoint(self.run.checkpoints) if self.run.saves else None
        if checkpoint is None:
            torch.manual_seed(self.options.seed)
            self.prepare()
            self.world.same_(self.weights().values())
            self.run.rewind(-1)
            if self.validates_first:
                self.validate()
            self.counters.first = self.counters.seconds
            self.counters.ending = max(self.counters.first, self.run.ending)
            return
        self.set_weights(under("now/", checkpoint.tensors))
        self.best = under("best/", checkpoint.tensors)
        self.restore_extra(under("extra/", checkpoint.tensors))
        load_optimizer_tensors(self.optimizer, checkpoint.tensors)
        self._set_chance(checkpoint.tensors)
        state = dict(checkpoint.state)
        self.restore_state(state.pop("extra", {}))
        if self.watch is not None and "watch" in state:
            self.watch.restore(state["watch"])
        state.pop("watch", None)
        self.counters = Counters(**state)
        self.run.rewind(checkpoint.step)

    def finish(self) -> None:
        """Do what is left to do with the final weights."""

    def rehearse(self) -> Measured:
        """Measure what steps and validations take here; weights and chance are afterwards as they were before.

        What `prepare` decides once costs as much as several steps and changes none of their times, so it is left out.
        """
        kept = {name: tensor.clone() for name, tensor in self.weights().items()}
        chance = self._chance()
        budget = getattr(self.run, "seconds", 0.0)
        try:
            torch.manual_seed(self.options.seed)
            began = time.process_time()
            step, count = self._step_seconds(), 1
            if step < _QUICK or budget:  # the first one also pays for what is made only once
                began = time.process_time()
                step, count = self._step_seconds(), 1
                while step + step / count < budget and count < self.options.steps:
                    step, count = step + self._step_seconds(), count + 1
            cpu = (time.process_time() - began) / count
            with counted_tokens() as read:
                if budget:  # a step of its own, since counting costs time
                    self.step()
            checkpoint = sum(tensor.nbytes for tensor in self.held().values())
            if self.options.keep == "best":
                checkpoint += sum(tensor.nbytes for tensor in kept.values())
            began = time.process_time()
            encoding = seconds_of(lambda: self.after_step(validates=True))
            encoding_cpu = time.process_time() - began
            samples, seconds = self.rehearse_validation()
        finally:
            self.set_weights(kept)
            self._set_chance(chance)
        times = {"cpu": cpu, "encoding_cpu": encoding_cpu}
        return Measured(
            step / count, encoding, seconds, samples, self.validates_first, read.tokens, checkpoint, **times
        )

    def _step_seconds(self) -> float:
        """Make a step and return the seconds it took the first process."""
        return self.world.broadcast(seconds_of(self.step))

    def rehearse_validation(self) -> tuple[int, float]:
        """Return how many samples a validation looks at, and the seconds of one; here the whole counts as one."""
        row: dict[str, Any] = {}
        seconds = seconds_of(lambda: row.update(self.measure()))
        return (1, seconds) if row else (0, 0.0)

    def train(self, progress: Progress) -> None:
        """Step, validate and save as the options say, until the last step, the time limit or `patience`."""
        options, counters = self.options, self.counters
        with progress(self.title, options.steps) as advance:
            advance(counters.step)
            while counters.step < options.steps and not counters.stopped:
                self.chances = 0
                with self._on_cpu():
                    note = self.step()
                if self.time_share() > 1 and counters.step < options.steps:
                    counters.stopped = self.limit_reached()
                last = counters.step == options.steps or bool(counters.stopped)
                validates = last or counters.step % options.validate_every == 0
                before, cpu_before = counters.seconds, counters.cpu_seconds
                with self._on_cpu():
                    self.after_step(validates=validates)
                counters.cpu_ending = max(counters.cpu_ending, counters.cpu_seconds - cpu_before)
                if last:
                    self.log()
                if validates:
                    self.validate()
                counters.ending = max(counters.ending, counters.seconds - before)
                if last or counters.stopped or counters.step % options.checkpoint_every == 0:
                    self.save()
                advance(1, note=note if counters.best is None else f"{note}, best validation {counters.best:.4f}")
        if counters.stopped:
            logger.warning("training stopped after %d of %d steps: %s", counters.step, options.steps, counters.stopped)
        if self.best:
            self.set_weights(self.best)
            if counters.step > counters.best_step == 0:
                logger.warning("no validation was better than that before the first step, so nothing learnt was kept")
        self.finish()

    def apart(self) -> AbstractContextManager[None]:
        """Let each of several processes draw dropout and the like on its own: it must not be the same everywhere."""
        self.chances += 1
        return self.world.apart(self.options.seed, self.counters.step, self.chances)

    def time_share(self) -> float:
        """Return the share that is spent of `max_minutes` or of `max_cpu_minutes`, what the end will take included.

        The larger of the two; 0 without a limit. Of several processes the first one's clock counts for all.
        """
        options, counters, share = self.options, self.counters, 0.0
        if options.max_cpu_minutes is not None:
            least = 30 * options.max_cpu_minutes  # half of it is for learning
            share = counters.cpu_seconds / max(least, 60 * options.max_cpu_minutes - counters.cpu_ending)
        if options.max_minutes is not None:
            least = counters.first + 20 * options.max_minutes  # validations leave a third for learning
            share = max(share, counters.seconds / max(least, 60 * options.max_minutes - counters.ending))
        return self.world.broadcast(share) if share else 0.0

    def limit_reached(self) -> str:
        """Say which limit of time is over, by the first process's clock."""
        of_cpu, of_clock = self.options.max_cpu_minutes, self.options.max_minutes
        is_cpu = of_clock is None or (
            of_cpu is not None and self.counters.cpu_seconds + self.counters.cpu_ending > 60 * of_cpu
        )
        told = f"{of_cpu:.4g} minutes of the processor are over" if is_cpu else f"{of_clock:.4g} minutes are over"
        return self.world.broadcast(told)

    def learning_rate(self) -> float:
        """Set the rates of this step and return the first group's; they end with the steps, or with the time."""
        options = self.options
        factor = warmup_factor(
            self.counters.step,
            warmup_steps=options.warmup_steps,
            total_steps=options.steps,
            decay=options.schedule,
            time_share=self.time_share(),
        )
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        return self.rates[0] * factor

    def update(self) -> float:
        """Add up the gradients of all processes, clip, step the optimiser, and return the norm before clipping.

        Raises:
            DivergedError: if the gradient is not finite.
        """
        self.world.sum_gradients_([one for group in self.optimizer.param_groups for one in group["params"]])
        clipped = (one for one in (self.clipped, self.clipped_apart) if one)
        norms = [torch.nn.utils.clip_grad_norm_(one, self.options.grad_clip).item() for one in clipped]
        norm = math.hypot(*norms) if len(norms) > 1 else sum(norms)
        if not math.isfinite(norm):
            raise DivergedError(
                f"the gradient of step {self.counters.step + 1} is not finite: lower learning_rate and start anew"
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        return norm

    def validate(self) -> None:
        """Measure, log, keep the best weights, and stop when `patience` is over."""
        started, counters, options = time.perf_counter(), self.counters, self.options
        with self.progress(f"{self.title}{INSIDE}", self.validation_size) as advance:
            self.validated = advance
            row = self.measure()
        if not row:
            return
        value = self.world.broadcast(float(next(iter(row.values()))))
        if self.watch is not None:
            self.watch.validation(counters.step, value, options.keep)
        if counters.best is None or value > counters.best:
            counters.best, counters.best_step, counters.validations_since_best = value, counters.step, 0
            if options.keep == "best":
                self.best = {name: tensor.clone() for name, tensor in self.weights().items()}
        else:
            counters.validations_since_best += 1
        counters.seconds += time.perf_counter() - started
        self.log(**row)
        waited = options.patience is not None and counters.validations_since_best >= options.patience
        if waited and counters.step < options.steps:
            counters.stopped = f"no better validation in {options.patience} tries"

    def save(self) -> None:
        """Write a checkpoint, if this process writes and there is a folder to write into."""
        if not self.world.is_first or not self.run.saves:
            return
        self.run.flush()  # a resumed run makes no row again of a step that is behind it
        extra = self.extra_state()
        watch = {} if self.watch is None else {"watch": self.watch.state()}
        state = {**vars(self.counters), **({"extra": extra} if extra else {}), **watch}
        write_checkpoint(self.run.checkpoints, self.counters.step, self.held(), state)

    def held(self) -> dict[str, Tensor]:
        """Return every tensor that a checkpoint holds now."""
        return {
            **{f"now/{name}": tensor for name, tensor in self.weights().items()},
            **{f"best/{name}": tensor for name, tensor in self.best.items()},
            **{f"extra/{name}": tensor for name, tensor in self.extra_tensors().items()},
            **optimizer_tensors(self.optimizer),
            **self._chance(),
        }

    def _generators(self) -> dict[str, torch.device]:
        """Return where chance is drawn, by what a checkpoint calls its state there."""
        device = self.optimizer.param_groups[0]["params"][0].device
        return {"torch_rng": torch.device("cpu")} | ({} if device.type == "cpu" else {f"{device.type}_rng": device})

    def _chance(self) -> dict[str, Tensor]:
        """Return the states of chance."""
        return {name: random_state(device) for name, device in self._generators().items()}

    def _set_chance(self, states: Mapping[str, Tensor]) -> None:
        """Go on with kept chance; another device, or one whose state was not kept, goes on with its own."""
        for name, device in self._generators().items():
            if name in states:
                set_random_state(device, states[name])

    def log(self, **values: Any) -> None:
        """Add figures to this step's row of the run's log."""
        counters = self.counters
        if not self.world.is_first:
            return
        row = {"step": counters.step, "examples": counters.examples, "tokens": counters.tokens}
        clocks = {"seconds": round(counters.seconds, 3), "cpu_seconds": round(counters.cpu_seconds, 3)}
        self.run.log({**row, **clocks, **values})

    @contextmanager
    def _on_cpu(self) -> Iterator[None]:
        """Add the processor's time of a block to the counters."""
        started = time.process_time()
        yield
        self.counters.cpu_seconds += time.process_time() - started

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the wall time of a block to the clock of this name; a step clears `clock` when it begins."""
        started = time.perf_counter()
        yield
        self.clock[name] = self.clock.get(name, 0.0) + time.perf_counter() - started


class AdapterTrainer(Trainer[AdapterOptionsT]):
    """Train a language model's adapter and a head.

    Args:
        adapter: parameters of the language model; their gradient is clipped.
        head: parameters of the head; those that want no gradient are left out.
        options: how to train.
        run: the folder for checkpoints and the log.
    """

    def __init__(self, adapter: Iterable[Tensor], head: Iterable[Tensor], options: AdapterOptionsT, run: Run) -> None:
        self.adapter = list(adapter)
        self.head_parameters = [parameter for parameter in head if parameter.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": self.adapter, "lr": options.learning_rate, "weight_decay": options.weight_decay},
            {"params": self.head_parameters, "lr": options.head_learning_rate, "weight_decay": 0.0},
        ]
        super().__init__([group for group in groups if group["params"]], self.adapter, options, run)

    def learn_alone(self, chosen: Iterable[Tensor]) -> None:
        """Drop the gradients of all parameters but some, so that the next update changes these alone."""
        kept = {id(parameter) for parameter in chosen}
        for parameter in (*self.adapter, *self.head_parameters):
            if id(parameter) not in kept:
                parameter.grad = None


def train(trainer: Trainer[Any], progress: Progress = no_progress) -> Run:
    """Start or resume a training and bring it to its end; in a `Rehearsal` only measure it."""
    if isinstance(trainer.run, Rehearsal):
        trainer.run.measured = trainer.rehearse()
        return trainer.run
    trainer.progress = progress
    try:
        trainer.start()
        trainer.train(progress)
    finally:
        trainer.run.close()
    return trainer.run


def _uncounted(n: int | float = 1, note: str = "") -> None:
    """Count nothing: nobody looks."""


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Select the tensors whose names begin with the prefix, named without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
