"""How uncertain an answer is, and from where on thinking is worth its cost.

Shape legend: B requests, N candidates.
"""

import numpy as np
from jaxtyping import Float, Float64

from thinkrank.evaluate.gates import threshold_for as threshold_for


def entropies(scores_BN: Float[np.ndarray, "B N"]) -> Float64[np.ndarray, "B"]:
    """Compute the entropy of each answer, in nats, its scores being logits; -inf where there is no item."""
    logits_BN = scores_BN.astype(np.float64)
    highest_B1 = np.where(np.isfinite(logits_BN), logits_BN, -np.inf).max(axis=1, keepdims=True, initial=-np.inf)
    weights_BN = np.exp(logits_BN - np.where(np.isfinite(highest_B1), highest_B1, 0.0))
    shares_BN = weights_BN / np.maximum(weights_BN.sum(axis=1, keepdims=True), 1e-300)
    return -(shares_BN * np.log(np.where(shares_BN > 0, shares_BN, 1.0))).sum(axis=1)
