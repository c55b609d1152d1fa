"""What retrievers share that score the whole catalogue at once: answers, places of targets, a way to disk and back.

A retriever of one's own is a class with a `kind`, a `config_class`, a `fit` and `scores`; see `DenseRetriever`.

Shape legend: B requests, I items of the catalogue, N candidates.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import polars as pl
from jaxtyping import Float32, Int64, Integer
from safetensors.numpy import load_file

from thinkrank.data.catalogue import Catalogue
from thinkrank.data.requests import Requests
from thinkrank.errors import ThinkrankError
from thinkrank.options import Options
from thinkrank.pretrained import (
    CATALOGUE_FILE,
    begin,
    finish,
    format_of,
    local_folder,
    read_config,
    reading,
    write_arrays,
)
from thinkrank.stages.answers import Ranking
from thinkrank.stages.checks import checked_candidates, checked_requests
from thinkrank.stages.order import mask_seen, order_candidates, target_ranks, top_k

ARRAYS_FILE = "model.safetensors"
_SCORED_AT_ONCE = 256
"""Requests whose scores are held at the same time, but for"""
_MOST_CELLS = 2**26
"""that no more scores than these are."""

ConfigT = TypeVar("ConfigT", bound=Options)
RetrieverT = TypeVar("RetrieverT", bound="DenseRetriever[Any]")  # typing.Self: the shape checks of tests cannot read it


class DenseRetriever(ABC, Generic[ConfigT]):
    """Retriever that scores the whole catalogue and holds its knowledge in a few arrays.

    A subclass names its `kind` and `config_class`, learns in a method (`fit`) that ends with a call of `learn`, and
    gives `scores`. Answers, places of targets, ranking, saving and loading follow. It satisfies
    `thinkrank.stages.Retriever` and `thinkrank.stages.Ranker`.

    Args:
        config: its options; None for the defaults.
    """

    kind: ClassVar[str]
    config_class: type[ConfigT]
    learns_by: ClassVar[str] = "fit"
    """What must be called before anything can be answered."""

    def __init__(self, config: ConfigT | None = None) -> None:
        self.config: ConfigT = self.config_class() if config is None else config
        self._learnt: tuple[Catalogue, dict[str, np.ndarray]] | None = None

    @abstractmethod
    def scores(self, requests: Any) -> Float32[np.ndarray, "B I"]:
        """Score every catalogue item for each request; higher is better, no NaN.

        Args:
            requests: anything that `checked` accepts.
        """

    def learn(self, catalogue: Catalogue, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over what was learnt, and the items it is about."""
        self._learnt = catalogue, dict(arrays)

    def add_items(self, items: pl.DataFrame | Catalogue) -> range:
        """Add items that nobody has taken yet, without learning anew: every number about them is 0.

        Args:
            items: rows of a catalogue; columns that one side lacks are empty there.

        Returns:
            their catalogue rows.

        Raises:
            ThinkrankError: if they are no rows of a catalogue, an id is taken, or what was learnt cannot grow.
        """
        old, arrays = self._known()
        new = old.extended(items)
        self.learn(new, {name: self._grown(name, array, len(new) - len(old)) for name, array in arrays.items()})
        return range(len(old), len(new))

    def _grown(self, name: str, array: np.ndarray, more: int) -> np.ndarray:
        """Put zeros behind the items of an array, whose axes are the letters at the end of its name."""
        axes = name.rpartition("_")[2]
        if len(axes) != array.ndim or not axes.isupper():
            raise ThinkrankError(
                f"a {type(self).__name__} learns a place of its own for every item, so it takes none without training"
            )
        return np.pad(array, [(0, more if axis == "I" else 0) for axis in axes])

    @property
    def catalogue(self) -> Catalogue:
        """Return the items it knows.

        Raises:
            ThinkrankError: if nothing was learnt yet.
        """
        return self._known()[0]

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """Return what was learnt, by name; it is what is saved.

        Raises:
            ThinkrankError: if nothing was learnt yet.
        """
        return self._known()[1]

    def _known(self) -> tuple[Catalogue, dict[str, np.ndarray]]:
        if self._learnt is None:
            raise ThinkrankError(f"this {type(self).__name__} has learnt nothing yet: call {self.learns_by} first")
        return self._learnt

    def checked(self, requests: Any) -> Requests:
        """Accept requests in any form that `Requests.of` knows, of items in the catalogue.

        Raises:
            ThinkrankError: for anything else, and if nothing was learnt yet.
        """
        return checked_requests(requests, self.catalogue)

    def retrieve(self, requests: Any, k: int, *, filter_seen: bool = True) -> Ranking:
        """Answer each request with its k best items; equal scores are ordered by catalogue row.

        Args:
            requests: see `Requests.of`.
            k: how many; an answer is no wider than the catalogue.
            filter_seen: leave the items of the history out.
        """
        requests = self.checked(requests)
        parts = [_best(scores_BI, k) for _, scores_BI in self._scored(requests, filter_seen)]
        return _joined(parts, min(k, len(self.catalogue)))

    def target_ranks(
        self, requests: Any, targets_B: Integer[np.ndarray, "B"], *, filter_seen: bool = True
    ) -> Int64[np.ndarray, "B"]:
        """Return the 1-based place of each target in the whole catalogue, equal scores before it.

        Args:
            requests: see `Requests.of`.
            targets_B: catalogue rows.
            filter_seen: leave the items of the history out; such a target has the place I + 1.
        """
        requests = self.checked(requests)
        ranks = [target_ranks(scores_BI, targets_B[part]) for part, scores_BI in self._scored(requests, filter_seen)]
        return np.concatenate([np.zeros(0, np.int64), *ranks])

    def retrieve_with_ranks(
        self, requests: Any, k: int, targets_B: Integer[np.ndarray, "B"], *, filter_seen: bool = True
    ) -> tuple[Ranking, Int64[np.ndarray, "B"]]:
        """Answer both `retrieve` and `target_ranks` from one scoring."""
        requests = self.checked(requests)
        parts, ranks = [], [np.zeros(0, np.int64)]
        for part, scores_BI in self._scored(requests, filter_seen):
            parts.append(_best(scores_BI, k))
            ranks.append(target_ranks(scores_BI, targets_B[part]))
        return _joined(parts, min(k, len(self.catalogue))), np.concatenate(ranks)

    def rank(self, requests: Any, candidates: Any) -> Ranking:
        """Sort each request's candidates; equal scores are ordered by catalogue row, as in `retrieve`.

        Args:
            requests: see `Requests.of`.
            candidates: a list for each request; see `Candidates.of`.

        Raises:
            ThinkrankError: if there is not one list for each request, or a list holds what is not in the catalogue.
        """
        requests = self.checked(requests)
        candidates = checked_candidates(candidates, self.catalogue, len(requests))
        scores_BN = np.zeros(candidates.items_BN.shape, dtype=np.float32)
        for part, scores_BI in self._scored(requests, filter_seen=False):
            scores_BN[part] = np.take_along_axis(scores_BI, np.maximum(candidates.items_BN[part], 0), axis=1)
        return order_candidates(candidates, scores_BN, ties="row")

    def _scored(self, requests: Requests, filter_seen: bool) -> Iterator[tuple[slice, Float32[np.ndarray, "B I"]]]:
        """Yield scores of a few requests at a time and their place among all; -inf for what must be left out."""
        for part, batch in requests.batches(max(1, min(_SCORED_AT_ONCE, _MOST_CELLS // max(1, len(self.catalogue))))):
            scores_BI = self.scores(batch)
            yield part, mask_seen(scores_BI, batch.histories) if filter_seen else scores_BI

    def save_pretrained(self, folder: str | Path) -> None:
        """Write what was learnt, the catalogue and, last, the configuration into a folder, made if need be.

        Raises:
            ThinkrankError: if nothing was learnt yet.
        """
        (catalogue, arrays), folder = self._known(), begin(folder)
        write_arrays(folder / ARRAYS_FILE, arrays)
        catalogue.save(folder / CATALOGUE_FILE)
        finish(folder, self.kind, self.config)

    @classmethod
    def from_pretrained(cls: type[RetrieverT], where: str | Path, *, device: str = "auto") -> RetrieverT:
        """Load what `save_pretrained` wrote.

        A folder of format 1 holds no catalogue: its items then have their rows as ids and titles: "0", "1", ...

        Args:
            where: a folder, or a hub id `owner/name`.
            device: auto, cpu, cuda, cuda:1 or mps, for retrievers that compute with torch.

        Raises:
            ThinkrankError: if a file is missing, unreadable, or of another kind or shape of model.
        """
        folder = local_folder(where)
        model = cls._of(read_config(folder, cls.kind, cls.config_class), device)
        with reading(folder):
            arrays = load_file(folder / ARRAYS_FILE)
            if (folder / CATALOGUE_FILE).is_file() or format_of(folder) > 1:
                catalogue = Catalogue.load(folder / CATALOGUE_FILE)
            else:
                rows = pl.Series("item", [str(row) for row in range(len(arrays["counts_I"]))], dtype=pl.String)
                catalogue = Catalogue(pl.DataFrame({"item": rows, "title": rows}))
            model.learn(catalogue, arrays)
        return model

    @classmethod
    def _of(cls: type[RetrieverT], config: Any, device: str) -> RetrieverT:
        """Make an untrained one; the device makes no difference to arrays."""
        return cls(config)


def _best(scores_BI: Float32[np.ndarray, "B I"], k: int) -> Ranking:
    """Find the k best of scores in which what must not be recommended is -inf already."""
    return top_k(scores_BI, (), k, filter_seen=False)


def _joined(parts: list[Ranking], k: int) -> Ranking:
    """Join the answer to all requests from those to a few at a time."""
    items_BK = np.concatenate([np.zeros((0, k), np.int32), *(part.items_BK for part in parts)])
    return Ranking(items_BK, np.concatenate([np.zeros((0, k), np.float32), *(part.scores_BK for part in parts)]))
