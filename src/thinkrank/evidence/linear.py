"""The weights of EASE, as they are and as they would be without one user.

With G = X'X + ridge I and P = G^-1: B_ij = -P_ij / P_jj off the diagonal. Without a user whose row of X is x:

    (G - x x')^-1 = P + v v' / (1 - x'v),  v = P x

so a row of his weights needs that row of P, the vector v and the diagonal, and no matrix of his own.

Shape legend: I items, H items of one history.

Source: Steck 2019, "Embarrassingly Shallow Autoencoders for Sparse Data", equation 8; Sherman & Morrison 1950.
"""

import numpy as np
from jaxtyping import Float32, Int
from pydantic import PositiveFloat

from thinkrank.data.interactions import UserItems


def inverse_gram(user_items: UserItems, ridge: PositiveFloat) -> Float32[np.ndarray, "I I"]:
    """Invert X'X + ridge I, in float32 and with about 12 * I^2 bytes for the time it takes."""
    gram_II = np.empty((user_items.num_items, user_items.num_items), dtype=np.float32)
    for rows, common_bI in user_items.cooccurrences():
        gram_II[rows] = common_bI
    diagonal = np.arange(len(gram_II))
    gram_II[diagonal, diagonal] += np.float32(ridge)
    return np.linalg.inv(gram_II)


def ease_rows(
    inverse_II: Float32[np.ndarray, "I I"], items_H: Int[np.ndarray, "H"], left_out_X: Int[np.ndarray, "X"]
) -> Float32[np.ndarray, "H I"]:
    """Compute the weights of some items for all others, one user left out exactly.

    Args:
        inverse_II: of the Gram matrix with everybody.
        items_H: catalogue rows whose weights are asked for.
        left_out_X: distinct items of the user who is left out; empty for nobody.
    """
    rows_HI, diagonal_I = inverse_II[items_H], inverse_II.diagonal()
    if len(left_out_X):
        v_I = inverse_II[left_out_X].sum(axis=0, dtype=np.float64)
        scale = 1 - v_I[left_out_X].sum()
        rows_HI = rows_HI + np.outer(v_I[items_H], v_I / scale)
        diagonal_I = diagonal_I + v_I**2 / scale
    weights_HI = (-rows_HI / diagonal_I).astype(np.float32)
    weights_HI[np.arange(len(items_H)), items_H] = 0
    return weights_HI
