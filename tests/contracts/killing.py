"""Killing a training at a chosen moment, and comparing what its log says but for what a clock put there."""

from itertools import count
from typing import Any

from thinkrank.training import Run


class KilledError(Exception):
    """The training was killed."""


def kill_at(fit: Any, method: str, call: int, *, after: bool = False) -> None:
    """Let a training die at the given call, from 1, of a method of its own or of its `optimizer.step`, `model.sample`…

    Args:
        fit: the training.
        method: what dies, dotted if it is not the training's own.
        call: which call of it.
        after: once it has done its work, and not before.
    """
    holder, _, name = method.rpartition(".")
    owner = getattr(fit, holder) if holder else fit
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
    """The rows of a run's log without seconds, shares of time and rates."""
    moving = ("seconds", "share_", "sampled_tokens_per_second")
    return [{key: value for key, value in row.items() if not key.startswith(moving)} for row in run.metrics()]
