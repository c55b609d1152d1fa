"""Re-rankers to be measured against: orders that learn nothing, and list-wise networks.

All satisfy `thinkrank.stages.Reranker`. The networks learn with `fit(lists_or_split)` and go to disk and back with
`save_pretrained(folder)` and `from_pretrained(folder)`; they need torch, which is imported on their first use.
"""

from typing import TYPE_CHECKING

from thinkrank._lazy import lazy_names
from thinkrank.baselines.lists.orders import FeatureOrder, InitialOrder

if TYPE_CHECKING:
    from thinkrank.baselines.lists.dlcm import DLCM, DLCMOptions
    from thinkrank.baselines.lists.pointwise import Pointwise, PointwiseOptions
    from thinkrank.baselines.lists.prm import PRM, PRMOptions
    from thinkrank.baselines.lists.seq2slate import Seq2Slate, Seq2SlateOptions
    from thinkrank.baselines.lists.setrank import SetRank, SetRankOptions

__all__ = [
    "DLCM",
    "PRM",
    "DLCMOptions",
    "FeatureOrder",
    "InitialOrder",
    "PRMOptions",
    "Pointwise",
    "PointwiseOptions",
    "Seq2Slate",
    "Seq2SlateOptions",
    "SetRank",
    "SetRankOptions",
]

__getattr__ = lazy_names(
    __name__,
    {
        "DLCM": "dlcm",
        "DLCMOptions": "dlcm",
        "PRM": "prm",
        "PRMOptions": "prm",
        "Pointwise": "pointwise",
        "PointwiseOptions": "pointwise",
        "Seq2Slate": "seq2slate",
        "Seq2SlateOptions": "seq2slate",
        "SetRank": "setrank",
        "SetRankOptions": "setrank",
    },
)
