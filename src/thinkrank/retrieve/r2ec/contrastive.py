"""Contrastive training: R²ec without reinforcement learning.

Without thoughts it is the paper's no-reasoning ablation (section 4.3). With `thought_share` it is also a cold start of
thoughts: some sequences carry a thought that rules wrote from the history shown, and the language head learns to write
it while the item head learns to read it. Either is the warm start of RecPO.

Shape legend: P readouts of a batch, L of them at items, S an item and the latent positions behind it, N candidates, D
width.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from thinkrank.data.splits import Split
from thinkrank.errors import ThinkrankError
from thinkrank.evidence.crowd import Crowd
from thinkrank.language import Packing, PrefixTree, packed_states, selective_logprobs
from thinkrank.language.latent import LatentPositions, behind_places, likeness
from thinkrank.policy import distillation_loss, item_logprobs
from thinkrank.retrieve.r2ec.crowd import CrowdThoughts, CrowdThoughtsOfOthers, crowd_thoughts
from thinkrank.retrieve.r2ec.examples import Batch, Stretch, build_batch, endless_batches
from thinkrank.retrieve.r2ec.latent import step_losses
from thinkrank.retrieve.r2ec.model import R2ec
from thinkrank.retrieve.r2ec.options import ContrastiveOptions
from thinkrank.retrieve.r2ec.seen import Seen
from thinkrank.retrieve.r2ec.trainer import RetrieverTrainer
from thinkrank.retrieve.r2ec.weights import prepare_head
from thinkrank.retrieve.r2ec.writing import writes_apart, writing
from thinkrank.teachers.history_rules import RuleWriter
from thinkrank.training import Progress, Run, no_progress, train
from thinkrank.training.rehearsal import Measured

if TYPE_CHECKING:
    from thinkrank.distributed.sharding import Sharded

_CENTRING_BATCHES = 8


class ContrastiveTrainer(RetrieverTrainer[ContrastiveOptions]):
    """One contrastive training in progress; see `RetrieverTrainer`."""

    def __init__(self, model: R2ec, split: Split, options: ContrastiveOptions, run: Run) -> None:
        super().__init__(model, split, options, run)
        self.histories = split.train_histories("before" if options.train_in_file_order else None)
        self.writer = self._writer()
        if self.writer is not None:
            self.learns_thoughts()
            self.ways = (False, True)
        if isinstance(self.writer, CrowdThoughts) and not options.distil_weight:
            self.ways = (True, False)
        self.readings = 0
        self.sharded: Sharded | None = None
        if options.sharding == "fsdp" and self.world.size > 1:
            from thinkrank.distributed import sharding  # what it imports takes a second

            self.sharded = sharding.Sharded(model.backbone.model, self.world)
        self._batches: Iterator[list[Stretch]] | None = None

    def _writer(self) -> RuleWriter | CrowdThoughts | None:
        """Return who writes thoughts; what the crowd did is counted for the model to tell it later, too."""
        model, options = self.model, self.options
        if not options.thought_share:
            return None
        if options.thought_source not in ("crowd", "crowd_of_others"):
            return RuleWriter(model.catalogue, forms=options.thought_forms, noun=model.config.prompt.noun)
        if model.config.thinker != "crowd":
            raise ThinkrankError(
                f"training.thought_source = {options.thought_source} needs a model that tells the same: "
                "model.thinker = crowd"
            )
        model.crowd = Crowd(list(self.histories), len(model.catalogue))
        if options.thought_source == "crowd_of_others":
            return CrowdThoughtsOfOthers(model.crowd, model.catalogue, model.prompts, self.histories)
        return crowd_thoughts(model.crowd, model.catalogue, model.prompts)

    def after_step(self, *, validates: bool) -> None:
        """Encode the item table, with whole weights."""
        with self._whole():
            super().after_step(validates=validates)

    def measure(self) -> dict[str, float]:
        """Validate, with whole weights."""
        with self._whole():
            return super().measure()

    def rehearse(self) -> Measured:
        """Measure, and leave the weights whole."""
        measured = super().rehearse()
        self.finish()
        return measured

    def finish(self) -> None:
        """Leave the weights whole."""
        if self.sharded is not None:
            self.sharded.join()

    def _whole(self) -> AbstractContextManager[None]:
        return nullcontext() if self.sharded is None else self.sharded.whole()

    def prepare(self) -> None:
        """Prepare an untrained head from the states of the first batches."""
        if not self.model.head.is_prepared:
            batches = [self.render(batch) for batch in islice(self.batches(), _CENTRING_BATCHES)]
            with torch.no_grad():
                read = [(batch, *self.states(batch)) for batch in batches]
                states = torch.cat([self.readouts(*one) for one in read])
                latents = self.model.latents
                steps = [] if latents is None else [self.steps_behind(latents, *one) for one in read]
            prepare_head(self.model, self.split, states, torch.cat([batch.is_line_P for batch in batches]))
            if steps and self.model.config.head.centred:
                self.model.head.center_steps_on(torch.cat(steps)[:, 1:])

    def batches(self) -> Iterator[list[Stretch]]:
        """Yield the batches that are still to come."""
        ranges = self.split.train_ranges
        row_U = (ranges[:, 0] < ranges[:, 1]).cumsum() - 1  # users without training samples have no history here
        train, targets = self.split.train, []
        if self.options.supervision == "last":
            places = train.positions - ranges[train.users, 0]
            targets = list(zip(row_U[train.users].tolist(), places.tolist(), strict=True))
        return endless_batches(
            self.histories,
            targets,
            self.options,
            window=self.model.config.prompt.history_window,
            skip=self.counters.step * self.options.accumulate,
        )

    def step(self) -> str:
        """Make one update: `accumulate` forward-backward passes weighted by their readouts, clip, step."""
        if self._batches is None:
            self._batches = self.batches()
        return self.step_on([next(self._batches) for _ in range(self.options.accumulate)])

    def step_on(self, batches: list[list[Stretch]]) -> str:
        """Make one update from these batches."""
        options, counters = self.options, self.counters
        started = time.perf_counter()
        rate = self.learning_rate()
        shares = [self.world.part(batch) for batch in batches]
        rendered = [(self.render(stretches), weight) for stretches, weight in shares]
        counted = [batch for batch, weight in rendered if weight]
        readouts = self.world.total(sum(len(batch.readouts) for batch in counted))
        written = self.world.total(sum(batch.num_written for batch in counted))
        self.readings += self.world.total(sum(int(batch.is_after_thought_P.sum()) for batch in counted))
        counters.examples += readouts
        losses = {"loss": 0.0, "after_thought_loss": 0.0, "thought_loss": 0.0}
        self._draw_dropout(True)
        for batch, weight in rendered:
            with self.apart():
                packing, states_TD = self.states(batch)
            losses_P = self._losses(batch, packing, states_TD) * self.reading_weights(batch).to(states_TD.device)
            item = losses_P.mean() * (weight * len(losses_P) / readouts)
            thought = self._thought_loss(batch, packing, states_TD) * weight / max(1, written)
            (item + options.thought_weight * thought).backward()
            losses["loss"] += item.item()
            behind = losses_P.detach().cpu()[batch.is_after_thought_P].sum().item()
            losses["after_thought_loss"] += weight * behind / readouts
            losses["thought_loss"] += thought.item()
        self._draw_dropout(False)
        if self.model.latents is not None and counters.step < self.model.config.latent.alone_steps:
            self.learn_alone(self.model.latents.parameters())
        norm = self.update()
        losses = self.world.sums(losses)
        counters.step += 1
        counters.tokens += self.world.total(sum(batch.forest.num_tokens for batch in counted))
        counters.seconds += time.perf_counter() - started
        facts: dict[str, float] = {"loss": losses["loss"]} if self.writer is None else losses
        if self.writer is not None:
            facts |= {"thought_readings": float(self.readings)}
        self.log(**facts, gradient_norm=norm, learning_rate=rate)
        return f"{counters.examples / counters.seconds:.0f} examples/s"

    def _draw_dropout(self, draws: bool) -> None:
        """Let parts of the adapter and of items' states be left out at random and some items be hidden, or not."""
        backbone, head, share = self.model.backbone, self.model.head, self.options.hidden_share
        backbone.model.train(draws)
        head.hidden_I = (torch.rand(len(self.model.catalogue)) < share).to(backbone.device) if share and draws else None
        if backbone.items is not None:
            backbone.items.hidden_I = head.hidden_I
            backbone.items.dropout = self.options.item_dropout
            backbone.items.train(draws)

    def render(self, stretches: Sequence[Stretch]) -> Batch:
        """Render some stretches as token sequences, and what they must predict."""
        model = self.model
        asking = model.asking if writes_apart(model) or model.asking is not model.prompts else None
        return build_batch(model.prompts, self.histories, stretches, self.options, self.writer, asking)

    def reading_weights(self, batch: Batch) -> Float[Tensor, "P"]:
        """Weigh readouts so that those behind a thought carry their share of the loss, over all batches so far.

        With q the share of readouts so far that stand behind a thought and s the share they shall carry, they get s / q
        and the others (1 - s) / (1 - q): the mean weight is 1, and no single batch decides what a reading counts.
        """
        behind_P, share = batch.is_after_thought_P, self.options.after_thought_share
        counted = self.readings / self.counters.examples
        if not share or not 0 < counted < 1:
            return torch.ones(len(behind_P))
        return torch.where(behind_P, share / counted, (1 - share) / (1 - counted))

    def extra_state(self) -> dict[str, Any]:
        """Tell how many answers behind a thought were read."""
        return {"readings": self.readings}

    def restore_state(self, state: dict[str, Any]) -> None:
        """Take back what `extra_state` gave."""
        self.readings = state.get("readings", 0)

    def states(self, batch: Batch) -> tuple[Packing, Float[Tensor, "T D"]]:
        """Read a batch in one differentiable pass."""
        backbone = self.model.backbone
        packing = Packing(batch.forest, backbone.device, records=self.model.latents is not None)
        return packing, packed_states(backbone, packing)

    def readouts(self, batch: Batch, packing: Packing, states_TD: Float[Tensor, "T D"]) -> Float[Tensor, "P D"]:
        """Take the states that predict items."""
        return states_TD[[packing.place(readout.node, readout.position) for readout in batch.readouts]]

    def steps_behind(
        self, latents: LatentPositions, batch: Batch, packing: Packing, states_TD: Float[Tensor, "T D"]
    ) -> Float[Tensor, "L S D"]:
        """Read on from the items that predict: their states, and those of the latent positions behind each."""
        lines = (readout for readout in batch.readouts if readout.is_line)
        places = [packing.place(readout.node, readout.position) for readout in lines]
        places_L = torch.tensor(places, dtype=torch.long, device=states_TD.device)
        return behind_places(self.model.backbone, packing, states_TD[places_L], places_L, latents)

    def _losses(self, batch: Batch, packing: Packing, states_TD: Float[Tensor, "T D"]) -> Float[Tensor, "P"]:
        """Compute the cross-entropy of each readout; at an item the mean over it and the steps behind it."""
        model, device = self.model, self.model.backbone.device
        is_line_P = batch.is_line_P.to(device)
        users_PD = model.head.user_vectors(self.readouts(batch, packing, states_TD), is_line_P)
        users_LSD = None
        if model.latents is not None:
            users_LSD = model.head.step_vectors(self.steps_behind(model.latents, batch, packing, states_TD))
        targets_P = batch.targets_P.to(device)
        seen = Seen.nothing(len(targets_P)) if self.split.dataset.repeats else batch.seen
        whole, mine = self.world.joined(targets_P)  # what targets compete with, be it another process's
        if self.options.negatives == "in_batch":
            items_N, columns_P = whole.unique(return_inverse=True)  # one column per item masks duplicate targets
            items_ND = model.head.item_vectors(self.encode(items_N), items_N)
            competing = items_ND, items_N
            targets_P = columns_P[mine]
        else:
            competing = model.head.item_vectors(self._table(whole)), None
        seen_PN = seen.among(competing[1], len(model.catalogue), device)
        scores_PN = model.head.scores(users_PD, *competing)
        losses_P = -item_logprobs(scores_PN, targets_P, seen_PN)
        if self.options.distil_weight:
            losses_P = losses_P + self.options.distil_weight * self._distilled(batch.quick_P, scores_PN, seen_PN)
        if users_LSD is None:
            return losses_P
        options = model.config.latent
        scores_LSN = model.head.scores(users_LSD.flatten(0, 1), *competing).unflatten(0, users_LSD.shape[:2])
        losses_L = step_losses(scores_LSN, targets_P[is_line_P], seen_PN[is_line_P], options)
        return losses_P.masked_scatter(is_line_P, losses_L + options.repulsion * likeness(users_LSD))

    def _distilled(
        self, quick_P: Int[Tensor, "P"], scores_PN: Float[Tensor, "P N"], seen_PN: Bool[Tensor, "P N"]
    ) -> Float[Tensor, "P"]:
        """Compute at each readout behind a thought how far the answer at once is from it, 0 elsewhere."""
        behind_T = (quick_P >= 0).nonzero()[:, 0].to(scores_PN.device)
        quick_T = quick_P.to(scores_PN.device)[behind_T]
        slow_TN, fast_TN = (
            scores_PN[rows_T].masked_fill(seen_PN[quick_T], -torch.inf) for rows_T in (behind_T, quick_T)
        )
        losses_T = distillation_loss(slow_TN[:, None], fast_TN)
        return losses_T.new_zeros(len(scores_PN)).index_put((behind_T,), losses_T)

    def _table(self, targets_P: Int[Tensor, "P"]) -> Float[Tensor, "I D"]:
        """Return the item table, some of all processes' targets encoded with gradient if the options say so."""
        table_ID = self.model.states.rows_ID
        if self.options.live_items:
            distinct_N = targets_P.unique()
            drawn = torch.randperm(len(distinct_N))[: self.options.live_items]  # of the generator a checkpoint keeps
            live_N = distinct_N[drawn.sort().values.to(targets_P.device)]
            table_ID = table_ID.index_copy(0, live_N, self.encode(live_N))
        return table_ID

    def _thought_loss(self, batch: Batch, packing: Packing, states_TD: Float[Tensor, "T D"]) -> Float[Tensor, ""]:
        """Sum of the negative log-likelihoods of the thoughts that rules wrote, closings included."""
        if isinstance(self.writer, CrowdThoughts):  # what is counted is not learnt by heart
            return states_TD.new_zeros(())
        if batch.asked:
            tree = PrefixTree.rows(ids for ids, _ in batch.asked)
            packing = Packing(tree, self.model.backbone.device)
            with writing(self.model):
                states_TD = packed_states(self.model.backbone, packing)
            spans = list(zip(tree.leaves, (span for _, span in batch.asked), strict=True))
        else:
            spans = [(readout.node, readout.thought) for readout in batch.readouts]
        places = [(node, position) for node, span in spans for position in span]
        if not places:
            return states_TD.new_zeros(())
        before = [packing.place(node, position - 1) for node, position in places]
        tokens = [packing.place(node, position) for node, position in places]
        scores = selective_logprobs(self.model.backbone, states_TD[before], packing.ids_T[tokens])
        return -scores.logprobs_N.sum()


def reading_facts(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Tell from a training's log how many answers behind thoughts it read, and their share of the item loss."""
    read = [row for row in rows if "thought_readings" in row]
    if not read:
        return {"thought_readings": 0.0, "after_thought_share": 0.0}
    share = sum(row["after_thought_loss"] for row in read) / sum(row["loss"] for row in read)
    return {"thought_readings": read[-1]["thought_readings"], "after_thought_share": share}


def train_contrastive(
    model: R2ec, split: Split, options: ContrastiveOptions, run: Run, *, progress: Progress = no_progress
) -> Run:
    """Train a model in place, resuming from the run's folder if it holds a checkpoint.

    Args:
        model: an untrained model; afterwards it holds the weights of the best validation (or the last: `keep`).
        split: train and valid parts are used, test is not touched.
        options: how to train.
        run: the folder for checkpoints and the log.
        progress: how to show it.

    Raises:
        ThinkrankError: if there is nothing to train on.
    """
    return train(ContrastiveTrainer(model, split, options, run), progress)
