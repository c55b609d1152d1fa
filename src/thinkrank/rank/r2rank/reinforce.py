"""Reinforcement: the reward of a list reaches the thought about each of its pairs.

Confirmed by the paper's readers: the scores of independent thoughts make a Plackett-Luce distribution over lists, its
permutations are rewarded by NDCG, the language model learns by PPO and the scoring head by REINFORCE, both at once.
How a pair's tokens are credited (`credit`), baselines and weights are reconstructed; see `thinkrank.policy.credit`.

Shape legend: B groups, G thoughts about each pair, N candidates, R = N G trajectories of a group, T tokens.
"""

import dataclasses
import logging
import time
from collections import defaultdict
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from thinkrank.data.candidates import CandidateSets
from thinkrank.errors import ThinkrankError
from thinkrank.language import packed_states
from thinkrank.language.adapters import adapter_state
from thinkrank.language.trajectories import action_logprobs, reference_logprobs
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
from thinkrank.rank.r2rank.groups import TrainingGroup, TrainingGroups
from thinkrank.rank.r2rank.model import R2Rank
from thinkrank.rank.r2rank.rollouts import (
    Rollout,
    facts_of_scores,
    facts_of_thoughts,
    first_is_chosen,
    keep_sampled,
    sample_thoughts,
    score_thoughts,
    stacked_scores,
)
from thinkrank.rank.r2rank.trainer import RankerTrainer
from thinkrank.training import Progress, Run, no_progress, train
from thinkrank.training.shared import whole_surrogate
from thinkrank.training.watch import Watch

logger = logging.getLogger(__name__)

_ROUNDING = 1e-5
"""Difference of scores, as a share of the larger or of 1, that the same thought read twice may have."""


class ReinforceTrainer(RankerTrainer[ReinforceOptions]):
    """Reinforcement in progress. A step is one batch of rollouts and the updates made from it."""

    title, table = "reinforcement", "reinforce"

    def __init__(
        self,
        model: R2Rank,
        groups: Sequence[TrainingGroup],
        validation: CandidateSets | None,
        options: ReinforceOptions,
        run: Run,
    ) -> None:
        if model.config.readout != "head" and not model.config.thinks and not options.joint:
            raise ThinkrankError("nothing would be trained: readout yes_no has no head of its own, and joint is off")
        if model.latents is not None and not options.joint:
            raise ThinkrankError("latent positions learn through the language model's layers: set joint = true")
        if isinstance(groups, TrainingGroups):
            full = groups.full()
            if not len(full):
                raise ThinkrankError(f"no user leaves {groups.negatives} items to draw: lower {self.table}.negatives")
            if len(full) < len(groups):
                logger.warning(
                    "%s of %s lists are left out: their users leave too few items to draw %d negatives",
                    f"{len(groups) - len(full):,}", f"{len(groups):,}", groups.negatives,
                )  # fmt: skip
            groups = full
        super().__init__(model, groups, validation, options, run)
        self.at_start = {name: tensor.detach().clone() for name, tensor in adapter_state(model.backbone).items()}
        self.generator = torch.Generator()
        self.reward = ListReward(
            temperature=options.temperature,
            k=options.reward_k,
            measure=options.reward,
            estimator=options.estimator,
            num_samples=options.num_permutations,
        )
        self.trains_thoughts = model.config.thinks and options.token_weight > 0
        self.watch = Watch("raise reinforce.rollout.temperature or group_size, or give the cold start more lists")
        if self.trains_thoughts and options.group_size == 1 and options.credit in ("list", "rank_return"):
            raise ThinkrankError(
                f"credit {options.credit} compares thoughts about one pair, and group_size is 1: set it to 2 or more, "
                "or credit to plgrad"
            )

    def extra_tensors(self) -> dict[str, Tensor]:
        """Keep the adapter as it was at the start, which divergences are measured from."""
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
        drawn = self.next_groups()
        drawn = drawn[self.world.share(len(drawn))]
        rollouts, facts, scores_BGN = self.sample(drawn)
        advantages_BGN = torch.zeros_like(scores_BGN)
        if self.trains_thoughts:
            advantages_BGN = rationale_advantages(
                scores_BGN,
                first_is_chosen(scores_BGN),
                self.reward,
                credit=options.credit,
                baseline_BN=self.baseline([group for _, group in drawn]),
                generator=self.generator,
                clip=options.advantage_clip,
            )
        with self.timed("update"):
            for _ in range(options.updates):
                facts |= self.learn(rollouts, advantages_BGN)
        counters.step += 1
        if self.watch is not None and self.trains_thoughts:
            spread_BN = scores_BGN.amax(dim=1) - scores_BGN.amin(dim=1)
            tied_B = (spread_BN <= _ROUNDING * scores_BGN.abs().amax(dim=1).clamp(min=1)).all(dim=1)
            tied = tied_B.float().mean().item() if options.group_size > 1 else 0.0
            self.watch.batch(counters.step, tied=tied, advantage=advantages_BGN.abs().max().item())
        counters.examples += scores_BGN.numel()
        tokens = self.world.total(sum(len(rollout.trajectories.packing) for rollout in rollouts))
        counters.tokens += options.updates * tokens
        seconds = time.perf_counter() - started
        counters.seconds += seconds
        facts |= {f"share_{name}": spent / seconds for name, spent in self.clock.items()}
        self.log(**facts, learning_rate=rate)
        return f"reward {facts['reward']:.3f}"

    def sample(
        self, drawn: Sequence[tuple[int, TrainingGroup]]
    ) -> tuple[list[Rollout], dict[str, float], Float[Tensor, "B G N"]]:
        """Write thoughts about every pair of the groups, score them, and tell what the log says of both.

        The scores are those of all processes, in the order of draws.
        """
        model, written = self.model, None
        if model.config.thinks:
            with self.timed("sampling"):
                written = sample_thoughts(model, drawn, self.options)
        with self.timed("scoring"):
            rollouts = score_thoughts(model, [group for _, group in drawn], written)
            if written is not None and not self.options.rollout.is_own:
                keep_sampled(rollouts, written)
            scores_BGN = self.world.gather(stacked_scores(rollouts))
            facts = facts_of_scores(scores_BGN, dataclasses.replace(self.reward, estimator="exact"))
        if written is not None:
            told = facts_of_thoughts(written, self.clock["sampling"])
            tokens = sum(len(thought.ids) for per_pair in written for many in per_pair for thought in many)
            speed = {"sampled_tokens_per_second": told["sampled_tokens_per_second"]}
            facts |= self.world.mean(told, len(drawn), own_entropy=tokens) | self.world.sums(speed)
        return rollouts, facts, scores_BGN

    def baseline(self, groups: Sequence[TrainingGroup]) -> Float[Tensor, "B N"] | None:
        """Score pairs without a thought, which is what a single thought about each is compared with; None for more."""
        if self.options.group_size > 1:
            return None
        return self.world.gather(stacked_scores(score_thoughts(self.model, groups, None))[:, 0])

    def learn(self, rollouts: Sequence[Rollout], advantages_BGN: Float[Tensor, "B G N"]) -> dict[str, float]:
        """Make one update of language model and head from the whole batch, and tell what the log says of it.

        Args:
            rollouts: of this process.
            advantages_BGN: of all processes.
        """
        options, model = self.options, self.model
        mine = self.world.share(len(advantages_BGN))
        lengths_R, rows = self.world.joined(torch.cat([rollout.trajectories.lengths_R for rollout in rollouts]))
        constant = options.rollout.max_new_tokens if options.normalisation == "constant" else None
        divisors = denominators(lengths_R, options.normalisation, constant_length=constant)[rows]
        divisors = divisors.view(len(rollouts), -1)
        surrogates: list[Surrogate] = []
        facts: defaultdict[str, float] = defaultdict(float)
        self._pass_over(advantages_BGN[: mine.start])
        for rollout, advantages_GN, divisors_R in zip(rollouts, advantages_BGN[mine], divisors, strict=True):
            if options.kl_coefficient and self.trains_thoughts and "reference" not in rollout.before:
                rollout.before["reference"] = reference_logprobs(model.backbone, rollout.trajectories, self.at_start)
            states_TD = packed_states(model.backbone, rollout.trajectories.packing)
            loss = states_TD.new_zeros(())
            if self.trains_thoughts:
                surrogates.append(token_surrogate(model, rollout, states_TD, advantages_GN, divisors_R, options))
                loss = loss + options.token_weight * surrogates[-1].loss
            if options.score_weight:
                read_TD = states_TD if options.joint else states_TD.detach()
                scores_R = model.read_scores(rollout.trajectories, read_TD)
                scores_BGN = scores_R.view(advantages_GN.shape[1], -1).T[None]
                scored = score_loss(scores_BGN, options, self.reward, self.generator) / len(advantages_BGN)
                facts["score_loss"] += scored.item()
                loss = loss + options.score_weight * scored
            loss.backward()
        self._pass_over(advantages_BGN[mine.stop :])
        facts = defaultdict(float, self.world.sums(facts))
        facts["gradient_norm"] = self.update()
        if surrogates:
            whole = whole_surrogate(combine_surrogates(surrogates), self.world)
            facts |= {"token_loss": whole.loss.item(), "clip_share": whole.clip_share.item()}
            facts["token_ratio"] = whole.mean_ratio.item()
            if whole.mean_weight is not None:
                facts["token_importance_weight"] = whole.mean_weight.item()
            if whole.mean_kl is not None:
                facts["token_kl"] = whole.mean_kl.item()
        return dict(facts)

    def _pass_over(self, others_BGN: Float[Tensor, "B G N"]) -> None:
        """Draw the permutations of other processes' groups, so that each group has the ones it would have alone."""
        if self.options.score_weight and self.reward.estimator != "exact":
            for other_GN in others_BGN:
                score_loss(torch.zeros_like(other_GN)[None], self.options, self.reward, self.generator)


def score_loss(
    scores_BGN: Float[Tensor, "B G N"], options: ReinforceOptions, reward: ListReward, generator: torch.Generator
) -> Float[Tensor, ""]:
    """Return the loss of scores: minus the expected reward of their lists, or that of a classifier of pairs.

    Args:
        scores_BGN: the positive first in each list.
        options: which of the two.
        reward: of a list.
        generator: of permutations, where the expectation is estimated.
    """
    gains_BN = first_is_chosen(scores_BGN)
    if options.score_loss == "pointwise":
        return pointwise_loss(scores_BGN, gains_BN, options.temperature)
    return head_surrogate(scores_BGN, gains_BN, reward, generator=generator)


def token_surrogate(
    model: R2Rank,
    rollout: Rollout,
    states_TD: Float[Tensor, "T D"],
    advantages_GN: Float[Tensor, "G N"],
    divisors_R: Float[Tensor, "R"],
    options: ReinforceOptions,
) -> Surrogate:
    """Return PPO's loss of what was written about one group, corrected for temperature and cuts of the sampling.

    Args:
        model: that wrote.
        rollout: the thoughts; it remembers their log-probabilities from the first update on.
        states_TD: of their packing.
        advantages_GN: of the thoughts.
        divisors_R: of each thought's sum of token losses.
        options: clipping and divergence.
    """
    logprobs_RT, _ = action_logprobs(model.backbone, rollout.trajectories, states_TD)
    return clipped_surrogate(
        logprobs_RT,
        rollout.before.setdefault("tokens", logprobs_RT.detach()),
        advantages_GN.T.flatten(),
        rollout.trajectories.mask_RT,
        denominators_B=divisors_R,
        clip_low=options.clip,
        clip_high=options.clip,
        sampled_logprobs_BT=rollout.before.get("sampled"),
        reference_logprobs_BT=rollout.before.get("reference"),
        kl_coefficient=options.kl_coefficient,
    )


def train_reinforce(
    model: R2Rank,
    groups: Sequence[TrainingGroup],
    validation: CandidateSets | None,
    options: ReinforceOptions,
    run: Run,
    *,
    progress: Progress = no_progress,
) -> Run:
    """Train thoughts and scores by the reward of lists, in place, resuming from the run's folder if it can.

    Args:
        model: after a cold start, or untrained; afterwards it holds the weights of the best validation (or the last).
        groups: of equal length.
        validation: candidate sets to measure on; None for none.
        options: how to train.
        run: the folder for checkpoints and the log.
        progress: how to show it.

    Raises:
        ThinkrankError: if there is nothing to train on.
    """
    return train(ReinforceTrainer(model, groups, validation, options, run), progress)
