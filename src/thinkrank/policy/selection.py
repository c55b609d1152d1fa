"""Which trajectories of a group train the item head.

Shape legend: B users, G rollouts.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from thinkrank.policy._checks import check_matrix
from thinkrank.policy.options import Selection


def selection_weights(
    advantages_BG: Float[Tensor, "B G"], selection: Selection, *, k: int = 1, floor: float = 0.0
) -> Float[Tensor, "B G"]:
    """Give weight 1 to the trajectories that train the item head, 0 to the others.

    - "best": the largest advantage of each group, the first of equal ones (R²ec);
    - "top_k": the k largest, the first of equal ones. One of them may have a negative advantage, which pushes its
      target away (the released R²ec script has k = 2 of 4);
    - "positive": every advantage above 0, so a tied group gives none;
    - "floor": the best, where its advantage is above 0 and at least `floor`. With GRPO's advantages "best" weighs a
      group by its spread; this leaves out groups with hardly any.

    Args:
        advantages_BG: one per rollout.
        selection: which of the four.
        k: of "top_k"; the others ignore it.
        floor: of "floor", in the unit of the advantages; the others ignore it.

    Raises:
        ValueError: if k is not between 1 and G, or an advantage is NaN.

    Source: R²ec, eq. 8, for "best"; "top_k" is in its code only; the others are ours.
    """
    _, num_rollouts = check_matrix("advantages", advantages_BG)
    if bool(advantages_BG.isnan().any()):
        raise ValueError("advantages hold NaN, so none is best")
    match selection:
        case "best":
            return _largest(advantages_BG, 1)
        case "top_k":
            if not 1 <= k <= num_rollouts:
                raise ValueError(f"k must lie between 1 and the {num_rollouts} rollouts, got {k}")
            return _largest(advantages_BG, k)
        case "positive":
            return (advantages_BG > 0).to(advantages_BG.dtype)
        case "floor":
            allowed_BG = (advantages_BG > 0) & (advantages_BG >= floor)
            return _largest(advantages_BG, 1).masked_fill(~allowed_BG, 0.0)


def _largest(advantages_BG: Tensor, k: int) -> Tensor:
    """Give weight 1 to the k largest of each row; a stable sort, so that the first of equals wins on every device."""
    order_BG = advantages_BG.argsort(dim=1, descending=True, stable=True)
    return torch.zeros_like(advantages_BG).scatter(1, order_BG[:, :k], 1.0)
