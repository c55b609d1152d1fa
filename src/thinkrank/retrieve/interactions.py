"""What counting retrievers learn from; see `thinkrank.data.interactions`."""

from thinkrank.data.interactions import UserItems, all_items, catalogue_of, training_histories

__all__ = ["UserItems", "all_items", "catalogue_of", "training_histories"]
