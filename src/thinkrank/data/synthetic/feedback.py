"""Which items of a list are clicked, and which list is clicked most: formulas on arrays.

Shape legend: M lists, K length of a list, N candidates.
"""

import itertools
import math

import numpy as np
from jaxtyping import Float64, Int64

from thinkrank.errors import ThinkrankError

MAX_LISTS = 200_000
"""How many lists `best_list` is ready to try."""


def click_probabilities(
    attractions_MK: Float64[np.ndarray, "M K"],
    kinds_MK: Int64[np.ndarray, "M K"],
    *,
    position_bias: float,
    saturation: float,
) -> Float64[np.ndarray, "M K"]:
    """Compute the chance that the item at each place is looked at and clicked.

    p_r = r^(-position_bias) * attraction_r * saturation^m_r, places r from 1, m_r being the number of earlier places
    that hold an item of the same kind. Given the list, clicks at different places are independent.

    Args:
        attractions_MK: chance of a click on an item that is looked at and stands alone, 0 to 1.
        kinds_MK: what kind of item it is.
        position_bias: 0 if every place is looked at, 1 if the second is half as often as the first.
        saturation: what is left of an attraction for each earlier item of the kind; 1 if the others make no difference.
    """
    same_kind_MKK = kinds_MK[:, :, None] == kinds_MK[:, None, :]
    earlier_MK = np.tril(same_kind_MKK, -1).sum(axis=2)
    places_K = np.arange(1, kinds_MK.shape[1] + 1)
    return np.asarray(attractions_MK * saturation**earlier_MK * places_K**-position_bias)


def best_list(
    attractions_N: Float64[np.ndarray, "N"],
    kinds_N: Int64[np.ndarray, "N"],
    k: int,
    *,
    position_bias: float,
    saturation: float,
) -> Int64[np.ndarray, "k"]:
    """Find the k candidates, in order, with the most expected clicks, by trying every list.

    Arguments as for `click_probabilities`; k is the length of the list.

    Returns:
        places among the candidates; of lists with equal clicks the first, by order of the candidates.

    Raises:
        ThinkrankError: if k is not 1 to N, or there are more than `MAX_LISTS` lists.
    """
    num_candidates = len(attractions_N)
    if not 1 <= k <= num_candidates:
        raise ThinkrankError(f"a list of {k} cannot be made of {num_candidates} candidates")
    num_lists = math.perm(num_candidates, k)
    if num_lists > MAX_LISTS:
        raise ThinkrankError(
            f"{num_candidates} candidates make {num_lists:,} lists of {k}; at most {MAX_LISTS:,} are tried. "
            "Give fewer candidates or a shorter list."
        )
    lists_MK = np.array(list(itertools.permutations(range(num_candidates), k)), dtype=np.int64)
    clicks_MK = click_probabilities(
        attractions_N[lists_MK], kinds_N[lists_MK], position_bias=position_bias, saturation=saturation
    )
    return np.asarray(lists_MK[clicks_MK.sum(axis=1).argmax()])


def best_order(
    attractions_MN: Float64[np.ndarray, "M N"], kinds_MN: Int64[np.ndarray, "M N"], *, saturation: float
) -> Int64[np.ndarray, "M N"]:
    """Find for each set of candidates the order with the most expected clicks, exactly, for lists of any length.

    Give each candidate the value a * saturation^j, j being how many of its kind are more attractive, and sort by value,
    the largest first. The first k places are the best list of k, whatever the position bias.

    Why: within a list, clicks on a kind are a sum of attractions times weights that fall from place to place, so its
    items stand best in falling order, and are best its most attractive ones. Such a list has as clicks the sum of
    values times r^(-position_bias), which is largest when the k largest values stand in falling order. As values fall
    within a kind, that order is one of these lists. Arguments as for `click_probabilities`.

    Returns:
        places among the candidates; of equal values the first, by order of the candidates.
    """
    falling_MN = np.argsort(-attractions_MN, axis=1, kind="stable")
    kinds_MN = np.take_along_axis(kinds_MN, falling_MN, axis=1)
    better_MN = np.tril(kinds_MN[:, :, None] == kinds_MN[:, None, :], -1).sum(axis=2)
    values_MN = np.empty_like(attractions_MN)
    falling_values_MN = np.take_along_axis(attractions_MN, falling_MN, axis=1) * saturation**better_MN
    np.put_along_axis(values_MN, falling_MN, falling_values_MN, axis=1)
    return np.argsort(-values_MN, axis=1, kind="stable")
