"""Whether a generator uses its state: if it does not, it sorts candidates, and no thought can matter.

A thought acts on a list through the generator's state alone. Here lists are written twice: as they are, and with the
state frozen at its start, so that what was chosen is only masked.

Shape legend: R rows, N candidates, K places, D width of tokens.
"""

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from thinkrank.options import Options
from thinkrank.rerank.eglr.decoding import write
from thinkrank.rerank.eglr.generators.base import Context, Generator, Rows, Slot
from thinkrank.rerank.eglr.reasoning import masked_scores
from thinkrank.rerank.eglr.writer import ListWriter
from thinkrank.rerank.lists import ListBatch

_IDLE = 0.9
"""Share of unchanged lists from which on a generator counts as one that does not use its state (ours)."""


class StateReport(Options):
    """Hold how much the state of a generator matters for what it writes without thinking."""

    lists: int = Field(description="written twice, with and without their state")
    unchanged_lists: float = Field(description="share of the greedy lists that are the same with the state frozen")
    unchanged_places: float = Field(description="share of the places that hold the same item then")
    logit_spread: float = Field(description="standard deviation of the logits of what may be chosen, mean over places")
    moved_by_item: float = Field(description="standard deviation of what the choice of an item adds to the logits")
    moved_by_thought: float | None = Field(description="the same of a thought; none where the model does not think")

    @property
    def uses_state(self) -> bool:
        """Tell whether more than a tenth of the lists change with the state."""
        return self.unchanged_lists < _IDLE

    @property
    def sentence(self) -> str:
        """Say what follows from it."""
        share = f"{self.unchanged_lists:.0%} of the lists are the same with the state frozen at its start"
        if self.uses_state:
            return f"This generator uses its state: {share}, so what was chosen, or thought, can matter."
        return f"This generator does not use its state: no thought can matter ({share})."


class _Frozen:
    """Run a generator that consumes nothing."""

    def __init__(self, generator: Generator) -> None:
        self.generator = generator

    def encode(self, joint_BNE: Float[Tensor, "B N E"], mask_BN: Bool[Tensor, "B N"]) -> Any:
        return self.generator.encode(joint_BNE, mask_BN)

    def init_state(self, context: Any) -> Any:
        return self.generator.init_state(context)

    def step(self, context: Any, state: Any, tokens_RD: Float[Tensor, "R D"], slot: Slot) -> Any:
        return state

    def logits(self, context: Any, state: Any) -> Float[Tensor, "R N"]:
        return self.generator.logits(context, state)


@torch.no_grad()
def state_report(writer: ListWriter, lists: Iterable[ListBatch], places: int) -> StateReport:
    """Measure on lists how much a writer's state matters; its weights and its way of thinking stay as they are.

    Args:
        writer: put into evaluation mode by this; its lists are written greedily, without thoughts.
        lists: batches of at least one list with a choice.
        places: of the lists that are written, at least 2.

    Raises:
        ValueError: if no list has a choice.
    """
    writer.eval()
    still = writer.without_thinking()
    thinks = writer.reasoning.mode != "none" and writer.reasoning.max_steps > 0
    same, moves, total, equal = 0, [], 0, 0.0
    for batch in lists:
        chooses_A = (batch.mask_BN.sum(dim=1) > 1).nonzero()[:, 0]
        if not len(chooses_A):
            continue
        context = still.context(batch).take(chooses_A)
        written = still.write(context, places)
        frozen = write(_Frozen(still.generator), still.reasoner, context, places)
        equal_RK = written.columns_RK == frozen.columns_RK
        same, total = same + int(equal_RK.all(dim=1).sum()), total + len(equal_RK)
        equal += float((equal_RK & written.chosen_RK).sum(dim=1).div(written.chosen_RK.sum(dim=1)).sum())
        moves.append(_moves(writer, context, written.columns_RK, thinks))
    if not total:
        raise ValueError("no list has a choice, so nothing tells whether the state matters")
    spread, item, thought = torch.cat(moves).nanmean(dim=0).tolist()
    return StateReport(
        lists=total,
        unchanged_lists=same / total,
        unchanged_places=equal / total,
        logit_spread=spread,
        moved_by_item=item,
        moved_by_thought=thought if thinks else None,
    )


def _moves(writer: ListWriter, context: Context, columns_RK: Tensor, thinks: bool) -> Float[Tensor, "X 3"]:
    """Return for each choice the spread of the logits, of what the item adds, and of what a thought would add."""
    generator, available_RN = writer.generator, context.mask_RN
    state: Rows = generator.init_state(context)
    rows = torch.arange(len(columns_RK), device=columns_RK.device)
    found = []
    for place, chosen_R in enumerate(columns_RK[:, :-1].T):
        left_RN = available_RN.scatter(1, chosen_R.clamp(min=0)[:, None], False)
        logits_RN = generator.logits(context, state)
        thought_R = torch.full_like(logits_RN[:, 0], torch.nan)
        if thinks:
            tokens_RD = writer.reasoner.token(masked_scores(logits_RN, available_RN), available_RN, context, state, 0)
            thinking = generator.step(context, state.take(rows), tokens_RD, Slot(place, 0))
            thought_R = _spread(generator.logits(context, thinking) - logits_RN, available_RN)
        state = generator.step(context, state, context.tokens_RND[rows, chosen_R.clamp(min=0)], Slot(place, None))
        item_R = _spread(generator.logits(context, state) - logits_RN, left_RN)
        goes_on_R = (chosen_R >= 0) & (left_RN.sum(dim=1) > 1)
        found.append(torch.stack([_spread(logits_RN, available_RN), item_R, thought_R], dim=1)[goes_on_R])
        available_RN = left_RN
    return torch.cat(found)


def _spread(values_RN: Float[Tensor, "R N"], among_RN: Bool[Tensor, "R N"]) -> Float[Tensor, "R"]:
    """Return the standard deviation over what is True in `among_RN`; 0 where nothing is."""
    count_R1 = among_RN.sum(dim=1, keepdim=True).clamp(min=1)
    centred_RN = values_RN - (values_RN * among_RN).sum(dim=1, keepdim=True) / count_R1
    return ((centred_RN.square() * among_RN).sum(dim=1) / count_R1[:, 0]).sqrt()
