"""What a training will take, measured, and validations that are worth their time."""

import pytest

from thinkrank.training import TrainerOptions
from thinkrank.training.options import AdapterTrainerOptions
from thinkrank.training.progress import INSIDE
from thinkrank.training.rehearsal import SHARE, Measured


def share(measured, options, samples):
    """The part of a training's time that validations take, counted by hand."""
    looks = len({0, *range(options.validate_every, options.steps + 1, options.validate_every), options.steps})
    spent = looks * (measured.encoding + measured.validation * samples)
    return spent / (spent + options.steps * measured.step)


@pytest.mark.parametrize(
    ("step", "encoding", "validation"), [(0.5, 1.0, 0.01), (0.5, 1.0, 0.4), (1.0, 0.0, 0.2), (0.2, 0.5, 0.05)]
)
def test_validations_take_at_most_a_fifth_of_the_time(step, encoding, validation):
    options = AdapterTrainerOptions(steps=400, validate_every=50)
    measured = Measured(step, encoding, validation, 300, True)
    changed = measured.lean(options, lambda name: True)
    now = options.model_copy(update=changed)
    assert share(measured, now, now.validation_samples) <= SHARE + 1e-9
    if share(measured, options, 300) <= SHARE:
        assert not changed


def test_what_was_given_is_left_alone():
    options = AdapterTrainerOptions(steps=10, validate_every=1)
    measured = Measured(0.1, 1.0, 1.0, 300, True)
    assert measured.lean(options, lambda name: False) == {}
    assert measured.lean(options, lambda name: name == "validate_every") == {"validate_every": 10}
    assert measured.lean(options, lambda name: name == "validation_samples") == {"validation_samples": 32}


def test_a_training_by_the_clock_counts_what_it_may_take():
    options = AdapterTrainerOptions(steps=100_000, validate_every=50_000, max_minutes=1.0)
    measured = Measured(0.1, 1.0, 0.1, 300, True)
    now = options.model_copy(update=measured.lean(options, lambda name: True))
    assert 3 * (1.0 + 0.1 * now.validation_samples) <= SHARE * 60 or now.validate_every == 100_000
    pieces = measured.expected("training", options)
    assert pieces["training"].seconds() == 20.0  # validations would leave less than a third of the minute
    assert pieces[f"training{INSIDE}"].seconds() == pytest.approx(3 * 31.0)


def test_validations_that_were_made_leaner_are_foreseen_so():
    options = AdapterTrainerOptions(steps=100, validate_every=50, validation_samples=32)
    measured = Measured(0.1, 1.0, 0.1, 300, True)
    assert measured.ending(options) == pytest.approx(1.0 + 3.2)
    assert measured.expected("training", options)[f"training{INSIDE}"].seconds() == pytest.approx(3 * 4.2)
    bound = options.model_copy(update={"max_minutes": 0.5})
    assert measured.expected("training", bound)["training"].seconds() == pytest.approx(10.0)
    bound = options.model_copy(update={"steps": 500, "validate_every": 250, "max_minutes": 0.5})
    assert measured.expected("training", bound)["training"].seconds() == pytest.approx(30 - 3 * 4.2)


def test_without_validation_samples_there_is_nothing_to_choose():
    measured = Measured(0.1, 0.0, 0.0, 0, True)
    assert measured.validations(TrainerOptions(steps=10)) == 0
    assert measured.lean(TrainerOptions(steps=10), lambda name: True) == {}
