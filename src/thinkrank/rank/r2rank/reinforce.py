"""Reinforcement: the reward of a list reaches the thought about each of its pairs.

Confirmed by the paper's readers: the scores of independent thoughts make a Plackett-Luce distribution over lists, its
permutations are rewarded by NDCG, the language model learns by PPO and the scoring head by REINFORCE, both at once.
How a pair's tokens are credited (`credit`), baselines and weights are reconstructed; see `thinkrank.policy.credit`.

Shape legend: B lists, G thoughts about each pair, N candidates, R = N G trajectories of a list.
"""

import dataclasses
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from thinkrank.data.candidates import CandidateSets
from thinkrank.errors import ThinkrankError
from thinkrank.language import packed_states
from thinkrank.language.adapters import adapter_state
from thinkrank.language.trajectories import Given, Trajectories, Written, action_logprobs, reference_logprobs
from thinkrank.policy import (
    ListReward,
    clipped_surrogate,
    combine_surrogates,
    denominators,
    head_surrogate,
    pointwise_loss,
    rationale_advantages,
)
from thinkrank.policy.surrogate import Surrogate
from thinkrank.rank.r2rank.config import ReinforceOptions
from thinkrank.rank.r2rank.groups import TrainingGroup
from thinkrank.rank.r2rank.model import R2Rank
from thinkrank.rank.r2rank.trainer import RankerTrainer
from thinkrank.training import Progress, Run, no_progress, train


@dataclass
class _Rollout:
    """The thoughts about one list, ready to be read again.

    Attributes:
        episodes: candidate by candidate, thought by thought.
        scores_GN: of the lists that thought g of every candidate makes.
        before: log-probabilities when the batch was sampled, and under the reference.
    """

    episodes: Trajectories
    scores_GN: Float[Tensor, "G N"]
    before: dict[str, Tensor] = field(default_factory=dict)


class ReinforceTrainer(RankerTrainer[ReinforceOptions]):
    """One reinforcement in progress. A step is one batch of rollouts and the updates made from it."""

    def __init__(
        self,
        model: R2Rank,
        lists: Sequence[TrainingGroup],
        validation: CandidateSets | None,
        options: ReinforceOptions,
        run: Run,
    ) -> None:
        if model.config.readout != "head" and not model.config.thinks and not options.joint:
            raise ThinkrankError("nothing would be trained: readout yes_no has no head of its own, and joint is off")
        super().__init__(model, lists, validation, options, run)
        self.at_start = {name: tensor.detach().clone() for name, tensor in adapter_state(model.backbone).items()}
        self.generator = torch.Generator()
        self.reward = ListReward(
            temperature=options.temperature,
            k=options.reward_k,
            estimator=options.estimator,
            num_samples=options.num_permutations,
        )
        self.trains_thoughts = model.config.thinks and options.token_weight > 0

    @property
    def group_size(self) -> int:
        """Thoughts about each pair; a ranker that does not think has one way to score."""
        return self.options.group_size if self.model.config.thinks else 1

    def extra_tensors(self) -> dict[str, Tensor]:
        """The adapter as it was at the start, which divergences are measured from."""
        return self.at_start

    def restore_extra(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `extra_tensors` gave."""
        self.at_start = tensors

    def step(self) -> str:
        """Sample thoughts about every pair, credit them for the list, update language model and head."""
        options, counters = self.options, self.counters
        self.clock.clear()
        started = time.perf_counter()
        rate = self.learning_rate()
        self.generator.manual_seed(options.seed * 1_000_003 + counters.step)
        drawn = self.next_lists()
        rollouts, facts = self._rollouts(drawn)
        scores_BGN = torch.stack([rollout.scores_GN for rollout in rollouts])
        advantages_BGN = torch.zeros_like(scores_BGN)
        if self.trains_thoughts:
            advantages_BGN = rationale_advantages(
                scores_BGN,
                _gains(scores_BGN),
                self.reward,
                credit=options.credit,
                generator=self.generator,
                clip=options.advantage_clip,
            )
        with self.timed("update"):
            for _ in range(options.updates):
                facts |= self._update(rollouts, advantages_BGN)
        counters.step += 1
        counters.examples += scores_BGN.numel()
        counters.tokens += options.updates * sum(len(rollout.episodes.packing) for rollout in rollouts)
        seconds = time.perf_counter() - started
        counters.seconds += seconds
        facts |= {f"share_{name}": spent / seconds for name, spent in self.clock.items()}
        self.log(**facts, learning_rate=rate)
        return f"reward {facts['reward']:.3f}"

    def _rollouts(self, drawn: Sequence[tuple[int, TrainingGroup]]) -> tuple[list[_Rollout], dict[str, float]]:
        """Write thoughts about every pair of the lists and score them."""
        model, options = self.model, self.options
        lists = [one for _, one in drawn]
        histories, candidates = [one.history for one in lists], [one.rows for one in lists]
        written: list[list[list[Written]]] = [[[Given()] for _ in rows] for rows in candidates]
        if model.config.thinks:
            with self.timed("sampling"):
                rollout = options.rollout.model_copy(update={"seed": options.seed})
                sampled = model.sample(
                    histories, candidates, rollout, num_samples=options.group_size, seeds=[draw for draw, _ in drawn]
                )
                written = [[list(thoughts) for thoughts in rows] for rows in sampled]
        with self.timed("scoring"), torch.no_grad():
            rollouts = []
            for one, own in zip(lists, written, strict=True):
                episodes = model.episodes([one.history], [one.rows], [own])
                scores_R = model.read_scores(episodes, packed_states(model.backbone, episodes.packing))
                rollouts.append(_Rollout(episodes, scores_R.view(len(one.rows), -1).T))
            scores_BGN = torch.stack([rollout.scores_GN for rollout in rollouts])
            exact = dataclasses.replace(self.reward, estimator="exact")
            worth = -head_surrogate(scores_BGN, _gains(scores_BGN), exact)
        ranks = (scores_BGN >= scores_BGN[..., :1]).sum(dim=-1)
        facts = {
            "reward": worth.item(),
            "greedy_mrr": ranks.float().reciprocal().mean().item(),
            "score_deviation": scores_BGN.std(dim=-1).mean().item(),
            "thought_deviation": scores_BGN.std(dim=1).mean().item() if self.group_size > 1 else 0.0,
        }
        if model.config.thinks:
            thoughts = [thought for rows in sampled for many in rows for thought in many]
            tokens = sum(len(thought.ids) for thought in thoughts)
            facts |= {
                "thought_tokens": tokens / len(thoughts),
                "closed_share": sum(thought.finish_reason == "closed" for thought in thoughts) / len(thoughts),
                "own_entropy": sum(sum(thought.entropies) for thought in thoughts) / tokens,
                "sampled_tokens_per_second": tokens / self.clock["sampling"],
            }
        return rollouts, facts

    def _update(self, rollouts: Sequence[_Rollout], advantages_BGN: Float[Tensor, "B G N"]) -> dict[str, float]:
        """One update of language model and head from the whole batch."""
        options, model = self.options, self.model
        lengths_R = torch.cat([rollout.episodes.lengths_R for rollout in rollouts])
        constant = options.rollout.max_new_tokens if options.normalisation == "constant" else None
        divisors = denominators(lengths_R, options.normalisation, constant_length=constant)
        divisors = divisors.view(len(rollouts), -1)
        tokens: list[Surrogate] = []
        facts: defaultdict[str, float] = defaultdict(float)
        for rollout, advantages_GN, divisors_R in zip(rollouts, advantages_BGN, divisors, strict=True):
            if options.kl_coefficient and self.trains_thoughts and "reference" not in rollout.before:
                rollout.before["reference"] = reference_logprobs(model.backbone, rollout.episodes, self.at_start)
            states_TD = packed_states(model.backbone, rollout.episodes.packing)
            loss = states_TD.new_zeros(())
            if self.trains_thoughts:
                tokens.append(self._token_surrogate(rollout, states_TD, advantages_GN, divisors_R))
                loss = loss + options.token_weight * tokens[-1].loss
            if options.score_weight:
                read_TD = states_TD if options.joint else states_TD.detach()
                scores_R = model.read_scores(rollout.episodes, read_TD)
                scored = self._score_loss(scores_R.view(advantages_GN.shape[1], -1).T[None]) / len(rollouts)
                facts["score_loss"] += scored.item()
                loss = loss + options.score_weight * scored
            loss.backward()
        facts["gradient_norm"] = self.update()
        if tokens:
            whole = combine_surrogates(tokens)
            facts |= {"token_loss": whole.loss.item(), "clip_share": whole.clip_share.item()}
            facts["token_ratio"] = whole.mean_ratio.item()
            if whole.mean_kl is not None:
                facts["token_kl"] = whole.mean_kl.item()
        return dict(facts)

    def _score_loss(self, scores_BGN: Float[Tensor, "B G N"]) -> Float[Tensor, ""]:
        """The loss of the scores: minus the expected reward of their lists, or what a classifier of pairs is told."""
        gains_BN = _gains(scores_BGN)
        if self.options.score_loss == "pointwise":
            return pointwise_loss(scores_BGN, gains_BN, self.options.temperature)
        return head_surrogate(scores_BGN, gains_BN, self.reward, generator=self.generator)

    def _token_surrogate(
        self,
        rollout: _Rollout,
        states_TD: Float[Tensor, "T D"],
        advantages_GN: Float[Tensor, "G N"],
        divisors_R: Float[Tensor, "R"],
    ) -> Surrogate:
        """The loss of what was written about one list."""
        logprobs_RT, _ = action_logprobs(self.model.backbone, rollout.episodes, states_TD)
        return clipped_surrogate(
            logprobs_RT,
            rollout.before.setdefault("tokens", logprobs_RT.detach()),
            advantages_GN.T.flatten(),
            rollout.episodes.mask_RT,
            denominators_B=divisors_R,
            clip_low=self.options.clip,
            clip_high=self.options.clip,
            reference_logprobs_BT=rollout.before.get("reference"),
            kl_coefficient=self.options.kl_coefficient,
        )


def _gains(scores_BGN: Float[Tensor, "B G N"]) -> Float[Tensor, "B N"]:
    """What the candidates of training lists are worth: the positive stands first."""
    gains_BN = torch.zeros_like(scores_BGN[:, 0])
    gains_BN[:, 0] = 1
    return gains_BN


def train_reinforce(
    model: R2Rank,
    lists: Sequence[TrainingGroup],
    validation: CandidateSets | None,
    options: ReinforceOptions,
    run: Run,
    *,
    progress: Progress = no_progress,
) -> Run:
    """Train thoughts and scores by the reward of lists, in place, resuming from the run's folder if it can.

    Args:
        model: after a cold start, or untrained; afterwards it holds the weights of the best validation (or the last).
        lists: of equal length.
        validation: candidate sets to measure on; None for none.
        options: how to train.
        run: the folder for checkpoints and the log.
        progress: how to show it.

    Raises:
        ThinkrankError: if there is nothing to train on.
    """
    return train(ReinforceTrainer(model, lists, validation, options, run), progress)
