"""The protocols by which stages are known. None of them is ever shown what a user did with an answer.

Shape legend: B requests.
"""

from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64, Integer

from thinkrank.data.candidates import Candidates
from thinkrank.data.catalogue import Catalogue
from thinkrank.data.requests import Requests
from thinkrank.stages.answers import Ranking


class Stage(Protocol):
    """Part of a cascade that can be saved, and found again by `thinkrank.load`.

    Attributes:
        kind: stands in the saved folder's config.json.
        catalogue: the items it knows; answers hold rows of it.
    """

    kind: ClassVar[str]
    catalogue: Catalogue

    def save_pretrained(self, folder: str | Path) -> None:
        """Write everything that is needed to answer, the catalogue included."""
        ...

    @classmethod
    def from_pretrained(cls, where: str | Path) -> Any:
        """Read what `save_pretrained` wrote."""
        ...


@runtime_checkable
class Retriever(Protocol):
    """Stage that searches the whole catalogue."""

    def retrieve(self, requests: Requests, k: int, *, filter_seen: bool = True) -> Ranking:
        """Answer each request with its k best items, those of its history left out if `filter_seen`."""
        ...

    def target_ranks(
        self, requests: Requests, targets_B: Integer[np.ndarray, "B"], *, filter_seen: bool = True
    ) -> Int64[np.ndarray, "B"]:
        """Return the 1-based place of each target in the whole catalogue, equal scores before it.

        A target that was left out has the place I + 1, which no list has.
        """
        ...


@runtime_checkable
class Ranker(Protocol):
    """Stage that scores each candidate."""

    def rank(self, requests: Requests, candidates: Candidates) -> Ranking:
        """Sort each request's candidates; the answer says in which column each stood."""
        ...


@runtime_checkable
class Reranker(Protocol):
    """Stage that writes the final list."""

    def rerank(self, requests: Requests, candidates: Candidates, k: int) -> Ranking:
        """Answer each request with k of its candidates in order; the answer says in which column each stood."""
        ...


class Configured:
    """Ask a stage in another way than it is configured: ``Configured(model, think=True)``.

    Args:
        stage: any stage.
        options: further arguments of whatever it is asked by.
    """

    def __init__(self, stage: Any, **options: Any) -> None:
        self.stage, self.options = stage, options

    def retrieve(self, requests: Requests, k: int, *, filter_seen: bool = True) -> Ranking:
        """See `Retriever`."""
        ranking: Ranking = self.stage.retrieve(requests, k, filter_seen=filter_seen, **self.options)
        return ranking

    def target_ranks(
        self, requests: Requests, targets_B: Integer[np.ndarray, "B"], *, filter_seen: bool = True
    ) -> Int64[np.ndarray, "B"]:
        """See `Retriever`."""
        return np.asarray(self.stage.target_ranks(requests, targets_B, filter_seen=filter_seen, **self.options))

    def retrieve_with_ranks(
        self, requests: Requests, k: int, targets_B: Integer[np.ndarray, "B"], *, filter_seen: bool = True
    ) -> tuple[Ranking, Int64[np.ndarray, "B"]]:
        """Answer both at once; see `answer_with_ranks`."""
        return answer_with_ranks(self.stage, requests, k, targets_B, filter_seen=filter_seen, **self.options)

    def rank(self, requests: Requests, candidates: Candidates) -> Ranking:
        """See `Ranker`."""
        ranking: Ranking = self.stage.rank(requests, candidates, **self.options)
        return ranking

    def rerank(self, requests: Requests, candidates: Candidates, k: int) -> Ranking:
        """See `Reranker`."""
        ranking: Ranking = self.stage.rerank(requests, candidates, k, **self.options)
        return ranking


def answer_with_ranks(
    retriever: Any,
    requests: Requests,
    k: int,
    targets_B: Integer[np.ndarray, "B"],
    *,
    filter_seen: bool,
    **options: Any,
) -> tuple[Ranking, Int64[np.ndarray, "B"]]:
    """Ask a retriever for its answer and for the places of targets.

    One that has a method `retrieve_with_ranks` reads (and thinks about) each request once for both.
    """
    both = getattr(retriever, "retrieve_with_ranks", None)
    if both is not None:
        ranking, ranks_B = both(requests, k, targets_B, filter_seen=filter_seen, **options)
        return ranking, ranks_B
    ranking = retriever.retrieve(requests, k, filter_seen=filter_seen, **options)
    return ranking, retriever.target_ranks(requests, targets_B, filter_seen=filter_seen, **options)
