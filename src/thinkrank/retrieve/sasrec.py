"""SASRec: self-attention over a user's past, trained by a softmax over the whole catalogue.

Kept from the paper (Kang & McAuley 2018, arXiv 1808.09781, section III): learned positions, causal blocks of attention
and a point-wise feed-forward layer whose normalisation comes first, dropout, and one table of item embeddings for input
and scores. From its released code: a last normalisation, and input embeddings times the root of the width. Changed:

- the loss is the cross-entropy of each next item against the whole catalogue, not against one sampled negative; it is
  what makes SASRec strong (Klenitskiy & Vasilev 2023, arXiv 2309.07602);
- positions count from the oldest item shown, and shorter rows are filled up on the right, where causal attention cannot
  see it. So every prefix of a history is read alike, in training and in answering, and in any company;
- a history longer than `max_length` is cut into windows, at another place in each epoch, and every event trains; the
  paper keeps the newest window only;
- items that training never saw are left out of a history. Nothing was learnt about them as a past.

Memory: training holds a few arrays of 4 * P * I bytes, P up to `batch_size` times `max_length` predictions (9 MB each
for 1,280 predictions and 1,682 items).

Shape legend: B users (rows), T places, P predictions of a batch, I items, D width, N events of a user, W of a window.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from thinkrank.data import Dataset, History, Samples, Split
from thinkrank.devices import named_device
from thinkrank.errors import ThinkrankError
from thinkrank.options import Options
from thinkrank.policy import ndcg_reward
from thinkrank.retrieve.base import ARRAYS_FILE, Baseline
from thinkrank.retrieve.interactions import all_items, catalogue_size, training_histories
from thinkrank.stages.checks import check_histories
from thinkrank.stages.order import mask_seen, target_ranks
from thinkrank.training import Progress, no_progress

_COUNTS = "counts_I"
_SCORED_AT_ONCE = 256
_BETAS = (0.9, 0.98)  # the paper's released code


class SasrecOptions(Options):
    """Options of `SASRec`: the encoder, and how it is trained.

    Of the settings tried, the defaults are the best on the validation parts of MovieLens-100K and of Amazon Office in
    time order: NDCG@10 .102 and .132 (one seed). A width of 64 with 50 items and a dropout of .2 has .100 and .120.
    """

    model: Literal["sasrec"] = "sasrec"
    width: int = Field(256, ge=1, description="of item embeddings and states")
    blocks: int = Field(2, ge=1, description="layers of attention and feed-forward")
    heads: int = Field(2, ge=1, description="of each attention; must divide the width")
    norm: Literal["pre", "post"] = Field(
        "pre", description="normalise before each sub-layer, as the paper, or after it"
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.3, description="of embeddings, attention and feed-forward")
    max_length: int = Field(20, ge=1, description="newest items of a history that are read")
    learning_rate: float = Field(1e-3, gt=0, description="AdamW's, constant")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's, on everything")
    batch_size: int = Field(64, ge=1, description="windows of history per update")
    max_epochs: int = Field(100, ge=1, description="most passes over the training events")
    patience: int = Field(5, ge=1, description="stop after this many epochs without a better validation NDCG@10")
    validation_samples: int = Field(2000, ge=1, description="validation samples, drawn once by the seed")
    seed: int = Field(
        0, ge=0, description="of the initial weights, the order, the windows, dropout and the drawn samples"
    )

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> "SasrecOptions":
        if self.width % self.heads:
            raise ValueError(f"the width must be a multiple of the heads, and {self.width} is none of {self.heads}")
        return self


class CausalEncoder(nn.Module):
    """From the items of a history to a state after each of them, which has seen that item and those before.

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
        """Where the weights are."""
        return self.items.weight.device

    @property
    def max_length(self) -> int:
        """How many items can be read."""
        return self.positions.num_embeddings

    def forward(self, items_BT: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        """States of items, oldest first. What stands at a later place changes nothing at an earlier one."""
        length, width = items_BT.shape[1], self.items.embedding_dim
        inputs_BTD = self.items(items_BT) * math.sqrt(width) + self.positions.weight[:length]
        future_TT = nn.Transformer.generate_square_subsequent_mask(length, device=items_BT.device)
        return self.blocks(self.dropout(inputs_BTD), mask=future_TT, is_causal=True)

    def item_scores(self, states_PD: Float[Tensor, "P D"]) -> Float[Tensor, "P I"]:
        """Dot products with every item's embedding, the same table that the input is read from."""
        return states_PD @ self.items.weight.T


def next_item_loss(
    encoder: CausalEncoder, items_BT: Int[Tensor, "B T"], targets_BT: Int[Tensor, "B T"], real_BT: Bool[Tensor, "B T"]
) -> Float[Tensor, ""]:
    """Mean cross-entropy, in nats, of the item after each place against the whole catalogue.

    L = -(1/P) Σ_{(b,t) real} log( exp(h_bt · e_target) / Σ_i exp(h_bt · e_i) )

    Args:
        encoder: gives the states h and the embeddings e.
        items_BT: catalogue rows, oldest first, filled up on the right with any row.
        targets_BT: the row that came after each.
        real_BT: False where filled up; at least one must be True.

    Source: Klenitskiy & Vasilev 2023 (their SASRec with cross-entropy).
    """
    return functional.cross_entropy(encoder.item_scores(encoder(items_BT)[real_BT]), targets_BT[real_BT])


class SASRec(Baseline[SasrecOptions]):
    """The encoder's newest state against all item embeddings.

    A history without an item that training saw, so an empty one too, is answered with the popularity order. A repeated
    item is read as often as it occurs. Given a split with validation samples, `fit` stops early and keeps the weights
    of the best validation; given a whole data set it trains for all of `max_epochs`.

    Equal seeds give equal weights on one CPU process; GPUs sum in another order each time.

    Args:
        config: its options; None for the defaults.
        device: auto, cpu, cuda, cuda:1 or mps: where it trains and scores.

    Attributes:
        validations: NDCG@10 on the validation samples after each epoch of the last fit; empty if there were none.
    """

    config_class = SasrecOptions

    def __init__(self, config: SasrecOptions | None = None, *, device: str = "auto") -> None:
        super().__init__(config)
        self.device = named_device(device)
        self.validations: list[float] = []
        self._loaded: CausalEncoder | None = None

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, device: str = "auto") -> "SASRec":
        """Read a model back.

        Args:
            folder: where `save_pretrained` wrote.
            device: as for the class.

        Raises:
            ThinkrankError: if a file is missing, unreadable, or of another kind or shape of model.
        """
        model = super().from_pretrained(folder)
        model.device = named_device(device)
        try:
            _ = model.encoder
        except (KeyError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ThinkrankError(f"{Path(folder) / ARRAYS_FILE} does not fit its config: {reason}") from error
        return model

    @property
    def encoder(self) -> CausalEncoder:
        """The trained network, on the device."""
        self._check_fitted()
        if self._loaded is None:
            weights = {name: torch.from_numpy(array) for name, array in self._arrays.items() if name != _COUNTS}
            with torch.random.fork_rng(devices=[]):  # fresh weights are drawn only to be replaced
                encoder = CausalEncoder(len(self._arrays[_COUNTS]), self.config)
            encoder.load_state_dict(weights)
            self._loaded = encoder.to(self.device).eval()
        return self._loaded

    def fit(self, data: Dataset | Split, *, progress: Progress = no_progress) -> "SASRec":
        """Train from fresh weights, and return self.

        Args:
            data: a whole data set, or a split; of it train and valid are used, test is not touched.
            progress: how to show the epochs.

        Raises:
            ThinkrankError: if no user has two training events.
        """
        histories = training_histories(data)
        if not any(len(history) > 1 for history in histories):
            raise ThinkrankError("SASRec learns what comes next, and no user has two training interactions")
        counts_I = np.bincount(all_items(histories), minlength=catalogue_size(data)).astype(np.float32)
        validation = (
            data.valid.subset(self.config.validation_samples, self.config.seed) if isinstance(data, Split) else None
        )
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(self.config.seed)
            encoder = CausalEncoder(len(counts_I), self.config).to(self.device)
            self.validations = _train(encoder, self.config, histories, counts_I, validation, progress)
        self._arrays = {name: tensor.cpu().numpy() for name, tensor in encoder.state_dict().items()}
        self._arrays[_COUNTS] = counts_I
        self._loaded = encoder
        return self

    def scores(self, histories: Sequence[History]) -> Float32[np.ndarray, "B I"]:
        """Logits of the next item; for a history of which nothing is known, each item's training interactions."""
        encoder, counts_I = self.encoder, self._arrays[_COUNTS]
        check_histories(histories, len(counts_I))
        return _scores(encoder, histories, counts_I)


def windows(
    items_N: Int[np.ndarray, "N"], max_length: int, generator: np.random.Generator
) -> Iterator[Int[np.ndarray, "W"]]:
    """Cut a history so that each event but the first is predicted exactly once, from at most `max_length` before it.

    A history that is longer is cut at a random first place and then every `max_length` events; neighbouring windows
    share the event that ends one and begins the other.

    Args:
        items_N: catalogue rows, oldest first; fewer than two give no window.
        max_length: W is at most one more than this.
        generator: decides the first place.
    """
    last = len(items_N) - 1
    first = last if last <= max_length else int(generator.integers(1, max_length + 1))
    start, end = 0, first
    while start < last:
        yield items_N[start : end + 1]
        start, end = end, min(end + max_length, last)


def _train(
    encoder: CausalEncoder,
    options: SasrecOptions,
    histories: Sequence[History],
    counts_I: Float32[np.ndarray, "I"],
    validation: Samples | None,
    progress: Progress,
) -> list[float]:
    """Train in place, leave the best weights in the encoder, and return the validation NDCG@10 of every epoch."""
    optimizer = torch.optim.AdamW(
        encoder.parameters(), lr=options.learning_rate, betas=_BETAS, weight_decay=options.weight_decay
    )
    generator = np.random.default_rng(options.seed)
    validations: list[float] = []
    best: dict[str, Tensor] = {}
    with progress("training SASRec", options.max_epochs) as advance:
        for _ in range(options.max_epochs):
            loss = _epoch(encoder, optimizer, options, histories, generator)
            note = f"loss {loss:.3f}"
            if validation:
                validations.append(_validate(encoder, counts_I, validation))
                note += f", NDCG@10 {validations[-1]:.4f}, best {max(validations):.4f}"
            advance(1, note=note)
            waited = len(validations) - 1 - int(np.argmax(validations)) if validations else 0
            if validations and waited == 0:
                best = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
            if waited >= options.patience:
                break
    if best:
        encoder.load_state_dict(best)
    encoder.eval()
    return validations


def _epoch(
    encoder: CausalEncoder,
    optimizer: torch.optim.Optimizer,
    options: SasrecOptions,
    histories: Sequence[History],
    generator: np.random.Generator,
) -> float:
    """One pass over every training event, in random order; the mean loss per prediction."""
    rows = [row for history in histories for row in windows(history.items, options.max_length, generator)]
    order = generator.permutation(len(rows))
    total, count = 0.0, 0
    encoder.train()
    for start in range(0, len(order), options.batch_size):
        items_BT, real_BT = _fill_up([rows[index] for index in order[start : start + options.batch_size]])
        items_BT, real_BT = items_BT.to(encoder.device), real_BT.to(encoder.device)
        loss = next_item_loss(encoder, items_BT[:, :-1], items_BT[:, 1:], real_BT[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        predictions = int(real_BT[:, 1:].sum())
        total, count = total + loss.item() * predictions, count + predictions
    return total / count


def _validate(encoder: CausalEncoder, counts_I: Float32[np.ndarray, "I"], samples: Samples) -> float:
    """Mean NDCG@10 over the whole catalogue, seen items left out."""
    encoder.eval()
    histories, gains = samples.histories(), []
    for start in range(0, len(histories), _SCORED_AT_ONCE):
        part = slice(start, start + _SCORED_AT_ONCE)
        scores_BI = mask_seen(_scores(encoder, histories[part], counts_I), histories[part])
        gains.append(ndcg_reward(torch.from_numpy(target_ranks(scores_BI, samples.targets[part])), 10))
    return torch.cat(gains).mean().item()


@torch.no_grad()
def _scores(
    encoder: CausalEncoder, histories: Sequence[History], counts_I: Float32[np.ndarray, "I"]
) -> Float32[np.ndarray, "B I"]:
    """Scores after the newest known items of each history; popularity where nothing is known."""
    scores_BI = np.tile(counts_I, (len(histories), 1))
    known = [history.items[counts_I[history.items] > 0][-encoder.max_length :] for history in histories]
    answered = [index for index, items in enumerate(known) if len(items)]
    for start in range(0, len(answered), _SCORED_AT_ONCE):
        part = answered[start : start + _SCORED_AT_ONCE]
        items_BT, real_BT = _fill_up([known[index] for index in part])
        states_BTD = encoder(items_BT.to(encoder.device))
        last_BD = states_BTD[torch.arange(len(part)), real_BT.sum(dim=1).to(encoder.device) - 1]
        scores_BI[part] = encoder.item_scores(last_BD).cpu().numpy()
    return scores_BI


def _fill_up(rows: Sequence[Int[np.ndarray, "_"]]) -> tuple[Int[Tensor, "B T"], Bool[Tensor, "B T"]]:
    """Rows of different lengths as one, filled up on the right with catalogue row 0; True where they are real."""
    lengths_B = np.array([len(row) for row in rows])
    real_BT = np.arange(lengths_B.max()) < lengths_B[:, None]
    items_BT = np.zeros(real_BT.shape, dtype=np.int64)
    items_BT[real_BT] = np.concatenate(rows)
    return torch.from_numpy(items_BT), torch.from_numpy(real_BT)
