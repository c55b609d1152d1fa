"""Attention as a plug: who sees whom is decided here, the rest of the model stays transformers' own.

Every backbone runs with the attention implementation that this module registers. Without further ado it is
transformers' SDPA. A caller that hands the model `sight=...` replaces it: `sight` gets each layer's queries, keys and
values, after rotary embedding, and returns what the tokens see. Packed training and incremental sampling are two such
objects, so both work for every architecture that goes through transformers' attention interface.

Shape legend: B sequences, H heads, J key-value heads, T tokens, S seen tokens, E head width.
"""

from typing import Any, cast

import torch
from jaxtyping import Bool
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from thinkrank.errors import ThinkrankError
from thinkrank.language.sight import AttentionPattern as AttentionPattern

IMPLEMENTATION = "thinkrank"


def _attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    sight: AttentionPattern | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    if sight is None:
        kwargs["sliding_window"] = sliding_window
        mixed: Tensor = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)[0]
        return mixed, None
    if kwargs.get("softcap") is not None or kwargs.get("s_aux") is not None:
        raise ThinkrankError(
            "this model caps its attention scores or has attention sinks, which shared prefixes do not support"
        )
    layer = cast(int, module.layer_idx)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return sight.attend(layer, query, key, value, scale=scale, window=sliding_window).transpose(1, 2).contiguous(), None


AttentionInterface.register(IMPLEMENTATION, _attention)
AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)


def visible(query_positions_T: Tensor, key_positions_S: Tensor, window: int | None) -> Bool[Tensor, "T S"]:
    """Tell which keys of the same sequence a query may look at: those at or before it, within the window."""
    distance_TS = query_positions_T[:, None] - key_positions_S[None, :]
    seen_TS = distance_TS >= 0
    return seen_TS if window is None else seen_TS & (distance_TS < window)
