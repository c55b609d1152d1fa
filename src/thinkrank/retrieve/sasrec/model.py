"""SASRec: self-attention over a user's past, trained by a softmax over the whole catalogue.

Kept from the paper (Kang & McAuley 2018, arXiv 1808.09781, section III): learned positions, causal blocks of attention
and a point-wise feed-forward layer whose normalisation comes first, dropout, and one table of item embeddings for input
and scores. From its released code: a last normalisation, and input embeddings times the root of the width. Changed:

- the loss is the cross-entropy of each next item against the whole catalogue, not against one sampled negative; it is
  what makes SASRec strong (Klenitskiy & Vasilev 2023, arXiv 2309.07602);
- positions count from the oldest item shown, and shorter rows are filled up on the right, where causal attention cannot
  see it. So every prefix of a history is read alike, in training and in answering, and in any company;
- a history longer than `max_length` is cut into windows, at another place in each epoch, and every event trains; the
  paper keeps the newest window only (`thinkrank.retrieve.sasrec.trainer`);
- items that training never saw are left out of a history. Nothing was learnt about them as a past.

Shape legend: B requests (rows), T places, P predictions of a batch, I items, D width.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from pydantic import Field
from torch import Tensor, nn

from thinkrank.data.catalogue import Catalogue
from thinkrank.devices import named_device
from thinkrank.options import Options, heads_divide_the_width
from thinkrank.retrieve.base import DenseRetriever
from thinkrank.retrieve.item_table import ItemTable

_COUNTS = "counts_I"
_READ_AT_ONCE = 256


class SasrecOptions(Options):
    """Hold the options of `SASRec`: the encoder, and how it is trained.

    Of the settings tried, the defaults are the best on the validation parts of MovieLens-100K and of Amazon Office in
    time order: NDCG@10 .102 and .132 (one seed). A width of 64 with 50 items and a dropout of .2 has .100 and .120.
    """

    model: Literal["sasrec"] = "sasrec"
    width: int = Field(256, ge=1, description="width of item embeddings and states")
    blocks: int = Field(2, ge=1, description="layers of attention and feed-forward")
    heads: int = Field(2, ge=1, description="heads of each attention; they must divide the width")
    norm: Literal["pre", "post"] = Field(
        "pre", description="normalise before each sub-layer, as the paper, or after it"
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.3, description="dropout of embeddings, attention and feed-forward"
    )
    max_length: int = Field(20, ge=1, description="how many items of a history are read, the newest")
    learning_rate: float = Field(1e-3, gt=0, description="constant learning rate of AdamW")
    weight_decay: float = Field(0.0, ge=0, description="weight decay of AdamW, on all weights")
    batch_size: int = Field(64, ge=1, description="windows of history per update")
    max_epochs: int = Field(100, ge=1, description="most passes over the training events")
    patience: int = Field(5, ge=1, description="stop after this many epochs without a better validation NDCG@10")
    validation_samples: int = Field(2000, ge=1, description="validation samples, drawn once by the seed")
    seed: int = Field(
        0, ge=0, description="seed of the initial weights, the order, the windows, dropout and the drawn samples"
    )

    _heads_divide_the_width = heads_divide_the_width()


class CausalEncoder(nn.Module):
    """Encoder from the items of a history to a state after each, which has seen that item and those before.

    Args:
        num_items: size I of the catalogue.
        options: the shape; training options are not looked at, but for dropout.

    Source: the paper, section III; matrices begin as normal draws of deviation .02 (reconstructed).
    """

    def __init__(self, num_items: int, options: SasrecOptions) -> None:
        super().__init__()
        self.items = nn.Embedding(num_items, options.width)
        self.positions = nn.Embedding(options.max_length, options.width)
        self.dropout = nn.Dropout(options.dropout)
        block = nn.TransformerEncoderLayer(
            options.width,
            options.heads,
            dim_feedforward=options.width,
            dropout=options.dropout,
            batch_first=True,
            norm_first=options.norm == "pre",
        )
        last = nn.LayerNorm(options.width) if options.norm == "pre" else None
        self.blocks = nn.TransformerEncoder(block, options.blocks, norm=last, enable_nested_tensor=False)
        for parameter in self.parameters():  # the blocks are copies of one; draw each anew
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

    @property
    def device(self) -> torch.device:
        """Return where the weights are."""
        return self.items.weight.device

    @property
    def max_length(self) -> int:
        """Tell how many items can be read."""
        return self.positions.num_embeddings

    def forward(self, items_BT: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        """Read items, oldest first. What stands at a later place changes nothing at an earlier one."""
        length, width = items_BT.shape[1], self.items.embedding_dim
        inputs_BTD = self.items(items_BT) * math.sqrt(width) + self.positions.weight[:length]
        future_TT = nn.Transformer.generate_square_subsequent_mask(length, device=items_BT.device)
        return self.blocks(self.dropout(inputs_BTD), mask=future_TT, is_causal=True)

    def item_scores(self, states_PD: Float[Tensor, "P D"]) -> Float[Tensor, "P I"]:
        """Multiply with every item's embedding, the same table that the input is read from."""
        return states_PD @ self.items.weight.T


class SASRec(DenseRetriever[SasrecOptions]):
    """Retriever that scores all items by the encoder's newest state.

    A history without an item that training saw, so an empty one too, is answered with the popularity order. A repeated
    item is read as often as it occurs. `train_sasrec` trains it.

    Args:
        config: its options; None for the defaults.
        device: auto, cpu, cuda, cuda:1 or mps: where it trains and scores.
    """

    kind = "sasrec"
    config_class = SasrecOptions
    learns_by = "train_sasrec"

    def __init__(self, config: SasrecOptions | None = None, *, device: str = "auto") -> None:
        super().__init__(config)
        self.device = named_device(device)
        self._encoder: CausalEncoder | None = None

    @classmethod
    def _of(cls, config: Any, device: str) -> "SASRec":
        return cls(config, device=device)

    def learn(self, catalogue: Catalogue, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over weights by name, and how often each item occurs in training."""
        weights = {name: torch.from_numpy(array) for name, array in arrays.items() if name != _COUNTS}
        with torch.random.fork_rng(devices=[]):  # fresh weights are drawn only to be replaced
            encoder = CausalEncoder(len(catalogue), self.config)
        encoder.load_state_dict(weights)
        self.install(encoder, catalogue, arrays[_COUNTS])

    def install(self, encoder: CausalEncoder, catalogue: Catalogue, counts_I: Float32[np.ndarray, "I"]) -> None:
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
    def encoder(self) -> CausalEncoder:
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
