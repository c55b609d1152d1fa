"""A stage of your own in a run: named in the settings, learnt by its own means, kept in the run's folder.

Shape legend: B requests, I items of the catalogue.
"""

import inspect
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, Integer
from pydantic import ConfigDict, Field, model_serializer

from thinkrank.data.requests import Requests
from thinkrank.errors import ThinkrankError
from thinkrank.options import Options
from thinkrank.pretrained import begin, finish, imported, is_saved
from thinkrank.recipes.layers import validated
from thinkrank.stages.answers import Ranking
from thinkrank.training import Run, UnsavedRun


class StageClass(Options):
    """Name a class that takes a stage's place, and what its constructor is given.

    The class has `fit(split)`, or `train(split, run)` if it logs and resumes in the run's folder; `save_pretrained` and
    `from_pretrained`; and what its stage is asked by: `retrieve`, `rank` or `rerank` (`thinkrank.stages`).
    """

    model_config = ConfigDict(populate_by_name=True)

    name: str = Field(alias="class", description="class that takes the stage's place, as package.module:Name")
    options: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of its constructor")

    @model_serializer
    def _table(self) -> dict[str, Any]:
        return {"class": self.name, "options": self.options}

    @property
    def title(self) -> str:
        """Return what tables call it."""
        return self.name.rpartition(":")[2]


def create(chosen: StageClass, verb: str) -> Any:
    """Make an untrained stage.

    Args:
        chosen: its class and options.
        verb: what its stage is asked by.

    Raises:
        ThinkrankError: if the class cannot be imported, lacks a method, or takes other options.
    """
    made_of = _class(chosen, verb)
    if hasattr(made_of, "config_class"):  # as stages of the package have it: one object of options
        return made_of(validated(made_of.config_class, chosen.options))
    try:
        inspect.signature(made_of).bind(**chosen.options)
    except TypeError as error:
        raise ThinkrankError(f"{chosen.name}: its constructor and the options do not fit: {error}") from error
    return made_of(**chosen.options)


def learn(chosen: StageClass, stage: Any, split: Any, run: Run) -> None:
    """Train a stage by its own means.

    Args:
        chosen: its class.
        stage: trained in place.
        split: what it may learn from; the test part is there, and not to be touched.
        run: for one that logs and resumes.

    Raises:
        ThinkrankError: if it has neither `train(split, run)` nor `fit(split)`.
    """
    if "run" in _parameters(getattr(stage, "train", None)):
        try:
            stage.train(split, run)
        finally:
            run.close()
    elif hasattr(stage, "fit"):
        stage.fit(split)
    else:
        raise ThinkrankError(f"{chosen.name} has neither fit(split) nor train(split, run)")


def run_inside(folder: Path | None, verb: str, chosen: StageClass, split: Any) -> Run:
    """Open the folder of its own that a stage has inside a run's; without one nothing is kept."""
    if folder is None:
        return UnsavedRun()
    return Run(folder / f"own-{verb}", chosen.model_dump(mode="json"), {"split": split.manifest()})


def save(chosen: StageClass, stage: Any, folder: Path) -> None:
    """Save a trained stage; a folder that it leaves without a config.json gets one, for it tells a whole model."""
    stage.save_pretrained(begin(folder))
    if not is_saved(folder):
        finish(folder, chosen.name, chosen)


def load(chosen: StageClass, verb: str, folder: Path, device: str) -> Any:
    """Load what `save` wrote, onto a device if the class takes one."""
    reader = _class(chosen, verb).from_pretrained
    return reader(folder, device=device) if "device" in _parameters(reader) else reader(folder)


class WholeAnswer:
    """Retriever that tells places of targets from an answer that holds the whole catalogue.

    Args:
        retriever: one that has no `target_ranks`.
        num_items: of the catalogue.
    """

    def __init__(self, retriever: Any, num_items: int) -> None:
        self.retriever, self.num_items = retriever, num_items

    def retrieve(self, requests: Requests, k: int, *, filter_seen: bool = True) -> Ranking:
        """Answer as the retriever does."""
        ranking: Ranking = self.retriever.retrieve(requests, k, filter_seen=filter_seen)
        return ranking

    def target_ranks(
        self, requests: Requests, targets_B: Integer[np.ndarray, "B"], *, filter_seen: bool = True
    ) -> Int64[np.ndarray, "B"]:
        """Count the items that stand before each target or score as high; one more than all if it is left out."""
        ranking = self.retrieve(requests, self.num_items, filter_seen=filter_seen)
        is_target_BI = ranking.items_BK == targets_B[:, None]
        score_B = np.where(is_target_BI, ranking.scores_BK, -np.inf).max(axis=1)
        ranks_B = ((ranking.scores_BK >= score_B[:, None]) & (ranking.items_BK >= 0)).sum(axis=1)
        return np.where(is_target_BI.any(axis=1), ranks_B, self.num_items + 1).astype(np.int64)


def with_places(retriever: Any, num_items: int) -> Any:
    """Return a retriever that tells places of targets, whether or not it does so itself."""
    return retriever if hasattr(retriever, "target_ranks") else WholeAnswer(retriever, num_items)


def _class(chosen: StageClass, verb: str) -> Any:
    made_of = imported(chosen.name)
    for method in ("save_pretrained", "from_pretrained", verb):
        if not callable(getattr(made_of, method, None)):
            raise ThinkrankError(f"{chosen.name} has no method {method}, which a stage in its place needs")
    return made_of


def _parameters(function: Any) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters) if callable(function) else frozenset()
