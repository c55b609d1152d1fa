"""From histories to training sequences: which tokens are read out, what each must predict, what must not compete.

Shape legend: P readouts of a batch, B sequences, T tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, pairwise

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from thinkrank.data.history import History
from thinkrank.language import PrefixTree
from thinkrank.prompts.retrieval import Prompts
from thinkrank.retrieve.r2ec.crowd import CrowdThoughts
from thinkrank.retrieve.r2ec.options import ContrastiveOptions
from thinkrank.retrieve.r2ec.seen import Seen
from thinkrank.teachers.history_rules import RuleWriter


@dataclass(frozen=True)
class Stretch:
    """Name the events [start, stop) of one training history; the last one is only predicted, never shown."""

    history: int
    start: int
    stop: int


@dataclass(frozen=True)
class Readout:
    """Name a token whose state predicts an item.

    Attributes:
        node: of the sequence it is in.
        position: in that sequence.
        target: what it predicts, a place in the history.
        is_line: True at the end of a history line, False at a closing.
        thought: where the tokens of a thought by rules and the closing behind it stand; empty without a thought.
        lines: how many of its stretch stand before it.
    """

    node: int
    position: int
    target: int
    is_line: bool
    thought: range = range(0)
    lines: int = 0


@dataclass(frozen=True)
class Batch:
    """Hold what one forward pass reads.

    Attributes:
        forest: the sequences; closings of one stretch share the lines before them.
        readouts: what predicts, stretch by stretch.
        targets_P: the catalogue row each must predict.
        seen: what the user of each readout had taken before, which does not compete.
        quick_P: of a readout behind a thought, the one at the end of the same lines without it; -1 where there is none.
        asked: where the writer is not the reader, or reads another prompt: the sequences in which thoughts are written,
            and where the tokens of each and of its closing stand; empty where the readouts' own are.
    """

    forest: PrefixTree
    readouts: tuple[Readout, ...]
    targets_P: Int[Tensor, "P"]
    seen: Seen
    quick_P: Int[Tensor, "P"]
    asked: tuple[tuple[tuple[int, ...], range], ...] = ()

    @property
    def is_line_P(self) -> Bool[Tensor, "P"]:
        """Tell which readouts stand at the end of a history line, and not at a closing."""
        return torch.tensor([readout.is_line for readout in self.readouts])

    @property
    def is_after_thought_P(self) -> Bool[Tensor, "P"]:
        """Tell which readouts stand at a closing behind a thought."""
        return torch.tensor([len(readout.thought) > 0 for readout in self.readouts])

    @property
    def num_written(self) -> int:
        """Count the tokens of thoughts and the closings behind them."""
        return sum(len(readout.thought) for readout in self.readouts)


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
        stretches = [s for i, history in enumerate(histories) for s in _cut(i, history, options.stretch, random)]
    else:
        ends = [(i, place, int(histories[i].reads[place]) + 1) for i, place in targets]
        stretches = [Stretch(i, max(0, end - window), place + 1) for i, place, end in ends if end]
    shuffled = [stretches[i] for i in random.permutation(len(stretches))]
    batches: list[list[Stretch]] = []
    pool = 8 * options.batch_size  # sorting by length inside a pool saves padding and keeps the order random
    for start in range(0, len(shuffled), pool):
        by_length = sorted(shuffled[start : start + pool], key=lambda s: s.stop - s.start)
        group = [by_length[i : i + options.batch_size] for i in range(0, len(by_length), options.batch_size)]
        batches += [group[i] for i in random.permutation(len(group))]
    return batches


def _cut(number: int, history: History, stretch: int, random: np.random.Generator) -> list[Stretch]:
    """Cut one history at a random phase.

    Each piece begins a quarter of a stretch (at least one event) earlier, so that its first events have a past; those
    few events are predicted twice in an epoch. It begins as much earlier as it takes to show what came before a day.
    """
    earlier, reads = max(1, stretch // 4), history.reads.tolist()
    cuts = [c for c in range(int(random.integers(stretch)), len(history), stretch) if c > 1]
    bounds = pairwise([0, *cuts, len(history)]) if reads else ()
    pieces = [Stretch(number, max(0, min(start - earlier, reads[start])), stop) for start, stop in bounds]
    return [piece for piece in pieces if reads[piece.stop - 1] >= piece.start]


def build_batch(
    prompts: Prompts,
    histories: Sequence[History],
    stretches: Sequence[Stretch],
    options: ContrastiveOptions,
    writer: RuleWriter | CrowdThoughts | None = None,
    asking: Prompts | None = None,
) -> Batch:
    """Render stretches.

    Under `every_prefix` each line's end predicts the line after it (where ties are ``strict``, the last line of a day
    all lines of the next day: see `History.reads`), and so do closings behind some of the lines, of a day one; under
    `last` only the closing behind all lines predicts. With a writer, a share of the closings (`thought_share`) has a
    thought before it. Where items are tokens, a closing stands behind a thought alone, and lines always predict. With
    `asking`, thoughts are also rendered behind prompts of these, which may show more of a history, and tell that.
    """
    ids: list[tuple[int, ...]] = []
    parents: list[int] = []
    readouts: list[Readout] = []
    targets: list[int] = []
    seen: list[np.ndarray] = []
    quick: list[int] = []
    asked: list[tuple[tuple[int, ...], range]] = []
    for stretch in stretches:
        tree, found, behind = _render(prompts, histories[stretch.history], stretch, options, writer, asking)
        asked += behind
        at_lines = {readout.lines: len(readouts) + at for at, readout in enumerate(found) if readout.is_line}
        quick += [at_lines.get(readout.lines, -1) if readout.thought else -1 for readout in found]
        readouts += [replace(readout, node=readout.node + len(ids)) for readout in found]
        parents += [parent + len(ids) if parent >= 0 else -1 for parent in tree.parents]
        ids += tree.ids
        items, reads = histories[stretch.history].items, histories[stretch.history].reads
        targets += [int(items[readout.target]) for readout in found]
        seen += [items[: reads[readout.target] + 1] for readout in found]
    forest = PrefixTree(tuple(ids), tuple(parents))
    return Batch(forest, tuple(readouts), torch.tensor(targets), Seen.of(seen), torch.tensor(quick), tuple(asked))


def _render(
    prompts: Prompts,
    history: History,
    stretch: Stretch,
    options: ContrastiveOptions,
    writer: RuleWriter | CrowdThoughts | None,
    asking: Prompts | None,
) -> tuple[PrefixTree, list[Readout], list[tuple[tuple[int, ...], range]]]:
    """Render one stretch: its lines, closings behind some of them, and thoughts behind the prompts of `asking`."""
    reads = history.reads[: stretch.stop]
    past = history[stretch.start : reads[-1] + 1]
    shown = prompts.user(past, window=stretch.stop)
    visible = past.last(len(shown.line_ends))
    first = stretch.start + len(past) - len(visible)
    followers = [np.flatnonzero(reads == first + i).tolist() for i in range(len(visible))]
    reads_lines = options.supervision == "every_prefix" or prompts.answers_at_lines
    window = prompts.options.history_window
    lengths, closed, asked = [len(visible)], [], []
    if reads_lines:  # within a day nothing is predicted
        ends = [length for length, after in enumerate(followers, 1) if after]
        drawn = closed_lines(len(visible), stretch, options, window)
        lengths = sorted({max((end for end in ends if end <= length), default=ends[0]) for length in drawn})
    for length in lengths:
        prompt = prompts.user(visible[:length], window=max(1, length)).prompt
        told = visible[:length]
        if asking is not None and asking is not prompts:
            told = history[: first + length].last(asking.options.history_window)
        target = int(history.items[_one_of(followers[length - 1], stretch, options)])
        thought = _thought(prompts, visible[:length], stretch, options, writer, told, target)
        if thought and asking is not None:
            written_behind = asking.user(told, window=max(1, len(told))).prompt
            row = asking.close(written_behind, thought).ids
            asked.append((tuple(row), range(len(written_behind), len(row))))
        if thought or not prompts.answers_at_lines:
            closed.append((prompts.close(prompt, thought), len(prompt) if thought else None, length))
    stem = shown.prompt.ids[: shown.line_ends[-1] + 1] if reads_lines else ()
    tree, end, leaves = branches(stem, [one.ids for one, _, _ in closed])
    readouts = [
        Readout(
            leaf,
            len(one) - 1,
            _one_of(followers[length - 1], stretch, options),
            False,
            range(start or len(one), len(one)),
            length,
        )
        for leaf, (one, start, length) in zip(leaves, closed, strict=True)
    ]
    if reads_lines:
        lines = enumerate(zip(shown.line_ends, followers, strict=True), 1)
        readouts += [
            Readout(end, place, target, True, lines=length) for length, (place, after) in lines for target in after
        ]
    return tree, readouts, asked


def _one_of(targets: Sequence[int], stretch: Stretch, options: ContrastiveOptions) -> int:
    """Choose what a closing predicts of the events of a day: under `last` what the stretch is for, else one of them."""
    if options.supervision == "last" or len(targets) == 1:
        return targets[-1]
    return targets[
        int(np.random.default_rng([options.seed, stretch.history, stretch.stop, *targets[:1]]).integers(len(targets)))
    ]


def closed_lines(num_lines: int, stretch: Stretch, options: ContrastiveOptions, window: int) -> list[int]:
    """Draw how many lines stand before each closing, as many as prompts of this history would show.

    A history with more events than the window is always shown as a full window, so a stretch from its middle has one
    closing behind that many lines. The others stand anywhere before.

    Args:
        num_lines: of the stretch.
        stretch: what the draw depends on, with the seed.
        options: how many closings there are.
        window: lines that a prompt shows at most.
    """
    longest = min(window, num_lines)
    random = np.random.default_rng([options.seed, stretch.history, stretch.start, stretch.stop, longest])
    drawn = 1 + random.permutation(longest)[: options.closings]
    if stretch.start and longest not in drawn:
        drawn[0] = longest
    return sorted(drawn.tolist())


def branches(stem: Sequence[int], rows: Sequence[Sequence[int]]) -> tuple[PrefixTree, int, list[int]]:
    """Put rows where they leave a stem, so that what they have in common with it is there once.

    Args:
        stem: token ids; may be empty.
        rows: token ids of each, not empty.

    Returns:
        the tree, the node at the stem's end (-1 if it is empty), and the node at the end of each row.
    """
    common = []
    for row in rows:
        pairs = zip(stem, row[:-1], strict=False)
        common.append(next((i for i, (one, other) in enumerate(pairs) if one != other), min(len(stem), len(row) - 1)))
    ids: list[tuple[int, ...]] = []
    parents: list[int] = []
    node_at = {0: -1}
    end = -1
    for start, stop in pairwise(sorted({0, *common, len(stem)})):
        ids.append(tuple(stem[start:stop]))
        parents.append(end)
        end = node_at[stop] = len(ids) - 1
    leaves = list(range(len(ids), len(ids) + len(rows)))
    ids += [tuple(row[length:]) for row, length in zip(rows, common, strict=True)]
    parents += [node_at[length] for length in common]
    return PrefixTree(tuple(ids), tuple(parents)), end, leaves


def _thought(
    prompts: Prompts,
    past: History,
    stretch: Stretch,
    options: ContrastiveOptions,
    writer: RuleWriter | CrowdThoughts | None,
    told: History,
    target: int,
) -> list[int]:
    """Return the ids of the thought behind `past`, if there is one, which tells `told` or, as an oracle, the target.

    It is a function of stretch, length and seed. What the crowd did is told as if the history had not been in the data.
    """
    random = np.random.default_rng([options.seed, stretch.history, stretch.start, stretch.start + len(past) + 1])
    if writer is None or random.random() >= options.thought_share:
        return []
    if isinstance(writer, CrowdThoughts):
        return writer.ids(told, without=stretch.history)
    return prompts.text(writer.about(target) if options.thought_source == "oracle" else writer.write(told, random))
