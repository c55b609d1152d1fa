"""Training of networks that order lists: passes over the displayed lists, stopped when validation no longer improves.

Shape legend: I items, E width of given item vectors.
"""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from thinkrank.data.impressions import ImpressionDataset, ImpressionSplit
from thinkrank.errors import ThinkrankError
from thinkrank.rerank.lists import ListEncoder, list_ndcg, training_batches
from thinkrank.rerank.network import NetworkOptions, NetworkReranker, network_scores
from thinkrank.training import Progress, Run, Trainer, UnsavedRun, no_progress, train
from thinkrank.training.options import TrainerOptions

PLACES = 10
"""The cut-off of the validation's NDCG."""


def train_network(
    model: NetworkReranker[Any],
    data: ImpressionDataset | ImpressionSplit,
    *,
    item_vectors_IE: Float[Tensor, "I E"] | None = None,
    run: Run | None = None,
    progress: Progress = no_progress,
) -> Run:
    """Train a network from fresh weights, or resume what the run's folder holds, and let the model answer with it.

    Lists without feedback teach list-wise losses nothing and are passed over by them. Equal seeds give equal weights on
    one CPU process, and torch's global generator is left as it was.

    Args:
        model: what is trained, by its own options.
        data: lists to learn from; of a split train and valid are used, and the weights of the best epoch kept.
        item_vectors_IE: as for `ListEncoder`.
        run: keeps checkpoints and the log; None for a log in memory.
        progress: how to show the epochs.

    Returns:
        The run, whose log has ``valid_ndcg@10`` of each epoch if there are validation lists.

    Raises:
        ThinkrankError: if no training list has feedback.
    """
    train_lists, valid = (data.train, data.valid) if isinstance(data, ImpressionSplit) else (data, None)
    if not (train_lists.feedback(model.config.signal) > 0).any():
        raise ThinkrankError(f"{train_lists.name}: no training list has feedback, so there is nothing to learn")
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        trainer = NetworkTrainer(model, train_lists, valid, item_vectors_IE, UnsavedRun() if run is None else run)
        return train(trainer, progress)


class NetworkTrainer(Trainer[TrainerOptions]):
    """Train a network; a step is an epoch. Of equally good epochs the last is kept.

    The epoch is chosen by `valid`; if that is None or empty, the last one is kept. The rest is as for `train_network`.
    """

    betas = (0.9, 0.999)
    validates_first = False

    def __init__(
        self,
        model: NetworkReranker[Any],
        train_lists: ImpressionDataset,
        valid: ImpressionDataset | None,
        item_vectors_IE: Float[Tensor, "I E"] | None,
        run: Run,
    ) -> None:
        config: NetworkOptions = model.config
        self.model, self.train_lists, self.valid, self.config = model, train_lists, valid, config
        self.encoder_parts = (train_lists, config.lists, item_vectors_IE)
        self.network = self._fresh()
        self.order = torch.Generator().manual_seed(config.seed)
        parameters = list(self.network.parameters())
        options = TrainerOptions(
            steps=config.max_epochs,
            learning_rate=config.learning_rate,
            warmup_steps=0,
            schedule="constant",
            weight_decay=config.weight_decay,
            grad_clip=config.clip,
            validate_every=1,
            patience=config.patience,
            checkpoint_every=1,
            seed=config.seed,
        )
        group = {"params": parameters, "lr": options.learning_rate, "weight_decay": options.weight_decay}
        super().__init__([group], parameters, options, run)

    def _fresh(self) -> Any:
        return self.model.build(ListEncoder.of(*self.encoder_parts)).to(self.model.device)

    def prepare(self) -> None:
        """Draw the weights, first of all that is drawn from the seed."""
        self.network.load_state_dict(self._fresh().state_dict())

    def step(self) -> str:
        """Learn from every training list once."""
        started, counters, config = time.perf_counter(), self.counters, self.config
        rate, total, count = self.learning_rate(), 0.0, 0
        self.network.train()
        for batch in training_batches(
            self.train_lists, config.batch_size, self.order, signal=config.signal, max_history=config.lists.max_history
        ):
            part, weight = batch.take(self.world.share(len(batch))), 1.0
            if not len(part):
                part, weight = batch.take(slice(1)), 0.0
            with self.apart():
                loss = self.network.loss(part.to(self.model.device))
            loss = loss * (weight * self.world.fraction(weight * self.network.count(part)))
            loss.backward()
            self.update()
            total, count = total + loss.item(), count + 1
        total = self.world.total(total)
        counters.step += 1
        counters.examples += len(self.train_lists)
        counters.seconds += time.perf_counter() - started
        self.log(loss=total / count, learning_rate=rate)
        return f"loss {total / count:.4f}"

    def measure(self) -> dict[str, Any]:
        """Return NDCG@10 on the validation lists, by the gain of the tables."""
        valid, config = self.valid, self.config
        if valid is None or not len(valid):
            return {}
        scores_BN = network_scores(self.network.eval(), valid.requests, valid.candidates, config, self.model.device)
        columns_BN = np.argsort(-scores_BN, axis=1, kind="stable")
        value = float(list_ndcg(columns_BN, valid.feedback(config.signal), PLACES).mean())
        if value == self.counters.best:
            self.best = {name: tensor.clone() for name, tensor in self.weights().items()}
        return {f"valid_ndcg@{PLACES}": value}

    def weights(self) -> dict[str, Tensor]:
        """Return everything training changes, as live tensors."""
        return {name: tensor.detach() for name, tensor in self.network.state_dict().items()}

    def set_weights(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy what `weights` returned back."""
        self.network.load_state_dict(tensors)

    def extra_tensors(self) -> dict[str, Tensor]:
        """Return the state of what draws the order."""
        return {"order": self.order.get_state()}

    def restore_extra(self, tensors: dict[str, Tensor]) -> None:
        """Go on drawing the order from where it was."""
        self.order.set_state(tensors["order"])

    def finish(self) -> None:
        """Let the model answer with the network."""
        self.model.install(self.network, self.train_lists.catalogue)
