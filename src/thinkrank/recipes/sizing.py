"""How long and how widely the late reader trains, by the data's size: what neither a preset nor a user set.

The rules were found on films (80,000 events to learn from) and two shops (12,000 each): see docs/lab-log.md.
"""

import math
from typing import Any

import numpy as np

from thinkrank.data import Split
from thinkrank.retrieve import ContrastiveOptions, R2ecConfig

_LONG_HISTORY = 24
"""Median events of a history from which it is read in long stretches."""
_MANY_EVENTS = 30_000
_ROUNDS = 4
_FEWEST_UPDATES, _MOST_UPDATES = 300, 1600
_PREDICTIONS = (128, 256)
"""Predictions of an update, at least and at most: small data needs updates more than it needs them smooth."""
_LOOKS = (2, 4)
"""Validations, at least and at most; the item table is encoded for each, which costs as much as training where titles
are long and events few."""
_READ_SHARE = 0.5
"""Tokens of titles that are read anew while training, against predictions: reading costs a third of learning."""
_LETTERS = 4
"""Of a token, about."""
FITTED = (
    "stretch",
    "batch_size",
    "steps",
    "head_learning_rate",
    "item_dropout",
    "warmup_steps",
    "validate_every",
    "validation_samples",
    "refresh_every",
    "train_in_file_order",
    "checkpoint_every",
)
"""Names of what `sized` fills in of a training."""


def sized(model: R2ecConfig, training: ContrastiveOptions, split: Split) -> tuple[R2ecConfig, ContrastiveOptions]:
    """Fill in what was not set, for a model that reads histories late; another is returned as it is.

    Args:
        model: what its prompts show may be filled in.
        training: how it trains.
        split: whose train part is looked at.
    """
    if model.reading != "late" or not len(split.train):
        return model, training
    lengths = np.diff(split.train_ranges, axis=1).ravel()
    is_long = float(np.median(lengths[lengths > 0])) >= _LONG_HISTORY
    is_large = len(split.train) >= _MANY_EVENTS
    stretch = _set(training, "stretch", 32 if is_long else 16)
    pieces = int(np.ceil(lengths / stretch).sum())
    wanted = min(max(_ROUNDS * len(split.train) / _MOST_UPDATES, _PREDICTIONS[0]), _PREDICTIONS[1])
    batch = _set(training, "batch_size", max(1, round(wanted * pieces / len(split.train))))
    rounds = max(_ROUNDS, _FEWEST_UPDATES * batch / pieces)
    steps = _set(training, "steps", math.ceil(rounds * pieces / batch / training.accumulate))
    predictions = rounds * len(split.train)
    tokens = sum(len(title) // _LETTERS + 2 for title in split.dataset.catalogue.titles)
    looks = min(max(int(_READ_SHARE * predictions / max(1, tokens)), _LOOKS[0]), _LOOKS[1])
    fitted: dict[str, Any] = {
        "stretch": stretch,
        "batch_size": batch,
        "steps": steps,
        "head_learning_rate": 5e-3 if is_large else 1e-2,
        "item_dropout": 0.2 if is_large else 0.3,
        "warmup_steps": max(1, steps // 100),
        "validate_every": max(1, math.ceil(steps / looks)),
        "validation_samples": 1000,
        "refresh_every": max(1, math.ceil(steps / looks)),
        "train_in_file_order": split.train.ties == "strict",
        "checkpoint_every": max(1, math.ceil(steps / 20)),
    }
    prompt = model.prompt
    window = int(prompt.history_window if "history_window" in prompt.model_fields_set else stretch)
    shown = {"history_window": window, "history_step": max(1, window // 4)}
    shown = {name: value for name, value in shown.items() if name not in prompt.model_fields_set}
    unset = {name: value for name, value in fitted.items() if name not in training.model_fields_set}
    return (
        model.model_copy(update={"prompt": prompt.model_copy(update=shown)}),
        training.model_copy(update=unset),
    )


def _set(options: ContrastiveOptions, name: str, fitted: int) -> int:
    """Return what was set, or else what fits."""
    return int(getattr(options, name)) if name in options.model_fields_set else fitted
