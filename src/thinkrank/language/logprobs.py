"""How probable the model finds given tokens, without ever holding the logits of a whole batch.

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


@dataclass(frozen=True)
class TokenScores:
    """Hold what the model says of given tokens.

    Attributes:
        logprobs_N: natural log-probability of each token.
        entropies_N: of the distribution it was taken from, in nats; None unless asked for.
    """

    logprobs_N: Float[Tensor, "N"]
    entropies_N: Float[Tensor, "N"] | None


def logits(backbone: Backbone, states_ND: Float[Tensor, "N D"]) -> Float[Tensor, "N V"]:
    """Compute the language head's logits, in fp32."""
    weight_VD, cap = _head(backbone)
    with backbone.precision():
        logits_NV = backbone.model.get_output_embeddings()(states_ND.to(weight_VD.dtype)).float()
    return logits_NV if cap is None else cap * torch.tanh(logits_NV / cap)


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
    with backbone.precision():
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
    if getattr(head, "bias", None) is not None:
        raise ThinkrankError(
            f"the language head of {backbone.source!r} has a bias, which is not supported: use a model without"
        )
    return head.weight, getattr(backbone.model.config, "final_logit_softcapping", None)


def _logits(states_ND: Tensor, weight_VD: Tensor, cap: float | None) -> Tensor:
    logits_NV = linear(states_ND.to(weight_VD.dtype), weight_VD).float()
    return logits_NV if cap is None else cap * torch.tanh(logits_NV / cap)


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
                by_entropy_ND = (by_logit.to(weight_VD.dtype) @ weight_VD).float()
            by_logit = p_NV.neg_()
            by_logit[torch.arange(len(tokens_N), device=tokens_N.device), tokens_N] += 1
            by_logprob_ND = (by_logit.mul_(slope).to(weight_VD.dtype) @ weight_VD).float()
            ctx.save_for_backward(by_logprob_ND, by_entropy_ND)
        return scores_N, entropies_N

    @staticmethod
    def backward(ctx: Any, by_scores_N: Tensor, by_entropies_N: Tensor) -> tuple[Tensor | None, ...]:
        by_logprob_ND, by_entropy_ND = ctx.saved_tensors
        by_states_ND = by_scores_N[:, None] * by_logprob_ND
        if by_entropy_ND is not None:
            by_states_ND = by_states_ND + by_entropies_N[:, None] * by_entropy_ND
        return by_states_ND, None, None, None, None, None
