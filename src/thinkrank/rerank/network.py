"""What the trained orders share: an encoder, a trainer with early stopping, and a way to disk and back.

Shape legend: B lists of a batch, L lists, N candidates, I items, E width of given item vectors, D width, J = 2 D.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Float32
from pydantic import Field
from safetensors.numpy import save
from torch import Tensor, nn

from thinkrank._files import atomic_write
from thinkrank.data import ImpressionDataset, ImpressionSplit
from thinkrank.devices import named_device
from thinkrank.errors import ThinkrankError
from thinkrank.options import Options
from thinkrank.rerank.lists import ListBatch, ListEncoder, ListEncoderOptions, ListSchema, batches, ndcg
from thinkrank.retrieve.base import ARRAYS_FILE, CONFIG_FILE, read_saved
from thinkrank.stages.answers import Slate
from thinkrank.stages.order import slate_from_scores
from thinkrank.training import Progress, no_progress

_VECTORS = "encoder.item_vectors_IE"
_SCORED_AT_ONCE = 256


class ListTraining(Options):
    """Options that every trained order has."""

    lists: ListEncoderOptions = Field(ListEncoderOptions(), description="what is looked at")
    signal: str | None = Field(None, description="the feedback to learn; none: the first of the data set")
    learning_rate: float = Field(1e-3, gt=0, description="AdamW's, constant")
    weight_decay: float = Field(1e-2, ge=0, description="AdamW's, on everything")
    clip: float = Field(1.0, gt=0, description="longest gradient that is followed in full")
    batch_size: int = Field(64, ge=1, description="lists per update")
    max_epochs: int = Field(30, ge=1, description="most passes over the training lists")
    patience: int = Field(3, ge=1, description="stop after this many epochs without a better validation NDCG@10")
    seed: int = Field(0, ge=0, description="of the initial weights, the order and dropout")


class ListNetwork(nn.Module, ABC):
    """A network that scores the candidates of lists.

    Args:
        encoder: gives the vectors of candidates and users.
    """

    def __init__(self, encoder: ListEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    @abstractmethod
    def scores(self, batch: ListBatch) -> Float[Tensor, "B N"]:
        """Higher is better; anything beside padding."""

    @abstractmethod
    def loss(self, batch: ListBatch) -> Float[Tensor, ""]:
        """What training makes small."""

    def joint(self, batch: ListBatch) -> Float[Tensor, "B N J"]:
        """Each candidate's vector beside that of the list's user."""
        candidates_BND, users_BD = self.encoder(batch)
        return torch.cat([candidates_BND, users_BD[:, None].expand_as(candidates_BND)], dim=2)


OptionsT = TypeVar("OptionsT", bound=ListTraining)
ModelT = TypeVar("ModelT", bound="ListBaseline[Any]")  # typing.Self, which the shape checks of the tests cannot read


class ListBaseline(ABC, Generic[OptionsT]):
    """A trained order of lists. It satisfies `thinkrank.stages.Reranker`.

    Lists without feedback teach list-wise losses nothing and are passed over by them. A list with one candidate is
    answered with it. Equal seeds give equal weights on one CPU process.

    Args:
        config: its options; None for the defaults.
        device: auto, cpu, cuda, cuda:1 or mps: where it trains and scores.

    Attributes:
        validations: NDCG@10 on the validation lists after each epoch of the last fit; empty if there were none.
    """

    config_class: type[OptionsT]

    def __init__(self, config: OptionsT | None = None, *, device: str = "auto") -> None:
        self.config: OptionsT = self.config_class() if config is None else config
        self.device = named_device(device)
        self.validations: list[float] = []
        self._network: ListNetwork | None = None

    @abstractmethod
    def build(self, encoder: ListEncoder) -> ListNetwork:
        """A network with fresh weights."""

    @property
    def network(self) -> ListNetwork:
        """The trained network.

        Raises:
            ThinkrankError: if nothing was learnt yet.
        """
        if self._network is None:
            raise ThinkrankError(f"this {type(self).__name__} has learnt nothing yet: call fit first")
        return self._network

    def fit(
        self: ModelT,
        data: ImpressionDataset | ImpressionSplit,
        *,
        item_vectors_IE: Float[Tensor, "I E"] | None = None,
        progress: Progress = no_progress,
    ) -> ModelT:
        """Train from fresh weights, and return self.

        Args:
            data: lists to learn from; of a split train and valid are used, and the weights of the best epoch kept.
            item_vectors_IE: as for `ListEncoder`.
            progress: how to show the epochs.

        Raises:
            ThinkrankError: if no training list has feedback.
        """
        train, valid = (data.train, data.valid) if isinstance(data, ImpressionSplit) else (data, None)
        if not (train.feedback(self.config.signal) > 0).any():
            raise ThinkrankError(f"{train.name}: no training list has feedback, so there is nothing to learn")
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(self.config.seed)
            network = self.build(ListEncoder.of(train, self.config.lists, item_vectors_IE)).to(self.device)
            self.validations = _train(network, train, valid, self.config, self.device, progress)
        self._network = network.eval()
        return self

    def scores(self, lists: ImpressionDataset) -> Float32[np.ndarray, "L N"]:
        """Score every candidate of every list; higher is better, -inf for padding.

        Raises:
            ThinkrankError: if nothing was learnt yet, or the lists have other columns than those it learnt from.
        """
        return _scores(self.network, lists, self.config, self.device)

    def rerank(self, lists: ImpressionDataset, k: int) -> Slate:
        """Answer each list with its k best candidates; raises as `scores` does."""
        return slate_from_scores(lists, self.scores(lists), k)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json`, `lists.json` and `model.safetensors` into a folder, made if need be."""
        arrays = {
            name: np.ascontiguousarray(weight.cpu().numpy()) for name, weight in self.network.state_dict().items()
        }
        folder = Path(folder)
        with atomic_write(folder / ARRAYS_FILE) as file:
            file.write(save(arrays))
        with atomic_write(folder / "lists.json") as file:
            file.write(self.network.encoder.schema.model_dump_json(indent=1).encode() + b"\n")
        with atomic_write(folder / CONFIG_FILE) as file:
            file.write(self.config.model_dump_json(indent=1).encode() + b"\n")

    @classmethod
    def from_pretrained(cls: type[ModelT], folder: str | Path, *, device: str = "auto") -> ModelT:
        """Read a model back.

        Raises:
            ThinkrankError: if a file is missing, unreadable, or of another kind or shape of model.
        """
        folder = Path(folder)
        config, arrays = read_saved(folder, cls.config_class, cls.__name__)
        model = cls(config, device=device)
        weights = {name: torch.from_numpy(array) for name, array in arrays.items()}
        try:
            schema = ListSchema.model_validate_json((folder / "lists.json").read_bytes())
            with torch.random.fork_rng(devices=[]):  # fresh weights are drawn only to be replaced
                network = model.build(ListEncoder(schema, config.lists, weights.get(_VECTORS)))
            network.load_state_dict(weights)
        except (OSError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ThinkrankError(f"{folder}: the saved files do not fit each other: {reason}") from error
        model._network = network.to(model.device).eval()
        return model


def _train(
    network: ListNetwork,
    train: ImpressionDataset,
    valid: ImpressionDataset | None,
    options: ListTraining,
    device: torch.device,
    progress: Progress,
) -> list[float]:
    """Train in place; with validation lists the weights of the best epoch are kept. NDCG@10 after each epoch."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay)
    order = torch.Generator().manual_seed(options.seed)
    validations: list[float] = []
    best: dict[str, Tensor] = {}
    with progress("training", options.max_epochs) as advance:
        for _ in range(options.max_epochs):
            network.train()
            for batch in batches(
                train, options.batch_size, order, signal=options.signal, max_history=options.lists.max_history
            ):
                optimizer.zero_grad()
                network.loss(batch.to(device)).backward()
                nn.utils.clip_grad_norm_(network.parameters(), options.clip)
                optimizer.step()
            if valid is None or not len(valid):
                advance(1)
                continue
            validations.append(_validate(network.eval(), valid, options, device))
            advance(1, note=f"NDCG@10 {validations[-1]:.4f}")
            if validations[-1] == max(validations):
                best = {name: weight.detach().clone() for name, weight in network.state_dict().items()}
            if len(validations) - 1 - int(np.argmax(validations)) >= options.patience:
                break
    if best:
        network.load_state_dict(best)
    return validations


def _validate(network: ListNetwork, valid: ImpressionDataset, options: ListTraining, device: torch.device) -> float:
    scores_LN = torch.from_numpy(_scores(network, valid, options, device))
    feedback_LN = torch.from_numpy(valid.feedback(options.signal).copy())
    return float(ndcg(scores_LN, feedback_LN, torch.from_numpy(valid.mask_LN), 10).mean())


@torch.no_grad()
def _scores(
    network: ListNetwork, lists: ImpressionDataset, options: ListTraining, device: torch.device
) -> Float32[np.ndarray, "L N"]:
    scores_LN = np.full(lists.items_LN.shape, -np.inf, dtype=np.float32)
    reader = network.encoder.schema.reader(lists)
    for batch in batches(lists, _SCORED_AT_ONCE, max_history=options.lists.max_history):
        scores_BN = network.scores(reader(batch).to(device)).masked_fill(~batch.mask_BN.to(device), -torch.inf)
        scores_LN[batch.indices_B.numpy(), : scores_BN.shape[1]] = scores_BN.float().cpu().numpy()
    return scores_LN
