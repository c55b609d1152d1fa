"""What every training of EGLR shares: which lists come next, and validation on the newest ones.

Shape legend: B lists of a step, V validation lists, M lists worth a step, R lists, K places, N candidates.
"""

import time
from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float64, Int, Int64
from torch import Tensor, nn

from thinkrank.data.impressions import ImpressionDataset, ImpressionSplit
from thinkrank.distributed.world import normalised_together
from thinkrank.errors import ThinkrankError
from thinkrank.rerank.eglr.model import EGLR
from thinkrank.rerank.eglr.options import ListTrainerOptions
from thinkrank.rerank.lists import TrainingBatch, list_ndcg, list_reciprocal_rank, training_batch
from thinkrank.training import Run, Trainer

_VALIDATED_AT_ONCE = 512

OptionsT = TypeVar("OptionsT", bound=ListTrainerOptions)


class ListTrainer(Trainer[OptionsT]):
    """Train a part of EGLR on lists.

    `module` is the part whose weights change; the rest is as for `train_eglr`.

    Raises:
        ThinkrankError: if the lists have other columns than the model's, or a part has no lists.
    """

    def __init__(self, model: EGLR, module: nn.Module, split: ImpressionSplit, options: OptionsT, run: Run) -> None:
        for name, part in (("train", split.train), ("valid", split.valid)):
            if not len(part):
                raise ThinkrankError(f"{part.name}: the {name} part has no lists; choose other shares of the split")
        parameters = list(module.parameters())
        groups = [{"params": parameters, "lr": options.learning_rate, "weight_decay": options.weight_decay}]
        super().__init__(groups, parameters, options, run)
        self.model, self.module, self.split = model, module, split
        self._train_reader, self._valid_reader = (
            model.schema.reader(part.requests, part.candidates) for part in (split.train, split.valid)
        )

    @abstractmethod
    def learn(self, batch: TrainingBatch) -> dict[str, Any]:
        """Make one step from this process's training lists and return what to log of it; its first value is shown."""

    @abstractmethod
    def judge(self) -> dict[str, Any]:
        """Measure on the validation lists, without gradient and dropout; the first value is better if higher."""

    def trainable(self, train: ImpressionDataset) -> Int64[np.ndarray, "M"]:
        """Say which lists are worth a step."""
        return np.arange(len(train))

    def step(self) -> str:
        """Learn from the lists of this step."""
        started, counters = time.perf_counter(), self.counters
        rate = self.learning_rate()
        batch = self.batch(counters.step)
        mine = self.world.share(self.world.required(len(batch), "the number of lists in a step, batch_size,"))
        with self.apart(), normalised_together(self.module, self.world):
            row = self.learn(batch.take(mine).to(self.model.device))
        counters.step += 1
        counters.examples += len(batch)
        counters.seconds += time.perf_counter() - started
        self.log(**row, learning_rate=rate)
        name, value = next(iter(row.items()))
        return f"{name} {value:.4f}"

    def measure(self) -> dict[str, Any]:
        """Judge the present weights."""
        was_training = self.module.training
        self.module.eval()
        with torch.no_grad():
            row = self.judge()
        self.module.train(was_training)
        return row

    def finish(self) -> None:
        """Leave the module ready to answer."""
        self.module.eval()

    def batch(self, step: int) -> TrainingBatch:
        """Return the training lists of a step. Each pass over all of them has its own order, drawn from the seed."""
        lists_M, size = self._trainable, self.options.batch_size
        per_pass = max(1, len(lists_M) // size)
        order = np.random.default_rng([self.options.seed, step // per_pass]).permutation(lists_M)
        start = step % per_pass * size
        return self._train_reader(self._batch(self.split.train, order[start : start + size]))

    @cached_property
    def _trainable(self) -> Int64[np.ndarray, "M"]:
        lists_M = self.trainable(self.split.train)
        if not len(lists_M):
            raise ThinkrankError(f"{self.split.train.name}: no training list has feedback to learn from")
        return lists_M

    @cached_property
    def validation(self) -> list[TrainingBatch]:
        """Return the newest validation lists."""
        valid, count = self.split.valid, self.options.validation_lists
        newest_V = np.sort(np.argsort(valid.times_L, kind="stable")[-count:])
        starts = range(0, len(newest_V), _VALIDATED_AT_ONCE)
        parts = [self._batch(valid, newest_V[s : s + _VALIDATED_AT_ONCE]) for s in starts]
        return [self._valid_reader(part).to(self.model.device) for part in parts]

    @cached_property
    def validation_users(self) -> Int64[Tensor, "V"]:
        """Return whose each of these lists is, known to the model or not."""
        lists_V = torch.cat([batch.indices_B for batch in self.validation]).cpu().numpy()
        return torch.from_numpy(self.split.valid.users_L[lists_V].astype(np.int64))

    def _batch(self, part: ImpressionDataset, indices_B: Int64[np.ndarray, "B"]) -> TrainingBatch:
        return training_batch(
            part, indices_B, signal=self.options.signal, max_history=self.model.config.lists.max_history
        )

    def random(self) -> torch.Generator:
        """Make chance for the draws of the present step, from nothing but the seed and the step."""
        seed = np.random.SeedSequence([self.options.seed, self.counters.step]).generate_state(1, np.uint64)[0]
        return torch.Generator().manual_seed(int(seed >> np.uint64(1)))

    def descend(self, loss: Tensor) -> float:
        """Go down the gradient of a loss; returns the gradient's norm before clipping."""
        loss.backward()
        return self.update()

    def weights(self) -> dict[str, Tensor]:
        """Return everything training changes, as live tensors."""
        return {name: tensor.detach() for name, tensor in self.module.state_dict().items()}

    def set_weights(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy what `weights` returned back."""
        self.module.load_state_dict(tensors)


def click_metrics(
    columns_RK: Int[Tensor, "R K"], batch: TrainingBatch, length: int
) -> tuple[Float64[np.ndarray, "R"], Float64[np.ndarray, "R"]]:
    """Return NDCG and reciprocal rank of written lists, by the feedback on the displayed ones."""
    columns, feedback_RN = columns_RK.cpu().numpy(), batch.feedback_BN.cpu().numpy()
    return list_ndcg(columns, feedback_RN, length), list_reciprocal_rank(columns, feedback_RN)
