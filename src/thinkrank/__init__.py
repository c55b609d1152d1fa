"""Recommenders that reason: retrieve, rank and rerank with language models that think first.

import thinkrank

dataset = thinkrank.load_dataset("movielens-100k")
model = thinkrank.R2ec.from_pretrained("runs/demo/model")
ranking = model.retrieve([dataset.history("1")], k=10, think=True)
"""

from typing import TYPE_CHECKING

from thinkrank._lazy import lazy_names

if TYPE_CHECKING:
    from thinkrank.data import load_dataset
    from thinkrank.errors import ThinkrankError
    from thinkrank.rank import R2Rank
    from thinkrank.rerank import EGLR
    from thinkrank.retrieve import R2ec

__version__ = "0.1.0"
__all__ = ["EGLR", "R2Rank", "R2ec", "ThinkrankError", "__version__", "load_dataset"]

__getattr__ = lazy_names(
    __name__,
    {"EGLR": "rerank", "load_dataset": "data", "R2Rank": "rank", "R2ec": "retrieve", "ThinkrankError": "errors"},
    submodules=(
        "baselines",
        "data",
        "evaluate",
        "language",
        "lists",
        "policy",
        "rank",
        "rerank",
        "retrieve",
        "stages",
        "training",
    ),
)
