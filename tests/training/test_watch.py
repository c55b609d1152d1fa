"""A reinforcement that learns nothing says so within three batches, once, and keeps its start."""

import logging

import pytest
import torch

from thinkrank.training import Run, Trainer, TrainerOptions, no_progress
from thinkrank.training.watch import Watch


class Worsening(Trainer[TrainerOptions]):
    """Every step adds 1 to the weight, which lowers the validation; what a batch is like is given."""

    def __init__(self, options, run, batches):
        self.weight = torch.nn.Parameter(torch.zeros(1))
        super().__init__([{"params": [self.weight], "lr": 1.0, "weight_decay": 0.0}], [self.weight], options, run)
        self.batches, self.watch = batches, Watch("sample hotter")

    def step(self):
        self.counters.step += 1
        self.watch.batch(self.counters.step, **self.batches[self.counters.step - 1])
        with torch.no_grad():
            self.weight += 1
        return ""

    def measure(self):
        return {"valid": 1 - self.weight.item()}

    def weights(self):
        return {"weight": self.weight.detach()}

    def set_weights(self, tensors):
        self.weight.detach().copy_(tensors["weight"])


FINE = {"tied": 0.5, "advantage": 1.0, "gradient": 0.3}
FAULTS = {
    "rewards tie in 100% of the groups": {"tied": 1.0, "advantage": 0.0},
    "no advantage differs from 0": {"tied": 0.0, "advantage": 2e-9},
    "what was written has no gradient": {"tied": 0.0, "advantage": 1.0, "gradient": 0.0},
}


def trained(folder, batches, keep="best", steps=None):
    options = TrainerOptions(steps=len(batches), validate_every=100, warmup_steps=0, keep=keep, checkpoint_every=1)
    fit = Worsening(options, Run(folder, {}, {}), batches)
    fit.start()
    if steps is None:
        fit.train(no_progress)
    else:
        for _ in range(steps):
            fit.step()
        fit.save()
    return fit


@pytest.mark.parametrize("fault", FAULTS)
def test_three_silent_batches_in_a_row_are_told_once(tmp_path, caplog, fault):
    with caplog.at_level(logging.WARNING):
        trained(tmp_path, [FINE, FAULTS[fault], FAULTS[fault], FINE, *[FAULTS[fault]] * 7])
    told = [record.message for record in caplog.records if "nothing to learn" in record.message]
    assert told == [f"step 7: nothing to learn from for 3 batches, {fault}: sample hotter"]


def test_batches_that_teach_something_are_no_fault(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        trained(tmp_path, [FINE] * 5)
    assert not [record for record in caplog.records if "nothing to learn" in record.message]


@pytest.mark.parametrize(("keep", "weight", "says"), [("best", 0.0, "start is kept"), ("last", 4.0, "keep = best")])
def test_a_validation_below_the_start_is_told_and_the_start_kept(tmp_path, caplog, keep, weight, says):
    with caplog.at_level(logging.WARNING):
        fit = trained(tmp_path, [FINE] * 4, keep)
    (told,) = [record.message for record in caplog.records if "below the start" in record.message]
    assert told.startswith("step 4: validation -3.0000 is below the start's 1.0000")
    assert says in told
    assert fit.weight.item() == weight


def test_a_resumed_run_goes_on_counting_and_repeats_nothing(tmp_path, caplog):
    silent = FAULTS["no advantage differs from 0"]
    trained(tmp_path, [silent] * 6, steps=2)
    with caplog.at_level(logging.WARNING):
        fit = trained(tmp_path, [silent] * 6, steps=1)
        assert "step 3: nothing to learn" in caplog.text
        assert fit.watch.start == 1.0
        caplog.clear()
        trained(tmp_path, [silent] * 6)
    assert "nothing to learn" not in caplog.text
