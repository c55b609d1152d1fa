"""What every stage must do, as test classes to inherit from."""

from contracts.retriever import LearnsTasteContract, RetrieverContract
from contracts.tiny_lists import random_lists, widened
from contracts.tiny_world import two_tribes

__all__ = ["LearnsTasteContract", "RetrieverContract", "random_lists", "two_tribes", "widened"]
