"""What every stage must do, as test classes to inherit from."""

from contracts.killing import KilledError, kill_at, timeless
from contracts.retriever import LearnsTasteContract, RetrieverContract
from contracts.tiny_lists import random_lists, widened
from contracts.tiny_world import two_tribes

__all__ = [
    "KilledError",
    "LearnsTasteContract",
    "RetrieverContract",
    "kill_at",
    "random_lists",
    "timeless",
    "two_tribes",
    "widened",
]
