"""Which part of a fused retriever is R²ec."""

from typing import Any

from thinkrank.retrieve import Fused

READER = "R²ec"
"""Its name among the parts."""


def reader_of(model: Any) -> Any:
    """Return the R²ec of a fused retriever; any other model as it is."""
    return model.parts[READER] if isinstance(model, Fused) and READER in model.parts else model
