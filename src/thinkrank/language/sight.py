"""What the tokens of one forward pass attend to, as an object that a model is handed.

Shape legend: B sequences, H heads, J key-value heads, T tokens, E head width.
"""

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class AttentionPattern(Protocol):
    """Say what the tokens of one forward pass attend to."""

    def attend(
        self,
        layer: int,
        queries_BHTE: Float[Tensor, "B H T E"],
        keys_BJTE: Float[Tensor, "B J T E"],
        values_BJTE: Float[Tensor, "B J T E"],
        *,
        scale: float,
        window: int | None,
    ) -> Float[Tensor, "B H T E"]:
        """Mix the values.

        Args:
            layer: index of the decoder layer.
            queries_BHTE: one query per token and head.
            keys_BJTE: H / J queries share a key.
            values_BJTE: as the keys.
            scale: factor on the dot products.
            window: a token sees itself and the `window - 1` tokens before it; None is no limit.
        """
        ...
