"""Systems without a language model, as tables and studies set them beside one."""

from collections.abc import Sequence
from typing import Any

from thinkrank.data import Split
from thinkrank.retrieve import EASE, ItemKNN, Popularity, SASRec, SasrecOptions, train_sasrec
from thinkrank.retrieve.base import DenseRetriever
from thinkrank.training import Progress, no_progress

POPULARITY, ITEM_KNN, EASE_R, SASREC = "popularity", "item-kNN", "EASE", "SASRec"
REFERENCES = (POPULARITY, ITEM_KNN)
"""What every other system of a table is tested against."""

_COUNTED = {POPULARITY: Popularity, ITEM_KNN: ItemKNN, EASE_R: EASE}


def fitted_baselines(
    split: Split, names: Sequence[str], *, seed: int = 0, device: str = "auto", progress: Progress = no_progress
) -> dict[str, DenseRetriever[Any]]:
    """Fit systems on the train part; SASRec stops early on the valid part.

    Args:
        split: the data.
        names: of the systems, in the order of the table.
        seed: of SASRec.
        device: where SASRec trains and answers.
        progress: how to show SASRec's training.
    """
    systems: dict[str, DenseRetriever[Any]] = {}
    for name in names:
        if name == SASREC:
            systems[name] = model = SASRec(SasrecOptions(seed=seed), device=device)
            train_sasrec(model, split, progress=progress)
        else:
            systems[name] = _COUNTED[name]().fit(split)
    return systems
