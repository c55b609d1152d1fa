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

    Raises:
        ThinkrankError: if `load_backbone` did not load the model, its tokens can reach each other past attention, or
            it caps attention scores.
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
    whole = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=ids_BT.device)  # a 4-D mask is taken as it is, and unused
    with backbone.precision():
        output = backbone.trunk()(
            input_ids=ids_BT, position_ids=positions_BT, attention_mask=whole, use_cache=False, sight=sight
        )
    states_BTD: Tensor = output.last_hidden_state
    return states_BTD.float()
