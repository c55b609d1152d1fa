"""Which validation in a log is that of the weights that were kept."""

from collections.abc import Mapping, Sequence
from typing import Any

FIGURES = "valid_thinking_ndcg@10", "valid_ndcg@10"
"""NDCG@10 after a thought and without; the one that stands first in a log chose the weights."""


def kept_row(rows: Sequence[Mapping[str, Any]], keep: str) -> Mapping[str, Any]:
    """Return a retriever's validation of the weights that were kept: that of the highest figure, or the last.

    Args:
        rows: of the log.
        keep: "best" or "last".

    Returns:
        the row; nothing without any.
    """
    found = [row for row in rows if any(figure in row for figure in FIGURES)]
    if not found:
        return {}
    chosen = next(figure for figure in found[0] if figure in FIGURES)
    return max(found, key=lambda row: float(row[chosen])) if keep == "best" else found[-1]


def kept_value(rows: Sequence[Mapping[str, Any]], key: str, keep: str) -> float:
    """Return what validation says of the weights that were kept: the highest value, or the last; 0 without any."""
    values = [float(row[key]) for row in rows if key in row]
    return (max(values) if keep == "best" else values[-1]) if values else 0.0


def kept_step(rows: Sequence[Mapping[str, Any]], key: str, keep: str) -> int | None:
    """Return the step after which the kept weights were validated; None without a validation."""
    found = [(int(row["step"]), float(row[key])) for row in rows if key in row]
    if not found:
        return None
    return max(found, key=lambda pair: (pair[1], -pair[0]))[0] if keep == "best" else found[-1][0]
