"""What an answer is worth."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def ndcg_reward(ranks: Int[Tensor, "*shape"], k: int | None) -> Float[Tensor, "*shape"]:
    """NDCG@k of a single relevant item: 1 / log2(rank + 1) where rank <= k, else 0.

    Args:
        ranks: 1-based rank of the relevant item, any shape.
        k: cut-off; may exceed the catalogue. None is the whole list.

    Raises:
        ValueError: if a rank or k is below 1.

    Source: R²ec, section 3.3 (its R_d, there with k = 1000).
    """
    if k is not None and k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if bool((ranks < 1).any()):
        raise ValueError("ranks are 1-based")
    gain = 1 / torch.log2(ranks.float() + 1)
    return gain if k is None else gain.where(ranks <= k, torch.zeros(()))
