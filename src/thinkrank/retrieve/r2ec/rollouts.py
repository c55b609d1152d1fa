"""Groups of thoughts: what was written about histories, what it led to, and what it was worth.

Shape legend: B users, G thoughts about each, R = B G trajectories, I items of the catalogue.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from thinkrank.data.history import History
from thinkrank.data.splits import Sample, Split
from thinkrank.language import Completion
from thinkrank.policy import (
    Answer,
    Diversity,
    LengthPenalty,
    Reward,
    format_reward,
    fuse,
    gain_reward,
    item_logprobs,
    marginal_reward,
    ndcg_reward,
    softmax_similarity,
    tied_groups,
    weighted_rewards,
)
from thinkrank.prompts.retrieval import UserPrompt
from thinkrank.retrieve.r2ec.model import R2ec
from thinkrank.retrieve.r2ec.options import RecpoOptions
from thinkrank.stages.order import mask_seen, target_ranks


@dataclass(frozen=True)
class Group:
    """Hold the thoughts about one history and what they were worth.

    Attributes:
        sample: the history and what came next.
        prompt: the history as the model read it.
        written: the thoughts.
        ranks_G: 1-based place of the target in the ranking that each thought led to.
        ndcg_G: R_d of each.
        similarity_G: R_c of each.
        rewards_G: everything together.
        asked: the history as the writer read it; None if as the reader did.
    """

    sample: Sample
    prompt: UserPrompt
    written: tuple[Completion, ...]
    ranks_G: Int[Tensor, "G"]
    ndcg_G: Float[Tensor, "G"]
    similarity_G: Float[Tensor, "G"]
    rewards_G: Float[Tensor, "G"]
    asked: UserPrompt | None = None

    @property
    def is_tied(self) -> bool:
        """Tell whether no thought was worth more than another, so that there is nothing to learn."""
        return bool(tied_groups(self.rewards_G[None]))

    def num_tokens(self, num_closing: int) -> int:
        """Count the tokens that reading the group takes, its prompt once."""
        return len(self.prompt.prompt) + sum(written.num_before_stop + num_closing for written in self.written)


def reward_terms(options: RecpoOptions) -> list[tuple[float, Reward]]:
    """List the rewards on plain data that the options name, with their weights."""
    terms: list[tuple[float, Reward]] = [
        (options.format_weight, format_reward),
        (options.diversity_weight, Diversity()),
    ]
    if options.length_weight:
        terms.append((options.length_weight, LengthPenalty(options.free_tokens, options.rollout.max_new_tokens)))
    return [(weight, reward) for weight, reward in terms if weight]


def write_thoughts(
    model: R2ec,
    prompts: Sequence[UserPrompt],
    seeds: Sequence[int],
    options: RecpoOptions,
    writer: str | None = None,
) -> list[list[Completion]]:
    """Sample a group of thoughts behind each prompt.

    Args:
        model: what writes.
        prompts: what is thought about.
        seeds: one per prompt: its number in the order of draws.
        options: how to write.
        writer: of the model's engine; None for whom the model says.
    """
    rollout = options.rollout.model_copy(update={"seed": options.seed})
    rendered = [prompt.prompt for prompt in prompts]
    return model.sample(rendered, rollout, num_samples=options.group_size, seeds=seeds, writer=writer)


def next_targets(split: Split, index: int, options: RecpoOptions) -> list[int]:
    """List what a thought about a training sample is rewarded for: the target, and the user's training events after it.

    Args:
        split: its train part.
        index: of the sample.
        options: how many targets at most; whether items of the history, which cannot be answered, are left out.
    """
    train = split.train
    user, position = int(train.users[index]), int(train.positions[index])
    stop = min(position + options.targets, int(split.train_ranges[user, 1]))
    first, *later = train.dataset.items_E[position:stop].tolist()
    seen = set(train[index].history.items.tolist()) if later and options.filter_seen else set()
    return [first, *(item for item in later if item not in seen)]


@torch.no_grad()
def score_thoughts(
    model: R2ec,
    samples: Sequence[Sample],
    prompts: Sequence[UserPrompt],
    written: Sequence[Sequence[Completion]],
    terms: Sequence[tuple[float, Reward]],
    options: RecpoOptions,
    targets: Sequence[Sequence[int]] | None = None,
) -> list[Group]:
    """Rank the whole catalogue after every thought, and reward it by the place of what came next.

    Args:
        model: what ranks; the targets should have been encoded just before.
        samples: histories and targets.
        prompts: the histories as the model read them.
        written: thoughts about each.
        terms: further rewards with their weights.
        options: how to fuse rewards.
        targets: what each sample's thoughts are rewarded for, its target first; None for the target alone.
    """
    histories = [sample.history for sample in samples]
    repeated = [history for history in histories for _ in range(options.group_size)]
    users_RD = model.users_after(repeated, [thought for many in written for thought in many], fast=True)
    scores_RI = catalogue_scores(model, users_RD, repeated, options)
    without_BI = None
    if options.gain_weight:
        without_BI = torch.from_numpy(
            catalogue_scores(model, model.users_after(histories, None, fast=True), histories, options)
        )
    rows = targets or [[sample.target] for sample in samples]
    worth = [
        worth_of(scores_RI, without_BI, [row[min(t, len(row) - 1)] for row in rows], options)
        for t in range(max(map(len, rows)))
    ]
    ranks_BG = worth[0][0]
    ndcg_BG, similarity_BG, dense_BG = (_mean([one[k] for one in worth], rows) for k in (1, 2, 3))
    plain = [answers(many, ranks.tolist()) for many, ranks in zip(written, ranks_BG, strict=True)]
    rewards_BG = options.fused_weight * fuse(ndcg_BG, similarity_BG, options.beta) + weighted_rewards(plain, terms)
    rewards_BG = rewards_BG + dense_BG
    return [
        Group(sample, prompt, tuple(many), ranks_G, ndcg_G, similarity_G, rewards_G, asked_about(model, sample.history))
        for sample, prompt, many, ranks_G, ndcg_G, similarity_G, rewards_G in zip(
            samples, prompts, written, ranks_BG, ndcg_BG, similarity_BG, rewards_BG, strict=True
        )
    ]


def asked_about(model: R2ec, history: History) -> UserPrompt | None:
    """Render a history as the writer reads it; None if as the reader does."""
    return None if model.asking is model.prompts else model.asking.user(history)


def catalogue_scores(
    model: R2ec, users_RD: Float[Tensor, "R D"], histories: Sequence[History], options: RecpoOptions
) -> Float32[np.ndarray, "R I"]:
    """Score the catalogue; -inf for items of a history if they do not compete."""
    scores_RI = model.vectors.scores(users_RD).float().cpu().numpy()
    return mask_seen(scores_RI, histories) if options.filter_seen else scores_RI


def worth_of(
    scores_RI: Float32[np.ndarray, "R I"],
    without_BI: Float[Tensor, "B I"] | None,
    targets: Sequence[int],
    options: RecpoOptions,
) -> tuple[Int[Tensor, "B G"], Float[Tensor, "B G"], Float[Tensor, "B G"], Float[Tensor, "B G"]]:
    """Tell what thoughts were worth for one target of each sample: its rank, R_d, R_c, and the weighted dense rewards.

    Args:
        scores_RI: after each thought, group by group.
        without_BI: in the answers without a thought; None where no gain is rewarded.
        targets: catalogue rows, one per sample.
        options: cut-off, limit and weights.
    """
    scores, targets_B = torch.from_numpy(scores_RI), torch.tensor(targets)
    targets_R = targets_B.repeat_interleave(options.group_size)
    ranks_BG = torch.from_numpy(target_ranks(scores_RI, targets_R.numpy())).view(len(targets), -1)
    ndcg_BG = ndcg_reward(ranks_BG, options.ndcg_k)
    similarity_BG = softmax_similarity(scores, targets_R, 1.0).view_as(ndcg_BG)
    dense_BG = torch.zeros_like(ndcg_BG)
    if options.gain_weight or options.marginal_weight:
        logprobs_BG = item_logprobs(scores, targets_R).view_as(ndcg_BG)
        if without_BI is not None:
            without_BG = item_logprobs(without_BI, targets_B)[:, None].expand_as(logprobs_BG)
            dense_BG += options.gain_weight * gain_reward(logprobs_BG, without_BG, options.gain_limit)
        if options.marginal_weight:
            dense_BG += options.marginal_weight * marginal_reward(logprobs_BG)
    return ranks_BG, ndcg_BG, similarity_BG, dense_BG


def _mean(values: Sequence[Float[Tensor, "B G"]], rows: Sequence[Sequence[int]]) -> Float[Tensor, "B G"]:
    """Take each sample's mean over the targets that it has."""
    total_BG = values[0].clone()
    for t, values_BG in enumerate(values[1:], 1):
        total_BG += torch.tensor([float(t < len(row)) for row in rows])[:, None] * values_BG
    return total_BG / torch.tensor([float(len(row)) for row in rows])[:, None]


def answers(written: Sequence[Completion], ranks: Sequence[int]) -> list[Answer]:
    """Show the thoughts of a group as rewards on plain data see them."""
    return [
        Answer(thought.ids, thought.finish_reason, thought.text, rank)
        for thought, rank in zip(written, ranks, strict=True)
    ]


def rollout_facts(groups: Sequence[Group], num_wanted: int, sampling_seconds: float) -> dict[str, float]:
    """Describe groups for the log.

    Args:
        groups: all that were written, those replaced since included.
        num_wanted: how many a batch has.
        sampling_seconds: that writing them took.
    """
    thoughts = [thought for group in groups for thought in group.written]
    rewards_BG = torch.stack([group.rewards_G for group in groups])
    tokens = sum(len(thought.ids) for thought in thoughts)
    return {
        "reward": rewards_BG.mean().item(),
        "reward_ndcg": torch.stack([group.ndcg_G for group in groups]).mean().item(),
        "reward_similarity": torch.stack([group.similarity_G for group in groups]).mean().item(),
        "group_spread": rewards_BG.std(dim=1).mean().item(),
        "tied_share": sum(group.is_tied for group in groups) / len(groups),
        "same_rank_share": sum(bool((group.ranks_G == group.ranks_G[0]).all()) for group in groups) / len(groups),
        "redrawn": float(len(groups) - num_wanted),
        "thought_tokens": tokens / len(thoughts),
        "closed_share": sum(thought.finish_reason == "closed" for thought in thoughts) / len(thoughts),
        "own_entropy": sum(sum(thought.entropies) for thought in thoughts) / tokens,
        "sampled_tokens_per_second": tokens / max(sampling_seconds, 1e-9),
    }
