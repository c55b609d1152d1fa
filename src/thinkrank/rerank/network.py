"""What the networks that order lists share: an encoder, a way to answer, and one to disk and back.

`thinkrank.rerank.network_trainer` trains them.

Shape legend: B lists, N candidates, J = 2 D, D width of a vector.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Float32
from pydantic import Field
from safetensors.torch import load_file
from torch import Tensor, nn

from thinkrank.data.candidates import Candidates
from thinkrank.data.catalogue import Catalogue
from thinkrank.data.requests import Requests
from thinkrank.devices import named_device
from thinkrank.errors import ThinkrankError
from thinkrank.options import Options
from thinkrank.pretrained import CATALOGUE_FILE, begin, finish, local_folder, read_config, reading, write_tensors
from thinkrank.rerank.lists import (
    ListBatch,
    ListEncoder,
    ListEncoderOptions,
    ListSchema,
    TrainingBatch,
    batches,
    checked_lists,
    joint_embeddings,
)
from thinkrank.rerank.lists.encoder import VECTORS
from thinkrank.stages.answers import Ranking
from thinkrank.stages.order import order_candidates

_SCORED_AT_ONCE = 256


class NetworkOptions(Options):
    """Hold the options of every network that orders lists, those of its training included."""

    lists: ListEncoderOptions = Field(ListEncoderOptions(), description="what is looked at")
    signal: str | None = Field(None, description="feedback to learn; the first of the data set if not given")
    learning_rate: float = Field(1e-3, gt=0, description="constant learning rate of AdamW")
    weight_decay: float = Field(1e-2, ge=0, description="weight decay of AdamW, on all weights")
    clip: float = Field(1.0, gt=0, description="longest gradient that is followed in full")
    batch_size: int = Field(64, ge=1, description="lists per update")
    max_epochs: int = Field(30, ge=1, description="most passes over the training lists")
    patience: int = Field(3, ge=1, description="stop after this many epochs without a better validation NDCG@10")
    seed: int = Field(0, ge=0, description="seed of the initial weights, the order and dropout")


class ListNetwork(nn.Module, ABC):
    """Network that scores the candidates of lists.

    Args:
        encoder: gives the vectors of candidates and users.
    """

    def __init__(self, encoder: ListEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    @abstractmethod
    def scores(self, batch: ListBatch) -> Float[Tensor, "B N"]:
        """Score every candidate; higher is better, anything beside padding."""

    @abstractmethod
    def loss(self, batch: TrainingBatch) -> Float[Tensor, ""]:
        """Return what training makes small."""

    def count(self, batch: TrainingBatch) -> int:
        """Count what the loss is a mean over: lists with feedback, unless a network says otherwise."""
        return int((batch.feedback_BN > 0).any(dim=1).sum())

    def joint(self, batch: ListBatch) -> Float[Tensor, "B N J"]:
        """Join each candidate's vector with that of the list's user."""
        return joint_embeddings(self.encoder, batch)


OptionsT = TypeVar("OptionsT", bound=NetworkOptions)
ModelT = TypeVar("ModelT", bound="NetworkReranker[Any]")  # typing.Self, which the shape checks of the tests cannot read


class NetworkReranker(ABC, Generic[OptionsT]):
    """Re-ranker that sorts candidates by a network's scores.

    A list with one candidate is answered with it, a request without candidates with none. Equal scores keep the order
    given.

    Args:
        config: its options; None for the defaults.
        device: auto, cpu, cuda, cuda:1 or mps: where it trains and scores.
    """

    kind: ClassVar[str]
    config_class: type[OptionsT]
    network_class: type[Any]

    def __init__(self, config: OptionsT | None = None, *, device: str = "auto") -> None:
        self.config: OptionsT = self.config_class() if config is None else config
        self.device = named_device(device)
        self._learnt: tuple[ListNetwork, Catalogue] | None = None

    def build(self, encoder: ListEncoder) -> ListNetwork:
        """Make a network with fresh weights."""
        network: ListNetwork = self.network_class(encoder, self.config)
        return network

    def install(self, network: ListNetwork, catalogue: Catalogue) -> None:
        """Answer with this network from now on; the rows of its schema are those of the catalogue."""
        self._learnt = network.to(self.device).eval(), catalogue

    @property
    def network(self) -> ListNetwork:
        """Return the trained network; a ThinkrankError if nothing was learnt yet."""
        return self._known()[0]

    @property
    def catalogue(self) -> Catalogue:
        """Return the items it was trained on; a ThinkrankError if nothing was learnt yet."""
        return self._known()[1]

    @property
    def schema(self) -> ListSchema:
        """Return which columns of lists it reads; a ThinkrankError if nothing was learnt yet."""
        return self.network.encoder.schema

    def _known(self) -> tuple[ListNetwork, Catalogue]:
        if self._learnt is None:
            raise ThinkrankError(f"this {type(self).__name__} has learnt nothing yet: train it with train_network")
        return self._learnt

    def scores(self, requests: Any, candidates: Any) -> Float32[np.ndarray, "B N"]:
        """Score every candidate of every request; higher is better, -inf for padding.

        Args:
            requests: see `Requests.of`.
            candidates: see `Candidates.of`; of the same columns as the training lists.

        Raises:
            ThinkrankError: if nothing was learnt yet, or the lists lack columns that it learnt from.
        """
        requests, candidates = checked_lists(requests, candidates, self.catalogue)
        return network_scores(self.network, requests, candidates, self.config, self.device)

    def rerank(self, requests: Any, candidates: Any, k: int) -> Ranking:
        """Answer each request with its k best candidates; arguments and errors as for `scores`."""
        requests, candidates = checked_lists(requests, candidates, self.catalogue)
        return order_candidates(candidates, self.scores(requests, candidates), k)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write weights, columns, the catalogue and, last, the configuration into a folder, made if need be."""
        folder = begin(folder)
        write_tensors(folder / "model.safetensors", self.network.state_dict())
        self.schema.save(folder / "lists.json")
        self.catalogue.save(folder / CATALOGUE_FILE)
        finish(folder, self.kind, self.config)

    @classmethod
    def from_pretrained(cls: type[ModelT], where: str | Path, *, device: str = "auto") -> ModelT:
        """Load what `save_pretrained` wrote.

        Args:
            where: a folder, or a hub id `owner/name`.
            device: auto, cpu, cuda, cuda:1 or mps.

        Raises:
            ThinkrankError: if a file is missing, unreadable, or of another kind or shape of model.
        """
        folder = local_folder(where)
        config = read_config(folder, cls.kind, cls.config_class)
        model = cls(config, device=device)
        with reading(folder):
            file = folder / CATALOGUE_FILE
            catalogue = Catalogue.load(file) if file.is_file() else None
            schema = ListSchema.load(folder / "lists.json", catalogue)
            weights = load_file(folder / "model.safetensors")
            with torch.random.fork_rng(devices=[]):  # fresh weights are drawn only to be replaced
                network = model.build(ListEncoder(schema, config.lists, weights.get(VECTORS)))
            network.load_state_dict(weights)
        items = schema.items.series  # folders of format 1 have no more of their items than the ids
        model.install(network, catalogue or Catalogue(pl.DataFrame({"item": items, "title": items})))
        return model


@torch.no_grad()
def network_scores(
    network: ListNetwork, requests: Requests, candidates: Candidates, options: NetworkOptions, device: torch.device
) -> Float32[np.ndarray, "B N"]:
    """Score candidates with a network in evaluation mode; -inf for padding.

    Raises:
        ThinkrankError: if the lists lack columns that the network reads.
    """
    scores_BN = np.full(candidates.items_BN.shape, -np.inf, dtype=np.float32)
    reader = network.encoder.schema.reader(requests, candidates)
    for batch in batches(requests, candidates, _SCORED_AT_ONCE, max_history=options.lists.max_history):
        width = batch.mask_BN.shape[1]
        if not width:
            continue
        found_BN = network.scores(reader(batch).to(device)).masked_fill(~batch.mask_BN.to(device), -torch.inf)
        scores_BN[batch.indices_B.numpy(), :width] = found_BN.float().cpu().numpy()
    return scores_BN
