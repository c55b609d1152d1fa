"""What becomes of a loss whose parts several processes have computed."""

from dataclasses import fields, replace

import torch

from thinkrank.distributed.world import World
from thinkrank.policy import Surrogate, combine_surrogates


def whole_surrogate(mine: Surrogate, world: World) -> Surrogate:
    """Combine what each process has of a batch; see `combine_surrogates`. All have the same fields."""
    if world.size == 1:
        return mine
    known = [field.name for field in fields(Surrogate) if getattr(mine, field.name) is not None]
    row = torch.stack([getattr(mine, name).detach().double() for name in known])
    whole = [dict(zip(known, values, strict=True)) for values in world.gather(row[None])]
    for values in whole:
        values |= {name: values[name].long() for name in ("num_units", "num_actions")}
    return combine_surrogates([replace(mine, **values) for values in whole])
