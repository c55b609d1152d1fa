"""From histories to training sequences: which tokens are read out, what each must predict, what must not compete.

Shape legend: P readouts of a batch, I items of the catalogue, B sequences, T tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, pairwise

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from thinkrank.data.history import History
from thinkrank.prompts.retrieval import Prompts
from thinkrank.retrieve.r2ec.options import ContrastiveOptions
from thinkrank.teachers.history_rules import RuleWriter


@dataclass(frozen=True)
class Stretch:
    """Name the events [start, stop) of one training history; the last one is only predicted, never shown."""

    history: int
    start: int
    stop: int


@dataclass(frozen=True)
class Batch:
    """Hold what one forward pass reads.

    Attributes:
        sequences: token ids of each sequence.
        rows_P: the sequence each readout is in.
        columns_P: the token it is read at.
        is_line_P: True at the end of a history line, False at the closing.
        targets_P: the catalogue row it must predict.
        seen_PI: True at what its user had taken before, which does not compete.
        thoughts: sequences that carry a thought by rules, and where its tokens and the closing's stand in them.
    """

    sequences: tuple[tuple[int, ...], ...]
    rows_P: Int[Tensor, "P"]
    columns_P: Int[Tensor, "P"]
    is_line_P: Bool[Tensor, "P"]
    targets_P: Int[Tensor, "P"]
    seen_PI: Bool[Tensor, "P I"]
    thoughts: tuple[tuple[int, range], ...] = ()


def endless_batches(
    histories: Sequence[History],
    targets: Sequence[tuple[int, int]],
    options: ContrastiveOptions,
    *,
    window: int,
    skip: int = 0,
) -> Iterator[list[Stretch]]:
    """Yield all batches of epoch 0, then of epoch 1, and so on; the order is a function of the seed alone.

    Args:
        histories: what training may see, one per user.
        targets: under `last`, what is predicted, as (history, place in it).
        options: the kind of supervision, batch size and seed.
        window: interactions a single prompt shows (`last` supervision).
        skip: how many batches a resumed run has behind it.
    """
    for epoch in count():
        batches = _epoch(histories, targets, options, window, np.random.default_rng([options.seed, epoch]))
        yield from batches[skip:]
        skip = max(0, skip - len(batches))


def _epoch(
    histories: Sequence[History],
    targets: Sequence[tuple[int, int]],
    options: ContrastiveOptions,
    window: int,
    random: np.random.Generator,
) -> list[list[Stretch]]:
    if options.supervision == "every_prefix":
        stretches = [s for i in range(len(histories)) for s in _cut(i, len(histories[i]), options.stretch, random)]
    else:
        stretches = [Stretch(i, max(0, place - window), place + 1) for i, place in targets]
    shuffled = [stretches[i] for i in random.permutation(len(stretches))]
    batches: list[list[Stretch]] = []
    pool = 8 * options.batch_size  # sorting by length inside a pool saves padding and keeps the order random
    for start in range(0, len(shuffled), pool):
        by_length = sorted(shuffled[start : start + pool], key=lambda s: s.stop - s.start)
        group = [by_length[i : i + options.batch_size] for i in range(0, len(by_length), options.batch_size)]
        batches += [group[i] for i in random.permutation(len(group))]
    return batches


def _cut(history: int, length: int, stretch: int, random: np.random.Generator) -> list[Stretch]:
    """Cut one history at a random phase.

    Each piece begins a quarter of a stretch (at least one event) earlier, so that its first events have a past; those
    few events are predicted twice in an epoch.
    """
    earlier = max(1, stretch // 4)
    cuts = [c for c in range(int(random.integers(stretch)), length, stretch) if c > 1]
    pieces = [Stretch(history, max(0, start - earlier), stop) for start, stop in pairwise([0, *cuts, length])]
    return [piece for piece in pieces if piece.stop - piece.start >= 2]


def build_batch(
    prompts: Prompts,
    histories: Sequence[History],
    stretches: Sequence[Stretch],
    options: ContrastiveOptions,
    writer: RuleWriter | None = None,
) -> Batch:
    """Render stretches.

    Under `every_prefix` each line's end predicts the line after it, and the closing behind the whole prompt predicts
    what comes after the last line; under `last` only the closing predicts. With a writer, a share of the sequences
    (`thought_share`) has a thought before its closing.
    """
    sequences, rows, columns, targets, seen, thoughts = [], [], [], [], [], []
    for row, stretch in enumerate(stretches):
        items = histories[stretch.history].items
        past = histories[stretch.history][stretch.start : stretch.stop - 1]
        shown = prompts.user(past, window=stretch.stop)
        visible = past.last(len(shown.line_ends))
        closed = prompts.close(shown.prompt, _thought(prompts, visible, stretch, options, writer))
        if any(closed.actions):
            thoughts.append((row, range(len(shown.prompt), len(closed))))
        sequences.append(closed.ids)
        readouts = [(len(closed) - 1, stretch.stop - 1)]
        if options.supervision == "every_prefix":
            first_shown = stretch.stop - 1 - len(shown.line_ends)
            readouts += [(end, first_shown + i + 1) for i, end in enumerate(shown.line_ends)]
        for column, target in readouts:
            rows.append(row)
            columns.append(column)
            targets.append(int(items[target]))
            seen.append(items[:target])
    seen_PI = torch.zeros(len(targets), len(prompts.catalogue), dtype=torch.bool)
    for mask_I, taken in zip(seen_PI, seen, strict=True):
        mask_I[torch.tensor(taken, dtype=torch.long)] = True
    return Batch(
        sequences=tuple(sequences),
        rows_P=torch.tensor(rows),
        columns_P=torch.tensor(columns),
        is_line_P=torch.tensor([c < len(sequences[r]) - 1 for r, c in zip(rows, columns, strict=True)]),
        targets_P=torch.tensor(targets),
        seen_PI=seen_PI,
        thoughts=tuple(thoughts),
    )


def _thought(
    prompts: Prompts, past: History, stretch: Stretch, options: ContrastiveOptions, writer: RuleWriter | None
) -> list[int]:
    """Return the ids of the thought this stretch carries, if it does; a function of the stretch and the seed."""
    random = np.random.default_rng([options.seed, stretch.history, stretch.start, stretch.stop])
    if writer is None or random.random() >= options.thought_share:
        return []
    return prompts.text(writer.write(past, random))
