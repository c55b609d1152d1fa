"""From what is known of a list to one vector per candidate and one for the user.

Reconstructed: the EGLR paper says only that a candidate has a base embedding and the user another. Features are
embedded as in LibRerank (one small embedding per feature), standardised, and joined by a two-layer network.

Every embedding starts at zero. An item, user or category that training never met thus adds nothing, instead of noise.

Shape legend: B lists, N candidates, H items of a history, F numeric, C categorical and X list-wide features, I items,
E width of given item vectors, W width of an embedding, D width of the output.
"""

from typing import Annotated

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from pydantic import Field
from torch import Tensor, nn

from thinkrank.data.impressions import ImpressionDataset
from thinkrank.errors import ThinkrankError
from thinkrank.options import Options
from thinkrank.rerank.lists.batch import ListBatch
from thinkrank.rerank.lists.schema import ListSchema

VECTORS = "encoder.item_vectors_IE"
"""The name of given item vectors among the weights of a model whose encoder is called so."""
_FARTHEST = 5.0
"""Standardised features are cut off here, so that one wild price does not drown the rest."""


class ListEncoderOptions(Options):
    """Say what a `ListEncoder` looks at, and how wide it is."""

    width: int = Field(64, ge=1, description="width of the vectors of candidates and users")
    embedding_width: int = Field(16, ge=1, description="width of the embedding of each feature")
    item_ids: bool = Field(True, description="embed the items themselves, of candidates and histories")
    item_rows: int | None = Field(
        None, ge=1, description="rows that all items of a large catalogue share; one row for each item if not given"
    )
    min_count: int = Field(
        100, ge=1, description="how often an item must occur in training lists and their histories to be embedded"
    )
    user_ids: bool = Field(False, description="embed the users themselves; of no use where most are new")
    positions: bool = Field(True, description="tell candidates their place in the displayed order")
    leave_out: tuple[str, ...] = Field(
        (), description="numeric features that are not read, as the score that made the displayed order"
    )
    relative: bool = Field(True, description="also give numeric features in standard deviations of their own list")
    max_history: int = Field(50, ge=0, description="how many of the newest items of a history are read")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.1, description="dropout between the two layers")


class ListEncoder(nn.Module):
    """Compute vectors of candidates and users; see the head of the file.

    A candidate is made of: its item's embedding, its numeric features but for `leave_out`, standardised over training
    and, if `relative`, within its list, its categories' embeddings, its place's embedding. A user is made of the mean
    embedding of the history's items, the standardised features of the list as a whole, and, if `user_ids`, an embedding
    of their own.

    An embedding that is seen a few times is learnt by heart, so only items that are common in training have one.

    An empty history has the mean zero. Padding changes nothing, and the vectors of padding are zero.

    Args:
        schema: of the data sets it reads.
        options: what it looks at.
        item_vectors_IE: a vector per item given by the caller, of its title, say; kept with the weights and not
            trained, but mapped linearly and added to the item's embedding.

    Raises:
        ThinkrankError: if `leave_out` names what is no numeric feature.
    """

    numeric_mean_F: Tensor
    numeric_scale_F: Tensor
    context_mean_X: Tensor
    context_scale_X: Tensor
    item_vectors_IE: Tensor | None
    common_I: Tensor

    def __init__(
        self,
        schema: ListSchema,
        options: ListEncoderOptions | None = None,
        item_vectors_IE: Float[Tensor, "I E"] | None = None,
    ) -> None:
        super().__init__()
        options = options or ListEncoderOptions()
        self.schema, self.options = schema, options
        small, wide = options.embedding_width, options.width
        unknown = [name for name in options.leave_out if name not in schema.numeric_names]
        if unknown:
            known = ", ".join(schema.numeric_names)
            raise ThinkrankError(f"leave_out names {unknown[0]}, which is no numeric feature: there are {known}")
        self.read = [at for at, name in enumerate(schema.numeric_names) if name not in options.leave_out]
        num_numeric, num_context = len(self.read), len(schema.context_names)
        num_items = len(schema.items)
        self.items = _zeros(options.item_rows or num_items, small) if options.item_ids else None
        self.vectors = None if item_vectors_IE is None else nn.Linear(item_vectors_IE.shape[1], small, bias=False)
        self.register_buffer("item_vectors_IE", item_vectors_IE)
        self.register_buffer("common_I", torch.ones(num_items, dtype=torch.bool))
        self.users = _zeros(len(schema.users), small) if options.user_ids else None
        self.places = _zeros(schema.max_candidates, small) if options.positions else None
        self.categories = nn.ModuleList(_zeros(1 + len(values), small) for values in schema.categorical_values)
        for name, size in (("numeric", num_numeric), ("context", num_context)):
            letter = "F" if name == "numeric" else "X"
            self.register_buffer(f"{name}_mean_{letter}", torch.zeros(size))
            self.register_buffer(f"{name}_scale_{letter}", torch.ones(size))
        embedded = 1 + len(self.categories) + int(options.positions)
        self.candidate = _two_layers(embedded * small + num_numeric * (1 + int(options.relative)), wide, options)
        self.user = _two_layers((1 + int(options.user_ids)) * small + num_context, wide, options)

    @classmethod
    def of(
        cls,
        dataset: ImpressionDataset,
        options: ListEncoderOptions | None = None,
        item_vectors_IE: Float[Tensor, "I E"] | None = None,
    ) -> "ListEncoder":
        """Make an encoder for a training set, with fresh weights and the set's means and deviations.

        `item_vectors_IE` are as for the class.

        Raises:
            ThinkrankError: if there is not one vector per item.
        """
        if item_vectors_IE is not None and len(item_vectors_IE) != len(dataset.catalogue):
            raise ThinkrankError(
                f"{dataset.name}: {len(item_vectors_IE)} item vectors for {len(dataset.catalogue)} items"
            )
        options = options or ListEncoderOptions()
        encoder = cls(ListSchema.of(dataset, users=options.user_ids), options, item_vectors_IE)
        encoder.common_I = _counts(dataset, encoder.options.max_history) >= encoder.options.min_count
        read_RF = dataset.numeric_LNF[dataset.mask_LN][:, encoder.read]
        encoder.numeric_mean_F, encoder.numeric_scale_F = _moments(read_RF)
        encoder.context_mean_X, encoder.context_scale_X = _moments(dataset.context_LF)
        return encoder

    def forward(self, batch: ListBatch) -> tuple[Float[Tensor, "B N D"], Float[Tensor, "B D"]]:
        """Return the vectors of the candidates, zero where there is none, and that of the user of each list."""
        parts = [self.embedded_items(batch.items_BN), *self.numeric_parts(batch)]
        parts += [embed(batch.categorical_BNC[:, :, column]) for column, embed in enumerate(self.categories)]
        if self.places is not None:
            places_N = torch.arange(batch.items_BN.shape[1], device=batch.items_BN.device)
            last = self.places.num_embeddings - 1
            parts.append(self.places(places_N.clamp(max=last)).expand(len(batch), -1, -1))
        candidates_BND = self.candidate(torch.cat(parts, dim=2)) * batch.mask_BN[:, :, None]
        return candidates_BND, self.user(torch.cat(self.user_parts(batch), dim=1))

    def embedded_items(self, items_BN: Int[Tensor, "B N"]) -> Float[Tensor, "B N W"]:
        """Return embeddings of items, zero for padding and for items that training did not know."""
        vectors_BNW = torch.zeros(*items_BN.shape, self.options.embedding_width, device=items_BN.device)
        there_BN = (items_BN >= 0) & (items_BN < len(self.schema.items))
        rows_BN = items_BN.masked_fill(~there_BN, 0)
        if self.items is not None:
            embedded_BNW = self.items(rows_BN % self.items.num_embeddings)
            vectors_BNW = vectors_BNW + embedded_BNW * self.common_I[rows_BN][:, :, None]
        if self.vectors is not None and self.item_vectors_IE is not None:
            vectors_BNW = vectors_BNW + self.vectors(self.item_vectors_IE[rows_BN])
        return vectors_BNW * there_BN[:, :, None]

    def numeric_parts(self, batch: ListBatch) -> list[Float[Tensor, "B N F"]]:
        """Standardise numeric features over training and, if `relative`, within each list."""
        standard_BNF = _standardise(batch.numeric_BNF[:, :, self.read], self.numeric_mean_F, self.numeric_scale_F)
        return [standard_BNF, _within_list(standard_BNF, batch.mask_BN)] if self.options.relative else [standard_BNF]

    def user_parts(self, batch: ListBatch) -> list[Float[Tensor, "B _"]]:
        """Return what a user is made of: the mean of the history, the list-wide features, and their embedding."""
        known_B1 = (batch.history_BH >= 0).sum(dim=1, keepdim=True)
        parts = [
            self.embedded_items(batch.history_BH).sum(dim=1) / known_B1.clamp(min=1),
            _standardise(batch.context_BF, self.context_mean_X, self.context_scale_X),
        ]
        if self.users is None:
            return parts
        known_B = (batch.users_B >= 0) & (batch.users_B < len(self.schema.users))
        return [*parts, self.users(batch.users_B * known_B) * known_B[:, None]]


def _counts(dataset: ImpressionDataset, max_history: int) -> Int[Tensor, "I"]:
    """Count how often each item occurs among the candidates and in the newest part of histories."""
    seen = [dataset.items_LN.ravel(), dataset.histories.newest(max_history).ravel()]
    return torch.from_numpy(np.bincount(np.concatenate(seen) + 1, minlength=len(dataset.catalogue) + 1)[1:])


def _zeros(rows: int, width: int) -> nn.Embedding:
    embedding = nn.Embedding(rows, width)
    nn.init.zeros_(embedding.weight)
    return embedding


def _two_layers(inputs: int, width: int, options: ListEncoderOptions) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), nn.GELU(), nn.Dropout(options.dropout), nn.Linear(width, width))


def _moments(values_RF: Float32[np.ndarray, "R F"]) -> tuple[Float[Tensor, "F"], Float[Tensor, "F"]]:
    """Compute means, and 1 / deviations, of columns; one that never varies has the scale 0, so it says nothing."""
    if not len(values_RF):
        return torch.zeros(values_RF.shape[1]), torch.zeros(values_RF.shape[1])
    deviations_F = values_RF.std(axis=0, dtype=np.float64)
    varies_F = deviations_F > 1e-6 * np.abs(values_RF).max(axis=0)
    scale_F = np.divide(1.0, deviations_F, out=np.zeros_like(deviations_F), where=varies_F)
    return torch.from_numpy(values_RF.mean(axis=0, dtype=np.float64)).float(), torch.from_numpy(scale_F).float()


def _standardise(
    values: Float[Tensor, "*rows F"], mean_F: Float[Tensor, "F"], scale_F: Float[Tensor, "F"]
) -> Float[Tensor, "*rows F"]:
    return ((values - mean_F) * scale_F).clamp(-_FARTHEST, _FARTHEST)


def _within_list(values_BNF: Float[Tensor, "B N F"], mask_BN: Bool[Tensor, "B N"]) -> Float[Tensor, "B N F"]:
    """Express in standard deviations from the list's mean; 0 where a list does not vary, and for padding."""
    mask_BN1 = mask_BN[:, :, None]
    count_B11 = mask_BN1.sum(dim=1, keepdim=True).clamp(min=1)
    centred_BNF = (values_BNF - (values_BNF * mask_BN1).sum(dim=1, keepdim=True) / count_B11) * mask_BN1
    variance_B1F = centred_BNF.square().sum(dim=1, keepdim=True) / count_B11
    return centred_BNF / (variance_B1F + 1e-4).sqrt()


def joint_embeddings(encoder: ListEncoder, batch: ListBatch) -> Float[Tensor, "B N E"]:
    """Join each candidate's vector with the user's: the input of generators and evaluators.

    Source: the paper, of the evaluator; that the generator has the same is reconstructed.
    """
    candidates_BND, users_BD = encoder(batch)
    return torch.cat([candidates_BND, users_BD[:, None].expand_as(candidates_BND)], dim=2)
