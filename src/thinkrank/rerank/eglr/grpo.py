"""Reinforcement of the generator by the frozen evaluator.

From the paper (as readers of it report): GRPO, and the pre-trained evaluator's score as its reward. Everything inside
is reconstructed; see `rollouts` and `objective`, in the order of a step.

Shape legend: B requests, G lists of each, R = B G rows, K places.
"""

import copy
from typing import Any

import torch
from torch import Tensor

from thinkrank.data.impressions import ImpressionSplit
from thinkrank.policy import tied_groups
from thinkrank.rerank.eglr.model import EGLR
from thinkrank.rerank.eglr.objective import compare, objective
from thinkrank.rerank.eglr.options import GrpoOptions
from thinkrank.rerank.eglr.rollouts import Rollouts, by_place, draw_rollouts, gathered, replayed
from thinkrank.rerank.eglr.writing import WriterTrainer
from thinkrank.rerank.lists import ListBatch, TrainingBatch
from thinkrank.training import Run, under
from thinkrank.training.shared import whole_surrogate
from thinkrank.training.watch import Watch


class GrpoTrainer(WriterTrainer[GrpoOptions]):
    """Reinforce the writer. A step is one batch of rollouts and the updates made from it.

    The generator is kept as it was at the start, to measure divergences from.
    """

    def __init__(self, model: EGLR, split: ImpressionSplit, options: GrpoOptions, run: Run) -> None:
        super().__init__(model, split, options, run)
        self.reference = copy.deepcopy(model.writer).requires_grad_(False)
        self.watch = Watch("raise grpo.group_size, try another grpo.reward, or train the evaluator longer")

    def extra_tensors(self) -> dict[str, Tensor]:
        """Return the generator and the validation as they were at the start."""
        kept = {f"reference/{name}": tensor for name, tensor in self.reference.state_dict().items()}
        return kept | super().extra_tensors()

    def restore_extra(self, tensors: dict[str, Tensor]) -> None:
        """Take over what a checkpoint kept."""
        super().restore_extra(tensors)
        self.reference.load_state_dict(under("reference/", tensors))

    def rollouts(self, batch: ListBatch) -> Rollouts:
        """Write lists for the requests of a step, and have them judged."""
        options = self.options
        return draw_rollouts(
            self.model.writer,
            self.evaluator,
            batch,
            options.length,
            options.group_size,
            options.reward,
            self.random(),
            self.world,
        )

    def learn(self, batch: TrainingBatch) -> dict[str, Any]:
        """Write lists, have them judged, compare those of one request, and update."""
        options = self.options
        self.module.eval()
        rollouts = self.rollouts(batch)
        written, rewards_RK = rollouts.written, rollouts.rewards_RK
        with torch.no_grad():
            reference = replayed(self.reference, batch, written)
        advantages_RK, tells_RK = compare(rewards_RK, options)
        for _ in range(options.updates):
            now = replayed(self.model.writer, batch, written)
            counts_RK = tells_RK & written.chosen_RK
            surrogate = objective(now, written, reference, advantages_RK, counts_RK, options)
            norm = self.descend(surrogate.loss * self.world.fraction(counts_RK.sum()))
        rewards_BG = self.world.gather(rewards_RK.sum(dim=1)).view(-1, options.group_size)
        surrogate, written = whole_surrogate(surrogate, self.world), gathered(written, self.world)
        tied_share = float(tied_groups(rewards_BG).float().mean())
        if self.watch is not None:
            advantage = self.world.most(float(advantages_RK.abs().max()))
            self.watch.batch(self.counters.step + 1, tied=tied_share, advantage=advantage, gradient=norm)
        return {
            "reward": float(rewards_BG.mean()),
            "group_spread": float(rewards_BG.std(dim=1).mean()),
            "tied_share": tied_share,
            "clip_share": float(surrogate.clip_share),
            "ratio": float(surrogate.mean_ratio),
            "kl": _number(surrogate.mean_kl),
            "choice_entropy": _number(surrogate.mean_entropy),
            "gradient_norm": norm,
            **by_place(written),
        }


def _number(value: Tensor | None) -> float:
    return 0.0 if value is None else float(value)
