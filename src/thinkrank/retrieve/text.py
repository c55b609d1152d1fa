"""Recommend what reads like the history: cosines between texts, read by an encoder that nothing was trained in.

    score_j = cos(sum over h of decay^h v_h, v_j),  h = 0 the newest, v unit vectors of item texts

Shape legend: B requests, I items, D width, H items of one history that count.
"""

from typing import Any, Literal

import numpy as np
import polars as pl
from jaxtyping import Float32
from pydantic import Field

from thinkrank.data.catalogue import Catalogue
from thinkrank.data.dataset import Dataset
from thinkrank.data.interactions import all_items, catalogue_of, newest_distinct, training_histories
from thinkrank.data.splits import Split
from thinkrank.language.options import BackboneName
from thinkrank.retrieve.base import DenseRetriever
from thinkrank.retrieve.item_item import Decay, ItemItemConfig
from thinkrank.training.progress import Progress, no_progress


class TextOptions(ItemItemConfig):
    """Hold the options of `TextCosine`."""

    model: Literal["text"] = "text"
    decay: Decay = 0.8
    encoder: BackboneName = Field(
        "auto",
        description="what reads the texts: minilm, or what model.backbone may be; auto for minilm where its wheel is "
        "installed, else smollm2",
    )
    fields: tuple[str, ...] = Field(
        ("title", "categories"), description="catalogue columns that make an item's text, those that are there"
    )
    centred: bool = Field(
        True, description="subtract the catalogue's mean vector first, so that what all texts share does not count"
    )


class TextCosine(DenseRetriever[TextOptions]):
    """Retriever by likeness of texts.

    A repeated item counts once, at its newest place. Items that training never saw are answered and read like any
    other. An empty history is answered with the popularity order. What `fit` learnt, `config.encoder` tells.
    """

    kind = "text"
    config_class = TextOptions

    def fit(self, data: Dataset | Split, *, device: str = "auto", progress: Progress = no_progress) -> "TextCosine":
        """Read every item's text, and for empty histories count each item's interactions.

        Raises:
            ThinkrankError: if the encoder is not installed or cannot be read.
        """
        from thinkrank.retrieve.text_vectors import default_encoder, text_vectors

        if self.config.encoder == "auto":
            self.config = self.config.model_copy(update={"encoder": default_encoder()})
        catalogue, config = catalogue_of(data), self.config
        vectors_ID = text_vectors(catalogue, config.encoder, config.fields, device=device, progress=progress)
        counts_I = np.bincount(all_items(training_histories(data)), minlength=len(catalogue)).astype(np.float32)
        self.learn(catalogue, {"vectors_ID": vectors_ID, "counts_I": counts_I})
        return self

    def add_items(self, items: pl.DataFrame | Catalogue) -> range:
        """Read the texts of more items; nobody has taken them yet.

        Raises:
            ThinkrankError: as `DenseRetriever.add_items`, and if the encoder is not installed.
        """
        from thinkrank.retrieve.text_vectors import text_vectors

        new = Catalogue(self.catalogue.extended(items).frame[len(self.catalogue) :])
        vectors_ND = text_vectors(new, self.config.encoder, self.config.fields)  # before anything is added
        rows = super().add_items(items)
        self.arrays["vectors_ID"][rows.start :] = vectors_ND
        return rows

    def scores(self, requests: Any) -> Float32[np.ndarray, "B I"]:
        """Compute cosines; popularity for an empty history."""
        histories, vectors_ID = self.checked(requests).histories, self._unit_vectors()
        scores_BI = np.tile(self.arrays["counts_I"], (len(histories), 1))
        for row, history in zip(scores_BI, histories, strict=True):
            if not len(history):
                continue
            items_H = newest_distinct(history, self.config.window)
            weights_H = np.float32(self.config.decay) ** np.arange(len(items_H), dtype=np.float32)
            taste_D = weights_H @ vectors_ID[items_H]
            row[:] = vectors_ID @ (taste_D / max(float(np.linalg.norm(taste_D)), 1e-12))
        return scores_BI

    def _unit_vectors(self) -> Float32[np.ndarray, "I D"]:
        vectors_ID = self.arrays["vectors_ID"]
        if self.config.centred and len(vectors_ID):
            vectors_ID = vectors_ID - vectors_ID.mean(axis=0)
        return vectors_ID / np.maximum(np.linalg.norm(vectors_ID, axis=1, keepdims=True), 1e-12)
