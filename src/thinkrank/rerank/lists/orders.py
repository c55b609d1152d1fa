"""How good scores order lists, on tensors, for validation while training.

Shape legend: B lists, N candidates.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def ndcg(
    scores_BN: Float[Tensor, "B N"], feedback_BN: Float[Tensor, "B N"], mask_BN: Bool[Tensor, "B N"], k: int
) -> Float[Tensor, "B"]:
    """NDCG@k with the gain 2^y - 1, of lists sorted by score; equal scores keep the displayed order.

    DCG@k = Σ_{place p ≤ k} (2^{y_p} - 1) / log2(p + 1), over that of the best order; 0 for a list without feedback.

    Args:
        scores_BN: higher is better, any unit.
        feedback_BN: y, 0 or above.
        mask_BN: False for padding.
        k: the cut-off, at least 1; may exceed N.

    Source: Järvelin & Kekäläinen 2002; the gain is that of Burges et al. 2005.
    """
    gains_BN = (feedback_BN.exp2() - 1) * mask_BN
    order_BN = scores_BN.masked_fill(~mask_BN, -torch.inf).argsort(dim=1, descending=True, stable=True)
    discounts_N = 1 / torch.arange(2, gains_BN.shape[1] + 2, device=gains_BN.device).log2()
    discounts_N[k:] = 0
    found_B = gains_BN.gather(1, order_BN) @ discounts_N
    best_B = gains_BN.sort(dim=1, descending=True).values @ discounts_N
    return found_B / best_B.masked_fill(best_B == 0, 1.0)
