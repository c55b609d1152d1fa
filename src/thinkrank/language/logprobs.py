"""How probable the model finds given tokens, without ever holding the logits of a whole batch.

Logits are products in fp32 whatever the weights are: rounded to bf16 they tie (of 96 scores of yes against no, eight
are distinct). A head in bf16 is widened in pieces that stay in a CPU's cache, which on a CPU costs no more than a head
kept in fp32 would, and no memory.

Shape legend: N positions, V vocabulary, D width.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from thinkrank.errors import ThinkrankError
from thinkrank.language.backbone import Backbone

_CHUNK_LOGITS = 2**23
"""Logits held at a time: 32 MiB in fp32, whatever the vocabulary."""

_CHUNK_WEIGHTS, _CHUNK_WEIGHTS_ELSEWHERE = 2**20, 2**26
"""Weights widened at a time: 4 MiB in fp32 on a CPU, 256 MiB on other devices."""


@dataclass(frozen=True)
class TokenScores:
    """Hold what the model says of given tokens.

    Attributes:
        logprobs_N: natural log-probability of each token.
        entropies_N: of the distribution it was taken from, in nats; None unless asked for.
    """

    logprobs_N: Float[Tensor, "N"]
    entropies_N: Float[Tensor, "N"] | None


def logits(
    backbone: Backbone, states_ND: Float[Tensor, "N D"], tokens_V: Int[Tensor, "V"] | None = None
) -> Float[Tensor, "N V"]:
    """Compute the language head's logits, in fp32, of the whole vocabulary or of some tokens, differentiably."""
    weight_VD, cap = _head(backbone)
    if tokens_V is not None:
        weight_VD = weight_VD[tokens_V]
    with torch.autocast(backbone.device.type, enabled=False):
        return _logits(states_ND, weight_VD, cap)


def log_softmax(logits_NV: Float[Tensor, "N V"]) -> Float[Tensor, "N V"]:
    """Compute log-probabilities in fp32, over the last axis.

    PyTorch's own on a CPU sums a vocabulary of 49,152 with an error of 1e-5, the same for every token of a position;
    this is within 1e-6 of fp64.
    """
    return logits_NV - logits_NV.logsumexp(dim=-1, keepdim=True)


def selective_logprobs(
    backbone: Backbone,
    states_ND: Float[Tensor, "N D"],
    tokens_N: Int[Tensor, "N"],
    *,
    temperature: float = 1.0,
    entropy: bool = False,
) -> TokenScores:
    """Score each token given the state before it: its log-probability, differentiable, in fp32.

    The vocabulary is passed in chunks of positions. With a frozen language head, a chunk's gradient with respect to its
    states is made along with it, so nothing is computed again; with a head that trains, the chunk is recomputed in the
    backward pass. Either way memory does not grow with N x V.

    Args:
        backbone: the model whose head is used.
        states_ND: final hidden states at the positions that predict.
        tokens_N: what came next.
        temperature: the distribution is softmax(logits / temperature).
        entropy: whether to give the entropies too.

    Raises:
        ValueError: if the temperature is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"a temperature must be positive, got {temperature}")
    weight_VD, cap = _head(backbone)
    chunk = max(1, _CHUNK_LOGITS // weight_VD.shape[0])
    parts = []
    with torch.autocast(backbone.device.type, enabled=False):
        for states, tokens in zip(states_ND.split(chunk), tokens_N.split(chunk), strict=True):
            if weight_VD.requires_grad:
                part = checkpoint(_scores, states, tokens, weight_VD, cap, temperature, entropy, use_reentrant=False)
            else:
                part = _FrozenHead.apply(  # type: ignore[no-untyped-call]
                    states, tokens, weight_VD, cap, temperature, entropy
                )
            parts.append(part)
    if not parts:
        return TokenScores(states_ND.new_zeros(0), states_ND.new_zeros(0) if entropy else None)
    logprobs_N = torch.cat([part[0] for part in parts])
    return TokenScores(logprobs_N, torch.cat([part[1] for part in parts]) if entropy else None)


def _head(backbone: Backbone) -> tuple[Tensor, float | None]:
    head = backbone.model.get_output_embeddings()
    for part, has in (("a bias", getattr(head, "bias", None) is not None), ("an adapter", hasattr(head, "lora_A"))):
        if has:
            raise ThinkrankError(
                f"the language head of {backbone.source!r} has {part}, which is not supported: use a model without"
            )
    return head.weight, getattr(backbone.model.config, "final_logit_softcapping", None)


def _logits(states_ND: Tensor, weight_VD: Tensor, cap: float | None) -> Tensor:
    logits_NV = _times_head(states_ND, weight_VD).float()
    return logits_NV if cap is None else cap * torch.tanh(logits_NV / cap)


def _pieces(weight_VD: Tensor) -> tuple[Tensor, ...]:
    """Cut a head's weight into what is widened at a time; one that is wide enough stays whole."""
    if weight_VD.dtype in (torch.float32, torch.float64):
        return (weight_VD,)
    weights = _CHUNK_WEIGHTS if weight_VD.is_cpu else _CHUNK_WEIGHTS_ELSEWHERE
    return weight_VD.split(max(1, weights // weight_VD.shape[1]))


def _times_head(states_ND: Tensor, weight_VD: Tensor) -> Tensor:
    pieces, states_ND = _pieces(weight_VD), states_ND.to(torch.promote_types(weight_VD.dtype, torch.float32))
    if len(pieces) == 1:
        return linear(states_ND, weight_VD.to(states_ND.dtype))
    if torch.is_grad_enabled():
        return torch.cat([linear(states_ND, piece.to(states_ND.dtype)) for piece in pieces], dim=1)
    products_NV = states_ND.new_empty(len(states_ND), len(weight_VD))
    for products, piece in zip(products_NV.split(len(pieces[0]), dim=1), pieces, strict=True):
        products.copy_(states_ND @ piece.to(states_ND.dtype).T)
    return products_NV


def _back_through_head(by_logit_NV: Tensor, weight_VD: Tensor) -> Tensor:
    pieces, by_logit_NV = _pieces(weight_VD), by_logit_NV.to(torch.promote_types(weight_VD.dtype, torch.float32))
    if len(pieces) == 1:
        return (by_logit_NV @ weight_VD.to(by_logit_NV.dtype)).float()
    by_states_ND = by_logit_NV.new_zeros(len(by_logit_NV), weight_VD.shape[1])
    for by_logit, piece in zip(by_logit_NV.split(len(pieces[0]), dim=1), pieces, strict=True):
        by_states_ND.addmm_(by_logit, piece.to(by_logit.dtype))
    return by_states_ND


def _scores(
    states_ND: Tensor, tokens_N: Tensor, weight_VD: Tensor, cap: float | None, temperature: float, entropy: bool
) -> tuple[Tensor, Tensor]:
    logprobs_NV = log_softmax(_logits(states_ND, weight_VD, cap) / temperature)
    entropies_N = -(logprobs_NV.exp() * logprobs_NV).sum(dim=-1) if entropy else logprobs_NV.new_zeros(len(states_ND))
    return logprobs_NV.gather(1, tokens_N[:, None])[:, 0], entropies_N


class _FrozenHead(torch.autograd.Function):
    """The same scores, whose gradient needs only what one pass over the vocabulary knows.

    With p the distribution and z the logits over the temperature: d log p_t / dz = e_t - p and
    dH / dz = -p (log p + H). Both, times the head's weights, are D wide, and the gradient arriving from above only
    scales them.
    """

    @staticmethod
    def forward(
        ctx: Any,
        states_ND: Tensor,
        tokens_N: Tensor,
        weight_VD: Tensor,
        cap: float | None,
        temperature: float,
        entropy: bool,
    ) -> tuple[Tensor, Tensor]:
        logits_NV = _logits(states_ND, weight_VD, cap)
        # of z = cap tanh(x / cap) / temperature by x; without a cap a number
        slope = 1 / temperature if cap is None else (1 - (logits_NV / cap) ** 2) / temperature
        logprobs_NV = log_softmax(logits_NV / temperature)
        del logits_NV
        scores_N = logprobs_NV.gather(1, tokens_N[:, None])[:, 0]
        needed = ctx.needs_input_grad[0]
        p_NV = logprobs_NV.exp() if needed or entropy else logprobs_NV
        entropies_N = -(p_NV * logprobs_NV).sum(dim=-1) if entropy else scores_N.new_zeros(len(scores_N))
        if needed:
            by_entropy_ND = None
            if entropy:
                by_logit = logprobs_NV.add_(entropies_N[:, None]).mul_(p_NV).neg_().mul_(slope)
                by_entropy_ND = _back_through_head(by_logit, weight_VD)
            by_logit = p_NV.neg_()
            by_logit[torch.arange(len(tokens_N), device=tokens_N.device), tokens_N] += 1
            by_logprob_ND = _back_through_head(by_logit.mul_(slope), weight_VD)
            ctx.save_for_backward(by_logprob_ND, by_entropy_ND)
        return scores_N, entropies_N

    @staticmethod
    def backward(ctx: Any, by_scores_N: Tensor, by_entropies_N: Tensor) -> tuple[Tensor | None, ...]:
        by_logprob_ND, by_entropy_ND = ctx.saved_tensors
        by_states_ND = by_scores_N[:, None] * by_logprob_ND
        if by_entropy_ND is not None:
            by_states_ND = by_states_ND + by_entropies_N[:, None] * by_entropy_ND
        return by_states_ND, None, None, None, None, None
