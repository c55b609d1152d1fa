"""Lists that the generator draws to learn from, and what can be told of them.

Shape legend: B requests, G lists of each, R = B G rows, K places.
"""

from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from thinkrank.distributed.world import SINGLE, World
from thinkrank.rerank.eglr.config import RewardKind
from thinkrank.rerank.eglr.decoding import Noise, Replayed, Written
from thinkrank.rerank.eglr.evaluator import Evaluator
from thinkrank.rerank.eglr.writer import ListWriter
from thinkrank.rerank.lists import ListBatch


@dataclass(frozen=True)
class Rollouts:
    """Hold lists that were drawn for some requests.

    Attributes:
        written: G lists of each request, one after another.
        rewards_RK: what each place adds to the worth of its list.
    """

    written: Written
    rewards_RK: Float[Tensor, "R K"]


@torch.no_grad()
def draw_rollouts(
    writer: ListWriter,
    evaluator: Evaluator,
    batch: ListBatch,
    places: int,
    group_size: int,
    reward: RewardKind,
    random: torch.Generator,
    world: World = SINGLE,
) -> Rollouts:
    """Draw lists and have them judged.

    The writer draws G lists of K places for each request, without dropout; `random` is on the CPU. Each process of the
    `world` has a share of the requests, whose draws do not depend on that.
    """
    context = writer.context(batch, group_size)
    rows, candidates = context.mask_RN.shape
    whole, mine = world.spread(rows)
    noise = Noise.sample(whole, places, candidates, random).take(mine)
    written = writer.write(context, places, noise.to(context.mask_RN.device))
    return Rollouts(written, evaluator.rewards(evaluator.joint(batch), written.columns_RK, reward))


def replayed(writer: ListWriter, batch: ListBatch, written: Written) -> Replayed:
    """Recompute lists of a batch under a writer's present weights, with as many thoughts as there were."""
    context = writer.context(batch, len(written.columns_RK) // len(batch))
    return writer.replay(context, written.columns_RK, written.steps_RK)


def gathered(written: Written, world: World) -> Written:
    """Return the lists of all processes."""
    return Written(*(world.gather(getattr(written, field.name)) for field in fields(Written)))


def by_place(written: Written) -> dict[str, Any]:
    """Return how often and how long rows thought at each place, and entropies, as means over lists that reach it."""
    chosen_RK = written.chosen_RK
    reach_K = chosen_RK.sum(dim=0).clamp(min=1)

    def means(values_RK: Tensor) -> list[float]:
        means_K: list[float] = (values_RK.double().masked_fill(~chosen_RK, 0.0).sum(dim=0) / reach_K).tolist()
        return means_K

    count = chosen_RK.sum().clamp(min=1)
    return {
        "trigger_rate": float((written.steps_RK > 0).sum() / count),
        "mean_thoughts": float(written.steps_RK.sum() / count),
        "trigger_rate_by_place": means(written.steps_RK > 0),
        "thoughts_by_place": means(written.steps_RK),
        "entropy_before_by_place": means(written.entropies_before_RK),
        "entropy_after_by_place": means(written.entropies_after_RK),
    }
