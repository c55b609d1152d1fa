"""Reinforcement of the generator by the frozen evaluator.

From the paper (as readers of it report): GRPO, and the pre-trained evaluator's score as its reward. Reconstructed:
everything inside, so the reward's form, the replay with recorded thoughts, the divergence from the warm start, and all
numbers.

Shape legend: B requests, G lists of each, R = B G rows, K places, V validation lists.
"""

import copy
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from thinkrank.data import ImpressionDataset, ImpressionSplit
from thinkrank.errors import ThinkrankError
from thinkrank.policy import Surrogate, clipped_surrogate, denominators, grpo_advantages, tied_groups
from thinkrank.rerank.eglr.config import GrpoOptions
from thinkrank.rerank.eglr.decoding import Noise, Written, joined
from thinkrank.rerank.eglr.model import EGLR
from thinkrank.rerank.eglr.orders import click_ndcg, click_reciprocal_rank
from thinkrank.rerank.eglr.trainer import ListTrainer
from thinkrank.rerank.lists import ListBatch
from thinkrank.training import Run, under

_THRESHOLD = "threshold"
_TELLS_ITEMS = 0.6
"""An AUC within a place from which on nothing is said: a little above what chance and wishes make of few lists."""

logger = logging.getLogger(__name__)


class GrpoTrainer(ListTrainer[GrpoOptions]):
    """One reinforcement in progress. A step is one batch of rollouts and the updates made from it.

    A threshold of the entropy gate that is not given is calibrated before every validation: reinforcement makes choices
    surer, so under a threshold that stands still thinking dies out. The generator is kept as it was at the start, to
    measure divergences from. Dropout is off: a replay must give what the rollout gave.

    Raises:
        ThinkrankError: if the evaluator was never judged, or does not prefer logged lists to shuffled ones and the
            options say to refuse then.
    """

    def __init__(self, model: EGLR, split: ImpressionSplit, options: GrpoOptions, run: Run) -> None:
        if model.report is None:
            raise ThinkrankError(
                "the evaluator was never trained and judged, so its rewards mean nothing: fit it first"
            )
        worth = model.report.worth[options.reward]
        if not worth.passed:
            fault = (
                f"the evaluator does not prefer logged lists to shuffled ones ({options.reward} reward: "
                f"{worth.logged:.4g} and {worth.shuffled:.4g}, mean difference {worth.difference:.2g} with a standard "
                f"error of {worth.difference_error:.2g})"
            )
            if options.failed_check == "refuse":
                raise ThinkrankError(f"{fault}: try another reward or evaluator, or set failed_check to warn")
            logger.warning("%s", fault)
        told = model.report.auc_within_place
        if told is not None and told < _TELLS_ITEMS:
            logger.warning(
                "whatever it knows of places and people, the evaluator hardly tells which items are clicked (AUC "
                "within a place %.2f, by chance 0.5), so its rewards may mean little for other orders: train it "
                "longer, or see model.evaluator.lists",
                told,
            )
        super().__init__(model, model.writer, split, options, run)
        self.evaluator = model.evaluator.freeze()
        reasoning = model.writer.reasoning
        self.calibrates = reasoning.mode == "entropy" and reasoning.max_steps > 0 and reasoning.threshold is None
        self.reference = copy.deepcopy(model.writer).requires_grad_(False)
        self.at_start: dict[str, Tensor] = {}

    def trainable(self, train: ImpressionDataset) -> Int64[np.ndarray, "M"]:
        """Lists with something to choose; feedback is not needed."""
        return np.flatnonzero(train.lengths_L > 1)

    def prepare(self) -> None:
        """Set the threshold of the gate."""
        self._calibrate(rounds=3)

    def _calibrate(self, rounds: int) -> None:
        """Set the threshold for the present weights, if it was not given."""
        writer = self.model.writer
        if self.calibrates:
            self.module.eval()
            with torch.no_grad():
                contexts = [writer.context(batch) for batch in self.validation]
            rate = writer.calibrate(contexts, self.options.length, rounds=rounds)
            logger.info("threshold %.4g: %.1f %% of places think", writer.reasoning.threshold, 100 * rate)

    def weights(self) -> dict[str, Tensor]:
        """The writer's, and the threshold of its gate."""
        threshold = self.model.writer.reasoning.threshold
        if threshold is None:
            return super().weights()
        return {**super().weights(), _THRESHOLD: torch.tensor(threshold, dtype=torch.float64)}

    def set_weights(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy what `weights` returned back."""
        tensors = dict(tensors)
        threshold = tensors.pop(_THRESHOLD, None)
        super().set_weights(tensors)
        if threshold is not None:
            reasoner = self.model.writer.reasoner
            reasoner.options = reasoner.options.model_copy(update={"threshold": float(threshold)})

    def extra_tensors(self) -> dict[str, Tensor]:
        """The generator and the validation as they were at the start."""
        kept = {f"reference/{name}": tensor for name, tensor in self.reference.state_dict().items()}
        return kept | {f"at_start/{name}": tensor for name, tensor in self.at_start.items()}

    def restore_extra(self, tensors: dict[str, Tensor]) -> None:
        """Take over what a checkpoint kept."""
        self.at_start = under("at_start/", tensors)
        self.reference.load_state_dict(under("reference/", tensors))

    def learn(self, batch: ListBatch) -> dict[str, Any]:
        """Write lists, have them judged, compare those of one request, and update."""
        options = self.options
        self.module.eval()
        with torch.no_grad():
            written = self._rollout(batch)
            rewards_RK = self.evaluator.rewards(self.evaluator.joint(batch), written.columns_RK, options.reward)
            reference = self.reference.replay(
                self.reference.context(batch, options.group_size), written.columns_RK, written.steps_RK
            )
        advantages_RK, tells_RK = self._compare(rewards_RK)
        for _ in range(options.updates):
            surrogate = self._surrogate(batch, written, reference, advantages_RK, tells_RK & written.chosen_RK)
            norm = self.descend(surrogate.loss)
        rewards_BG = rewards_RK.sum(dim=1).view(-1, options.group_size)
        return {
            "reward": float(rewards_BG.mean()),
            "group_spread": float(rewards_BG.std(dim=1).mean()),
            "tied_share": float(tied_groups(rewards_BG).float().mean()),
            "clip_share": float(surrogate.clip_share),
            "ratio": float(surrogate.mean_ratio),
            "kl": _number(surrogate.mean_kl),
            "choice_entropy": _number(surrogate.mean_entropy),
            "gradient_norm": norm,
            **by_place(written),
        }

    def judge(self) -> dict[str, Any]:
        """NDCG of greedy lists, written as configured, beside what the evaluator thinks of them."""
        length, options, writer = self.options.length, self.options, self.model.writer
        if self.counters.step:  # before the first step `prepare` did it
            self._calibrate(rounds=1)
        values: dict[str, list[Tensor]] = {"ndcg": [], "mrr": [], "reward": []}
        parts = []
        for batch in self.validation:
            written = self.model.answer(batch, length)
            rewards_VK = self.evaluator.rewards(self.evaluator.joint(batch), written.columns_RK, options.reward)
            values["ndcg"].append(click_ndcg(written.columns_RK, batch.feedback_BN))
            values["mrr"].append(click_reciprocal_rank(written.columns_RK, batch.feedback_BN))
            values["reward"].append(rewards_VK.sum(dim=1))
            parts.append(written)
        now = {name: torch.cat(tensors).double() for name, tensors in values.items()}
        self.at_start = self.at_start or {name: tensor.clone() for name, tensor in now.items()}
        hacked = self._is_hacked(now)
        return {
            f"valid_ndcg@{length}": float(now["ndcg"].mean()),
            f"valid_mrr@{length}": float(now["mrr"].mean()),
            "valid_reward": float(now["reward"].mean()),
            "reward_hacking": hacked,
            **({} if writer.reasoning.threshold is None else {"threshold": writer.reasoning.threshold}),
            **{f"valid_{name}": value for name, value in by_place(joined(parts)).items()},
        }

    def _rollout(self, batch: ListBatch) -> Written:
        options, writer = self.options, self.model.writer
        context = writer.context(batch, options.group_size)
        rows, candidates = context.mask_RN.shape
        draws = Noise.sample(rows, options.length, candidates, self.random()).to(self.model.device)
        return writer.write(context, options.length, draws)

    def _compare(self, rewards_RK: Float[Tensor, "R K"]) -> tuple[Float[Tensor, "R K"], Bool[Tensor, "R K"]]:
        """Advantages of every choice within its group, and False where a group ties and has nothing to say."""
        options, places = self.options, rewards_RK.shape[1]
        if options.advantage == "list":
            returns_RK = rewards_RK.sum(dim=1, keepdim=True)
        else:
            returns_RK = returns_to_go(rewards_RK, options.gamma)
        groups_XG = returns_RK.T.reshape(-1, options.group_size)  # a group per place and request, or per request
        advantages_XG = grpo_advantages(groups_XG, epsilon=options.advantage_epsilon)
        tells_XG = ~tied_groups(groups_XG)[:, None].expand_as(groups_XG)
        advantages_RK, tells_RK = (values.reshape(returns_RK.T.shape).T for values in (advantages_XG, tells_XG))
        return advantages_RK.expand(-1, places), tells_RK.expand(-1, places)

    def _surrogate(
        self,
        batch: ListBatch,
        written: Written,
        reference: Written,
        advantages_RK: Float[Tensor, "R K"],
        counts_RK: Bool[Tensor, "R K"],
    ) -> Surrogate:
        """The clipped loss, a mean over choices, each of which is a sequence of one token to `clipped_surrogate`."""
        options, writer = self.options, self.model.writer
        context = writer.context(batch, options.group_size)
        replayed = writer.replay(context, written.columns_RK, written.steps_RK)
        flat = (replayed.logprobs_RK, written.logprobs_RK, reference.logprobs_RK, replayed.choice_entropies_RK)
        logprobs_X1, old_X1, reference_X1, entropies_X1 = (values.reshape(-1, 1) for values in flat)
        return clipped_surrogate(
            logprobs_X1,
            old_X1,
            advantages_RK.flatten().to(logprobs_X1.dtype),
            counts_RK.reshape(-1, 1),
            denominators_B=denominators(counts_RK.flatten().int(), "token"),
            clip_low=options.clip_low,
            clip_high=options.clip_high,
            reference_logprobs_BT=reference_X1,
            kl_coefficient=options.kl_coefficient,
            entropies_BT=entropies_X1,
            entropy_coefficient=options.entropy_coefficient,
        )

    def _is_hacked(self, now: dict[str, Float[Tensor, "V"]]) -> bool:
        """Whether the evaluator likes the lists better than at the start while users' clicks fall, beyond noise."""
        rise_V, fall_V = now["reward"] - self.at_start["reward"], self.at_start["ndcg"] - now["ndcg"]
        hacked = _beyond_noise(rise_V) and _beyond_noise(fall_V)
        if hacked:
            logger.warning(
                "step %d: the evaluator's reward rose by %.3g while NDCG fell by %.3g: the generator may be exploiting "
                "the evaluator's faults",
                self.counters.step,
                float(rise_V.mean()),
                float(fall_V.mean()),
            )
        return hacked


def returns_to_go(rewards_RK: Float[Tensor, "R K"], gamma: float) -> Float[Tensor, "R K"]:
    """What came of a list from each place on: G_k = r_k + γ G_{k+1}.

    Source: reconstructed; the author's earlier generator, a fork of LibRerank, is rewarded this way.
    """
    returns = [rewards_RK[:, -1]]
    for place in range(rewards_RK.shape[1] - 2, -1, -1):
        returns.append(rewards_RK[:, place] + gamma * returns[-1])
    return torch.stack(returns[::-1], dim=1)


def by_place(written: Written) -> dict[str, Any]:
    """How often and how long rows thought at each place, and their entropies, as means over lists that reach it."""
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


def _beyond_noise(values_V: Float[Tensor, "V"]) -> bool:
    """Whether a mean is above 0 by more than twice its standard error."""
    count = len(values_V)
    return count > 1 and bool(values_V.mean() > 2 * values_V.std() / count**0.5) and bool(values_V.mean() > 0)


def _number(value: Tensor | None) -> float:
    return 0.0 if value is None else float(value)
