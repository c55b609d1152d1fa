"""Gates are calibrated on validation, judged on test, and measured against chance and noise."""

import numpy as np
import pytest

from thinkrank.evaluate.gates import Gated, gates, headroom, predicted_gains


def requests(seed, samples=4000, helps=0.0):
    """Answers whose gain is noise but for `helps` times the first feature, which nothing else tells of."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(samples, 2))
    plain = random.uniform(size=samples)
    gain = helps * features[:, 0] + random.normal(0, 0.2, samples)
    return Gated(plain, plain + gain, random.uniform(size=samples), features)


def by_name(found):
    return {gate.name: gate for gate in found}


def test_where_gains_can_be_told_the_predictor_finds_them_and_entropy_does_not():
    found = by_name(gates(requests(0, 3000, helps=0.3), requests(1, helps=0.3), budget=0.3))
    assert found["predicted gain"].rate == pytest.approx(0.3, abs=0.03)
    assert found["entropy"].rate == pytest.approx(0.3, abs=0.03)
    assert found["predicted gain"].share > 0.6
    assert found["predicted gain"].test.p_value < 0.001
    assert found["entropy"].test.p_value > 0.01
    assert found["entropy"].value == pytest.approx(found["random"].value, abs=0.02)
    assert found["perfect"].share == 1


def test_where_gains_are_noise_the_perfect_gate_has_headroom_and_no_gate_reaches_it():
    """The mean of the positive part of a normal of deviation .2 is .2 / sqrt(2 pi)."""
    valid, test = requests(2), requests(3)
    found = by_name(gates(valid, test))
    assert found["perfect"].value - test.plain_S.mean() == pytest.approx(0.2 / np.sqrt(2 * np.pi), rel=0.05)
    assert headroom(test.plain_S, test.thinking_S) == pytest.approx(0.2 / np.sqrt(2 * np.pi), rel=0.05)
    assert abs(found["predicted gain"].share) < 0.1
    assert abs(found["entropy"].share) < 0.1


def test_a_thought_that_harms_everywhere_is_never_written_by_predicted_gain():
    valid, test = requests(4), requests(5)
    worse = [Gated(one.plain_S, one.plain_S - 1, one.entropy_S, one.features_SF) for one in (valid, test)]
    found = by_name(gates(*worse))
    assert (found["predicted gain"].rate, found["perfect"].rate) == (0, 0)
    assert found["predicted gain"].value == test.plain_S.mean()
    assert found["perfect"].share is None


def test_the_predictor_is_the_ridge_regression_of_centred_gains():
    """Against the augmented least squares: the same rows, and a row of weight 1 for each standardised feature."""
    one = requests(6, samples=50, helps=0.5)
    (predicted,) = predicted_gains(one, [one])
    inputs = (one.features_SF - one.features_SF.mean(0)) / one.features_SF.std(0)
    rows = np.vstack([inputs, np.eye(2)])
    weights, *_ = np.linalg.lstsq(rows, np.append(one.gains_S - one.gains_S.mean(), [0, 0]), rcond=None)
    np.testing.assert_allclose(predicted, one.gains_S.mean() + inputs @ weights)


def test_a_budget_of_nothing_and_no_samples_are_refused():
    with pytest.raises(ValueError, match="above 0 and at most 1, got 0"):
        gates(requests(7, 10), requests(8, 10), budget=0.0)
    with pytest.raises(ValueError, match="need samples"):
        gates(requests(7, 0), requests(8, 10))
