"""Contract of a training: killed at any moment and started again, it ends with the same weights, bit for bit."""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import pytest
import torch

from thinkrank.training import Run, Trainer, train

Moment: TypeAlias = tuple[str, int, bool]
"""A method, which call of it (from 1), and whether it still does its work; see `kill_at`."""

Make: TypeAlias = Callable[[Path], Trainer[Any]]
"""From the folder of a run to a training that continues it."""


class KilledError(Exception):
    """The training was killed."""


def kill_at(trainer: Any, method: str, call: int, *, after: bool = False) -> None:
    """Let a training die at one call of a method of its own, or of its `optimizer.step`, `model.sample`, ...

    Args:
        trainer: the training.
        method: what dies, dotted if it is not the training's own.
        call: which call of it, from 1.
        after: once it has done its work, and not before.
    """
    holder, _, name = method.rpartition(".")
    owner = getattr(trainer, holder) if holder else trainer
    original, calls = getattr(owner, name), count(1)

    def failing(*args: Any, **kwargs: Any) -> Any:
        number = next(calls)
        if number == call and not after:
            raise KilledError
        result = original(*args, **kwargs)
        if number == call:
            raise KilledError
        return result

    setattr(owner, name, failing)


def timeless(run: Run) -> list[dict[str, Any]]:
    """Read the rows of a run's log without seconds, shares of time and rates."""
    moving = ("seconds", "cpu_seconds", "share_", "sampled_tokens_per_second")
    return [{key: value for key, value in row.items() if not key.startswith(moving)} for row in run.metrics()]


class TrainerContract:
    """Tests for a class of trainings. Subclasses override the fixture `make`, of class scope.

    What it makes should take at least 4 steps, write a checkpoint every 2 and validate at least twice; each call makes
    a new model from the same seed.
    """

    moments: ClassVar[tuple[Moment, ...]] = (
        ("step", 1, False),
        ("optimizer.step", 2, False),
        ("optimizer.step", 3, True),
        ("measure", 2, False),
        ("save", 1, False),
        ("save", 1, True),
        ("save", 2, False),
        ("log", 3, True),
    )
    """At which it is killed, one after the other."""

    @pytest.fixture(scope="class")
    @classmethod
    def make(cls) -> Make:
        """Return how to make the training."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def whole(cls, make: Make, tmp_path_factory: pytest.TempPathFactory) -> Trainer[Any]:
        """Run a training that nothing interrupts."""
        trainer = make(tmp_path_factory.mktemp("whole"))
        train(trainer)
        return trainer

    def test_it_learns_something_and_says_so(self, make: Make, whole: Trainer[Any], tmp_path: Path) -> None:
        before = make(tmp_path).weights()
        assert any(not torch.equal(before[name], tensor) for name, tensor in whole.weights().items())
        assert [row["step"] for row in whole.run.metrics()] == sorted(row["step"] for row in whole.run.metrics())
        assert whole.run.metrics()

    def test_made_again_it_ends_the_same(self, make: Make, whole: Trainer[Any], tmp_path: Path) -> None:
        again = make(tmp_path)
        train(again)
        assert_same_end(again, whole)

    def test_killed_at_any_moment_and_started_again_it_ends_the_same(
        self, make: Make, whole: Trainer[Any], tmp_path: Path
    ) -> None:
        for number, (method, call, after) in enumerate(self.moments):
            killed = make(tmp_path / str(number))
            kill_at(killed, method, call, after=after)
            with pytest.raises(KilledError):
                train(killed)
            resumed = make(tmp_path / str(number))
            train(resumed)
            assert_same_end(resumed, whole, f"killed at call {call} of {method}: ")

    def test_killed_twice_it_ends_the_same(self, make: Make, whole: Trainer[Any], tmp_path: Path) -> None:
        for call in (3, 2):
            killed = make(tmp_path)
            kill_at(killed, "step", call)
            with pytest.raises(KilledError):
                train(killed)
        resumed = make(tmp_path)
        train(resumed)
        assert_same_end(resumed, whole)

    def test_started_again_after_its_end_it_changes_nothing(
        self, make: Make, whole: Trainer[Any], tmp_path: Path
    ) -> None:
        for _ in range(2):
            trainer = make(tmp_path)
            train(trainer)
        assert_same_end(trainer, whole)


def assert_same_end(one: Trainer[Any], other: Trainer[Any], where: str = "") -> None:
    """Compare weights bit for bit, and logs but for what a clock put there."""
    expected = other.weights()
    found = one.weights()
    assert found.keys() == expected.keys()
    different = [name for name, tensor in found.items() if not torch.equal(tensor, expected[name])]
    assert not different, f"{where}other weights"
    assert timeless(one.run) == timeless(other.run), f"{where}another log"
