"""Retrievers without a language model, to be measured against: popularity, item-kNN, EASE.

All learn with `fit(dataset_or_split)`, satisfy `thinkrank.stages.Retriever`, and go to disk and back with
`save_pretrained(folder)` and `from_pretrained(folder)`.
"""

from thinkrank.baselines.ease import EASE, EASEConfig
from thinkrank.baselines.item_knn import ItemKNN, ItemKNNConfig
from thinkrank.baselines.popularity import Popularity, PopularityConfig

__all__ = ["EASE", "EASEConfig", "ItemKNN", "ItemKNNConfig", "Popularity", "PopularityConfig"]
