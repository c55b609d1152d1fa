"""A training by the clock: what is left to do at its end is counted, and however little time there is, it learns."""

from types import SimpleNamespace

import pytest
import torch

from thinkrank.training import Trainer, TrainerOptions, UnsavedRun, no_progress
from thinkrank.training import trainer as module


class Slow(Trainer[TrainerOptions]):
    """By its clock and the processor's: a step takes 1 and 2 seconds, encoding 30 and 10, a validation 20 and 15."""

    now = 0.0
    busy = 0.0
    encodes = False

    def __init__(self, options: TrainerOptions, run: UnsavedRun) -> None:
        self.weight = torch.nn.Parameter(torch.zeros(2))
        super().__init__([{"params": [self.weight], "lr": 1.0, "weight_decay": 0.0}], [self.weight], options, run)

    def step(self) -> str:
        self.rate = self.learning_rate()
        self.counters.step += 1
        Slow.busy += 2.0
        self.counters.seconds += 1.0
        return ""

    def after_step(self, *, validates: bool) -> None:
        encodes = validates and self.encodes
        self.counters.seconds += 30.0 if encodes else 0.0
        Slow.busy += 10.0 if encodes else 0.0

    def measure(self) -> dict[str, float]:
        Slow.now += 20.0
        Slow.busy += 15.0
        return {"valid": 0.5}

    def weights(self) -> dict[str, torch.Tensor]:
        return {"weight": self.weight.detach()}

    def set_weights(self, tensors) -> None:
        self.weight.detach().copy_(tensors["weight"])


@pytest.fixture
def trained(monkeypatch):
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: Slow.now, process_time=lambda: Slow.busy))

    def train(minutes, *, encodes=False, ending=0.0, **more):
        run = UnsavedRun()
        run.ending = ending
        every = {"validate_every": 10_000, "warmup_steps": 0, **more}
        fit = Slow(TrainerOptions(steps=10_000, max_minutes=minutes, **every), run)
        fit.encodes = encodes
        fit.start()
        fit.train(no_progress)
        return fit

    return train


def test_the_last_validation_is_within_the_minutes(trained):
    fit = trained(2.0)
    assert fit.counters.step == 81  # 20 s before, 20 s at the end, and the step by which the time is seen to be over
    assert fit.counters.seconds == 121.0
    assert fit.rate == pytest.approx(0.05, abs=0.02)  # the rate has come down with the time


def test_the_last_encoding_is_too_where_it_was_measured_before(trained):
    fit = trained(2.0, encodes=True, ending=50.0)
    assert fit.counters.seconds == 121.0
    assert fit.counters.step == 51


def test_less_time_than_a_validation_takes_still_trains_for_a_third_of_it(trained):
    fit = trained(0.25)
    assert fit.counters.step == 6
    assert "0.25 minutes are over" in fit.counters.stopped


def test_minutes_of_the_processor_count_steps_alone_and_no_clock_on_the_wall(trained):
    fit = trained(None, validate_every=7, max_cpu_minutes=1.0)
    assert fit.counters.step == 31  # two seconds each, and the step by which the time is seen to be over
    assert fit.counters.cpu_seconds == 62.0  # the five validations left out
    assert fit.run.metrics()[-1]["cpu_seconds"] == 62.0
    assert fit.rate == pytest.approx(0.05, abs=0.02)
    assert "1 minutes of the processor are over" in fit.counters.stopped
    fit = trained(None, validate_every=7, max_cpu_minutes=1.0, encodes=True)
    assert (fit.counters.step, fit.counters.cpu_seconds) == (16, 62.0)  # the last of three encodings is within it
    fit = trained(600.0, validate_every=7, max_cpu_minutes=1.0)
    assert "1 minutes of the processor are over" in fit.counters.stopped
