"""What the authors' released R²ec code computes instead of the paper's credit, kept to be compared with.

Shape legend: B users, G rollouts.
"""

from jaxtyping import Float
from torch import Tensor

from thinkrank.policy._checks import check_shapes


def group_mean_credit(
    advantages_BG: Float[Tensor, "B G"], weights_BG: Float[Tensor, "B G"]
) -> tuple[Float[Tensor, "B G"], Float[Tensor, "B G"]]:
    """Average the advantages of each group, for the tokens and for the item action.

    The released code multiplies advantages of shape (G, 1, 1) with ratios of shape (G, T). The product has shape
    (G, G, T), so every token of every trajectory gets the mean of the group's advantages, which is zero; and the item
    action of every trajectory the mean of the selected ones.

    Args:
        advantages_BG: one per rollout; a mini-batch of the released code is one group.
        weights_BG: which rollouts are selected for the item action, from `selection_weights`.

    Returns:
        one advantage per rollout for its tokens, and one for its item action, which every rollout then takes part in.

    Source: YRYangang/RRec at 449a544, found by running it.
    """
    check_shapes(advantages_BG.shape, weights=weights_BG)
    tokens_BG = advantages_BG.mean(dim=1, keepdim=True).expand_as(advantages_BG)
    items_BG = (advantages_BG * weights_BG).mean(dim=1, keepdim=True).expand_as(advantages_BG)
    return tokens_BG, items_BG
