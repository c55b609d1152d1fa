"""RecPO: reinforcement learning of a thought and of the answer read from its end (R²ec, section 3.3, algorithm 1).

Kept from the paper: groups of sampled thoughts per user, targets encoded before rewards are computed, the fused reward
over the whole catalogue, advantages within a group, the item choice as the last action of the trajectory, one update
for both heads, no annotated reasoning. Ours, each an option: what the target competes with, which thoughts train the
item action, plain cross-entropy beside it, training at the history's line ends, importance weights, redrawn groups.

The pieces stand in `rollouts` (sample and score), `compare` (credit) and `objective` (losses).

Shape legend: N candidates.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thinkrank.data.sample_stream import SampleStream
from thinkrank.data.splits import Sample, Split
from thinkrank.errors import ThinkrankError
from thinkrank.language import Completion, Packing, PrefixTree, packed_states
from thinkrank.language.adapters import adapter_state
from thinkrank.language.trajectories import reference_logprobs
from thinkrank.policy import Reward
from thinkrank.retrieve.r2ec.ahead import Ahead
from thinkrank.retrieve.r2ec.balance import TermGradients, TokenBalance
from thinkrank.retrieve.r2ec.compare import Part, advantages, compare
from thinkrank.retrieve.r2ec.item_action import CompetingItems, target_rows
from thinkrank.retrieve.r2ec.model import R2ec
from thinkrank.retrieve.r2ec.objective import PartLosses, loss_facts, part_losses
from thinkrank.retrieve.r2ec.options import RecpoOptions
from thinkrank.retrieve.r2ec.rollouts import (
    Group,
    next_targets,
    reward_terms,
    rollout_facts,
    score_thoughts,
    write_thoughts,
)
from thinkrank.retrieve.r2ec.trainer import RetrieverTrainer
from thinkrank.retrieve.r2ec.weights import prepare_head
from thinkrank.retrieve.r2ec.writing import writes_apart, writing
from thinkrank.training import Progress, Run, no_progress, train
from thinkrank.training.rehearsal import Measured
from thinkrank.training.trainer import under
from thinkrank.training.watch import Watch

_CENTRING_SAMPLES = 64
_BEHIND = "behind/"
_ROUNDING = 1e-3
"""Share of a thought's own advantage from which on what its tokens get is more than the rounding of a group's mean."""


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
        before: Callable[[R2ec], str] | None = None,
    ) -> None:
        if split.dataset.repeats:
            options = options.model_copy(update={"filter_seen": False})
        super().__init__(model, split, options, run)
        if model.latents is not None:
            raise ThinkrankError("RecPO trains no latent positions: set model.latent.steps = 0, or recpo.steps = 0")
        self.world.required(options.users, "recpo.users")
        if model.config.thinker not in ("trained", "apart") and options.token_weight and options.credit == "own":
            raise ThinkrankError(
                f"model.thinker is {model.config.thinker!r}, so what the trained model would write is never sampled: "
                "set recpo.token_weight to 0, or model.thinker to trained or apart"
            )
        self.learns_thoughts()
        weights = model.writer if writes_apart(model) else adapter_state(model.backbone)
        self._set_start({name: tensor.detach().clone() for name, tensor in weights.items()})
        self.reward_terms = [*reward_terms(options), *rewards]
        self.draws = SampleStream(split.train, options.seed, skip_seen=options.filter_seen)
        self.drawn_before = 0
        self.before = before
        self.ahead = Ahead(model, options) if options.behind else None
        self.balance = TokenBalance(options.token_balance)
        self.watch = Watch(
            "raise recpo.rollout.temperature or group_size, reward log-probabilities (gain_weight), or give the warm "
            "start more readings behind thoughts"
        )

    def prepare(self) -> None:
        """Give an untrained head what a warm start would have given it, and look whether to begin at all."""
        self._prepare_head()
        self.counters.stopped = "" if self.before is None else self.before(self.model)

    def _prepare_head(self) -> None:
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
        """Give beside the table's ages the adapter as it was at the start: divergences are measured from it.

        What is written beforehand is written again by a resumed run, so its weights are kept, too.
        """
        behind = {} if self.ahead is None else self.ahead.weights
        return {**super().extra_tensors(), **self.at_start, **{f"{_BEHIND}{name}": one for name, one in behind.items()}}

    def restore_extra(self, tensors: dict[str, Tensor]) -> None:
        """Take over what a checkpoint kept."""
        super().restore_extra(tensors)
        if self.ahead is not None:
            self.ahead.weights = under(_BEHIND, tensors)
        kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(_BEHIND)}
        self._set_start({name: tensor for name, tensor in kept.items() if name != "encoded_at"})

    def extra_state(self) -> dict[str, Any]:
        """Give the norms by which terms are balanced."""
        return {"norms": self.balance.norms}

    def restore_state(self, state: dict[str, Any]) -> None:
        """Take back what `extra_state` gave."""
        self.balance.norms = state.get("norms", self.balance.norms)

    def rehearse(self) -> Measured:
        """Measure; whoever wrote the thoughts before writes them again."""
        try:
            return super().rehearse()
        finally:
            self.finish()
            if self.model.config.thinker == "frozen":
                self.model.writer = {}

    def finish(self) -> None:
        """Wait for what is written beforehand, and drop it."""
        if self.ahead is not None:
            self.ahead.close()

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
        self.drawn_before = counters.drawn
        groups, facts = self.rollouts()
        parts = self.compare(groups)
        with self.timed("update"):
            for _ in range(options.updates):
                facts |= self.update_from(parts)
        counters.step += 1
        self.look_at(groups, parts, facts)
        self.refresh_oldest()
        seconds = time.perf_counter() - started
        counters.examples += options.users * options.group_size
        counters.tokens += options.updates * self.world.total(sum(len(part.episodes.packing) for part in parts))
        counters.seconds += seconds
        age_I = self.model.states.ages(counters.step)
        facts |= {f"share_{name}": spent / seconds for name, spent in self.clock.items()}
        facts |= {"table_age_mean": age_I.float().mean().item(), "table_age_max": age_I.max().float().item()}
        self.log(**facts, learning_rate=rate)
        return f"reward {facts['reward']:.3f}, {facts['thought_tokens']:.0f} tokens a thought"

    def look_at(self, groups: Sequence[Group], parts: Sequence[Part], facts: Mapping[str, float]) -> None:
        """Let the watch see whether the thoughts of a batch can learn anything, where they are trained."""
        if self.watch is None or not self.options.token_weight:
            return
        own_BG = advantages(torch.stack([group.rewards_G for group in groups]), self.options)
        own = self.world.most(own_BG.abs().max().item())
        given = self.world.most(max(part.token_advantages_R.abs().max().item() for part in parts))
        tied = {"share": sum(group.is_tied for group in groups) / len(groups)}
        self.watch.batch(
            self.counters.step,
            tied=self.world.mean(tied, len(groups))["share"],
            advantage=given if given > _ROUNDING * own else 0.0,
            gradient=facts.get("token_norm"),
        )

    def rollouts(self) -> tuple[list[Group], dict[str, float]]:
        """Make the groups of one batch, and say how they are; tied ones are replaced as often as `redraw` allows."""
        users = range(self.options.users)[self.world.share(self.options.users)]
        drawn, written = (
            self.written_ahead(self.ahead, len(users)) if self.ahead else (self.next_samples(len(users)), None)
        )
        groups = everything = self.score(drawn, written)
        for _ in range(self.options.redraw):
            kept = [group for group in groups if not group.is_tied]
            drawn = self.next_samples(len(users) - len(kept))
            if not self.world.total(len(drawn)):
                break
            fresh = self.score(drawn)
            groups, everything = [*kept, *fresh], [*everything, *fresh]
        return groups, self._facts(everything, len(users))

    def written_ahead(self, ahead: Ahead, count: int) -> tuple[list[tuple[int, Sample]], list[list[Completion]]]:
        """Take the batch that was written beforehand, and begin the next one with the weights before this update."""
        begun = ahead.begun or ahead.begin(*self.draw(count), weights=ahead.weights or None)
        with self.timed("sampling"):
            written = begun.written.result()
        self.counters.drawn = begun.stop
        if self.counters.step + 1 < self.options.steps:
            ahead.begin(*self.draw(count))
        else:
            ahead.begun, ahead.weights = None, {}
        return begun.drawn, written

    def next_samples(self, count: int) -> list[tuple[int, Sample]]:
        """Draw the next training samples, each with its number in the order of draws.

        Args:
            count: for this process; each of several may want another number.
        """
        drawn, self.counters.drawn = self.draw(count)
        return drawn

    def draw(self, count: int) -> tuple[list[tuple[int, Sample]], int]:
        """Draw samples without moving on, and return them and the number to go on with; see `next_samples`."""
        whole, mine = self.world.spread(count)
        drawn, stop = self.draws.take(whole, self.counters.drawn)
        return drawn[mine], stop

    def _facts(self, groups: list[Group], num_wanted: int) -> dict[str, float]:
        """Describe the groups of all processes for the log."""
        facts = rollout_facts(groups, num_wanted, self.clock["sampling"])
        tokens = sum(len(thought.ids) for group in groups for thought in group.written)
        whole = self.world.mean(facts, len(groups), own_entropy=tokens)
        return whole | self.world.sums({name: facts[name] for name in ("redrawn", "sampled_tokens_per_second")})

    def score(self, drawn: list[tuple[int, Sample]], written: list[list[Completion]] | None = None) -> list[Group]:
        """Write thoughts if none are given, encode the targets, and rank the whole catalogue after every thought."""
        model, samples = self.model, [sample for _, sample in drawn]
        prompts = [model.prompts.user(sample.history) for sample in samples]
        if written is None:
            asked = [model.asking.user(sample.history) for sample in samples]
            with self.timed("sampling"):
                written = write_thoughts(model, asked, [draw for draw, _ in drawn], self.options) if drawn else []
        with self.timed("scoring"):
            targets_B = torch.tensor([sample.target for sample in samples], device=model.backbone.device)
            with torch.no_grad():
                self.encode(self.world.gather(targets_B.long()).unique())
            if not drawn:
                return []
            targets = [next_targets(self.split, self.draws.sample(draw), self.options) for draw, _ in drawn]
            return score_thoughts(model, samples, prompts, written, self.reward_terms, self.options, targets)

    def compare(self, groups: list[Group]) -> list[Part]:
        """Credit every trajectory, and cut the batch into the parts that fit one pass; see `compare`."""
        closing_ids, device = self.model.prompts.closing_ids, self.model.backbone.device
        return compare(groups, closing_ids, self.options, device, self.world)

    def update_from(self, parts: list[Part]) -> dict[str, float]:
        """Update both heads at once from the whole batch, and describe it for the log."""
        batch = [group for part in parts for group in part.groups]
        num_groups = self.world.total(len(batch))
        num_lines = max(1, self.world.total(sum(len(group.prompt.line_ends) for group in batch)))
        for part in parts:
            if self.options.kl_coefficient and "reference" not in part.before:  # before weights carry a gradient
                part.before["reference"] = reference_logprobs(self.model.backbone, part.asked, self.at_start)
        candidates, catalogue = self.candidates(batch)
        is_measured = self.counters.step % self.options.measure_every == 0
        measured = TermGradients(self.adapter, self.world) if is_measured else None
        losses = [self.learn_from(part, candidates, catalogue, num_groups, num_lines, measured) for part in parts]
        candidates.flow_back()
        if catalogue is not candidates:
            catalogue.flow_back()
        facts = {**loss_facts(losses, self.options, self.world), "gradient_norm": self.update()}
        if self.options.token_balance:
            facts["token_factor"] = self.balance.factor
        if measured is not None:
            norms = measured.facts()
            self.balance.observe(norms)
            facts |= norms
        return facts

    def learn_from(
        self,
        part: Part,
        candidates: CompetingItems,
        catalogue: CompetingItems,
        num_groups: int,
        num_lines: int,
        measured: TermGradients | None = None,
    ) -> PartLosses:
        """Read a part and send the gradient of its losses back.

        Args:
            part: of the batch.
            candidates: as for `part_losses`.
            catalogue: as for `part_losses`.
            num_groups: of the whole batch.
            num_lines: of the whole batch.
            measured: gathers the gradient of each term; gradients that go through texts of items are not in it.
        """
        model, asked_TD = self.model, None
        states_TD = packed_states(model.backbone, part.episodes.packing)
        if self.options.token_weight and (part.asked is not part.episodes or writes_apart(model)):
            with writing(model):
                asked_TD = packed_states(model.backbone, part.asked.packing)
        losses = part_losses(
            self.model,
            part,
            states_TD,
            candidates,
            catalogue,
            self.options,
            num_groups=num_groups,
            num_lines=num_lines,
            token_factor=self.balance.factor,
            asked_TD=asked_TD,
        )
        if measured is not None:
            measured.add(losses.terms)
        losses.whole.backward()
        return losses

    def candidates(self, batch: Sequence[Group]) -> tuple[CompetingItems, CompetingItems]:
        """Gather what the targets of a batch compete with, and the whole catalogue; one object if they are the same."""
        options, model, device = self.options, self.model, self.model.backbone.device
        targets_N = self.world.gather(target_rows(batch, device)).unique()
        if options.candidates == "catalogue" or not options.reads_thoughts:
            table_ID = model.states.rows_ID
            if options.live_items and options.reads_thoughts:
                random = np.random.default_rng([options.seed, self.counters.step])
                live_N = targets_N[torch.from_numpy(random.permutation(len(targets_N))[: options.live_items])]
                table_ID = table_ID.index_copy(0, live_N, self.encode(live_N))
            whole = CompetingItems(model.head.item_vectors(table_ID), None)
            return whole, whole
        items_N, states_ND = targets_N, self.encode(targets_N)
        table_ID = model.states.rows_ID
        if options.candidates == "memory":
            earlier = range(max(0, self.drawn_before - options.memory), self.drawn_before)
            held = [int(self.split.train.targets[self.draws.sample(draw)]) for draw in earlier]
            held_N = torch.tensor(held, dtype=torch.long, device=device)
            items_N, states_ND = torch.cat([targets_N, held_N]), torch.cat([states_ND, table_ID[held_N]])
        few = CompetingItems(model.head.item_vectors(states_ND, items_N), items_N)
        whole_ID = model.head.item_vectors(table_ID) if options.line_weight else table_ID[:0]
        return few, CompetingItems(whole_ID, None)

    def refresh_oldest(self) -> None:
        """Encode the rows anew that were encoded longest ago."""
        if not self.options.refresh_rows:
            return
        with self.timed("scoring"):
            self.refresh(self.model.states.oldest(self.options.refresh_rows), fast=True)


def train_recpo(
    model: R2ec,
    split: Split,
    options: RecpoOptions,
    run: Run,
    *,
    rewards: Sequence[tuple[float, Reward]] = (),
    before: Callable[[R2ec], str] | None = None,
    progress: Progress = no_progress,
) -> Run:
    """Train thoughts and answers together, in place, resuming from the run's folder if it holds a checkpoint.

    Args:
        model: after a warm start, or untrained; afterwards it holds the weights of the best validation (or the last).
        split: train and valid parts are used, test is not touched.
        options: how to train.
        run: the folder for checkpoints and the log.
        rewards: weight and reward, added to those the options name.
        before: looks at the model before the first batch and returns the reason not to begin, or nothing; see
            `thinkrank.recipes.before_recpo`.
        progress: how to show it.

    Raises:
        ThinkrankError: if there is nothing to train on.
    """
    return train(RecpoTrainer(model, split, options, run, rewards, before), progress)
