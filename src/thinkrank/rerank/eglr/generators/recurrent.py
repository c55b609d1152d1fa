"""Generators with a GRU: what was chosen and thought is one vector.

Shape legend: B requests, R rows, N candidates, E width of joint embeddings, D width of tokens and states.
"""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from thinkrank.rerank.eglr.config import GeneratorOptions
from thinkrank.rerank.eglr.generators.base import CandidateEncoder, Hidden, PointerContext, Slot, mean_token


class RecurrentGenerator(nn.Module):
    """Remember by a GRU: everything but how candidates are scored."""

    def __init__(self, input_width: int, options: GeneratorOptions) -> None:
        super().__init__()
        self.encoder = CandidateEncoder(input_width, options)
        self.start = nn.Linear(options.width, options.width)
        self.cell = nn.GRUCell(options.width, options.width)
        self.keys = nn.Linear(options.width, options.pointer_width, bias=False)
        self.query = nn.Linear(options.width, options.pointer_width)

    def encode(self, joint_BNE: Float[Tensor, "B N E"], mask_BN: Bool[Tensor, "B N"]) -> PointerContext:
        """Return tokens and their keys."""
        tokens_BND = self.encoder(joint_BNE, mask_BN)
        return PointerContext(tokens_BND, mask_BN, self.keys(tokens_BND))

    def init_state(self, context: PointerContext) -> Hidden:
        """Make a state from the mean candidate."""
        return Hidden(self.start(mean_token(context.tokens_RND, context.mask_RN)).tanh())

    def step(self, context: PointerContext, state: Hidden, tokens_RD: Float[Tensor, "R D"], slot: Slot) -> Hidden:
        """Make one step of the GRU, which counts places by itself."""
        return Hidden(self.cell(tokens_RD, state.hidden_RD))


class GRUPointer(RecurrentGenerator):
    """Point additively: z_i = Σ_p e_p σ(-(k_ip + q_p)) with k_i = W₁ E_i and q = W₂ s.

    It is vᵀ tanh((k_i + q) / 2) with v = -e / 2, but for a constant that all candidates share, since
    tanh(x / 2) = 1 - 2 σ(-x). As σ(-(k + q)) = 1 / (1 + exp(k) exp(q)), candidates go through the exponential once and
    no step needs a tanh for each of them. So that nothing overflows, the parts of k and q are cut at ±40 (ours).

    Source: reconstructed; the decoder of Seq2Slate (Bello et al. 2018) and of the author's earlier CMR and LAST.
    """

    def __init__(self, input_width: int, options: GeneratorOptions) -> None:
        super().__init__(input_width, options)
        self.energy = nn.Linear(options.pointer_width, 1, bias=False)

    def encode(self, joint_BNE: Float[Tensor, "B N E"], mask_BN: Bool[Tensor, "B N"]) -> PointerContext:
        """Return tokens, and exp(k)."""
        context = super().encode(joint_BNE, mask_BN)
        return replace(context, keys_RNP=_bounded_exp(context.keys_RNP))

    def logits(self, context: PointerContext, state: Hidden) -> Float[Tensor, "R N"]:
        """Score every candidate."""
        ones = context.keys_RNP.new_ones(())
        sums_RNP = torch.addcmul(ones, context.keys_RNP, _bounded_exp(self.query(state.hidden_RD))[:, None])
        return self.energy(sums_RNP.reciprocal_())[:, :, 0]


class MLPPointer(RecurrentGenerator):
    """Score by z_i = MLP([E_i ; s]); its first layer is split in two, so that candidates go through it once.

    Source: reconstructed; the generator of EG-Rerank (Huzhang et al. 2020), which has an LSTM.
    """

    def __init__(self, input_width: int, options: GeneratorOptions) -> None:
        super().__init__(input_width, options)
        width = options.pointer_width
        self.score = nn.Sequential(nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))

    def logits(self, context: PointerContext, state: Hidden) -> Float[Tensor, "R N"]:
        """Score every candidate."""
        return self.score(context.keys_RNP + self.query(state.hidden_RD)[:, None])[:, :, 0]


def _bounded_exp(values: Tensor) -> Tensor:
    """Compute exp(x) of values cut at ±40."""
    return values.clamp(-40, 40).exp()
