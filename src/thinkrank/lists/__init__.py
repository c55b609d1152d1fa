"""Lists as tensors, and their first layer: what every model that orders a list shares."""

from thinkrank.lists.batch import ListBatch, batches, list_batch
from thinkrank.lists.encoder import ListEncoder, ListEncoderOptions
from thinkrank.lists.orders import ndcg
from thinkrank.lists.schema import ListReader, ListSchema

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
