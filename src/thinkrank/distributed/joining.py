"""How a process joins the others that `torchrun` started: by the environment it was given."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import distributed as dist

from thinkrank.distributed.environment import told
from thinkrank.distributed.world import SINGLE, World
from thinkrank.errors import ThinkrankError

ANSWER_WITHIN = timedelta(minutes=30)
"""After which a process that takes no part in what all do counts as lost."""


def is_one_of_several() -> bool:
    """Tell whether this process was started as one of several.

    Raises:
        ThinkrankError: if the environment's WORLD_SIZE is no number.
    """
    return told("WORLD_SIZE", 1) > 1


@contextmanager
def joined(device: str = "auto", *, answer_within: timedelta = ANSWER_WITHIN) -> Iterator[World]:
    """Join the processes that were started together, until the block ends; one that is alone is a world of its own.

    Args:
        device: auto, cpu or cuda; with cuda each process takes the card of its number on this machine.
        answer_within: after which a process that takes no part counts as lost.

    Raises:
        ThinkrankError: if the device cannot be shared, there are fewer cards than processes, or another is lost.
    """
    if not is_one_of_several():
        yield SINGLE
        return
    name = own_device(device, told("LOCAL_RANK", 0))
    backend = "cpu:gloo,cuda:nccl" if name.startswith("cuda") else "gloo"
    try:
        store, rank, size = next(dist.rendezvous("env://", timeout=answer_within))
        dist.init_process_group(
            backend, store=dist.PrefixStore("torch", store), rank=rank, world_size=size, timeout=answer_within
        )
    except (RuntimeError, ValueError) as error:
        raise ThinkrankError(
            f"the {os.environ['WORLD_SIZE']} processes of the environment's WORLD_SIZE cannot find each other "
            f"({' '.join(str(error).split())[:200]}): start them together, torchrun --nproc-per-node 2 -m thinkrank …"
        ) from error
    try:
        world = World(rank, size, name, dist.PrefixStore("thinkrank", store))
        yield world
        world.barrier()  # nobody leaves while others still read its notes
    finally:
        dist.destroy_process_group()


def own_device(device: str, local_rank: int) -> str:
    """Return the device of the process that has this number on its machine.

    Raises:
        ThinkrankError: if it cannot be one among several.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        raise ThinkrankError(f"--device {device} cannot be shared by several processes: use auto, cpu or cuda")
    if device == "cpu":
        return device
    if local_rank >= torch.cuda.device_count():
        raise ThinkrankError(
            f"this machine has {torch.cuda.device_count()} cards, and process {local_rank + 1} of it wants one of its "
            "own: start as many processes as cards (torchrun --nproc-per-node), or use --device cpu"
        )
    torch.cuda.set_device(local_rank)
    return f"cuda:{local_rank}"
