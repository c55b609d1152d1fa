"""What trainings share in which the frozen evaluator judges lists that the generator writes.

Shape legend: V validation lists, M lists worth a step.
"""

import copy
import logging
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from thinkrank.data.impressions import ImpressionDataset, ImpressionSplit
from thinkrank.errors import ThinkrankError
from thinkrank.rerank.eglr.decoding import joined
from thinkrank.rerank.eglr.model import EGLR
from thinkrank.rerank.eglr.objective import is_exploited
from thinkrank.rerank.eglr.options import WriterTrainerOptions
from thinkrank.rerank.eglr.report import EvaluatorReport
from thinkrank.rerank.eglr.rollouts import by_place
from thinkrank.rerank.eglr.trainer import ListTrainer, click_metrics
from thinkrank.training import Run, under
from thinkrank.training.rehearsal import Measured, Rehearsal

_THRESHOLD = "threshold"
_TELLS_ITEMS = 0.6
"""An AUC within a place from which on nothing is said: a little above what chance and wishes make of few lists."""

logger = logging.getLogger(__name__)

WriterOptionsT = TypeVar("WriterOptionsT", bound=WriterTrainerOptions)


class WriterTrainer(ListTrainer[WriterOptionsT]):
    """Train the writer by the evaluator's judgement of the lists that it writes.

    A threshold of the gate that is not given is calibrated before every validation: training makes choices surer, so
    under a threshold that stands still thinking dies out. Dropout is off: a replay must give what the rollout gave. An
    evaluator that `check_evaluator` refuses is refused here.
    """

    def __init__(self, model: EGLR, split: ImpressionSplit, options: WriterOptionsT, run: Run) -> None:
        evaluator = model.evaluator
        if isinstance(run, Rehearsal):  # the evaluator is still to be trained; what it says takes as long
            evaluator = copy.deepcopy(evaluator)
        else:
            check_evaluator(model.report, options)
        super().__init__(model, model.writer, split, options, run)
        self.evaluator = evaluator.freeze()
        self.calibrates = model.writer.reasoner.options.lacks_threshold  # as given, not as set by a phase before
        self.at_start: dict[str, Tensor] = {}

    def trainable(self, train: ImpressionDataset) -> Int64[np.ndarray, "M"]:
        """Leave out lists with nothing to choose; feedback is not needed."""
        return np.flatnonzero(train.lengths_L > 1)

    def prepare(self) -> None:
        """Set the threshold of the gate."""
        self._calibrate(rounds=3)

    def rehearse(self) -> Measured:
        """Measure with a gate that lets some places think, as `prepare` will set it."""
        threshold = self.model.writer.reasoner.threshold.clone()
        try:
            self._calibrate(rounds=1)
            return super().rehearse()
        finally:
            self.model.writer.reasoner.set_threshold(float(threshold))

    def _calibrate(self, rounds: int) -> None:
        """Set the threshold for the present weights, if it was not given."""
        writer = self.model.writer
        if self.calibrates:
            self.module.eval()
            with torch.no_grad():
                contexts = [writer.context(batch) for batch in self.validation]
            rate = writer.calibrate(contexts, self.options.length, rounds=rounds)
            writer.reasoner.set_threshold(self.world.broadcast(float(writer.reasoner.threshold)))
            logger.info("threshold %.4g: %.1f %% of places think", writer.reasoning.threshold, 100 * rate)

    def weights(self) -> dict[str, Tensor]:
        """Return the writer's weights, and the threshold of its gate if it is set."""
        threshold = self.model.writer.reasoner.threshold
        return super().weights() | ({} if threshold.isnan() else {_THRESHOLD: threshold})

    def set_weights(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy what `weights` returned back."""
        super().set_weights({name: tensor for name, tensor in tensors.items() if name != _THRESHOLD})
        if _THRESHOLD in tensors:
            self.model.writer.reasoner.set_threshold(float(tensors[_THRESHOLD]))

    def extra_tensors(self) -> dict[str, Tensor]:
        """Return the validation as it was at the start."""
        return {f"at_start/{name}": tensor for name, tensor in self.at_start.items()}

    def restore_extra(self, tensors: dict[str, Tensor]) -> None:
        """Take over what a checkpoint kept."""
        self.at_start = under("at_start/", tensors)

    def judge(self) -> dict[str, Any]:
        """Measure NDCG of greedy lists, written as configured, beside what the evaluator thinks of them."""
        length, options, writer = self.options.length, self.options, self.model.writer
        if self.counters.step:  # before the first step `prepare` did it
            self._calibrate(rounds=1)
        values: dict[str, list[Tensor]] = {"ndcg": [], "mrr": [], "reward": []}
        parts = []
        for batch in self.validation:
            written = self.model.answer(batch, length)
            rewards_VK = self.evaluator.rewards(self.evaluator.joint(batch), written.columns_RK, options.reward)
            for name, metric in zip(("ndcg", "mrr"), click_metrics(written.columns_RK, batch, length), strict=True):
                values[name].append(torch.from_numpy(metric))
            values["reward"].append(rewards_VK.sum(dim=1).double().cpu())
            parts.append(written)
        now = {name: torch.cat(tensors) for name, tensors in values.items()}
        self.at_start = self.at_start or {name: tensor.clone() for name, tensor in now.items()}
        return {
            f"valid_ndcg@{length}": float(now["ndcg"].mean()),
            f"valid_mrr@{length}": float(now["mrr"].mean()),
            "valid_reward": float(now["reward"].mean()),
            "reward_hacking": self.is_hacking(now),
            **({} if writer.reasoning.threshold is None else {"threshold": writer.reasoning.threshold}),
            **{f"valid_{name}": value for name, value in by_place(joined(parts)).items()},
        }

    def is_hacking(self, now: Mapping[str, Float[Tensor, "V"]]) -> bool:
        """Say whether the evaluator likes the lists better than at the start while users' clicks fall, and warn then.

        `now` holds ``reward`` and ``ndcg`` of each validation list.
        """
        rise_V, fall_V = now["reward"] - self.at_start["reward"], self.at_start["ndcg"] - now["ndcg"]
        exploited = is_exploited(rise_V, fall_V, self.validation_users)
        if exploited:
            logger.warning(
                "step %d: the evaluator's reward rose by %.3g while NDCG fell by %.3g: the generator may be exploiting "
                "the evaluator's faults",
                self.counters.step,
                float(rise_V.mean()),
                float(fall_V.mean()),
            )
        return exploited


def check_evaluator(report: EvaluatorReport | None, options: WriterTrainerOptions) -> None:
    """Refuse an evaluator whose rewards mean nothing, and warn of one whose rewards may mean little.

    Raises:
        ThinkrankError: if it was never judged, or does not prefer logged lists to shuffled ones and the options say to
            refuse then.
    """
    if report is None:
        raise ThinkrankError("the evaluator was never trained and judged, so its rewards mean nothing: train it first")
    worth = report.worth[options.reward]
    if not worth.passed:
        fault = (
            f"the evaluator does not prefer logged lists to shuffled ones ({options.reward} reward: "
            f"{worth.logged:.4g} and {worth.shuffled:.4g}, mean difference {worth.difference:.2g} with a standard "
            f"error of {worth.difference_error:.2g})"
        )
        way_out = (
            f"try another {options.table}.reward or model.evaluator, more evaluator.steps, or another "
            "evaluator.shuffled"
        )
        if options.failed_check == "refuse":
            raise ThinkrankError(f"{fault}: {way_out}, or set {options.table}.failed_check to warn")
        logger.warning("%s; the run goes on, but reinforcement may make lists worse: %s", fault, way_out)
    within = report.auc_within_place
    if within is not None and within < _TELLS_ITEMS:
        logger.warning(
            "whatever it knows of places and people, the evaluator hardly tells which items are clicked (AUC "
            "within a place %.2f, by chance 0.5), so its rewards may mean little for other orders: train it "
            "longer, or see model.evaluator.lists",
            within,
        )
