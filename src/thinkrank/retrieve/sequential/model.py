"""What networks that read a history in order share: options of their training, the way from a history to scores.

A network of this kind reads items, oldest first, and has a state after each; scores are the products of the newest
state with the table of item embeddings that the input is read from. What they have in common:

- positions count from the oldest item shown, and shorter rows are filled up on the right, where nothing of it is seen
  from the left. So every prefix of a history is read alike, in training and in answering, and in any company;
- items that training never saw are left out of a history. Nothing was learnt about them as a past.

Shape legend: B requests (rows), T places, P predictions of a batch, I items, D width.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from thinkrank.data.catalogue import Catalogue
from thinkrank.devices import named_device
from thinkrank.options import Options
from thinkrank.retrieve.base import DenseRetriever
from thinkrank.retrieve.item_table import ItemTable

_COUNTS = "counts_I"
_READ_AT_ONCE = 256


class SequentialOptions(Options):
    """Hold the options that every network of this kind has, and how it is trained."""

    width: int = Field(256, ge=1, description="width of item embeddings and states")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.3, description="dropout of embeddings and inside the network"
    )
    max_length: int = Field(20, ge=1, description="how many items of a history are read, the newest")
    train_in_file_order: bool = Field(
        False,
        description="predict each event of training from all before it in the file, those at its own time as well, "
        "whatever histories hold when questions are asked",
    )
    negatives: int | None = Field(
        None,
        ge=1,
        description="items drawn for each update that targets compete with, corrected for how they are drawn; without "
        "it the whole catalogue competes",
    )
    row_updates: bool = Field(
        False,
        description="an update changes the embeddings of the items in it alone, each by an Adam that counts the item's "
        "own updates, and no other item has optimiser state: for large catalogues, with negatives and no weight decay",
    )
    learning_rate: float = Field(1e-3, gt=0, description="constant learning rate of AdamW")
    weight_decay: float = Field(0.0, ge=0, description="weight decay of AdamW, on all weights")
    batch_size: int = Field(64, ge=1, description="windows of history per update")
    max_epochs: int = Field(100, ge=1, description="most passes over the training events")
    max_minutes: float | None = Field(
        None, gt=0, description="stop early at this training time; such a run is not reproducible bit for bit"
    )
    patience: int = Field(5, ge=1, description="stop after this many epochs without a better validation NDCG@10")
    validation_samples: int = Field(2000, ge=1, description="validation samples, drawn once by the seed")
    seed: int = Field(
        0, ge=0, description="seed of the initial weights, the order, the windows, dropout and the drawn samples"
    )

    @model_validator(mode="after")
    def _touches_few_rows(self) -> "SequentialOptions":
        if self.row_updates and (self.negatives is None or self.weight_decay):
            raise ValueError(
                "row_updates needs negatives, and weight_decay = 0: all items as negatives, or decay, touch every row"
            )
        return self


class SequentialEncoder(nn.Module, ABC):
    """Network from the items of a history to a state after each, which has seen that item and those before.

    Args:
        num_items: size I of the catalogue.
        width: D.
        max_length: how many items can be read.
    """

    def __init__(self, num_items: int, width: int, max_length: int) -> None:
        super().__init__()
        self.items = nn.Embedding(num_items, width)
        self.max_length = max_length

    @property
    def device(self) -> torch.device:
        """Return where the weights are."""
        return self.items.weight.device

    @abstractmethod
    def forward(self, items_BT: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        """Read items, oldest first. What stands at a later place changes nothing at an earlier one."""

    def item_scores(self, states_PD: Float[Tensor, "P D"]) -> Float[Tensor, "P I"]:
        """Multiply with every item's embedding, the same table that the input is read from."""
        return states_PD @ self.items.weight.T


OptionsT = TypeVar("OptionsT", bound=SequentialOptions)


class Sequential(DenseRetriever[OptionsT]):
    """Retriever that scores all items by the network's newest state.

    A history without an item that training saw, so an empty one too, is answered with the popularity order. A repeated
    item is read as often as it occurs. `train_sequential` trains it.

    Args:
        config: its options; None for the defaults.
        device: auto, cpu, cuda, cuda:1 or mps: where it trains and scores.
    """

    learns_by = "train_sequential"
    title: ClassVar[str]
    """The name that progress and errors show."""

    def __init__(self, config: OptionsT | None = None, *, device: str = "auto") -> None:
        super().__init__(config)
        self.device = named_device(device)
        self._encoder: SequentialEncoder | None = None

    @classmethod
    def _of(cls, config: Any, device: str) -> "Sequential[OptionsT]":
        return cls(config, device=device)

    @abstractmethod
    def new_encoder(self, num_items: int) -> SequentialEncoder:
        """Build the network with fresh weights, drawn by torch's global random state."""

    def learn(self, catalogue: Catalogue, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over weights by name, and how often each item occurs in training."""
        weights = {name: torch.from_numpy(array) for name, array in arrays.items() if name != _COUNTS}
        with torch.random.fork_rng(devices=[]):  # fresh weights are drawn only to be replaced
            encoder = self.new_encoder(len(catalogue))
        encoder.load_state_dict(weights)
        self.install(encoder, catalogue, arrays[_COUNTS])

    def install(self, encoder: SequentialEncoder, catalogue: Catalogue, counts_I: Float32[np.ndarray, "I"]) -> None:
        """Answer with this encoder from now on.

        Args:
            encoder: not copied: training may go on with it.
            catalogue: the items it embeds.
            counts_I: how often each of them occurs in training.
        """
        self._encoder = encoder.to(self.device).eval()
        arrays = {name: tensor.cpu().numpy() for name, tensor in encoder.state_dict().items()}
        super().learn(catalogue, {**arrays, _COUNTS: counts_I})

    @property
    def encoder(self) -> SequentialEncoder:
        """Return the trained network, on the device.

        Raises:
            ThinkrankError: if nothing was learnt yet.
        """
        self._known()
        assert self._encoder is not None  # noqa: S101 - both are set by `install`
        return self._encoder

    @torch.no_grad()
    def scores(self, requests: Any) -> Float32[np.ndarray, "B I"]:
        """Compute logits of the next item; where nothing of a history is known, each item's training interactions."""
        histories, encoder, counts_I = self.checked(requests).histories, self.encoder, self.arrays[_COUNTS]
        table = ItemTable(encoder.items.weight.detach())
        scores_BI = np.tile(counts_I, (len(histories), 1))
        known = [history.items[counts_I[history.items] > 0][-encoder.max_length :] for history in histories]
        answered = [index for index, items in enumerate(known) if len(items)]
        for start in range(0, len(answered), _READ_AT_ONCE):
            part = answered[start : start + _READ_AT_ONCE]
            items_BT, real_BT = fill_up([known[index] for index in part])
            states_BTD = encoder(items_BT.to(encoder.device))
            last_BD = states_BTD[torch.arange(len(part)), real_BT.sum(dim=1).to(encoder.device) - 1]
            scores_BI[part] = table.scores(last_BD).cpu().numpy()
        return scores_BI


def fill_up(rows: Sequence[Int[np.ndarray, "_"]]) -> tuple[Int[Tensor, "B T"], Bool[Tensor, "B T"]]:
    """Bring rows to one length, filled up on the right with catalogue row 0; True where they are real."""
    lengths_B = np.array([len(row) for row in rows])
    real_BT = np.arange(lengths_B.max()) < lengths_B[:, None]
    items_BT = np.zeros(real_BT.shape, dtype=np.int64)
    items_BT[real_BT] = np.concatenate(rows)
    return torch.from_numpy(items_BT), torch.from_numpy(real_BT)
