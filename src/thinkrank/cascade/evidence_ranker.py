"""A ranker that weighs evidence: what the crowd did, what texts share, and what the stage before said.

Every column is standardised within its list, so that units make no odds, and the weights are the likeliest ones: those
under which the items that were taken next are most probable among their candidates (a conditional logit, McFadden
1974). There is one answer and no search; it is learnt in seconds.

Shape legend: B requests, N candidates, K columns, E events of all people, U people.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from jaxtyping import Bool, Float32, Int, Int32
from pydantic import Field, NonNegativeFloat
from safetensors.numpy import load_file

from thinkrank.data.candidates import Candidates
from thinkrank.data.catalogue import Catalogue
from thinkrank.data.history import History
from thinkrank.data.requests import Requests
from thinkrank.errors import ThinkrankError
from thinkrank.evidence import Crowd, EvidenceFeatures
from thinkrank.evidence.features import FEATURES, FeatureOptions
from thinkrank.options import Options
from thinkrank.pretrained import CATALOGUE_FILE, begin, finish, local_folder, read_config, reading, write_arrays
from thinkrank.retrieve.base import ARRAYS_FILE
from thinkrank.retrieve.fusion_weights import conditional_logit
from thinkrank.stages.answers import Cost, Ranking, standardised
from thinkrank.stages.checks import checked_candidates, checked_requests
from thinkrank.stages.order import order_candidates


class EvidenceConfig(Options):
    """Hold the options of `EvidenceRanker`."""

    model: Literal["evidence"] = "evidence"
    features: FeatureOptions = Field(FeatureOptions(), description="how evidence is counted")
    ridge: NonNegativeFloat = Field(1e-3, description="penalty on the squared weights")
    offered: tuple[str, ...] = Field(
        (), description="columns of the candidates that are weighed too, such as retriever.score; filled in by training"
    )


class EvidenceRanker:
    """Ranker that is a weighted sum of evidence and of what its candidates come with.

    A candidate without a column that was learnt has the mean of its list there, which is 0. An empty history leaves
    popularity and what the stage before said. Items that nobody took have evidence of their texts alone.

    Args:
        config: its options; None for the defaults.
    """

    kind: ClassVar[str] = "evidence"
    config_class: ClassVar[type[EvidenceConfig]] = EvidenceConfig

    def __init__(self, config: EvidenceConfig | None = None) -> None:
        self.config = config or EvidenceConfig()
        self._learnt: tuple[EvidenceFeatures, Catalogue, Float32[np.ndarray, K]] | None = None

    def learn(self, crowd: Crowd, catalogue: Catalogue, weights_K: Float32[np.ndarray, "K"]) -> "EvidenceRanker":
        """Take over what was counted and the weights of the columns, and return self."""
        self._learnt = EvidenceFeatures(crowd, catalogue, self.config.features), catalogue, weights_K
        return self

    def fit(
        self, requests: Any, candidates: Any, taken_B: Int[np.ndarray, "B"], crowd: Crowd, catalogue: Catalogue
    ) -> "EvidenceRanker":
        """Count, learn the weights, and return a ranker that has both.

        Neither the crowd nor the stage that offers the candidates may have learnt from these choices.

        Args:
            requests: see `Requests.of`.
            candidates: of each, with whatever columns they shall always come with; see `Candidates.of`.
            taken_B: the column of the candidate that was taken.
            crowd: what people did, with its order.
            catalogue: the items.

        Raises:
            ThinkrankError: if there are no requests, or a column that was taken holds no candidate.
        """
        candidates = checked_candidates(candidates, catalogue, len(taken_B))
        self.prepare(crowd, catalogue, candidates.numeric_names)
        columns_BNK = self.columns(checked_requests(requests, catalogue), candidates)
        return self.weigh(columns_BNK, candidates.mask_BN, taken_B)

    def prepare(self, crowd: Crowd, catalogue: Catalogue, offered: tuple[str, ...]) -> "EvidenceRanker":
        """Count, and leave all weights 0; `weigh` learns them from `columns`."""
        self.config = self.config.model_copy(update={"offered": offered})
        return self.learn(crowd, catalogue, np.zeros(len(self.column_names), np.float32))

    def weigh(
        self,
        columns_BNK: Float32[np.ndarray, "B N K"],
        mask_BN: Bool[np.ndarray, "B N"],
        taken_B: Int[np.ndarray, "B"],
    ) -> "EvidenceRanker":
        """Return one that counts the same and has the likeliest weights of these lists; this one stays as it is.

        Raises:
            ThinkrankError: if there are no lists, or a column that was taken holds no candidate.
        """
        if not len(taken_B) or not mask_BN[np.arange(len(taken_B)), taken_B].all():
            raise ThinkrankError("there is no list to learn from in which what was taken is a candidate")
        weights_2K, _ = conditional_logit(
            np.ascontiguousarray(columns_BNK.transpose(0, 2, 1)),
            mask_BN,
            np.asarray(taken_B),
            np.zeros(len(taken_B), dtype=bool),
            ridge=self.config.ridge,
            newcomer_ridge=0.0,
        )
        features, catalogue, _ = self._known()
        weighed = EvidenceRanker(self.config)
        weighed._learnt = features, catalogue, weights_2K[0]
        return weighed

    @property
    def column_names(self) -> tuple[str, ...]:
        """Name what is weighed, in the order of the weights."""
        return (*FEATURES, *self.config.offered)

    @property
    def weights(self) -> dict[str, float]:
        """Return the weight of each column, for a difference of one standard deviation within a list."""
        return dict(zip(self.column_names, self._known()[2].tolist(), strict=True))

    @property
    def weights_K(self) -> Float32[np.ndarray, "K"]:
        """Return the weights in the order of `column_names`."""
        return self._known()[2]

    @property
    def catalogue(self) -> Catalogue:
        """Return the items it knows; a ThinkrankError if nothing was learnt yet."""
        return self._known()[1]

    def _known(self) -> tuple[EvidenceFeatures, Catalogue, Float32[np.ndarray, "K"]]:
        if self._learnt is None:
            raise ThinkrankError("this EvidenceRanker has learnt nothing yet: call fit first")
        return self._learnt

    def columns(self, requests: Requests, candidates: Candidates) -> Float32[np.ndarray, "B N K"]:
        """Compute what is weighed of each candidate, each column standardised within its list; 0 for padding."""
        features, mask_BN = self._known()[0], candidates.mask_BN
        columns_BNK = np.zeros((*mask_BN.shape, len(self.column_names)), dtype=np.float32)
        rows = zip(columns_BNK, requests.histories, candidates.items_BN, mask_BN, strict=True)
        for columns_NK, history, items_N, mask_N in rows:
            if mask_N.any():
                columns_NK[mask_N, : len(FEATURES)] = features.of(history, items_N[mask_N].tolist())
        for k, name in enumerate(self.column_names):
            if name in candidates.numeric_names and candidates.numeric_BNF is not None:
                columns_BNK[:, :, k] = candidates.numeric_BNF[:, :, candidates.numeric_names.index(name)]
            columns_BNK[:, :, k] = standardised(columns_BNK[:, :, k], mask_BN)
        return columns_BNK

    def rank(self, requests: Any, candidates: Any) -> Ranking:
        """Sort each request's candidates; equal scores are ordered by catalogue row.

        Args:
            requests: see `Requests.of`.
            candidates: a list for each request; see `Candidates.of`.

        Raises:
            ThinkrankError: if there is not one list for each request, or a list holds what is not in the catalogue.
        """
        began = time.perf_counter()
        _, catalogue, weights_K = self._known()
        requests = checked_requests(requests, catalogue)
        candidates = checked_candidates(candidates, catalogue, len(requests))
        scores_BN = self.columns(requests, candidates) @ weights_K
        ranking = order_candidates(candidates, scores_BN, ties="row")
        return replace(ranking, cost=Cost(time.perf_counter() - began))

    def add_items(self, items: pl.DataFrame | Catalogue) -> range:
        """Add items that nobody has taken yet: only their texts speak for them.

        Returns:
            their catalogue rows.

        Raises:
            ThinkrankError: if they are no rows of a catalogue, or an id is taken.
        """
        features, old, weights_K = self._known()
        new = old.extended(items)
        self.learn(Crowd(features.crowd.histories, len(new)), new, weights_K)
        return range(len(old), len(new))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write weights, catalogue, and who chose what after what: by number, without names and times."""
        (features, catalogue, weights_K), folder = self._known(), begin(folder)
        histories = features.crowd.histories
        lengths = [len(history) for history in histories]
        write_arrays(
            folder / ARRAYS_FILE,
            {
                "weights_K": weights_K,
                "starts_U": np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
                "items_E": _joined([history.items for history in histories]),
                "tied_E": _joined([_tied(history) for history in histories]),
            },
        )
        catalogue.save(folder / CATALOGUE_FILE)
        finish(folder, self.kind, self.config)

    @classmethod
    def from_pretrained(cls, where: str | Path, *, device: str = "auto") -> "EvidenceRanker":
        """Load what `save_pretrained` wrote.

        Args:
            where: a folder, or a hub id `owner/name`.
            device: makes no difference: it counts.

        Raises:
            ThinkrankError: if a file is missing, unreadable, or of another kind or shape of model.
        """
        folder = local_folder(where)
        model = cls(read_config(folder, cls.kind, cls.config_class))
        with reading(folder):
            arrays, catalogue = load_file(folder / ARRAYS_FILE), Catalogue.load(folder / CATALOGUE_FILE)
            if arrays["weights_K"].shape != (len(model.column_names),):
                raise ThinkrankError(f"{folder}: the saved model is damaged: its columns and weights differ in number")
            histories = [
                History(arrays["items_E"][start:end], tied=arrays["tied_E"][start:end])
                for start, end in pairwise(arrays["starts_U"].tolist())
            ]
            return model.learn(Crowd(histories, len(catalogue)), catalogue, arrays["weights_K"])


def _tied(history: History) -> Int32[np.ndarray, "N"]:
    return np.zeros(len(history), np.int32) if history.tied is None else history.tied


def _joined(parts: Sequence[Int32[np.ndarray, "_"]]) -> Int32[np.ndarray, "E"]:
    return np.concatenate([np.zeros(0, np.int32), *parts]).astype(np.int32)
