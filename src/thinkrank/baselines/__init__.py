"""Retrievers without a language model, to be measured against: popularity, item-kNN, EASE, SASRec.

All learn with `fit(dataset_or_split)`, satisfy `thinkrank.stages.Retriever`, and go to disk and back with
`save_pretrained(folder)` and `from_pretrained(folder)`. Only SASRec needs torch, which is imported on its first use.
"""

from typing import TYPE_CHECKING

from thinkrank._lazy import lazy_names
from thinkrank.baselines.ease import EASE, EASEConfig
from thinkrank.baselines.item_knn import ItemKNN, ItemKNNConfig
from thinkrank.baselines.popularity import Popularity, PopularityConfig

if TYPE_CHECKING:
    from thinkrank.baselines.sasrec import SASRec, SasrecOptions

__all__ = [
    "EASE",
    "EASEConfig",
    "ItemKNN",
    "ItemKNNConfig",
    "Popularity",
    "PopularityConfig",
    "SASRec",
    "SasrecOptions",
]

__getattr__ = lazy_names(__name__, {"SASRec": "sasrec", "SasrecOptions": "sasrec"})
