"""What `torchrun` tells a process by its environment. Needs no torch, so a command looks before anything is loaded."""

import os

from thinkrank.errors import ThinkrankError


def told(name: str, otherwise: int) -> int:
    """Return a number of the environment.

    Args:
        name: such as WORLD_SIZE or RANK.
        otherwise: the number of a process that was started alone.

    Raises:
        ThinkrankError: if it is no number.
    """
    text = os.environ.get(name) or str(otherwise)
    if not text.isdecimal():
        raise ThinkrankError(
            f"the environment's {name} is {text!r}, not a number: start processes by torchrun --nproc-per-node 2 -m "
            f"thinkrank …, or remove it with unset {name}"
        )
    return int(text)
