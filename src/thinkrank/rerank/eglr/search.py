"""What an evaluator would put next, and the best list that it leads to: what reinforcement has to gain.

Shape legend: L lists, B requests of a batch, N candidates, K places, E width of joint embeddings.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from thinkrank.options import Options
from thinkrank.rerank.eglr.config import RewardKind
from thinkrank.rerank.eglr.evaluator import Evaluator
from thinkrank.rerank.eglr.report import mean_error
from thinkrank.rerank.eglr.writer import ListWriter
from thinkrank.rerank.lists import ListBatch


class Headroom(Options):
    """Hold what the evaluator thinks of greedy lists, and of the best lists that a search finds."""

    lists: int = Field(description="searched")
    greedy: float = Field(description="mean reward of the lists that the writer writes greedily, without thinking")
    found: float = Field(description="mean reward of the best lists found: the evaluator's own greedy ones, mended")
    gain: float = Field(description="mean of the best found, or the writer's where nothing better was found, less it")
    gain_error: float = Field(description="its standard error, users as clusters; 0 with fewer than two lists")
    improved: float = Field(description="share of the lists for which something better was found")


@torch.no_grad()
def next_logits(
    evaluator: Evaluator, joint_BNE: Float[Tensor, "B N E"], columns_BK: Int[Tensor, "B K"]
) -> Float[Tensor, "B K N"]:
    """Return the log-odds of a click on each candidate if it stood at each place behind what precedes it in the list.

    What is said of candidates that stand above, of padding, and of places behind a list's end has no meaning. It judges
    N K lists for each request.
    """
    above = [columns_BK[:, :place] for place in range(columns_BK.shape[1])]
    return torch.stack([_after(evaluator, joint_BNE, above_BJ) for above_BJ in above], dim=1)


@torch.no_grad()
def best_found(
    evaluator: Evaluator, joint_BNE: Float[Tensor, "B N E"], batch: ListBatch, places: int, reward: RewardKind
) -> tuple[Int[Tensor, "B K"], Float[Tensor, "B"]]:
    """Search for the list of the highest reward: at each place the likeliest click, then swaps of neighbours.

    Returns:
        The lists and their rewards; no better list is proved not to exist.
    """
    available_BN = batch.mask_BN.clone()
    columns_BK = torch.zeros(len(batch), 0, dtype=torch.long, device=available_BN.device)
    for _ in range(places):
        logits_BN = _after(evaluator, joint_BNE, columns_BK).masked_fill(~available_BN, -torch.inf)
        chosen_B1 = logits_BN.argmax(dim=1, keepdim=True)
        columns_BK = torch.cat([columns_BK, chosen_B1.where(available_BN.any(dim=1, keepdim=True), -1)], dim=1)
        available_BN = available_BN.scatter(1, chosen_B1, False)
    value_B = _worth(evaluator, joint_BNE, columns_BK, reward)
    for place in range(places - 1):
        order = [*range(place), place + 1, place, *range(place + 2, places)]
        swapped_BK = columns_BK[:, order].where(columns_BK[:, place + 1 : place + 2] >= 0, columns_BK)
        other_B = _worth(evaluator, joint_BNE, swapped_BK, reward)
        better_B = other_B > value_B
        columns_BK = swapped_BK.where(better_B[:, None], columns_BK)
        value_B = torch.where(better_B, other_B, value_B)
    return columns_BK, value_B


def headroom(
    writer: ListWriter,
    evaluator: Evaluator,
    lists: Iterable[ListBatch],
    places: int,
    reward: RewardKind,
    users_L: Int[Tensor, "L"],
) -> Headroom:
    """Measure how much better than a writer's greedy lists, to the evaluator, the best lists are that a search finds.

    `users_L` tells who saw each of the lists.

    Raises:
        ValueError: if there are no lists.
    """
    greedy, found = [], []
    writer = writer.without_thinking().eval()
    for batch in lists:
        with torch.no_grad():
            joint_BNE = evaluator.joint(batch)
            columns_BK = writer.write(writer.context(batch), places).columns_RK
        greedy.append(_worth(evaluator, joint_BNE, columns_BK, reward).double())
        found.append(best_found(evaluator, joint_BNE, batch, places, reward)[1].double())
    if not greedy:
        raise ValueError("headroom is measured on at least one list")
    greedy_L, found_L = torch.cat(greedy), torch.cat(found)
    gain_L = (found_L - greedy_L).clamp(min=0)
    return Headroom(
        lists=len(gain_L),
        greedy=float(greedy_L.mean()),
        found=float(found_L.mean()),
        gain=float(gain_L.mean()),
        gain_error=mean_error(gain_L, users_L),
        improved=float((gain_L > 1e-6).double().mean()),
    )


def _worth(evaluator: Evaluator, joint_BNE: Tensor, columns_BK: Tensor, reward: RewardKind) -> Float[Tensor, "B"]:
    return evaluator.rewards(joint_BNE, columns_BK, reward).sum(dim=1)


def _after(
    evaluator: Evaluator, joint_BNE: Float[Tensor, "B N E"], above_BJ: Int[Tensor, "B J"]
) -> Float[Tensor, "B N"]:
    """Return the log-odds of a click on each candidate behind J others."""
    lists, candidates = joint_BNE.shape[:2]
    every_X1 = torch.arange(candidates, device=above_BJ.device).repeat(lists)[:, None]
    columns_XK = torch.cat([above_BJ.clamp(min=0).repeat_interleave(candidates, dim=0), every_X1], dim=1)
    return evaluator(joint_BNE, columns_XK)[:, -1].view(lists, candidates)
