"""Two chances at once: which trainings were made and which users came."""

import numpy as np
import pytest

from thinkrank.evaluate._student import quantile, within
from thinkrank.evaluate.significance import bootstrap_intervals, paired_test
from thinkrank.evaluate.trainings import trainings_intervals, trainings_test


def draw(rng, trainings=5, users=40, samples=160, *, spread=0.0, own=0.0):
    """Differences without an effect: what a training adds, what a user adds, and noise."""
    user_S = np.sort(rng.integers(0, users, samples))
    user_S[:users] = np.arange(users)
    noise_KS = rng.normal(size=(trainings, samples))
    return noise_KS + spread * rng.normal(size=(trainings, 1)) + own * rng.normal(size=users)[user_S], user_S


def test_one_training_that_went_well_is_no_better_method():
    # Five differences of which one is large, as with an outlying reference: users alone see it in every sample.
    rng = np.random.default_rng(0)
    differences_KS = np.array([-0.37, -0.006, -0.006, -0.03, -0.04])[:, None] + rng.normal(0, 0.02, size=(5, 200))
    users_S = np.arange(200) // 4
    assert paired_test(differences_KS.mean(axis=0), np.zeros(200), users_S).p_value < 0.001
    assert trainings_test(differences_KS, users_S).p_value > 0.2


def test_a_user_with_a_taste_for_one_method_is_no_better_method():
    rng = np.random.default_rng(0)
    differences_KS, users_S = draw(rng, own=0.0)
    favoured_KS = differences_KS * 0.01 + np.where(users_S == 3, 8.0, 0.0)
    assert trainings_test(favoured_KS, users_S).p_value > 0.2
    assert trainings_test(favoured_KS + 0.5, users_S).p_value < 0.05


def test_the_interval_holds_what_is_not_refuted():
    rng = np.random.default_rng(1)
    for _ in range(20):
        differences_KS, users_S = draw(rng, spread=0.2, own=0.3)
        test = trainings_test(differences_KS, users_S)
        assert test.difference.value == pytest.approx(differences_KS.mean())
        assert (test.difference.low <= 0 <= test.difference.high) == (test.p_value >= 0.05)
        shifted = trainings_test(differences_KS - test.difference.low, users_S)
        assert shifted.p_value == pytest.approx(0.05, abs=1e-4)


@pytest.mark.parametrize("trainings", [3, 6])
def test_a_balanced_study_is_the_textbooks_crossed_analysis_of_variance(trainings):
    """One sample of each user: mean squares of the two-way layout, F'' = MS / (MS_trainings + MS_users - MS_both).

    Clark 1973 and Satterthwaite 1946, for the mean of a table of K trainings and C users.
    """
    users, rng = 30, np.random.default_rng(7)
    table_KC = (
        0.4 + rng.normal(size=(trainings, users)) + 0.5 * rng.normal(size=(trainings, 1)) + rng.normal(size=users)
    )
    rows_K, columns_C, mean = table_KC.mean(axis=1), table_KC.mean(axis=0), table_KC.mean()
    of_trainings = users * ((rows_K - mean) ** 2).sum() / (trainings - 1)
    of_users = trainings * ((columns_C - mean) ** 2).sum() / (users - 1)
    left_KC = table_KC - rows_K[:, None] - columns_C + mean
    both = (left_KC**2).sum() / ((trainings - 1) * (users - 1))
    whole = of_trainings + of_users - both
    df = whole**2 / (
        of_trainings**2 / (trainings - 1)
        + of_users**2 / (users - 1)
        + both**2 / ((trainings - 1) * (users - 1))
    )  # fmt: skip
    error = (whole / (trainings * users)) ** 0.5
    test = trainings_test(table_KC)
    p_value = max(
        1 - within(abs(mean) / error, df),
        1 - within(abs(mean) / rows_K.std(ddof=1) * trainings**0.5, float(trainings - 1)),
    )
    assert test.p_value == pytest.approx(p_value, rel=1e-6)
    assert test.difference.high - mean >= error * quantile(0.975, df) * (1 - 1e-9)


def test_equal_models_do_not_differ_and_too_few_of_anything_is_not_tested():
    assert trainings_test(np.zeros((3, 20))).p_value == 1
    assert trainings_test(np.ones((3, 20)), np.arange(20) % 5).p_value is None
    with pytest.raises(ValueError, match="at least 3 trainings"):
        trainings_test(np.ones((2, 20)))


def test_the_interval_of_a_mean_counts_trainings_and_users():
    rng = np.random.default_rng(0)
    values_KS, users_S = draw(rng, trainings=4, own=1.0)
    (one,) = trainings_intervals(values_KS[None, :1], users_S)
    (users,) = bootstrap_intervals(values_KS[0][:, None], users_S)
    assert one.value == pytest.approx(users.value)
    assert (one.low, one.high) == pytest.approx((users.low, users.high))
    apart_KS = values_KS + np.array([[-1.0], [1.0], [-1.0], [1.0]])
    close, apart = trainings_intervals(np.stack([values_KS, apart_KS]), users_S)
    # Four trainings of which two lie one above and two one below: sd of their mean 2 / sqrt(3) / 2.
    assert apart.high - apart.low > 1.5 * (close.high - close.low)
    steady_KS = np.broadcast_to(np.array([[-1.0], [1.0], [-1.0], [1.0]]), (4, 160))
    (steady,) = trainings_intervals(steady_KS[None], users_S, num_resamples=20_000)
    assert (steady.low, steady.high) == pytest.approx((-2 / 3**0.5, 2 / 3**0.5), abs=1e-9)
