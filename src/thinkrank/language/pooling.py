"""The one place where a sequence of hidden states becomes the vector of a text."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def last_states(states_BTD: Float[Tensor, "B T D"], mask_BT: Bool[Tensor, "B T"]) -> Float[Tensor, "B D"]:
    """Return each row's state at its last real token, on whichever side the padding stands.

    The position comes from the mask and never from a search for the pad id, which may occur inside a text.

    Args:
        states_BTD: hidden states.
        mask_BT: True at real tokens, False at padding.

    Raises:
        ValueError: if a row holds no real token.

    Source: R²ec, table 3 ("last hidden state", the readout the paper keeps).
    """
    if not bool(mask_BT.any(dim=1).all()):
        raise ValueError("a row without any real token has no last state")
    positions_T = torch.arange(mask_BT.shape[1], device=mask_BT.device)
    last_B = torch.where(mask_BT, positions_T, -1).amax(dim=1)
    return states_BTD[torch.arange(len(last_B), device=last_B.device), last_B]
