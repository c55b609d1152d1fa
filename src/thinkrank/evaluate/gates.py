"""When to think: gates that choose for each request whether the answer after a thought is taken, and what they reach.

A perfect gate takes the better of two answers wherever they differ, so it is above both even if a thought is worth
nothing: two trainings of the same model differ too. What a gate reaches is therefore told as a share of the perfect
gate's headroom, beside the headroom that two answers have which differ by chance alone.

Shape legend: S samples, F features.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Shaped

from thinkrank.evaluate.significance import PairedTest, paired_test

_RIDGE = 1.0
"""Samples' worth of pull towards no gain, for each standardised feature."""


@dataclass(frozen=True, eq=False)
class Gated:
    """Hold what is known of some requests that were answered twice.

    Attributes:
        plain_S: metric of the answers without a thought.
        thinking_S: of those after one.
        entropy_S: of the answers without a thought, in nats.
        features_SF: what the gain may be told by, known before a thought is written.
    """

    plain_S: Float64[np.ndarray, "S"]
    thinking_S: Float64[np.ndarray, "S"]
    entropy_S: Float64[np.ndarray, "S"]
    features_SF: Float64[np.ndarray, "S F"]

    @property
    def gains_S(self) -> Float64[np.ndarray, "S"]:
        """Return what a thought adds."""
        return self.thinking_S - self.plain_S


@dataclass(frozen=True)
class Gate:
    """Hold what a gate reaches.

    Attributes:
        name: entropy, predicted gain, random or perfect.
        rate: share of the test samples that think.
        value: mean metric.
        share: of the perfect gate's headroom over never thinking; None where there is no headroom.
        test: against chance at the same rate; None for chance itself and for the perfect gate.
    """

    name: str
    rate: float
    value: float
    share: float | None
    test: PairedTest | None = None


def gates(
    valid: Gated, test: Gated, clusters_S: Shaped[np.ndarray, "S"] | None = None, *, budget: float = 0.5
) -> list[Gate]:
    """Calibrate gates to a budget on validation and tell what they reach on test.

    The gate by entropy thinks from the entropy on that so large a share of the validation samples has; the one by
    predicted gain from the predicted gain on, a ridge regression of the gain on the features, and only where it is
    above 0. Chance thinks as often as the gate by entropy: its value is the expected one.

    Args:
        valid: what gates are calibrated on.
        test: what they are judged on.
        clusters_S: whose each test sample is; None if every one stands alone.
        budget: share of requests that may think, above 0 and at most 1.

    Raises:
        ValueError: for another budget, or without samples.
    """
    if not 0 < budget <= 1:
        raise ValueError(f"a budget is a share above 0 and at most 1, got {budget}")
    if not len(valid.plain_S) or not len(test.plain_S):
        raise ValueError("gates need samples to be calibrated on and to be judged on")
    never, perfect = float(test.plain_S.mean()), float(np.maximum(test.plain_S, test.thinking_S).mean())
    predicted_V, predicted_S = predicted_gains(valid, [valid, test])
    chosen = {
        "entropy": test.entropy_S >= threshold_for(valid.entropy_S, budget),
        "predicted gain": (predicted_S >= threshold_for(predicted_V, budget)) & (predicted_S > 0),
    }
    found = [
        _gate(
            "random", float(chosen["entropy"].mean()), _expected(test, float(chosen["entropy"].mean())), never, perfect
        )
    ]
    for name, thinks_S in chosen.items():
        rate = float(thinks_S.mean())
        value_S = np.where(thinks_S, test.thinking_S, test.plain_S)
        chance_S = test.plain_S + rate * test.gains_S
        found.append(
            _gate(name, rate, float(value_S.mean()), never, perfect, paired_test(value_S, chance_S, clusters_S))
        )
    found.append(_gate("perfect", float((test.gains_S > 0).mean()), perfect, never, perfect))
    return found


def headroom(plain_S: Float64[np.ndarray, "S"], other_S: Float64[np.ndarray, "S"]) -> float:
    """Compute by how much the better of two answers is above the first, on average.

    Of two trainings of the same model it is the headroom of pure noise.
    """
    return float((np.maximum(plain_S, other_S) - plain_S).mean())


def predicted_gains(learnt: Gated, of: Sequence[Gated]) -> list[Float64[np.ndarray, "_"]]:
    """Predict what a thought adds, by ridge regression on standardised features.

    Args:
        learnt: what the regression is fitted on.
        of: what is predicted.
    """
    mean_F, scale_F = learnt.features_SF.mean(axis=0), learnt.features_SF.std(axis=0)
    scale_F = np.where(scale_F > 0, scale_F, 1.0)
    inputs_SF = (learnt.features_SF - mean_F) / scale_F
    centre = float(learnt.gains_S.mean())
    pull_FF = inputs_SF.T @ inputs_SF + _RIDGE * np.eye(inputs_SF.shape[1])
    weights_F = np.linalg.solve(pull_FF, inputs_SF.T @ (learnt.gains_S - centre))
    return [centre + ((one.features_SF - mean_F) / scale_F) @ weights_F for one in of]


def threshold_for(values_S: Float64[np.ndarray, "S"], share: float) -> float:
    """Find the entropy, or gain, from which so large a share of requests thinks; infinity is never reached.

    Args:
        values_S: of validation requests; where many are equal, more of them may think.
        share: of requests that may think, 0 to 1.
    """
    count = math.floor(min(share, 1.0) * len(values_S) + 1e-9)
    return float(np.sort(values_S)[-count]) if count > 0 else math.inf


def _expected(test: Gated, rate: float) -> float:
    return float((test.plain_S + rate * test.gains_S).mean())


def _gate(name: str, rate: float, value: float, never: float, perfect: float, test: PairedTest | None = None) -> Gate:
    return Gate(name, rate, value, (value - never) / (perfect - never) if perfect > never else None, test)
