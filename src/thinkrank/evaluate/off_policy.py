"""What users would have done with another order, estimated from lists whose propensities were logged.

All three estimators take the feedback on a slot to depend on the request, the item and the place, not on what else is
shown (the item-position model of Li et al. 2018, "Offline Evaluation of Ranking Policies with Click Models"). The
system that is judged may look at candidates and request, but not at the order that was displayed: that order was drawn,
and a system that follows it has the displayed places for that reason alone.

Every function returns one number for each list, whose mean is the estimate and whose spread over users is its
uncertainty. Rewards have any unit; an estimate is the sum of rewards of the first places, in the same unit.

Shape legend: L lists, N places.
"""

import numpy as np
from jaxtyping import Bool, Float64, Int, Integer, Shaped

MAX_WEIGHT = 100.0
"""Importance weights above this are clipped: a few lists would decide the figure."""
_FOLDS = 2
_PRIOR = 20.0
"""Showings at the mean rate of its places that an item begins with in the reward model."""


def importance_weights(
    same_LN: Bool[np.ndarray, "L N"], propensities_LN: Shaped[np.ndarray, "L N"], *, max_weight: float = MAX_WEIGHT
) -> Float64[np.ndarray, "L N"]:
    """Return w = 1[the system puts the displayed item at this place] / propensity, clipped.

    Args:
        same_LN: where the system agrees with what was displayed.
        propensities_LN: with what probability the displayed item stands at its place; in (0, 1] where there is one.
        max_weight: above which weights are clipped, which makes the estimate too small; infinite for no clipping.

    Raises:
        ValueError: if `max_weight` is below 1.
    """
    if not max_weight >= 1:
        raise ValueError(f"max_weight must be at least 1, got {max_weight}")
    inverse_LN = np.divide(1.0, propensities_LN, out=np.zeros(same_LN.shape), where=propensities_LN > 0)
    return np.minimum(same_LN * inverse_LN, max_weight)


def ips(rewards_LN: Shaped[np.ndarray, "L N"], weights_LN: Float64[np.ndarray, "L N"]) -> Float64[np.ndarray, "L"]:
    """Return Σ_k w_k r_k of each list: unbiased where no weight was clipped.

    Source: Horvitz & Thompson 1952; for places of a list Li et al. 2018.
    """
    return np.asarray((weights_LN * rewards_LN).sum(axis=1))


def self_normalised(
    rewards_LN: Shaped[np.ndarray, "L N"],
    weights_LN: Float64[np.ndarray, "L N"],
    mask_LN: Bool[np.ndarray, "L N"],
) -> Float64[np.ndarray, "L"]:
    """Divide the weighed rewards of each place by its weights, and add the places up.

    V = Σ_k s_k V_k with V_k = Σ_l w_lk r_lk / Σ_l w_lk and s_k the share of lists that have place k. A list's number is
    V_k + w_lk (r_lk - V_k) / w̄_k, summed over its places: its mean is V, and its spread that of the ratio to first
    order (delta method). A place where the system never agrees with the log adds nothing.

    Source: Swaminathan & Joachims 2015, "The Self-Normalized Estimator for Counterfactual Learning".
    """
    lists_N = np.maximum(mask_LN.sum(axis=0), 1)
    total_N = weights_LN.sum(axis=0)
    value_N = np.divide((weights_LN * rewards_LN).sum(axis=0), total_N, out=np.zeros(len(total_N)), where=total_N > 0)
    scaled_LN = np.divide(weights_LN * lists_N, total_N, out=np.zeros(weights_LN.shape), where=total_N > 0)
    return np.asarray((mask_LN * (value_N + scaled_LN * (rewards_LN - value_N))).sum(axis=1))


def doubly_robust(
    rewards_LN: Shaped[np.ndarray, "L N"],
    weights_LN: Float64[np.ndarray, "L N"],
    shown_LN: Float64[np.ndarray, "L N"],
    chosen_LN: Float64[np.ndarray, "L N"],
) -> Float64[np.ndarray, "L"]:
    """Return Σ_k q(chosen item, k) + w_k (r_k - q(displayed item, k)) of each list.

    Unbiased if the propensities are right, or if the reward model q is; see `expected_rewards`.

    Args:
        rewards_LN: of the displayed items.
        weights_LN: see `importance_weights`.
        shown_LN: q of the displayed item at its place.
        chosen_LN: q of the item that the system puts there; 0 where there is none.

    Source: Dudík, Langford & Li 2011, "Doubly Robust Policy Evaluation and Learning".
    """
    return np.asarray((chosen_LN + weights_LN * (rewards_LN - shown_LN)).sum(axis=1))


def expected_rewards(
    items_LN: Int[np.ndarray, "L N"],
    rewards_LN: Shaped[np.ndarray, "L N"],
    users_L: Integer[np.ndarray, "L"],
    asked_LN: Int[np.ndarray, "L N"],
) -> Float64[np.ndarray, "L N"]:
    """Predict the reward of items at places: the mean of the place times how much better the item did than its places.

    The lift of an item is (its rewards + m) / (the means of the places it stood at + m), m being `_PRIOR` showings at
    the overall mean. Each list is told by the other half of the users, so that no reward predicts itself.

    Args:
        items_LN: catalogue rows that were displayed, in displayed order; -1 after a list's end.
        rewards_LN: what they got.
        users_L: whose list it is.
        asked_LN: catalogue rows to predict for, at the places where they stand; -1 for nothing, which gets 0.

    Source: ours, a model as simple as possible: clicks as examination times attractiveness.
    """
    folds_L = np.unique(users_L, return_inverse=True)[1] % _FOLDS
    predicted_LN = np.zeros(items_LN.shape)
    for fold in range(_FOLDS):
        told_L = folds_L == fold
        known_L = ~told_L if (~told_L).any() else told_L  # one user alone tells about themselves
        predicted_LN[told_L] = _predicted(items_LN[known_L], rewards_LN[known_L], asked_LN[told_L])
    return predicted_LN


def _predicted(
    items_LN: Int[np.ndarray, "L N"], rewards_LN: Shaped[np.ndarray, "L N"], asked_MN: Int[np.ndarray, "M N"]
) -> Float64[np.ndarray, "M N"]:
    there_LN = items_LN >= 0
    shown_N = np.maximum(there_LN.sum(axis=0), 1)
    mean_N = (rewards_LN * there_LN).sum(axis=0) / shown_N
    size = 1 + int(max(items_LN.max(initial=0), asked_MN.max(initial=0)))
    prior = _PRIOR * float((rewards_LN * there_LN).sum() / max(1, there_LN.sum()))
    rows = items_LN[there_LN]
    got_I = np.bincount(rows, (rewards_LN * there_LN)[there_LN], minlength=size)
    expected_I = np.bincount(rows, np.broadcast_to(mean_N, items_LN.shape)[there_LN], minlength=size)
    lift_I = (got_I + prior) / (expected_I + prior) if prior > 0 else np.zeros(size)
    return np.where(asked_MN >= 0, mean_N * lift_I[np.maximum(asked_MN, 0)], 0.0)
