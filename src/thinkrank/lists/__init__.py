"""Lists as tensors, and their first layer: what every model that orders a list shares."""

from thinkrank.lists.batch import ListBatch, batches, list_batch
from thinkrank.lists.encoder import ListEncoder, ListEncoderOptions, ListSchema
from thinkrank.lists.orders import ndcg

__all__ = ["ListBatch", "ListEncoder", "ListEncoderOptions", "ListSchema", "batches", "list_batch", "ndcg"]
