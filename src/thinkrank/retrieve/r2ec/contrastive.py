"""Contrastive training: R²ec without reinforcement learning.

Without thoughts it is the paper's no-reasoning ablation (section 4.3). With `thought_share` it is also a cold start of
thoughts: some sequences carry a thought that rules wrote from the history shown, and the language head learns to write
it while the item head learns to read it. Either is the warm start of RecPO.

Shape legend: P readouts of a batch, N candidate items, D width.
"""

import time
from collections.abc import Iterator
from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor

from thinkrank.data.splits import Split
from thinkrank.language import Packing, PrefixTree, packed_states, selective_logprobs
from thinkrank.policy import item_logprobs
from thinkrank.retrieve.r2ec.examples import Batch, Stretch, build_batch, endless_batches
from thinkrank.retrieve.r2ec.model import R2ec
from thinkrank.retrieve.r2ec.options import ContrastiveOptions
from thinkrank.retrieve.r2ec.trainer import RetrieverTrainer
from thinkrank.retrieve.r2ec.weights import prepare_head
from thinkrank.teachers.history_rules import RuleWriter
from thinkrank.training import Progress, Run, no_progress, train

_CENTRING_BATCHES = 8


class ContrastiveTrainer(RetrieverTrainer[ContrastiveOptions]):
    """One contrastive training in progress; see `RetrieverTrainer`."""

    def __init__(self, model: R2ec, split: Split, options: ContrastiveOptions, run: Run) -> None:
        super().__init__(model, split, options, run)
        self.histories = split.train_histories()
        self.writer = _writer(model, options)
        self.ways = (False,) if self.writer is None else (False, True)
        self._batches: Iterator[list[Stretch]] | None = None

    def prepare(self) -> None:
        """Prepare an untrained head from the states of the first batches."""
        if not self.model.head.is_prepared:
            batches = [self.render(batch) for batch in islice(self.batches(), _CENTRING_BATCHES)]
            with torch.no_grad():
                states = torch.cat([self.readouts(batch, self.states(batch)[1]) for batch in batches])
            prepare_head(self.model, self.split, states, torch.cat([batch.is_line_P for batch in batches]))

    def batches(self) -> Iterator[list[Stretch]]:
        """Yield the batches that are still to come."""
        ranges = self.split.train_ranges
        row_U = (ranges[:, 0] < ranges[:, 1]).cumsum() - 1  # users without training samples have no history here
        train = self.split.train
        places = train.positions - ranges[train.users, 0]
        return endless_batches(
            self.histories,
            list(zip(row_U[train.users].tolist(), places.tolist(), strict=True)),
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
        rendered = [self.render(batch) for batch in batches]
        readouts = sum(len(batch.targets_P) for batch in rendered)
        written = sum(len(tokens) for batch in rendered for _, tokens in batch.thoughts)
        losses = {"loss": 0.0, "thought_loss": 0.0}
        self.model.backbone.model.train()
        for batch in rendered:
            packing, states_TD = self.states(batch)
            item = self._loss(batch, states_TD) * (len(batch.targets_P) / readouts)
            thought = self._thought_loss(batch, packing, states_TD) / max(1, written)
            (item + options.thought_weight * thought).backward()
            losses["loss"] += item.item()
            losses["thought_loss"] += thought.item()
        self.model.backbone.model.eval()
        if not written:
            del losses["thought_loss"]
        norm = self.update()
        counters.step += 1
        counters.examples += readouts
        counters.tokens += sum(len(ids) for batch in rendered for ids in batch.sequences)
        counters.seconds += time.perf_counter() - started
        self.log(**losses, gradient_norm=norm, learning_rate=rate)
        return f"{counters.examples / counters.seconds:.0f} examples/s"

    def render(self, stretches: list[Stretch]) -> Batch:
        """Render some stretches as token sequences, and what they must predict."""
        return build_batch(self.model.prompts, self.histories, stretches, self.options, self.writer)

    def states(self, batch: Batch) -> tuple[Packing, Float[Tensor, "T D"]]:
        """Read a batch in one differentiable pass."""
        backbone = self.model.backbone
        packing = Packing(PrefixTree.rows(batch.sequences), backbone.device)
        return packing, packed_states(backbone, packing)

    def readouts(self, batch: Batch, states_TD: Float[Tensor, "T D"]) -> Float[Tensor, "P D"]:
        """Take the states that predict items; sequences stand behind one another."""
        lengths = torch.tensor([0, *(len(ids) for ids in batch.sequences[:-1])])
        places_P = lengths.cumsum(0)[batch.rows_P] + batch.columns_P
        return states_TD[places_P.to(states_TD.device)]

    def _loss(self, batch: Batch, states_TD: Float[Tensor, "T D"]) -> Float[Tensor, ""]:
        model, device = self.model, self.model.backbone.device
        users_PD = model.head.user_vectors(self.readouts(batch, states_TD), batch.is_line_P.to(device))
        targets_P, seen_PI = batch.targets_P.to(device), batch.seen_PI.to(device)
        if self.options.negatives == "in_batch":
            items_N, columns_P = targets_P.unique(return_inverse=True)  # one column per item masks duplicate targets
            items_ND = model.head.item_vectors(self.encode(items_N), items_N)
            scores_PN = model.head.scores(users_PD, items_ND, items_N)
            return -item_logprobs(scores_PN, columns_P, seen_PI[:, items_N]).mean()
        table_ID = model.states.rows_ID
        if self.options.live_items:
            distinct_N = targets_P.unique()
            drawn = torch.randperm(len(distinct_N))[: self.options.live_items]  # of the generator a checkpoint keeps
            live_N = distinct_N[drawn.sort().values.to(device)]
            table_ID = table_ID.index_copy(0, live_N, self.encode(live_N))
        scores_PI = model.head.scores(users_PD, model.head.item_vectors(table_ID))
        return -item_logprobs(scores_PI, targets_P, seen_PI).mean()

    def _thought_loss(self, batch: Batch, packing: Packing, states_TD: Float[Tensor, "T D"]) -> Float[Tensor, ""]:
        """Sum of the negative log-likelihoods of the thoughts that rules wrote, closings included."""
        places = [packing.offsets[row] + column for row, columns in batch.thoughts for column in columns]
        if not places:
            return states_TD.new_zeros(())
        tokens_N = torch.tensor(places, device=states_TD.device)
        scores = selective_logprobs(self.model.backbone, states_TD[tokens_N - 1], packing.ids_T[tokens_N])
        return -scores.logprobs_N.sum()


def _writer(model: R2ec, options: ContrastiveOptions) -> RuleWriter | None:
    if not options.thought_share:
        return None
    return RuleWriter(model.catalogue, forms=options.thought_forms, noun=model.config.prompt.noun)


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
