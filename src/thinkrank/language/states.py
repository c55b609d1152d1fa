"""Token ids in, hidden states out: the forward pass that reads.

Shape legend: B sequences, T tokens, D width.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from thinkrank.errors import ThinkrankError
from thinkrank.language.attention import IMPLEMENTATION, AttentionPattern
from thinkrank.language.backbone import Backbone
from thinkrank.language.exact import is_exact
from thinkrank.language.item_tokens import ItemTokens, MixedPattern


def pad(
    sequences: Sequence[Sequence[int]], pad_id: int, *, side: str = "right", device: torch.device | None = None
) -> tuple[Int[Tensor, "B T"], Bool[Tensor, "B T"]]:
    """Stack ragged id lists into (ids, mask); the mask is True at real tokens.

    Args:
        sequences: token ids, at least one sequence.
        pad_id: what fills the gaps.
        side: "right" for reading, "left" for generating.
        device: where the result lives.

    Raises:
        ValueError: on an unknown side or no sequences.
    """
    if side not in ("left", "right"):
        raise ValueError(f"padding side must be left or right, got {side!r}")
    if not sequences:
        raise ValueError("there is no sequence to pad")
    width = max(len(sequence) for sequence in sequences)
    ids_BT = torch.full((len(sequences), width), pad_id, dtype=torch.long)
    mask_BT = torch.zeros((len(sequences), width), dtype=torch.bool)
    for row, sequence in enumerate(sequences):
        part = slice(0, len(sequence)) if side == "right" else slice(width - len(sequence), width)
        ids_BT[row, part] = torch.as_tensor(sequence, dtype=torch.long)
        mask_BT[row, part] = True
    return ids_BT.to(device), mask_BT.to(device)


def hidden_states(
    backbone: Backbone, ids_BT: Int[Tensor, "B T"], mask_BT: Bool[Tensor, "B T"]
) -> Float[Tensor, "B T D"]:
    """Return the final (normed) hidden states, in fp32 whatever the weights are.

    Positions count real tokens only, so the padding side and width change nothing but rounding.
    """
    position_ids_BT = (mask_BT.long().cumsum(dim=1) - 1).clamp(min=0)
    with backbone.precision():
        output = backbone.trunk()(
            input_ids=ids_BT, attention_mask=mask_BT.long(), position_ids=position_ids_BT, use_cache=False
        )
    states_BTD: Tensor = output.last_hidden_state
    return states_BTD.float()


def forward(
    backbone: Backbone, ids_BT: Int[Tensor, "B T"], positions_BT: Int[Tensor, "B T"], sight: AttentionPattern
) -> Float[Tensor, "B T D"]:
    """Read the final (normed) hidden states, in fp32, of tokens that see what `sight` shows them.

    Tokens may be items where the backbone has `items`; only the upper layers read these.

    Raises:
        ThinkrankError: if `load_backbone` did not load the model, its tokens can reach each other past attention, it
            caps attention scores, or `sight` does not know items.
    """
    causal = backbone.model.get_base_model() if hasattr(backbone.model, "get_base_model") else backbone.model
    kinds = set(getattr(causal.config, "layer_types", None) or ["full_attention"])
    if causal.config._attn_implementation != IMPLEMENTATION:  # it would ignore `sight` and let all see all
        raise ThinkrankError(
            f"the model {backbone.source!r} attends by {causal.config._attn_implementation!r}: "
            "load it with load_backbone, which plugs in the attention that shared prefixes need"
        )
    if not causal._supports_attention_backend or not kinds <= {"full_attention", "sliding_attention"}:
        raise ThinkrankError(
            f"the model {backbone.source!r} does not attend through transformers' attention interface alone "
            f"(layers: {', '.join(sorted(kinds))}): use a decoder with full or sliding-window attention"
        )
    if backbone.items is not None and bool(backbone.items.is_item(ids_BT).any()):
        return _mixed(backbone, backbone.items, ids_BT, positions_BT, sight)
    whole = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=ids_BT.device)  # a 4-D mask is taken as it is, and unused
    with backbone.precision():
        output = backbone.trunk()(
            input_ids=ids_BT, position_ids=positions_BT, attention_mask=whole, use_cache=False, sight=sight
        )
    states_BTD: Tensor = output.last_hidden_state
    return states_BTD.float()


def _mixed(
    backbone: Backbone,
    items: ItemTokens,
    ids_1T: Int[Tensor, "1 T"],
    positions_1T: Int[Tensor, "1 T"],
    sight: AttentionPattern,
) -> Float[Tensor, "1 T D"]:
    """Read text up to the boundary as `text_runs` says, and from there on text and items."""
    if not isinstance(sight, MixedPattern):
        raise ThinkrankError(f"a {type(sight).__name__} does not know which tokens are items")
    is_item_T = items.is_item(ids_1T[0])
    with backbone.precision():
        dtype = torch.float32 if is_exact() else backbone.dtype
        inputs_TD = torch.zeros(len(is_item_T), backbone.hidden_size, dtype=dtype, device=ids_1T.device)
        inputs_TD = inputs_TD.index_put((is_item_T,), items.inputs(ids_1T[0, is_item_T]).to(inputs_TD.dtype))
        places_A, below_AD = sight.text_below(backbone.halves, items.first_id)
        if len(places_A):
            inputs_TD = inputs_TD.index_copy(0, places_A, below_AD.to(inputs_TD.dtype))
        return backbone.halves.above(inputs_TD[None], positions_1T, sight).float()
