"""Parts answered by Ray Data: actors that hold the model, and rows that only name parts.

An actor reads its part of the input and writes its answers itself, so nothing but names and counts crosses to the
driver, and as many parts are in memory as there are actors. Ray's own checkpoint (`CheckpointConfig`, Ray 2.60) is not
used: it remembers ids of rows, holds all of them in memory when a job goes on, and cuts the rest into other blocks, so
files would have other names and other bytes. Parts that have their file are skipped instead, also by an actor that is
given those of a lost one.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from thinkrank.errors import ThinkrankError
from thinkrank.offline.parts import Part
from thinkrank.offline.worker import Done, Job, Worker

_MOST_TASKS = 10_000
"""Rows of several parts stand in one task above this: Ray keeps a record of every task on the driver."""


def answered_on_ray(job: Job, parts: Sequence[Part], workers: int | None) -> Iterator[Done]:
    """Have parts answered by actors, and yield what came of each as it is done.

    The cluster is the one that `ray` is connected to, that ``RAY_ADDRESS`` names or that runs on this machine; without
    one, this machine is used.

    Args:
        job: the job they are of.
        parts: to be answered.
        workers: actors at most; None for one on every node, or every GPU. Each takes as many cores as the job has
            threads, or those of the smallest node.

    Raises:
        ThinkrankError: if Ray is not installed.
    """
    try:
        import ray
        from ray.data import ActorPoolStrategy, DataContext
    except ImportError as error:
        raise ThinkrankError("--engine ray needs Ray Data: pip install 'thinkrank[ray]'") from error
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level=logging.WARNING)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    gpus = int(sum(node.get("GPU", 0) for node in nodes)) if job.how.device in ("auto", "cuda") else 0
    most = min(len(parts), workers or gpus or len(nodes))
    beside = -(-most // len(nodes))  # workers of a node, which share its cores
    cores = job.threads or max(1, int(min(node["CPU"] for node in nodes)) // beside)
    rows = [{**asdict(part), "file": str(part.file)} for part in parts]
    answers = ray.data.from_items(rows, override_num_blocks=min(len(parts), _MOST_TASKS)).map_batches(
        _Actor,
        fn_constructor_args=(replace(job, threads=cores),),
        batch_size=1,
        compute=ActorPoolStrategy(min_size=1, max_size=most, initial_size=most),
        num_cpus=cores,
        num_gpus=1 if gpus else 0,
    )
    for row in answers.iter_rows():
        yield Done(**row)


class _Actor:
    """A worker as Ray calls it: rows that name parts come in, counts go out."""

    def __init__(self, job: Job) -> None:
        self.worker = Worker(job)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        rows = (
            dict(zip(batch, values, strict=True)) for values in zip(*(v.tolist() for v in batch.values()), strict=True)
        )
        parts = [Part(**{**row, "file": Path(row["file"])}) for row in rows]
        found = [asdict(self.worker(part)) for part in parts]
        return {name: [done[name] for done in found] for name in found[0]}
