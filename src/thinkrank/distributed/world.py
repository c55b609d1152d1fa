"""The processes that train together: who has which share, how they add up, and who writes.

Every process holds the whole model and takes its share of each step; sums go over the whole step, so what is learnt
does not depend on how many share it. Where a process is alone, everything here hands back what it was given.

Shape legend: R rows of this process, S rows of all of them.
"""

import itertools
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from torch import distributed as dist

from thinkrank.errors import ThinkrankError

T = TypeVar("T")
NumberT = TypeVar("NumberT", int, float)

_LONGEST_NAP = 0.5
"""Seconds between two looks at whether the first process is done."""


@dataclass(frozen=True)
class World:
    """Know this process's place among all.

    Attributes:
        rank: of this process, from 0.
        size: number of processes.
        device: name of the one this process computes on; None where nobody decided that.
        store: where processes leave each other notes; None for one process.
    """

    rank: int = 0
    size: int = 1
    device: str | None = None
    store: dist.Store | None = field(default=None, repr=False)
    _turns: Iterator[int] = field(default_factory=itertools.count, repr=False, compare=False)

    @property
    def is_first(self) -> bool:
        """Tell whether this is the process that writes."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """Return which of n things are this process's; shares are neighbours and differ by at most 1."""
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def part(self, things: Sequence[T]) -> tuple[Sequence[T], float]:
        """Return this process's share of some things, at least 1, and what its loss is multiplied by.

        Where there are fewer things than processes, who would have none reads the first one, which then counts 0: all
        processes make the same passes.
        """
        mine = things[self.share(len(things))]
        return (mine, 1.0) if len(mine) else (things[:1], 0.0)

    def required(self, n: int, name: str) -> int:
        """Return n, the size of a step by the setting of this name.

        Raises:
            ThinkrankError: if some process would have no share of it.
        """
        if n < self.size:
            raise ThinkrankError(
                f"{name} is {n}, and {self.size} processes share each step: set it to at least {self.size}, or start "
                "fewer processes"
            )
        return n

    def spread(self, n: int) -> tuple[int, slice]:
        """Return how many things all processes want if this one wants n, and which of these are its own."""
        counts = self.counts(n)
        before = sum(counts[: self.rank])
        return sum(counts), slice(before, before + n)

    def counts(self, n: int) -> list[int]:
        """Return the n of every process, in the order of ranks."""
        if self.size == 1:
            return [n]
        counts = [torch.zeros(1, dtype=torch.long) for _ in range(self.size)]
        with self._together():
            dist.all_gather(counts, torch.tensor([n]))
        return [int(count) for count in counts]

    def total(self, value: NumberT) -> NumberT:
        """Add up a number over all processes."""
        if self.size == 1:
            return value
        sum_ = torch.tensor(float(value), dtype=torch.float64)
        with self._together():
            dist.all_reduce(sum_)
        return type(value)(sum_.item())

    def most(self, value: float) -> float:
        """Return the largest of what all processes have."""
        return max(self.gathered([value]))

    def fraction(self, n: float | int | Tensor) -> float:
        """Return the share that n of this process has in the n of all: what a mean over n is multiplied by."""
        if self.size == 1:
            return 1.0
        return float(n) / max(1.0, self.total(float(n)))

    def mean(self, facts: Mapping[str, float], weight: float | int, **weights: float | int) -> dict[str, float]:
        """Average figures over all processes, each by its weight here; single figures may have one of their own."""
        if self.size == 1:
            return dict(facts)
        by_name = {name: weights.get(name, weight) for name in facts}
        sums = torch.tensor([[facts[name] * by_name[name], by_name[name]] for name in facts], dtype=torch.float64)
        with self._together():
            dist.all_reduce(sums)
        return dict(zip(facts, (sums[:, 0] / sums[:, 1].clamp(min=1e-300)).tolist(), strict=True))

    def sums(self, facts: Mapping[str, float]) -> dict[str, float]:
        """Add up figures that are shares of the whole."""
        if self.size == 1 or not facts:
            return dict(facts)
        sums = torch.tensor(list(facts.values()), dtype=torch.float64)
        self.sum_([sums])
        return dict(zip(facts, sums.tolist(), strict=True))

    def sum_(self, tensors: Iterable[Tensor]) -> None:
        """Add up each tensor over all processes, in place; those of one kind travel as one."""
        if self.size == 1:
            return
        kinds: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
        for tensor in tensors:
            kinds.setdefault((tensor.device, tensor.dtype), []).append(tensor.detach())
        for some in kinds.values():
            flat = torch.cat([tensor.flatten() for tensor in some])
            with self._together():
                dist.all_reduce(flat)
            for tensor, summed in zip(some, flat.split([tensor.numel() for tensor in some]), strict=True):
                tensor.copy_(summed.view_as(tensor))

    def sum_gradients_(self, parameters: Sequence[Tensor]) -> None:
        """Add up the gradients of parameters; one that none of the processes has a gradient of keeps none."""
        if self.size == 1:
            return
        has = torch.tensor([parameter.grad is not None for parameter in parameters], dtype=torch.long)
        self.sum_([has])
        wanted = [parameter for parameter, count in zip(parameters, has.tolist(), strict=True) if count]
        for parameter in wanted:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self.sum_(parameter.grad for parameter in wanted if parameter.grad is not None)

    def sum_rows_(self, table: Tensor) -> None:
        """Add up the sparse gradient of a table, of which every process has one."""
        if self.size == 1:
            return
        assert table.grad is not None  # noqa: S101 - each process makes all passes
        mine = table.grad.coalesce()
        rows, values = self.gather(mine.indices()[0]), self.gather(mine.values())
        table.grad = torch.sparse_coo_tensor(rows[None], values, table.shape)

    def same_(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the first one's tensors, in place."""
        if self.size == 1:
            return
        for tensor in tensors:
            held = tensor.detach().contiguous()
            with self._together():
                dist.broadcast(held, src=0)
            tensor.detach().copy_(held)

    def gather(self, rows: Shaped[Tensor, "R ..."]) -> Shaped[Tensor, "S ..."]:
        """Return the rows of all processes, in the order of ranks.

        Gradients flow back to whose rows they are, from the losses of all processes.
        """
        return self.joined(rows)[0]

    def joined(self, rows: Shaped[Tensor, "R ..."]) -> tuple[Shaped[Tensor, "S ..."], slice]:
        """Return the rows of all processes, as `gather`, and which of them are this process's."""
        if self.size == 1:
            return rows, slice(0, len(rows))
        counts = self.counts(len(rows))
        gathered: Tensor = _Gather.apply(rows, self, counts)  # type: ignore[no-untyped-call] # torch's
        before = sum(counts[: self.rank])
        return gathered, slice(before, before + len(rows))

    def gathered(self, values: Sequence[T]) -> list[T]:
        """Return the plain values of all processes, JSON, in the order of ranks."""
        if self.size == 1:
            return list(values)
        ended = torch.frombuffer(bytearray(json.dumps(list(values)).encode() + b"\n"), dtype=torch.uint8)
        lines = bytes(self.gather(ended).tolist()).splitlines()
        return [value for line in lines for value in json.loads(line)]

    def broadcast(self, value: T) -> T:
        """Return the first process's value, JSON, in all of them."""
        return value if self.size == 1 else self.gathered([value] if self.is_first else [])[0]

    def barrier(self) -> None:
        """Wait until all processes are here."""
        self.total(0)

    def first(self, work: Callable[[], T]) -> T:
        """Let the first process do something, however long it takes, and return its answer, JSON, in all.

        Raises:
            ThinkrankError: in all processes, if the first one failed so.
        """
        if self.size == 1:
            return work()
        note = f"first/{next(self._turns)}"
        assert self.store is not None  # noqa: S101 - several processes have one
        if self.is_first:
            try:
                answer = work()
            except ThinkrankError as error:
                self.store.set(note, json.dumps({"fault": str(error)}))
                raise
            self.store.set(note, json.dumps({"answer": answer}))
            return answer
        nap = 0.01
        with self._together():
            while not self.store.check([note]):
                time.sleep(nap)
                nap = min(_LONGEST_NAP, 1.2 * nap)
            told: dict[str, Any] = json.loads(self.store.get(note))
        if "fault" in told:
            raise ThinkrankError(told["fault"])
        answered: T = told["answer"]
        return answered

    def ahead(self, work: Callable[[], T]) -> T:
        """Let the first process do something, then the others the same, which find what it downloaded or wrote."""
        made: list[T] = []
        self.first(lambda: made.append(work()))
        result = made[0] if made else work()
        self.barrier()
        return result

    @contextmanager
    def apart(self, *key: int) -> Iterator[None]:
        """Let each process draw chance of its own by a key, as dropout does; then all go on with the same chance."""
        if self.size == 1:
            yield
            return
        seed = np.random.SeedSequence([*key, self.rank]).generate_state(1, np.uint64)[0] >> np.uint64(1)
        devices = [self.device] if self.device is not None and self.device.startswith("cuda") else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(int(seed))
            yield

    @contextmanager
    def _together(self) -> Iterator[None]:
        """Say in one line that another process is gone."""
        try:
            yield
        except RuntimeError as error:  # torch's own errors of this kind are among them
            where_and_what = re.sub(r"\[/[^]]*\]", "", str(error).partition(". ")[0])  # gloo begins with its source
            raise ThinkrankError(
                f"process {self.rank} of {self.size}: another process has ended or does not answer "
                f"({' '.join(where_and_what.split())[:200]}); start the same command again, which goes on from the "
                "last checkpoint"
            ) from error


@contextmanager
def normalised_together(module: nn.Module, world: World) -> Iterator[None]:
    """Let batch normalisation inside a module see the rows of all processes while it trains."""
    own: list[slice] = []

    def gather(norm: nn.Module, rows: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if not norm.training:
            return None
        whole, mine = world.joined(rows[0])
        own.append(mine)
        return (whole,)

    def take(norm: nn.Module, rows: tuple[Tensor, ...], whole: Tensor) -> Tensor | None:
        return whole[own.pop()] if norm.training else None

    norms = [norm for norm in module.modules() if isinstance(norm, nn.BatchNorm1d)] if world.size > 1 else []
    hooks = [norm.register_forward_pre_hook(gather) for norm in norms]
    hooks += [norm.register_forward_hook(take) for norm in norms]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _Gather(torch.autograd.Function):
    """The rows of all processes; what flows back is summed over all of them."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, world: World, counts: Sequence[int]) -> Tensor:
        ctx.world, ctx.counts = world, counts
        sent = rows.to(torch.uint8) if rows.dtype == torch.bool else rows
        padded = sent.new_zeros(max(counts), *rows.shape[1:])
        padded[: len(rows)] = sent
        parts = [torch.empty_like(padded) for _ in counts]
        with world._together():
            dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)]).to(rows.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,), counts = gradients, ctx.counts
        whole = gradient.contiguous().clone()
        ctx.world.sum_([whole])
        before = sum(counts[: ctx.world.rank])
        return whole[before : before + counts[ctx.world.rank]], None, None


SINGLE = World()
"""One process."""
