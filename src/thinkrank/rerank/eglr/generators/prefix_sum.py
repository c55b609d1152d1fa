"""A generator without recurrence: the state is the sum of what was consumed.

Shape legend: B requests, R rows, N candidates, E width of joint embeddings, D width of tokens and states.
"""

import math

from jaxtyping import Bool, Float
from torch import Tensor, nn

from thinkrank.rerank.eglr.attention import FeedForward
from thinkrank.rerank.eglr.config import GeneratorOptions
from thinkrank.rerank.eglr.generators.base import CandidateEncoder, Hidden, PointerContext, Slot, mean_token


class PrefixSum(nn.Module):
    """Score by a sum: s = W₀ mean(E) + Σ W E_chosen, so the past has no order; z_i = f(s)ᵀ K E_i / √D.

    Source: reconstructed after the public code of GoalRank, which scores anew after each sum of projected items.
    """

    def __init__(self, input_width: int, options: GeneratorOptions) -> None:
        super().__init__()
        self.encoder = CandidateEncoder(input_width, options)
        self.start = nn.Linear(options.width, options.width)
        self.add = nn.Linear(options.width, options.width, bias=False)
        self.keys = nn.Linear(options.width, options.width, bias=False)
        self.query = FeedForward(options.width, dropout=0.0)

    def encode(self, joint_BNE: Float[Tensor, "B N E"], mask_BN: Bool[Tensor, "B N"]) -> PointerContext:
        """Return tokens and their keys."""
        tokens_BND = self.encoder(joint_BNE, mask_BN)
        return PointerContext(tokens_BND, mask_BN, self.keys(tokens_BND))

    def init_state(self, context: PointerContext) -> Hidden:
        """Project the mean candidate."""
        return Hidden(self.start(mean_token(context.tokens_RND, context.mask_RN)))

    def step(self, context: PointerContext, state: Hidden, tokens_RD: Float[Tensor, "R D"], slot: Slot) -> Hidden:
        """Add the projected token."""
        return Hidden(state.hidden_RD + self.add(tokens_RD))

    def logits(self, context: PointerContext, state: Hidden) -> Float[Tensor, "R N"]:
        """Score every candidate."""
        queries_RD = self.query(state.hidden_RD)
        return (context.keys_RNP @ queries_RD[:, :, None])[:, :, 0] / math.sqrt(queries_RD.shape[1])
