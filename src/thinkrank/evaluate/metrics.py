"""The ranking metrics of `thinkrank.metrics`, where a reader of results looks for them."""

from thinkrank.metrics import (
    auc,
    average_precision,
    hit,
    ndcg,
    recall,
    reciprocal_rank,
    relevance_from_ranks,
    ties_from_ranks,
)

__all__ = [
    "auc",
    "average_precision",
    "hit",
    "ndcg",
    "recall",
    "reciprocal_rank",
    "relevance_from_ranks",
    "ties_from_ranks",
]
