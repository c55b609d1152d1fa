"""Training of sequential networks: passes over all training events, stopped when validation no longer improves.

Memory: a few arrays of 4 * P * I bytes, P up to `batch_size` times `max_length` predictions (9 MB each for 1,280
predictions and 1,682 items).

Shape legend: B rows, T places, P predictions of a batch, I items, N negatives, W events of a window.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor
from torch.nn import functional

from thinkrank.data.dataset import Dataset
from thinkrank.data.history import History
from thinkrank.data.interactions import all_items, catalogue_of, training_histories
from thinkrank.data.splits import Split
from thinkrank.errors import ThinkrankError
from thinkrank.policy import ndcg_reward
from thinkrank.retrieve.sequential.model import Sequential, SequentialEncoder, fill_up
from thinkrank.training import Progress, Run, Trainer, TrainerOptions, UnsavedRun, no_progress, train
from thinkrank.training.row_adam import RowAdam


def train_sequential(
    model: Sequential[Any], data: Dataset | Split, *, run: Run | None = None, progress: Progress = no_progress
) -> Run:
    """Train a model in place from fresh weights, or resume what the run's folder holds.

    Given a split with validation samples, training stops early and the weights of the best validation are kept; a whole
    data set is passed over for all of `max_epochs`. Equal seeds give equal weights on one CPU process; GPUs sum in
    another order each time. Torch's global random state is left as it was.

    Args:
        model: what is trained, by its own options.
        data: a whole data set, or a split; of it train and valid are used, test is not touched.
        run: the folder for checkpoints and the log; None for a log in memory.
        progress: how to show the epochs.

    Returns:
        The run, whose log has the loss of each epoch, and ``valid_ndcg@10`` if there are validation samples.

    Raises:
        ThinkrankError: if no user has two training events, one after the other.
    """
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        return train(SequentialTrainer(model, data, UnsavedRun() if run is None else run), progress)


class SequentialTrainer(Trainer[TrainerOptions]):
    """One training in progress; a step is an epoch.

    Args:
        model: trained in place.
        data: as for `train_sequential`.
        run: the folder for checkpoints and the log.
    """

    betas = (0.9, 0.98)  # SASRec's released code
    validates_first = False

    def __init__(self, model: Sequential[Any], data: Dataset | Split, run: Run) -> None:
        self.model, self.config, self.title = model, model.config, f"training {model.title}"
        self.histories, self.catalogue = training_histories(data), catalogue_of(data)
        if self.config.train_in_file_order:
            self.histories = [replace(history, tied=None) for history in self.histories]
        if not any((history.reads >= 0).any() for history in self.histories):
            raise ThinkrankError(
                f"{model.title} learns what comes next, and no user has two training interactions, one after the other"
            )
        counts_I = np.bincount(all_items(self.histories), minlength=len(self.catalogue))
        self.counts_I = counts_I.astype(np.float32)
        config = self.config
        self.validation = data.valid.subset(config.validation_samples, config.seed) if isinstance(data, Split) else None
        self.generator = np.random.default_rng(config.seed)
        self.negatives = None if config.negatives is None else Negatives(counts_I, config.negatives)
        self.encoder = model.new_encoder(len(self.catalogue))
        model.install(self.encoder, self.catalogue, self.counts_I)
        options = TrainerOptions(
            steps=config.max_epochs,
            learning_rate=config.learning_rate,
            warmup_steps=0,
            schedule="constant",
            weight_decay=config.weight_decay,
            grad_clip=math.inf,  # of all weights, so rows that `row_updates` steps on their own lose no clipping
            validate_every=1,
            patience=config.patience,
            checkpoint_every=1,
            max_minutes=config.max_minutes,
            seed=config.seed,
        )
        table = self.encoder.items.weight if config.row_updates else None
        self.encoder.items.sparse = config.row_updates
        self.rows = None if table is None else RowAdam(table, self.betas)
        parameters = [parameter for parameter in self.encoder.parameters() if parameter is not table]
        group = {"params": parameters, "lr": config.learning_rate, "weight_decay": config.weight_decay}
        super().__init__([group], parameters, options, run)

    def prepare(self) -> None:
        """Draw the weights, first of all that is drawn from the seed."""
        self.encoder.load_state_dict(self.model.new_encoder(len(self.catalogue)).state_dict())

    def step(self) -> str:
        """Pass once over every training event, in random order."""
        started, counters, size = time.perf_counter(), self.counters, self.config.batch_size
        rows = [row for past in self.histories for row in windows(past, self.config.max_length, self.generator)]
        order = self.generator.permutation(len(rows))
        rate, total, count = self.learning_rate(), 0.0, 0
        self.encoder.train()
        for start in range(0, len(order), size):
            chosen = [rows[index] for index in order[start : start + size]]
            predictions = sum(len(row.targets_P) for row in chosen)
            mine, weight = self.world.part(chosen)
            items_BT, _ = fill_up([row.items_W for row in mine])
            drawn = None if self.negatives is None else self.negatives.draw(self.generator)
            with self.apart():
                loss = next_item_loss(self.encoder, items_BT.to(self.encoder.device), *readouts(mine), drawn)
            loss = loss * (weight * sum(len(row.targets_P) for row in mine) / predictions)
            loss.backward()
            self.update()
            total, count = total + loss.item() * predictions, count + predictions
        self.encoder.eval()
        total = self.world.total(total)
        counters.step += 1
        counters.examples += count
        counters.seconds += time.perf_counter() - started
        self.log(loss=total / count, learning_rate=rate)
        return f"loss {total / count:.3f}"

    def update(self) -> float:
        """Step the optimiser, and the embeddings of the items in this update where they have one of their own."""
        norm = super().update()
        if self.rows is not None:
            self.world.sum_rows_(self.rows.table)
            self.rows.step(self.optimizer.param_groups[0]["lr"])
        return norm

    def measure(self) -> dict[str, Any]:
        """Return NDCG@10 on the validation samples over the whole catalogue, seen items left out unless data repeat."""
        if not self.validation:
            return {}
        ranks_S = self.model.target_ranks(
            self.validation.requests(), self.validation.targets, filter_seen=not self.validation.dataset.repeats
        )
        places = min(10, len(self.catalogue))  # what is left out stands behind the last
        return {"valid_ndcg@10": ndcg_reward(torch.from_numpy(ranks_S), places).mean().item()}

    def weights(self) -> dict[str, Tensor]:
        """Return everything training changes, as live tensors."""
        return {name: tensor.detach() for name, tensor in self.encoder.state_dict().items()}

    def set_weights(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy what `weights` returned back."""
        self.encoder.load_state_dict(tensors)

    def extra_tensors(self) -> dict[str, Tensor]:
        """Return the moments of the embeddings that have an optimiser of their own."""
        return {} if self.rows is None else self.rows.tensors()

    def restore_extra(self, tensors: dict[str, Tensor]) -> None:
        """Take these moments back."""
        if self.rows is not None:
            self.rows.restore(tensors)

    def extra_state(self) -> dict[str, Any]:
        """Return the state of what draws windows and order."""
        return {"generator": self.generator.bit_generator.state}

    def restore_state(self, state: dict[str, Any]) -> None:
        """Go on drawing from where it was."""
        self.generator.bit_generator.state = state["generator"]

    def finish(self) -> None:
        """Let the model answer with the final weights."""
        self.model.install(self.encoder, self.catalogue, self.counts_I)


@dataclass(frozen=True)
class Window:
    """Hold a part of a history to read, and what to predict from it.

    Attributes:
        items_W: catalogue rows, oldest first.
        reads_P: the place in it after which each target is predicted.
        targets_P: catalogue rows.
    """

    items_W: Int[np.ndarray, "W"]
    reads_P: Int[np.ndarray, "P"]
    targets_P: Int[np.ndarray, "P"]


def readouts(windows: Sequence[Window]) -> tuple[Int[Tensor, "P"], Int[Tensor, "P"], Int[Tensor, "P"]]:
    """Join what windows predict: the row each prediction is read in, the place, and the target."""
    rows_P = np.repeat(np.arange(len(windows)), [len(window.targets_P) for window in windows])
    reads_P = np.concatenate([window.reads_P for window in windows])
    targets_P = np.concatenate([window.targets_P for window in windows]).astype(np.int64)
    return torch.from_numpy(rows_P), torch.from_numpy(reads_P), torch.from_numpy(targets_P)


class Negatives:
    """Draw what targets compete with: half of it by how often training saw an item, half from all items alike.

    Args:
        counts_I: training events of each item.
        n: how many are drawn for an update, with replacement.

    Source: Yang et al. 2020 (mixed negative sampling); the halves are ours.
    """

    def __init__(self, counts_I: Int[np.ndarray, "I"], n: int) -> None:
        self.shares_I = (counts_I / counts_I.sum() + 1 / len(counts_I)) / 2
        self._ends_I, self._n = self.shares_I.cumsum(), n

    def draw(self, generator: np.random.Generator) -> tuple[Int[Tensor, "N"], Float32[Tensor, "N"]]:
        """Return items, and the log of how often each is drawn on average: n times its share."""
        items_N = np.searchsorted(self._ends_I, generator.random(self._n) * self._ends_I[-1], side="right")
        return torch.from_numpy(items_N), torch.from_numpy(np.log(self._n * self.shares_I[items_N])).float()


def next_item_loss(
    encoder: SequentialEncoder,
    items_BT: Int[Tensor, "B T"],
    rows_P: Int[Tensor, "P"],
    places_P: Int[Tensor, "P"],
    targets_P: Int[Tensor, "P"],
    drawn: tuple[Int[Tensor, "N"], Float32[Tensor, "N"]] | None = None,
) -> Float[Tensor, ""]:
    """Compute the mean cross-entropy, in nats, of targets against the whole catalogue, or against drawn items.

    L = -(1/P) Σ_p log( exp(h_p · e_target) / Z_p ),  Z_p = Σ_i exp(h_p · e_i)

    Of drawn items, each counts by how often it is drawn on average (the logQ correction), so that what stands for Z_p
    is right in the mean: exp(h_p · e_target) + Σ_n exp(h_p · e_n - log q_n), but for draws of the target itself.

    Args:
        encoder: gives the states h and the embeddings e.
        items_BT: catalogue rows, oldest first, filled up on the right with any row.
        rows_P: the row that each prediction is read in;
        places_P: the place there, after which nothing is known; P is at least 1.
        targets_P: the row that came next.
        drawn: items, and the log of how often each is drawn on average; None for the whole catalogue.

    Source: Klenitskiy & Vasilev 2023 (their SASRec with cross-entropy); Bengio & Senécal 2008 for the correction.
    """
    device = items_BT.device
    states_PD, targets_P = encoder(items_BT)[rows_P.to(device), places_P.to(device)], targets_P.to(device)
    if drawn is None:
        return functional.cross_entropy(encoder.item_scores(states_PD), targets_P)
    items_N, log_q_N = drawn[0].to(device), drawn[1].to(device)
    target_P1 = (states_PD * encoder.items(targets_P)).sum(dim=1, keepdim=True)
    scores_PN = states_PD @ encoder.items(items_N).T - log_q_N
    scores_PN = scores_PN.masked_fill(items_N == targets_P[:, None], -torch.inf)
    return -torch.cat([target_P1, scores_PN], dim=1).log_softmax(dim=1)[:, 0].mean()


def windows(history: History, max_length: int, generator: np.random.Generator) -> Iterator[Window]:
    """Cut a history so that each event is predicted exactly once, from at most `max_length` earlier ones.

    An event is predicted after the newest that is earlier (`History.reads`): those of one day together, after the end
    of the day before, where ties are ``strict``. Events before which there is nothing are not predicted. A history
    that is longer is cut at a random first place and then every `max_length` events.

    Args:
        history: oldest first; fewer than two events give no window.
        max_length: W is at most this.
        generator: decides the first place.
    """
    last = len(history) - 1
    start, end = 0, last if last <= max_length else int(generator.integers(1, max_length + 1))
    while start < last:
        predicted_P = np.flatnonzero((history.reads >= start) & (history.reads < end))
        if len(predicted_P):
            yield Window(history.items[start:end], history.reads[predicted_P] - start, history.items[predicted_P])
        start, end = end, min(end + max_length, last)
