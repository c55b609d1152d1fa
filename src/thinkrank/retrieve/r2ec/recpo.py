"""RecPO: reinforcement learning of a thought and of the answer read from its end (R²ec, section 3.3, algorithm 1).

Kept from the paper: groups of sampled thoughts per user, targets encoded before rewards are computed, the fused reward
over the whole catalogue, advantages within a group, the item choice as the last action of the trajectory, one update
for both heads, no annotated reasoning. Ours, each an option: what the target competes with, which thoughts train the
item action, plain cross-entropy beside it, training at the history's line ends, importance weights, redrawn groups.

Shape legend: B users, G thoughts about each, R = B G trajectories, T actions of the longest, I items of the catalogue,
N candidates, P line ends, D width.
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from thinkrank.data import Sample, Split
from thinkrank.data.sample_stream import SampleStream
from thinkrank.errors import ThinkrankError
from thinkrank.language import Packing, PrefixTree, packed_states
from thinkrank.language.adapters import adapter_state
from thinkrank.language.trajectories import Trajectories, action_logprobs, reference_logprobs
from thinkrank.policy import (
    Diversity,
    LengthPenalty,
    Reward,
    Surrogate,
    clipped_surrogate,
    combine_surrogates,
    denominators,
    format_reward,
    fuse,
    group_mean_credit,
    grpo_advantages,
    item_surrogate,
    ndcg_reward,
    rloo_advantages,
    selection_weights,
    softmax_similarity,
    weighted_rewards,
)
from thinkrank.retrieve.r2ec.config import RecpoOptions
from thinkrank.retrieve.r2ec.item_action import CompetingItems, line_loss, target_logprobs, target_rows
from thinkrank.retrieve.r2ec.model import R2ec
from thinkrank.retrieve.r2ec.rollouts import Group, answers, micro_batches
from thinkrank.retrieve.r2ec.trainer import RetrieverTrainer
from thinkrank.retrieve.r2ec.weights import prepare_head
from thinkrank.stages.order import mask_seen, target_ranks
from thinkrank.training import Progress, Run, no_progress, train

_CENTRING_SAMPLES = 64


@dataclass
class _Part:
    """A micro-batch: some groups of the batch, their credit, and what was so before the first update."""

    groups: list[Group]
    episodes: Trajectories
    token_advantages_R: Float[Tensor, "R"]
    item_advantages_R: Float[Tensor, "R"]
    item_weights_R: Float[Tensor, "R"]
    denominators_R: Float[Tensor, "R"]
    before: dict[str, Tensor] = field(default_factory=dict)

    @property
    def line_ends(self) -> list[int]:
        """Where the history lines end in the packed row, oldest first and group by group."""
        return [
            self.episodes.packing.place(leaf, end)
            for group, (leaf, *_) in zip(self.groups, self.episodes.leaves, strict=True)
            for end in group.prompt.line_ends
        ]


class RecpoTrainer(RetrieverTrainer[RecpoOptions]):
    """One RecPO training in progress. A step is one batch of rollouts and the updates made from it."""

    ways = (True, False)

    def __init__(
        self,
        model: R2ec,
        split: Split,
        options: RecpoOptions,
        run: Run,
        rewards: Sequence[tuple[float, Reward]] = (),
    ) -> None:
        super().__init__(model, split, options, run)
        if model.config.thinker != "trained" and options.token_weight and options.credit == "own":
            raise ThinkrankError(
                f"model.thinker is {model.config.thinker!r}, so what the trained model would write is never sampled: "
                "set recpo.token_weight to 0, or model.thinker to trained"
            )
        self._set_start({name: tensor.detach().clone() for name, tensor in adapter_state(model.backbone).items()})
        own: list[tuple[float, Reward]] = [
            (options.format_weight, format_reward),
            (options.diversity_weight, Diversity()),
        ]
        if options.length_weight:
            own.append((options.length_weight, LengthPenalty(options.free_tokens, options.rollout.max_new_tokens)))
        self.reward_terms = [*((weight, reward) for weight, reward in own if weight), *rewards]
        self.draws = SampleStream(split.train, options.seed, skip_seen=options.filter_seen)
        self._drawn_before = 0

    def prepare(self) -> None:
        """Give an untrained head what a warm start would have given it."""
        model = self.model
        if model.head.is_prepared:
            return
        samples = self.split.train.subset(_CENTRING_SAMPLES, self.options.seed)
        shown = [model.prompts.user(history) for history in samples.histories()]
        thoughts = model.think(samples.histories()) if model.config.head.centred else []
        states = [torch.empty(0, model.backbone.hidden_size, device=model.backbone.device)]
        is_line: list[bool] = []
        for user, thought in zip(shown, thoughts, strict=False):
            packing = Packing(
                PrefixTree.rows([model.prompts.close(user.prompt, thought.ids_before_stop).ids]), model.backbone.device
            )
            with torch.no_grad():
                states.append(packed_states(model.backbone, packing)[[*user.line_ends, -1]])
            is_line += [True] * len(user.line_ends) + [False]
        prepare_head(model, self.split, torch.cat(states), torch.tensor(is_line, dtype=torch.bool))

    def extra_tensors(self) -> dict[str, Tensor]:
        """Beside the table's ages the adapter as it was at the start: divergences are measured from it."""
        return {**super().extra_tensors(), **self.at_start}

    def restore_extra(self, tensors: dict[str, Tensor]) -> None:
        """Take over what a checkpoint kept."""
        super().restore_extra(tensors)
        self._set_start({name: tensor for name, tensor in tensors.items() if name != "encoded_at"})

    def _set_start(self, tensors: dict[str, Tensor]) -> None:
        self.at_start = tensors
        if self.model.config.thinker == "frozen":
            self.model.writer = tensors

    def step(self) -> str:
        """Sample thoughts, score what they lead to, compare siblings, update both heads."""
        options, counters = self.options, self.counters
        self.clock.clear()
        started = time.perf_counter()
        rate = self.learning_rate()
        self._drawn_before = counters.drawn
        groups, facts = self._rollouts()
        parts = self._compare(groups)
        with self.timed("update"):
            for _ in range(options.updates):
                facts |= self._update(parts)
        counters.step += 1
        self._refresh_oldest()
        seconds = time.perf_counter() - started
        counters.examples += len(groups) * options.group_size
        counters.tokens += options.updates * sum(len(part.episodes.packing) for part in parts)
        counters.seconds += seconds
        age_I = counters.step - self.encoded_at_I
        facts |= {f"share_{name}": spent / seconds for name, spent in self.clock.items()}
        facts |= {"table_age_mean": age_I.float().mean().item(), "table_age_max": age_I.max().float().item()}
        self.log(**facts, learning_rate=rate)
        return f"reward {facts['reward']:.3f}, {facts['thought_tokens']:.0f} tokens a thought"

    def _rollouts(self) -> tuple[list[Group], dict[str, float]]:
        """Groups for one batch; tied ones are replaced as often as `redraw` allows."""
        groups = seen = self._score(self._next_samples(self.options.users))
        for _ in range(self.options.redraw):
            kept = [group for group in groups if not group.is_tied]
            if len(kept) == self.options.users:
                break
            fresh = self._score(self._next_samples(self.options.users - len(kept)))
            groups, seen = [*kept, *fresh], [*seen, *fresh]
        thoughts = [thought for group in seen for thought in group.written]
        rewards_BG = torch.stack([group.rewards_G for group in seen])
        tokens = sum(len(thought.ids) for thought in thoughts)
        return groups, {
            "reward": rewards_BG.mean().item(),
            "reward_ndcg": torch.stack([group.ndcg_G for group in seen]).mean().item(),
            "reward_similarity": torch.stack([group.similarity_G for group in seen]).mean().item(),
            "group_spread": rewards_BG.std(dim=1).mean().item(),
            "tied_share": sum(group.is_tied for group in seen) / len(seen),
            "same_rank_share": sum(bool((group.ranks_G == group.ranks_G[0]).all()) for group in seen) / len(seen),
            "redrawn": float(len(seen) - self.options.users),
            "thought_tokens": tokens / len(thoughts),
            "closed_share": sum(thought.finish_reason == "closed" for thought in thoughts) / len(thoughts),
            "own_entropy": sum(sum(thought.entropies) for thought in thoughts) / tokens,
            "sampled_tokens_per_second": tokens / self.clock["sampling"],
        }

    def _next_samples(self, count: int) -> list[tuple[int, Sample]]:
        """The next training samples, each with its number in the order of draws."""
        drawn, self.counters.drawn = self.draws.take(count, self.counters.drawn)
        return drawn

    def _score(self, drawn: list[tuple[int, Sample]]) -> list[Group]:
        """Write thoughts, encode the targets, and rank the whole catalogue after every thought."""
        options, model = self.options, self.model
        samples = [sample for _, sample in drawn]
        prompts = [model.prompts.user(sample.history) for sample in samples]
        with self.timed("sampling"):
            rollout = options.rollout.model_copy(update={"seed": options.seed})
            seeds = [draw for draw, _ in drawn]
            written = model.sample(
                [prompt.prompt for prompt in prompts], rollout, num_samples=options.group_size, seeds=seeds
            )
        with self.timed("scoring"), torch.no_grad():
            targets_B = torch.tensor([sample.target for sample in samples], device=model.backbone.device)
            self.encode(targets_B.unique())
            histories = [sample.history for sample in samples for _ in range(options.group_size)]
            scores_RI = model.scores_after(histories, [thought for many in written for thought in many])
            if options.filter_seen:
                scores_RI = mask_seen(scores_RI, histories)
            targets_R = targets_B.repeat_interleave(options.group_size).cpu()
            ranks_BG = torch.from_numpy(target_ranks(scores_RI, targets_R.numpy())).view(len(samples), -1)
            ndcg_BG = ndcg_reward(ranks_BG, options.ndcg_k)
            similarity_BG = softmax_similarity(torch.from_numpy(scores_RI), targets_R, 1.0).view_as(ndcg_BG)
            plain = [answers(many, ranks.tolist()) for many, ranks in zip(written, ranks_BG, strict=True)]
            rewards_BG = fuse(ndcg_BG, similarity_BG, options.beta) + weighted_rewards(plain, self.reward_terms)
        return [
            Group(sample, prompt, tuple(many), *per_group)
            for sample, prompt, many, *per_group in zip(
                samples, prompts, written, ranks_BG, ndcg_BG, similarity_BG, rewards_BG, strict=True
            )
        ]

    def _compare(self, groups: list[Group]) -> list[_Part]:
        """Credit every trajectory, and cut the batch into the parts that fit one pass."""
        options, device = self.options, self.model.backbone.device
        rewards_BG = torch.stack([group.rewards_G for group in groups])
        match options.advantages:
            case "grpo":
                advantages_BG = grpo_advantages(rewards_BG, epsilon=options.advantage_epsilon)
            case "centred":
                advantages_BG = grpo_advantages(rewards_BG, scale_by_std=False)
            case "rloo":
                advantages_BG = rloo_advantages(rewards_BG)
        weights_BG = selection_weights(
            advantages_BG, options.selection, k=options.selection_k, floor=options.selection_floor
        )
        token_BG = item_BG = advantages_BG
        if options.credit == "group_mean":
            token_BG, item_BG = group_mean_credit(advantages_BG, weights_BG)
            weights_BG = torch.ones_like(weights_BG)
        lengths_R = torch.tensor([len(thought.ids) for group in groups for thought in group.written])
        constant = options.rollout.max_new_tokens if options.normalisation == "constant" else None
        denominators_BG = denominators(lengths_R, options.normalisation, constant_length=constant).view_as(rewards_BG)
        closing = self.model.prompts.closing_ids
        parts = []
        for rows in micro_batches(groups, len(closing), options.batch_tokens):
            chosen = [groups[row] for row in rows]
            token_R, item_R, weights_R, denominators_R = (
                values[rows].flatten().to(device) for values in (token_BG, item_BG, weights_BG, denominators_BG)
            )
            prompts = PrefixTree.rows(group.prompt.prompt.ids for group in chosen).share()
            episodes = Trajectories(prompts, [group.written for group in chosen], closing, device)
            parts.append(_Part(chosen, episodes, token_R, item_R, weights_R, denominators_R))
        return parts

    def _update(self, parts: list[_Part]) -> dict[str, float]:
        """One joint update of both heads from the whole batch."""
        options = self.options
        batch = [group for part in parts for group in part.groups]
        num_lines = max(1, sum(len(group.prompt.line_ends) for group in batch))
        tokens, items = [], []
        losses: defaultdict[str, float] = defaultdict(float)
        for part in parts:
            if options.kl_coefficient and "reference" not in part.before:  # before the weights carry a gradient
                part.before["reference"] = reference_logprobs(self.model.backbone, part.episodes, self.at_start)
        candidates, catalogue = self._candidates(batch)
        for part in parts:
            packing = part.episodes.packing
            states_TD = packed_states(self.model.backbone, packing)
            loss = states_TD.new_zeros(())
            if options.token_weight:
                token = self._token_surrogate(part, states_TD)
                tokens.append(token)
                loss = loss + options.token_weight * token.loss
            if options.item_weight or options.item_floor:
                logprobs_R = self._item_logprobs(part, states_TD, candidates)
                item = self._item_surrogate(part, logprobs_R, len(batch))
                items.append(item)
                floor = -logprobs_R.sum() / (len(batch) * options.group_size)
                losses["item_cross_entropy"] += floor.item()
                loss = loss + options.item_weight * item.loss + options.item_floor * floor
            if options.line_weight:
                line = line_loss(self.model.head, states_TD[part.line_ends], part.groups, catalogue) / num_lines
                losses["line_loss"] += line.item()
                loss = loss + options.line_weight * line
            loss.backward()
        candidates.flow_back()
        if catalogue is not candidates:
            catalogue.flow_back()
        norm = self.update()
        return {**_facts("token", tokens), **_facts("item", items), **losses, "gradient_norm": norm}

    def _token_surrogate(self, part: _Part, states_TD: Float[Tensor, "T D"]) -> Surrogate:
        """The loss of what was written."""
        options, episodes = self.options, part.episodes
        logprobs_RT, entropies_RT = action_logprobs(
            self.model.backbone, episodes, states_TD, entropy=options.entropy_coefficient > 0
        )
        old_RT = part.before.setdefault("tokens", logprobs_RT.detach())
        written = [thought for group in part.groups for thought in group.written]
        sampled_RT = None
        if options.importance_weights:
            sampled = [logprob for thought in written for logprob in thought.logprobs]
            sampled_RT = episodes.matrix(torch.tensor(sampled, device=states_TD.device))
        return clipped_surrogate(
            logprobs_RT,
            old_RT,
            part.token_advantages_R,
            episodes.mask_RT,
            denominators_B=part.denominators_R,
            clip_low=options.clip_low,
            clip_high=options.clip_high,
            ratio_level=options.ratio_level,
            sampled_logprobs_BT=sampled_RT,
            weight_cap=options.weight_cap,
            reference_logprobs_BT=part.before.get("reference"),
            kl_coefficient=options.kl_coefficient,
            entropies_BT=entropies_RT,
            entropy_coefficient=options.entropy_coefficient,
        )

    def _item_surrogate(self, part: _Part, logprobs_R: Float[Tensor, "R"], num_users: int) -> Surrogate:
        """The loss of the answers that the thoughts led to."""
        return item_surrogate(
            logprobs_R,
            part.before.setdefault("items", logprobs_R.detach()),
            part.item_advantages_R,
            part.item_weights_R,
            num_trajectories=num_users * self.options.group_size,
            clip_low=self.options.clip_low,
            clip_high=self.options.clip_high,
        )

    def _candidates(self, batch: Sequence[Group]) -> tuple[CompetingItems, CompetingItems]:
        """What the targets of the batch compete with, and the whole catalogue; the same object if it is the same."""
        options, model, device = self.options, self.model, self.model.backbone.device
        targets_N = target_rows(batch, device).unique()
        chooses = bool(options.item_weight or options.item_floor)
        if options.candidates == "catalogue" or not chooses:
            table_ID = model.table_ID
            if options.live_items and chooses:
                random = np.random.default_rng([options.seed, self.counters.step])
                live_N = targets_N[torch.from_numpy(random.permutation(len(targets_N))[: options.live_items])]
                table_ID = table_ID.index_copy(0, live_N, self.encode(live_N))
            whole = CompetingItems(model.head.item_vectors(table_ID), None)
            return whole, whole
        items_N, states_ND = targets_N, self.encode(targets_N)
        if options.candidates == "memory":
            earlier = range(max(0, self._drawn_before - options.memory), self._drawn_before)
            held = [int(self.split.train.targets[self.draws.sample(draw)]) for draw in earlier]
            held_N = torch.tensor(held, dtype=torch.long, device=device)
            items_N, states_ND = torch.cat([targets_N, held_N]), torch.cat([states_ND, model.table_ID[held_N]])
        few = CompetingItems(model.head.item_vectors(states_ND, items_N), items_N)
        whole_ID = model.head.item_vectors(model.table_ID) if options.line_weight else model.table_ID[:0]
        return few, CompetingItems(whole_ID, None)

    def _item_logprobs(
        self, part: _Part, states_TD: Float[Tensor, "T D"], candidates: CompetingItems
    ) -> Float[Tensor, "R"]:
        """Log-probability of the target after each thought."""
        head, seen = self.model.head, self.options.filter_seen
        return target_logprobs(head, states_TD[part.episodes.readouts], part.groups, candidates, filter_seen=seen)

    def _refresh_oldest(self) -> None:
        """Encode the rows anew that were encoded longest ago."""
        if not self.options.refresh_rows:
            return
        with self.timed("scoring"):
            oldest_N = self.encoded_at_I.argsort(stable=True)[: self.options.refresh_rows]
            states_ND = self.model.encode_items(oldest_N.tolist())
            self.model.table_ID = self.model.table_ID.index_copy(0, oldest_N.to(states_ND.device), states_ND)
            self.encoded_at_I[oldest_N] = self.counters.step


def train_recpo(
    model: R2ec,
    split: Split,
    options: RecpoOptions,
    run: Run,
    *,
    rewards: Sequence[tuple[float, Reward]] = (),
    progress: Progress = no_progress,
) -> Run:
    """Train thoughts and answers together, in place, resuming from the run's folder if it holds a checkpoint.

    Args:
        model: after a warm start, or untrained; afterwards it holds the weights of the best validation (or the last).
        split: train and valid parts are used, test is not touched.
        options: how to train.
        run: the folder for checkpoints and the log.
        rewards: weight and reward, added to those the options name.
        progress: how to show it.

    Raises:
        ThinkrankError: if there is nothing to train on.
    """
    return train(RecpoTrainer(model, split, options, run, rewards), progress)


def _facts(name: str, parts: Sequence[Surrogate]) -> dict[str, float]:
    """What happened in the loss of tokens or items, for the log."""
    if not parts:
        return {}
    whole = combine_surrogates(parts)
    values = {
        "loss": whole.loss,
        "clip_share": whole.clip_share,
        "ratio": whole.mean_ratio,
        "importance_weight": whole.mean_weight,
        "kl": whole.mean_kl,
        "entropy": whole.mean_entropy,
    }
    return {f"{name}_{key}": value.item() for key, value in values.items() if value is not None}
