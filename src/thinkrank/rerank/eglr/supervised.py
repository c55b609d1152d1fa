"""Training without reinforcement: the evaluator, and the warm start of the generator. Both losses are reconstructed.

Shape legend: B lists, N candidates, K places.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

from thinkrank.data.impressions import ImpressionDataset, ImpressionSplit
from thinkrank.rerank.eglr.decoding import Noise
from thinkrank.rerank.eglr.evaluator import click_loss
from thinkrank.rerank.eglr.model import EGLR
from thinkrank.rerank.eglr.options import EvaluatorTrainerOptions, WarmStartOptions
from thinkrank.rerank.eglr.orders import along, displayed_places, ordered
from thinkrank.rerank.eglr.report import EvaluatorReport, evaluator_report
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
        loss = click_loss(logits_BK, along(columns_BK, batch.feedback_BN) > 0, columns_BK >= 0)
        norm = self.descend(loss)
        return {"loss": loss.item(), "gradient_norm": norm}

    def order_keys(self, batch: ListBatch) -> Float[Tensor, "B N"]:
        """Return displayed places, or, for a share of the lists, a random order."""
        places_BN, random = displayed_places(batch.mask_BN), self.random()
        order_BN = torch.rand(places_BN.shape, generator=random).to(places_BN.device)
        shuffled_B = (torch.rand(len(batch), generator=random) < self.options.shuffled).to(places_BN.device)
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
        )


class WarmStartTrainer(ListTrainer[WarmStartOptions]):
    """Make the next item one of the clicked ones that are left.

    L = -mean_{b,k} log Σ_{i clicked and not yet chosen} π(i | what precedes place k), over the places where such an
    item is left. What precedes is drawn from the generator itself, or the clicked items themselves; see the options.
    Lists without feedback are left out.

    Source: reconstructed; whether the paper warms its generator up is not known.
    """

    def __init__(self, model: EGLR, split: ImpressionSplit, options: WarmStartOptions, run: Run) -> None:
        super().__init__(model, model.writer, split, options, run)

    def trainable(self, train: ImpressionDataset) -> Int64[np.ndarray, "M"]:
        """Leave out lists without a click and those with nothing to choose."""
        return np.flatnonzero((train.feedback(self.options.signal) > 0).any(axis=1) & (train.lengths_L > 1))

    def learn(self, batch: TrainingBatch) -> dict[str, Any]:
        """Make one update along lists that precede each choice."""
        columns_BK = self.prefixes(batch)
        self.module.train()
        writer, wanted_BN = self.model.writer, batch.feedback_BN > 0
        replayed = writer.replay(writer.context(batch), columns_BK, torch.zeros_like(columns_BK), wanted_BN)
        taught_BK = left_before(columns_BK, wanted_BN)
        loss = -replayed.wanted_logprobs_RK[taught_BK].mean()
        norm = self.descend(loss)
        return {"loss": loss.item(), "gradient_norm": norm, "taught_places": float(taught_BK.float().mean())}

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

    def prefixes(self, batch: TrainingBatch) -> Int[Tensor, "B K"]:
        """Return the lists along which places are trained."""
        options, mask_BN = self.options, batch.mask_BN
        if options.prefix == "clicked_first":
            return ordered(displayed_places(mask_BN) - 1e6 * batch.feedback_BN, mask_BN, options.length)
        self.module.eval()
        with torch.no_grad():
            writer = self.model.writer.without_thinking()
            noise = Noise.sample(len(mask_BN), options.length, mask_BN.shape[1], self.random()).to(self.model.device)
            return writer.write(writer.context(batch), options.length, noise).columns_RK


def left_before(columns_BK: Int[Tensor, "B K"], wanted_BN: Bool[Tensor, "B N"]) -> Bool[Tensor, "B K"]:
    """Say at which places of a list some wanted candidate has not been chosen yet."""
    hits_BK = along(columns_BK, wanted_BN.float())
    chosen_BK = hits_BK.cumsum(dim=1) - hits_BK
    return (chosen_BK < wanted_BN.sum(dim=1, keepdim=True)) & (columns_BK >= 0)
