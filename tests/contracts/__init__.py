"""What every stage must do, as test classes to inherit from."""

from contracts.retriever import LearnsTasteContract, RetrieverContract
from contracts.tiny_world import two_tribes

__all__ = ["LearnsTasteContract", "RetrieverContract", "two_tribes"]
