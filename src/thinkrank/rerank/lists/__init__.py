"""Lists as tensors, and their first layer: what every model that orders a list shares."""

from thinkrank.rerank.lists.batch import ListBatch, batches, list_batch
from thinkrank.rerank.lists.encoder import ListEncoder, ListEncoderOptions
from thinkrank.rerank.lists.orders import ndcg
from thinkrank.rerank.lists.schema import ListReader, ListSchema

__all__ = [
    "ListBatch",
    "ListEncoder",
    "ListEncoderOptions",
    "ListReader",
    "ListSchema",
    "batches",
    "list_batch",
    "ndcg",
]
