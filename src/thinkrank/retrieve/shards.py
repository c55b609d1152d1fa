"""Item tables of which each process holds a part: neighbouring rows of the catalogue, in the order of ranks.

Each process asks with queries of its own, and is answered as if it held the whole table.

Shape legend: B queries of this process, P queries of its training batch, K answers, D width, S queries of all
processes, W processes.
"""

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from thinkrank.distributed.world import World
from thinkrank.retrieve.item_table import Exclude, ItemTable


@torch.no_grad()
def search_shards(
    shard: ItemTable, world: World, queries_BD: Float[Tensor, "B D"], k: int, *, exclude: Exclude = None
) -> tuple[Int64[Tensor, "B K"], Float[Tensor, "B K"]]:
    """Find the k best items for each query among all parts; see `ItemTable.search`.

    Args:
        shard: this process's part.
        world: the processes that hold the others.
        queries_BD: of this process.
        k: how many, the same in all processes.
        exclude: for each query rows of the whole catalogue; None in all processes or in none.
    """
    rows, here = world.spread(len(shard))
    queries_SD, mine = world.joined(queries_BD)
    items_SK, scores_SK = shard.search(queries_SD, k, exclude=_inside(exclude, world, here))
    items_SK = torch.where(items_SK >= 0, items_SK + here.start, items_SK)
    missing = (0, min(k, rows) - items_SK.shape[1])
    items_WSK = world.gather(torch.nn.functional.pad(items_SK, missing, value=-1)[None])
    scores_WSK = world.gather(torch.nn.functional.pad(scores_SK, missing, value=-torch.inf)[None])
    items_BN, scores_BN = (found.transpose(0, 1).flatten(1)[mine] for found in (items_WSK, scores_WSK))
    order_BK = scores_BN.sort(dim=1, descending=True, stable=True).indices[:, :k]  # of equal ones the lower row first
    return items_BN.gather(1, order_BK), scores_BN.gather(1, order_BK)


def log_normaliser_shards(
    shard: ItemTable, world: World, queries_PD: Float[Tensor, "P D"], *, exclude: Exclude = None
) -> Float[Tensor, "P"]:
    """Return log Σ_i exp(score of item i) over all parts, in nats; differentiable in the queries.

    Arguments as for `search_shards`; see `ItemTable.log_normaliser`.
    """
    _, here = world.spread(len(shard))
    queries_SD, mine = world.joined(queries_PD)
    parts_WS = world.gather(shard.log_normaliser(queries_SD, exclude=_inside(exclude, world, here))[None])
    nothing_S = parts_WS.isneginf().all(dim=0)
    return parts_WS.masked_fill(nothing_S, 0.0).logsumexp(dim=0).masked_fill(nothing_S, -torch.inf)[mine]


def _inside(exclude: Exclude, world: World, here: slice) -> Exclude:
    """Return what all processes leave out, as rows of this process's part."""
    if exclude is None:
        return None
    left_out = [np.asarray(rows, np.int64) for rows in world.gathered([np.asarray(rows).tolist() for rows in exclude])]
    return [rows[(rows >= here.start) & (rows < here.stop)] - here.start for rows in left_out]
