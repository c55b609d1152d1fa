"""Which part of a fused retriever is R²ec."""

from typing import Any

from thinkrank.retrieve import Fused, R2ec

READER = "R²ec"
"""Its name among the parts."""


def thinks_first(model: Any) -> bool:
    """Tell whether a model answers after a thought unless told otherwise: R²ec alone, where it can."""
    return isinstance(model, R2ec) and model.config.thinks


def reader_of(model: Any) -> Any:
    """Return the R²ec of a fused retriever; any other model as it is."""
    return model.parts[READER] if isinstance(model, Fused) and READER in model.parts else model
