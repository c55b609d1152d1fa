"""The plan of a training whose language model is not here: tokens from settings and data, seconds from one layer.

Tokens are letters by four and thoughts are as long as they may be, so hours are an upper estimate of the work and as
right as the speed of one layer is for all of them. With the weights at hand, `planned` measures the training itself.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from thinkrank.devices import named_device
from thinkrank.language.shapes import Shape, Speed, speed_of
from thinkrank.training.progress import duration

_LETTERS, _CHAT, _MARKS = 4, 20, 4
"""Letters of a token; tokens of a chat's frame, and of what stands around a title in its line."""
_ADAM, _TABLE, _KEPT = 16, 20, 180
"""Bytes of a trained parameter, of an item and channel, and of a position, trained layer and channel: see bigger.md."""


@dataclass(frozen=True)
class Work:
    """Hold the tokens of a training, all of its steps and validations together.

    Attributes:
        title: of the training.
        steps: of the training.
        read: tokens that are read without gradient.
        trained: tokens that a gradient goes through.
        written: tokens that are written.
        learnt: tokens whose probability is computed beside those that are written.
    """

    title: str
    steps: int
    read: int | float
    trained: int | float
    written: int | float = 0
    learnt: int | float = 0

    @property
    def tokens(self) -> float:
        """Return all of them."""
        return float(self.read + self.trained + self.written)

    def seconds(self, speed: Speed) -> float:
        """Return what one process takes."""
        passes = self.read * speed.read + self.trained * speed.trained + self.written * speed.written
        return passes + (self.written + self.learnt) * speed.logits


def works_of(settings: Any, split: Any) -> Iterator[Work]:
    """Count the tokens of each training of a retriever or a ranker that reads texts."""
    prompt, catalogue = settings.model.prompt, split.dataset.catalogue
    lengths = np.diff(split.train_ranges, axis=1).ravel()
    title = min(prompt.title_tokens, _tokens(catalogue.titles))
    fields = [name for name in prompt.item_fields if name in catalogue.frame.columns]
    texts = sum(_tokens(_as_text(catalogue.frame[name].drop_nulls())) for name in fields)
    item = min(prompt.item_tokens, texts) + _CHAT
    shown = float(np.minimum(lengths[lengths > 0], prompt.history_window).mean())
    user = min(prompt.history_tokens, shown * (title + _MARKS)) + _tokens([prompt.opening + prompt.question]) + _CHAT
    new = settings.model.thought.max_new_tokens
    if hasattr(settings, "recpo"):
        yield from _retriever(settings, user, item, new, len(catalogue))
    else:
        yield from _ranker(settings, user, item, new)


def _retriever(settings: Any, user: int | float, item: int | float, new: int, items: int) -> Iterator[Work]:
    training, recpo = settings.training, settings.recpo
    for options, is_recpo in ((training, False), (recpo, True)):
        if not options.steps:
            continue
        looks = math.ceil(options.steps / options.validate_every) + 1
        tables = 1 + options.steps // options.refresh_every
        checked, thinks = looks * options.validation_samples, 1 if is_recpo else 0
        read = tables * items * item + checked * user
        if not is_recpo:
            rows = options.batch_size * options.accumulate
            live = item if options.negatives == "in_batch" else 0
            yield Work("contrastive training", options.steps, read, options.steps * rows * (user + live))
            continue
        new_in = recpo.rollout.max_new_tokens
        rows = options.steps * options.users
        live = item if options.candidates == "in_batch" else 0
        behind = options.group_size * new_in
        yield Work(
            "RecPO",
            options.steps,
            read + rows * user,
            options.updates * rows * (user + behind + live),
            written=rows * behind + thinks * checked * new,
            learnt=options.updates * rows * behind,
        )


def _ranker(settings: Any, user: int | float, item: int | float, new: int) -> Iterator[Work]:
    for title, options, samples in (("cold start", settings.cold_start, 1), ("reinforcement", settings.reinforce, 0)):
        if not options.steps:
            continue
        thought = new if settings.model.thinks else 0
        pairs = options.negatives + 1
        siblings = samples or options.group_size
        rows, checked = options.steps * options.users, options.validation_samples
        looks = math.ceil(options.steps / options.validate_every) + 1
        again = getattr(options, "updates", 1)
        yield Work(
            title,
            options.steps,
            (0 if samples else rows) * (user + pairs * item) + looks * checked * (user + pairs * item),
            again * rows * (user + pairs * (item + siblings * thought)),
            written=(0 if samples else rows * pairs * siblings * thought) + looks * checked * pairs * thought,
            learnt=again * rows * pairs * siblings * thought,
        )


def foreseen(settings: Any, split: Any, shape: Shape, device: str, ranks: int) -> tuple[str, dict[str, float]]:
    """Return a plan in one line and its figures, for each of some processes that share every update evenly."""
    works, lora, items = list(works_of(settings, split)), settings.model.lora, len(split.dataset.catalogue)
    adapter = shape.adapter(lora.rank, lora.top_layers)
    trained_layers = min(shape.layers, lora.top_layers or shape.layers)
    speed, share = speed_of(shape, device), trained_layers / shape.layers
    speed = replace(speed, trained=share * speed.trained + (1 - share) * speed.read)  # below, there is no gradient
    last = settings.recpo if hasattr(settings, "recpo") else settings.reinforce
    weights = shape.parameters * (2 if named_device(device).type == "cuda" else 6)
    positions = min(last.batch_tokens, max(work.trained / work.steps for work in works))
    table = items * shape.width if hasattr(settings, "recpo") else 0
    memory = weights + _ADAM * adapter + _TABLE * table + _KEPT * positions * trained_layers * shape.width
    memory += last.rollout.kv_gib * 2**30
    figures = {
        "ranks": float(ranks),
        "hours": sum(work.seconds(speed) for work in works) / ranks / 3600,
        "tokens": sum(work.tokens for work in works) / ranks,
        "device_bytes": float(memory),
        "disk_bytes": float(20 * adapter + 16 * table),
    }
    each = f" for each of {ranks} ranks" if ranks > 1 else ""
    parts = [
        f"{work.title} {work.steps:,} steps ≈ {duration(work.seconds(speed) / ranks)}, "
        f"{work.written / ranks:,.0f} of {work.tokens / ranks:,.0f} tokens written"
        for work in works
    ]
    whole = [
        f"about {duration(3600 * figures['hours'])} ({figures['hours']:.2f} h)",
        f"{figures['tokens']:,.0f} tokens{each}",
        f"{figures['device_bytes'] / 1e9:.1f} GB of memory{each}",
        f"{figures['disk_bytes'] / 1e6:,.1f} MB on disk",
        f"{settings.model.backbone} is not on this machine: foreseen from one layer of its shape",
    ]
    return " · ".join([*parts, *whole]), figures


def _as_text(column: pl.Series) -> list[str]:
    """Return the cells of a column as they are shown."""
    is_list = column.dtype == pl.List(pl.String)
    return (column.list.join(", ") if is_list else column.cast(pl.String)).to_list()


def _tokens(texts: Sequence[str]) -> float:
    return sum(map(len, texts)) / _LETTERS / max(1, len(texts))
