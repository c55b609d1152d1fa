"""Write for many threads at once: a call joins what is being written, is watched, and can be given up.

Draws depend on a completion's own seeds and not on what is written beside it, so a call gets what it would have got
alone, to rounding; see `TransformersEngine`.

Shape legend: R rows being written, D width.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from thinkrank.errors import ThinkrankError
from thinkrank.language.backbone import Backbone
from thinkrank.language.engines.base import TRAINED, Completion
from thinkrank.language.engines.kv_cache import KVCache
from thinkrank.language.engines.prefix_cache import PrefixCache
from thinkrank.language.engines.transformers import TransformersEngine, _Row, decode, leaf_seeds
from thinkrank.language.kept_states import KeptStates
from thinkrank.language.options import GenerationOptions
from thinkrank.language.packing import PrefixKV
from thinkrank.language.prefix_tree import PrefixTree
from thinkrank.language.text import encode_text

_PATIENCE = 4
"""Tokens for which a few calls that wait let many go on: whenever one joins, the keys and values of all are copied."""


class CancelledError(Exception):
    """Tell that whoever asked has gone, so that nothing more is written for him."""


@dataclass(frozen=True)
class Watch:
    """Follow what is written in this thread's calls.

    Attributes:
        wrote: is told the place of a prompt among those of the call, and the text that it grew by. It is called from
            the thread that writes, and must be quick. None where nobody reads along, which spares the decoding.
        gone: tells whether nobody waits for the text any more.
        given: text to take as the completion of a call for one prompt, in place of writing one; None to write.
        changes: settings of the decoding that are others than the call's.
    """

    wrote: Callable[[int, str], None] | None = None
    gone: Callable[[], bool] = lambda: False
    given: str | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)


watching: ContextVar[Watch | None] = ContextVar("watching", default=None)
"""The watch of the calls that this thread makes."""


class _JobRow(_Row):
    """Row that tells its call what it wrote; the first of several samples, which has a place, does."""

    def __init__(self, job: "_Job", place: int | None, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.job, self.place, self.shown = job, place, 0

    def tell(self) -> None:
        """Show what is certain: neither half a character, nor what may become the stop."""
        wrote = None if self.job.watch is None else self.job.watch.wrote
        if wrote is None or self.place is None:
            return
        text = self.text if self.finish_reason == "closed" else decode(self.backbone, self.ids[: self.num_before_stop])
        if self.finish_reason is None:
            text = text.rstrip("\ufffd")
            stop = self.stop or ""
            text = text[: len(text) - max((n for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0)]
        if len(text) > self.shown:
            wrote(self.place, text[self.shown :])
            self.shown = len(text)


class _Job:
    """Hold one call: its prompts, its rows, and how it ended."""

    def __init__(self, tree: PrefixTree, options: GenerationOptions, writer: str, num_own: int) -> None:
        self.tree, self.options, self.writer, self.num_own = tree, options, writer, num_own
        self.held: dict[tuple[int, ...], PrefixKV] = {}
        """Beginnings of its prompts that were read before."""
        self.watch = watching.get()
        self.rows: list[list[_JobRow]] = []
        self.open = 0
        self.first = -1
        """Number of its first node among the prompts that are being continued."""
        self.error: BaseException | None = None

    @property
    def done(self) -> bool:
        return self.error is not None or not self.open

    @property
    def gone(self) -> bool:
        return self.watch is not None and self.watch.gone()


class JoiningEngine(TransformersEngine):
    """Engine whose calls, from any number of threads, are written together.

    One of the waiting threads writes for all; when its own text is done another one goes on. A call joins at the next
    token, or a few tokens later together with others where many are at work, unless another writer is. Texts that were
    written are kept, and returned again for the same call.

    Args:
        backbone: the model, with the adapter of the writer "trained" if there is one. Its weights no longer change.
        prefixes: see `TransformersEngine`.
        batch_size: texts written together at most.
        kv_gib: memory that keys and values take at most, in GiB.
        max_kept: calls whose texts are kept.
        states: keeps what was read of prompts, so that one that goes on from another is read from there.
    """

    def __init__(
        self,
        backbone: Backbone,
        prefixes: PrefixCache | None = None,
        *,
        batch_size: int = 32,
        kv_gib: float = 1.0,
        max_kept: int = 1024,
        states: KeptStates | None = None,
    ) -> None:
        super().__init__(backbone, prefixes)
        self.batch_size, self.kv_gib, self.max_kept, self.states = batch_size, kv_gib, max_kept, states
        self.hits = self.misses = self.tokens = 0
        self._kept: OrderedDict[Any, list[list[Completion]]] = OrderedDict()
        self._changed = threading.Condition()
        self._led = False
        self._waiting: deque[_JobRow] = deque()
        self._jobs: list[_Job] = []
        self._rows: list[_JobRow] = []
        self._memory: KVCache | None = None
        self._replanted = False
        self._since = 0
        """Tokens that were written since the last call joined."""

    @property
    def num_writing(self) -> int:
        """Count the texts that are being written now."""
        return len(self._rows)

    def sample(
        self,
        prompts: PrefixTree,
        options: GenerationOptions,
        *,
        writer: str = TRAINED,
        num_samples: int = 1,
        stop: str | None = None,
        suffix: Sequence[int] = (),
        seeds: Sequence[int] | None = None,
    ) -> list[list[Completion]]:
        """Write `num_samples` completions of every leaf of the tree; see `Engine`.

        Raises:
            CancelledError: if the thread's `watching` says that nobody waits any more.
        """
        seeds = tuple(leaf_seeds(prompts) if seeds is None else seeds)
        watch = watching.get()
        if watch is not None and watch.changes:
            options = options.model_copy(update=dict(watch.changes))
        if watch is not None and watch.given is not None and len(prompts.leaves) == num_samples == 1:
            return [[_given(self.backbone, watch.given, options.max_new_tokens)]]
        key = (prompts.ids, prompts.parents, options, writer, num_samples, stop, tuple(suffix), seeds)
        if (kept := self._remembered(key)) is not None:
            if watch is not None and watch.wrote is not None:
                for place, samples in enumerate(kept):
                    watch.wrote(place, samples[0].text)
            return kept
        job = _Job(prompts, options, writer, options.max_new_tokens + len(suffix))
        if self.states is not None and writer == TRAINED and max(prompts.parents, default=0) < 0:
            job.tree = self._with_beginnings(prompts, self.states, job.held)
        for place, (leaf, seed) in enumerate(zip(job.tree.leaves, seeds, strict=True)):
            shared = (self.backbone, leaf, stop, tuple(suffix))
            job.rows.append(
                [
                    _JobRow(job, None if number else place, *shared, options, seed, number)
                    for number in range(num_samples)
                ]
            )
        job.open = len(prompts.leaves) * num_samples
        self._written(job)
        found = [[row.finished() for row in samples] for samples in job.rows]
        with self._changed:
            self._kept[key] = found
            while len(self._kept) > self.max_kept:
                self._kept.popitem(last=False)
        return found

    def _with_beginnings(
        self, prompts: PrefixTree, states: KeptStates, held: dict[tuple[int, ...], PrefixKV]
    ) -> PrefixTree:
        """Cut prompts behind what was read of them before."""
        groups: list[tuple[Sequence[int], list[Sequence[int]]]] = []
        for ids in prompts.ids:
            count, layers = states.beginning(self.backbone, ids)
            if count:
                held[ids[:count]] = layers
            groups.append((ids[:count], [ids[count:]]) if count else (ids, []))
        return PrefixTree.groups(groups)

    def _prefix(self, beginnings: Sequence[tuple[int, ...]], *, writer: str) -> list[PrefixKV | None]:
        """Return what was read before of the beginnings of prompts."""
        known = {ids: layers for job in self._jobs for ids, layers in job.held.items()}
        rest = [ids for ids in beginnings if ids not in known]
        read = dict(zip(rest, self.prefixes.read(rest, writer=writer), strict=True)) if self.prefixes and rest else {}
        return [known.get(ids) or read.get(ids) for ids in beginnings]

    def _keep_prompts(self, joined: Sequence[_JobRow]) -> None:
        """Keep the states of prompts that were just read."""
        if self.states is None or self._memory is None:
            return
        for row in joined:
            if row.job.writer == TRAINED and row.place is not None:
                layers = self._memory.layers_of(row.job.first + row.leaf)
                if layers is not None:
                    self.states.keep(row.job.tree.sequence(row.leaf), layers)
        with self._changed:
            still = {id(row.job) for row in self._waiting}
        for row in joined:
            if id(row.job) not in still:
                row.job.held = {}  # the memory has them now

    def _remembered(self, key: Any) -> list[list[Completion]] | None:
        with self._changed:
            if key not in self._kept:
                self.misses += 1
                return None
            self.hits += 1
            self._kept.move_to_end(key)
            return self._kept[key]

    def _written(self, job: _Job) -> None:
        """Wait until a call is done, writing for all while nobody else does."""
        with self._changed:
            self._waiting.extend(row for samples in job.rows for row in samples)
            while self._led and not job.done:
                self._changed.wait()
            if leads := not job.done:
                self._led = True
        if leads:
            try:
                self._lead(job)
            except BaseException as error:
                self._give_up(error)
                raise
            finally:
                with self._changed:
                    if not any(row.feed for row in self._rows):
                        self._clear()
                    self._led = False
                    self._changed.notify_all()
        if job.error is not None:
            raise job.error

    @torch.inference_mode()
    def _lead(self, job: _Job) -> None:
        while not job.done:
            writer = (self._rows or self._waiting)[0].job.writer
            with self._writers.acting(writer):
                while not job.done and (self._rows or (self._waiting and self._waiting[0].job.writer == writer)):
                    self._step(writer)

    def _give_up(self, error: BaseException) -> None:
        """End every call that was being written; those that wait are not concerned."""
        with self._changed:
            for job in self._jobs:
                if not job.done:
                    job.error = error
            ended = {id(job) for job in self._jobs}
            self._waiting = deque(row for row in self._waiting if id(row.job) not in ended)
            self._clear()

    def _clear(self) -> None:
        self._jobs, self._rows, self._memory, self._replanted = [], [], None, False

    def _step(self, writer: str) -> None:
        """Take in calls that wait, or write one token of each row."""
        clock = time.perf_counter()
        self._dismiss()
        going = [row for row in self._rows if row.feed]
        shrinks = len(going) * 8 <= len(self._rows) * 7
        joining = self._joining(going, writer) if shrinks or self._may_join(len(going)) else []
        memory = self._memory
        if memory is None or not (going or joining):
            self._clear()
            return
        if joining or self._replanted or shrinks:
            self._replanted, self._since = False, 0
            kept = [index for index, row in enumerate(self._rows) if row.feed]
            states_JD = memory.rebuild(kept, [row.job.first + row.leaf for row in joining])
            self._rows = going + joining
            self._keep_prompts(joining)
            self._choose(joining, states_JD)
        else:
            self._since += 1
            states_RD = memory.read(*zip(*(row.next_read() for row in self._rows), strict=True))
            fresh = [i for i, row in enumerate(self._rows) if row.arrived(states_RD[i])]
            self._choose([self._rows[i] for i in fresh], states_RD[fresh])
        seconds = (time.perf_counter() - clock) / max(1, len(self._rows))
        for row in self._rows:
            row.seconds += seconds
        self._count([row for row in (*going, *joining) if not row.feed])

    def _may_join(self, going: int) -> bool:
        """Tell whether it is worth to stop for those that wait: they are many, nobody else writes, or it is time."""
        return going <= _PATIENCE * len(self._waiting) or self._since >= _PATIENCE

    def _count(self, ended: Sequence[_JobRow]) -> None:
        """Tell the calls whose last row has ended."""
        with self._changed:
            for row in ended:
                row.job.open -= 1
                self.tokens += len(row.ids)
            if any(row.job.done for row in ended):
                self._changed.notify_all()

    def _dismiss(self) -> None:
        """End the calls for which nobody waits any more."""
        with self._changed:
            gone = {id(row.job): row.job for row in (*self._rows, *self._waiting) if not row.job.done and row.job.gone}
            if not gone:
                return
            for job in gone.values():
                job.error = CancelledError()
            self._waiting = deque(row for row in self._waiting if id(row.job) not in gone)
            for row in self._rows:
                if id(row.job) in gone:
                    row.feed.clear()
            self._changed.notify_all()

    def _joining(self, going: Sequence[_JobRow], writer: str) -> list[_JobRow]:
        """Take waiting rows in their order, as the memory allows, and plant the prompts of their calls."""
        joining: list[_JobRow] = []
        with self._changed:
            while self._waiting and len(going) + len(joining) < self.batch_size:
                row = self._waiting[0]
                if row.job.writer != writer or not self._planted(row.job, going, joining):
                    break
                leaves = [one.job.first + one.leaf for one in (*going, *joining, row)]
                if self._memory is None or not self._memory.fits(leaves):
                    break
                joining.append(self._waiting.popleft())
            if self._waiting and self._memory is not None and not self._rows and not joining:
                job = self._waiting[0].job
                job.error = ThinkrankError(
                    f"a prompt of {max(job.tree.ends)} tokens with {job.num_own} new ones does not fit into the "
                    f"{self.kv_gib:g} GiB that keys and values may take: shorten the prompt"
                )
                self._waiting = deque(row for row in self._waiting if row.job is not job)
                self._changed.notify_all()
        return joining

    def _planted(self, job: _Job, going: Sequence[_JobRow], joining: Sequence[_JobRow]) -> bool:
        """Put a call's prompts beside those that are being continued, and drop what nobody needs; False to wait."""
        if any(job is other for other in self._jobs):
            return True
        needed = {id(row.job) for row in (*going, *joining, *self._waiting)}
        jobs = [*(other for other in self._jobs if id(other) in needed), job]
        ids: list[tuple[int, ...]] = []
        parents: list[int] = []
        moved: dict[int, int] = {}
        firsts: list[int] = []
        for other in jobs:
            first = len(ids)
            firsts.append(first)
            ids += other.tree.ids
            parents += [parent if parent < 0 else parent + first for parent in other.tree.parents]
            if other is not job:
                moved |= {other.first + node: first + node for node in range(len(other.tree.ids))}
        forest = PrefixTree(tuple(ids), tuple(parents))
        if self._memory is None:
            prefixes = partial(self._prefix, writer=job.writer)
            self._memory = KVCache(self.backbone, forest, job.num_own, self.kv_gib * 2**30, prefixes)
        elif not self._memory.replant(forest, moved, job.num_own):
            return False
        self._jobs = jobs
        for other, first in zip(jobs, firsts, strict=True):
            other.first = first
        self._replanted = True
        return True

    def _choose(self, rows: Sequence[_JobRow], states_RD: Float[Tensor, "R D"]) -> None:
        """Choose the next token of each row, and show it."""
        self._write(rows, states_RD)
        for row in rows:
            row.tell()


def _given(backbone: Backbone, text: str, most: int) -> Completion:
    """Take a text as if it had been written; its probabilities are unknown, and its state is to be read."""
    ids = tuple(encode_text(backbone.tokenizer, text)[:most])
    unknown = (float("nan"),) * len(ids)
    return Completion(ids, decode(backbone, ids), unknown, unknown, unknown, "closed", 0.0, len(ids), None)
