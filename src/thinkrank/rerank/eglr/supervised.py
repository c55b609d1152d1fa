"""Training without reinforcement: the evaluator, and the warm start of the generator. Both losses are reconstructed.

Shape legend: B lists, N candidates, K places.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor
from torch.nn import functional

from thinkrank.data.impressions import ImpressionDataset, ImpressionSplit
from thinkrank.rerank.eglr.decoding import Noise, Replayed
from thinkrank.rerank.eglr.evaluator import click_loss
from thinkrank.rerank.eglr.model import EGLR
from thinkrank.rerank.eglr.options import EvaluatorTrainerOptions, WarmStartOptions
from thinkrank.rerank.eglr.orders import along, displayed_places, ordered
from thinkrank.rerank.eglr.reasoning import log_probabilities, masked_scores
from thinkrank.rerank.eglr.report import EvaluatorReport, evaluator_report
from thinkrank.rerank.eglr.search import next_logits
from thinkrank.rerank.eglr.trainer import ListTrainer, click_metrics
from thinkrank.rerank.lists import ListBatch, TrainingBatch
from thinkrank.training import Run


class EvaluatorTrainer(ListTrainer[EvaluatorTrainerOptions]):
    """Predict the clicks on displayed lists; at the end a report is made and the evaluator is frozen.

    Source: the paper trains it before the generator; the loss, binary cross-entropy, is reconstructed.
    """

    def __init__(self, model: EGLR, split: ImpressionSplit, options: EvaluatorTrainerOptions, run: Run) -> None:
        super().__init__(model, model.evaluator.requires_grad_(True), split, options, run)
        config = model.config.evaluator
        self.length = config.length if config.kind == "five_channel" else None

    def learn(self, batch: TrainingBatch) -> dict[str, Any]:
        """Make one update on the clicks of some lists."""
        self.module.train()
        columns_BK = ordered(self.order_keys(batch), batch.mask_BN, self.length)
        logits_BK = self.model.evaluator(self.model.evaluator.joint(batch), columns_BK)
        there_BK = columns_BK >= 0
        loss = click_loss(logits_BK, along(columns_BK, batch.feedback_BN) > 0, there_BK)
        loss = loss * self.world.fraction(there_BK.sum())
        norm = self.descend(loss)
        return {"loss": self.world.total(loss.item()), "gradient_norm": norm}

    def order_keys(self, batch: ListBatch) -> Float[Tensor, "B N"]:
        """Return displayed places, or, for a share of the lists, a random order."""
        places_BN, random = displayed_places(batch.mask_BN), self.random()
        whole, mine = self.world.spread(len(batch))
        order_BN = torch.rand(whole, places_BN.shape[1], generator=random)[mine].to(places_BN.device)
        shuffled_B = (torch.rand(whole, generator=random)[mine] < self.options.shuffled).to(places_BN.device)
        return torch.where(shuffled_B[:, None], order_BN, places_BN)

    def judge(self) -> dict[str, Any]:
        """Measure log likelihood, AUC and calibration on validation lists."""
        report = self._report()
        return {
            "valid_log_likelihood": -report.log_loss,
            "valid_base_log_loss": report.base_log_loss,
            "valid_auc": report.auc,
            "valid_auc_within_place": report.auc_within_place,
            "valid_calibration_error": report.calibration_error,
        }

    def finish(self) -> None:
        """Judge the best weights, keep the report, and freeze."""
        super().finish()
        self.model.report = self._report()
        self.model.evaluator.freeze()

    def _report(self) -> EvaluatorReport:
        options = self.options
        return evaluator_report(
            self.model.evaluator,
            self.validation,
            length=self.length,
            slate_length=options.slate_length,
            seed=options.seed,
            users_L=self.validation_users,
        )


class WarmStartTrainer(ListTrainer[WarmStartOptions]):
    """Teach what comes next, along lists drawn from the generator itself, or the clicked items; see the options.

    By clicks: L = -mean_{b,k} log Σ_{i clicked and not yet chosen} π(i | what precedes place k), over the places where
    such an item is left; lists without feedback are left out. On lists with one click its optimum is a sorter that does
    not look at what it chose.

    By the evaluator: L = -mean_{b,k} Σ_i q_ki log π(i | what precedes place k), with q_k = softmax(logit ŷ_ki / τ) over
    what is available, ŷ_ki being the chance of a click on candidate i if it came next.

    Source: reconstructed; whether the paper warms its generator up is not known. The second is the reward-weighted
    cross-entropy of the author's LAST with the reward of each next item in the place of that of whole lists.
    """

    def __init__(self, model: EGLR, split: ImpressionSplit, options: WarmStartOptions, run: Run) -> None:
        super().__init__(model, model.writer, split, options, run)

    def trainable(self, train: ImpressionDataset) -> Int64[np.ndarray, "M"]:
        """Leave out lists with nothing to choose and, where clicks teach, those without one."""
        chooses_L = train.lengths_L > 1
        if self.options.target == "evaluator":
            return np.flatnonzero(chooses_L)
        return np.flatnonzero((train.feedback(self.options.signal) > 0).any(axis=1) & chooses_L)

    def learn(self, batch: TrainingBatch) -> dict[str, Any]:
        """Make one update along lists that precede each choice."""
        columns_BK = self.prefixes(batch)
        steps_BK = self.thoughts(batch, columns_BK)
        wanted_BN, weights_BKN = batch.feedback_BN > 0, None
        if self.options.target == "evaluator":
            weights_BKN = self.likely_next(batch, columns_BK)
        self.module.train()
        writer = self.model.writer
        asks = bool(self.options.step_weight) or writer.reasoning.predicts_gain
        given = (writer.context(batch), columns_BK, steps_BK, wanted_BN, weights_BKN)
        replayed = writer.replay(*given, every_thought=asks)
        if replayed.taught_logprobs_RK is None:
            taught_BK, logprobs_BK = left_before(columns_BK, wanted_BN), replayed.wanted_logprobs_RK
        else:
            taught_BK, logprobs_BK = columns_BK >= 0, replayed.taught_logprobs_RK
        loss = -logprobs_BK[taught_BK].mean() * self.world.fraction(taught_BK.sum())
        row = {"loss": self.world.total(loss.item())}
        if replayed.by_thought_RKT is not None:
            thoughts, told = self.thought_losses(replayed, taught_BK)
            loss, row = loss + thoughts, row | told
        norm = self.descend(loss)
        taught = self.world.mean({"taught_places": float(taught_BK.float().mean())}, taught_BK.numel())
        return {**row, "gradient_norm": norm, **taught}

    def thought_losses(
        self, replayed: Replayed, taught_BK: Bool[Tensor, "B K"]
    ) -> tuple[Float[Tensor, ""], dict[str, float]]:
        """Give every thought a loss of its own, and teach the predictor by how much each lowered it.

        With l_t the loss of the choice behind t thoughts, a mean over thoughts of l_t + max(0, l_t - l_{t-1} + margin),
        where l_{t-1} is a constant: a thought may not pay by making the choice before it worse. The predictor's squared
        error does not reach the writer.

        Returns:
            The loss, and what to log.

        Source: reconstructed; a loss at every latent step, and its drop as the teacher of a gate, are in the literature
        on sequential models (arXiv 2607.12425).
        """
        assert replayed.by_thought_RKT is not None  # noqa: S101 - it was asked for
        options, losses_BKT = self.options, -replayed.by_thought_RKT[taught_BK]
        made_XT = ~losses_BKT[:, 1:].isnan()
        count = int(made_XT.sum())
        if not self.world.total(count):
            return losses_BKT.new_zeros(()), {}
        before_M, after_M = losses_BKT[:, :-1].detach()[made_XT], losses_BKT[:, 1:][made_XT]
        gains_M = before_M - after_M
        loss = options.step_weight * _mean(after_M + (options.step_margin - gains_M).relu())
        row = {"thought_gain": _mean(gains_M).item(), "thoughts_that_gain": _mean((gains_M > 0).double()).item()}
        if replayed.gains_RKT is not None:
            predicted_M = replayed.gains_RKT[taught_BK][:, :-1][made_XT]
            error = _mean((predicted_M - gains_M.detach().to(predicted_M.dtype)).square())
            loss, row = loss + error, row | {"gain_error": error.item()}
        return loss * self.world.fraction(count), self.world.mean(row, count)

    def judge(self) -> dict[str, Any]:
        """Measure NDCG and reciprocal rank of greedy lists, without thinking."""
        writer, length = self.model.writer.without_thinking(), self.options.length
        values, before = [], []
        for batch in self.validation:
            written = writer.write(writer.context(batch), length)
            values.append(click_metrics(written.columns_RK, batch, length))
            before.append(written.entropies_before_RK)
        ndcg, reciprocal = map(np.concatenate, zip(*values, strict=True))
        return {
            f"valid_ndcg@{length}": float(ndcg.mean()),
            f"valid_mrr@{length}": float(reciprocal.mean()),
            "valid_entropy_by_place": torch.cat(before).mean(dim=0).tolist(),
        }

    def likely_next(self, batch: TrainingBatch, columns_BK: Int[Tensor, "B K"]) -> Float[Tensor, "B K N"]:
        """Return what the evaluator would put at each place, as a distribution over what is available there."""
        evaluator, mask_BN = self.model.evaluator.eval(), batch.mask_BN
        with torch.no_grad():
            logits_BKN = next_logits(evaluator, evaluator.joint(batch), columns_BK)
        chosen_BKN = functional.one_hot(columns_BK.clamp(min=0), mask_BN.shape[1]).cumsum(dim=1)
        gone_BKN = functional.pad(chosen_BKN[:, :-1], (0, 0, 1, 0)) > 0
        available_BKN = mask_BN[:, None] & ~gone_BKN
        scores_XN = masked_scores(logits_BKN.flatten(0, 1), available_BKN.flatten(0, 1))
        return log_probabilities(scores_XN, self.options.target_temperature).exp().view_as(logits_BKN)

    def thoughts(self, batch: TrainingBatch, columns_BK: Int[Tensor, "B K"]) -> Int[Tensor, "B K"]:
        """Draw how many thoughts precede each place; none precedes the last candidate, where there is no choice."""
        if not self.options.thought_share:
            return torch.zeros_like(columns_BK)
        random = self.random()
        random.manual_seed(random.initial_seed() ^ 1)  # not the chance that prefixes are drawn by
        whole, mine = self.world.spread(len(batch))
        draws_2BK = torch.rand(2, whole, columns_BK.shape[1], generator=random)[:, mine].to(columns_BK.device)
        left_BK = batch.mask_BN.sum(dim=1, keepdim=True) - torch.arange(columns_BK.shape[1], device=columns_BK.device)
        thinks_BK = (draws_2BK[0] < self.options.thought_share) & (left_BK > 1)
        most = self.model.writer.reasoning.max_steps
        return thinks_BK * (1 + (draws_2BK[1] * most).long()).clamp(max=most)

    def prefixes(self, batch: TrainingBatch) -> Int[Tensor, "B K"]:
        """Return the lists along which places are trained."""
        options, mask_BN = self.options, batch.mask_BN
        if options.prefix == "clicked_first":
            return ordered(displayed_places(mask_BN) - 1e6 * batch.feedback_BN, mask_BN, options.length)
        self.module.eval()
        with torch.no_grad():
            writer = self.model.writer.without_thinking()
            whole, mine = self.world.spread(len(mask_BN))
            noise = Noise.sample(whole, options.length, mask_BN.shape[1], self.random()).take(mine)
            return writer.write(writer.context(batch), options.length, noise.to(self.model.device)).columns_RK


def _mean(values: Tensor) -> Tensor:
    """Return the mean; 0 of nothing, which a process's share may be."""
    return values.mean() if len(values) else values.sum()


def left_before(columns_BK: Int[Tensor, "B K"], wanted_BN: Bool[Tensor, "B N"]) -> Bool[Tensor, "B K"]:
    """Say at which places of a list some wanted candidate has not been chosen yet."""
    hits_BK = along(columns_BK, wanted_BN.float())
    chosen_BK = hits_BK.cumsum(dim=1) - hits_BK
    return (chosen_BK < wanted_BN.sum(dim=1, keepdim=True)) & (columns_BK >= 0)
