"""What each trajectory gets credit for, compared with its siblings.

Shape legend: B users, G thoughts about each, R = B G trajectories.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from thinkrank.distributed.world import SINGLE, World
from thinkrank.language import PrefixTree
from thinkrank.language.trajectories import Trajectories
from thinkrank.policy import denominators, group_mean_credit, grpo_advantages, rloo_advantages, selection_weights
from thinkrank.prompts.retrieval import UserPrompt
from thinkrank.retrieve.r2ec.options import RecpoOptions
from thinkrank.retrieve.r2ec.rollouts import Group


@dataclass
class Part:
    """Hold a micro-batch: some groups of the batch, their credit, and what was so before the first update.

    Attributes:
        groups: whose thoughts.
        episodes: prompts and thoughts, packed, as they are read.
        asked: the same as they are written; `episodes` itself where the reader and its prompts are the writer's.
        token_advantages_R: of the thoughts' tokens.
        item_advantages_R: of the item actions.
        item_weights_R: which of them train the item action.
        denominators_R: what each sum over tokens is divided by.
        before: log-probabilities, filled in by the first update.
    """

    groups: list[Group]
    episodes: Trajectories
    asked: Trajectories
    token_advantages_R: Float[Tensor, "R"]
    item_advantages_R: Float[Tensor, "R"]
    item_weights_R: Float[Tensor, "R"]
    denominators_R: Float[Tensor, "R"]
    before: dict[str, Tensor] = field(default_factory=dict)

    @property
    def line_ends(self) -> list[int]:
        """Find where the history lines end in the packed row, oldest first and group by group."""
        return [
            self.episodes.packing.place(leaf, end)
            for group, (leaf, *_) in zip(self.groups, self.episodes.leaves, strict=True)
            for end in group.prompt.line_ends
        ]


def advantages(rewards_BG: Float[Tensor, "B G"], options: RecpoOptions) -> Float[Tensor, "B G"]:
    """Compare each thought with its siblings, as the options say."""
    match options.advantages:
        case "grpo":
            return grpo_advantages(rewards_BG, epsilon=options.advantage_epsilon)
        case "centred":
            return grpo_advantages(rewards_BG, scale_by_std=False)
        case "rloo":
            return rloo_advantages(rewards_BG)
        case "plain":
            return rewards_BG


def compare(
    groups: Sequence[Group],
    closing_ids: Sequence[int],
    options: RecpoOptions,
    device: torch.device,
    world: World = SINGLE,
) -> list[Part]:
    """Credit every trajectory, and cut the batch into the parts that fit one pass.

    Args:
        groups: of one batch, or this process's share of it.
        closing_ids: what is read behind each thought.
        options: how to compare, and how large a pass may be.
        device: where the parts live.
        world: the processes that share the batch.
    """
    rewards_BG = torch.stack([group.rewards_G for group in groups])
    advantages_BG = advantages(rewards_BG, options)
    weights_BG = selection_weights(
        advantages_BG, options.selection, k=options.selection_k, floor=options.selection_floor
    )
    token_BG = item_BG = advantages_BG
    if options.credit == "group_mean":
        token_BG, item_BG = group_mean_credit(advantages_BG, weights_BG)
        weights_BG = torch.ones_like(weights_BG)
    lengths_R, mine = world.joined(torch.tensor([len(thought.ids) for group in groups for thought in group.written]))
    constant = options.rollout.max_new_tokens if options.normalisation == "constant" else None
    denominators_R = denominators(lengths_R, options.normalisation, constant_length=constant)[mine]
    denominators_BG = denominators_R.view_as(rewards_BG)
    parts = []
    for rows in micro_batches(groups, len(closing_ids), options.batch_tokens):
        chosen = [groups[row] for row in rows]
        written = [group.written for group in chosen]
        episodes = asked = Trajectories(_tree([group.prompt for group in chosen]), written, closing_ids, device)
        if chosen[0].asked is not None:
            prompts = _tree([group.asked or group.prompt for group in chosen])
            asked = Trajectories(prompts, written, closing_ids, device)
        token_R, item_R, weights_R, denominators_R = (
            values[rows].flatten().to(device) for values in (token_BG, item_BG, weights_BG, denominators_BG)
        )
        parts.append(Part(chosen, episodes, asked, token_R, item_R, weights_R, denominators_R))
    return parts


def _tree(prompts: Sequence[UserPrompt]) -> PrefixTree:
    return PrefixTree.rows(prompt.prompt.ids for prompt in prompts).share()


def micro_batches(groups: Sequence[Group], num_closing: int, most_tokens: int) -> Iterator[list[int]]:
    """Cut a batch into runs of whole groups of at most so many tokens, unless one group alone has more."""
    waiting: list[int] = []
    total = 0
    for index, group in enumerate(groups):
        tokens = group.num_tokens(num_closing)
        if waiting and total + tokens > most_tokens:
            yield waiting
            waiting, total = [], 0
        waiting.append(index)
        total += tokens
    if waiting:
        yield waiting
