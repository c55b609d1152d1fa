"""Figures of every sample, kept and read, and tests on them."""

import numpy as np
import pytest

from thinkrank.errors import ThinkrankError
from thinkrank.evaluate.per_sample import FILE, PerSample, paired_with
from thinkrank.evaluate.significance import paired_test


def found(values_SC, **about):
    columns = [("EASE", "mrr"), ("mine", "mrr")]
    return PerSample(about, "mine", columns, np.repeat(np.arange(len(values_SC) // 2), 2), values_SC)


def test_what_is_kept_comes_back(tmp_path):
    values_SC = np.random.default_rng(0).random((8, 2))
    values_SC[3, 1] = np.nan
    found(values_SC, part="test").save(tmp_path)
    read = PerSample.read(tmp_path)
    assert (dict(read.about), read.own, read.systems) == ({"part": "test"}, "mine", ("EASE", "mine"))
    np.testing.assert_array_equal(read.values("mine", "mrr"), values_SC[:, 1])
    np.testing.assert_array_equal(read.users_S, [0, 0, 1, 1, 2, 2, 3, 3])


def test_faults_are_told_in_one_line(tmp_path):
    with pytest.raises(ThinkrankError, match=r"no figures of single samples here: run `thinkrank evaluate"):
        PerSample.read(tmp_path)
    found(np.zeros((4, 2))).save(tmp_path)
    with pytest.raises(ThinkrankError, match=r"there is no ndcg of 'mine'; systems: EASE, mine; metrics: mrr"):
        PerSample.read(tmp_path).values("mine", "ndcg")
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:-9])
    with pytest.raises(ThinkrankError, match=r"damaged .*: judge the run again"):
        PerSample.read(tmp_path)


def test_each_test_is_the_paired_test_and_holm_corrects_for_all_of_them():
    random = np.random.default_rng(1)
    users_S, reference_S = np.repeat(np.arange(30), 2), random.random(60)
    others = [reference_S + random.normal(shift, 0.1, 60) for shift in (0.05, 0.0)]
    reference_S[7] = np.nan
    kept_S = ~np.isnan(reference_S)
    alone = [paired_test(other[kept_S], reference_S[kept_S], users_S[kept_S]) for other in others]
    together = paired_with(reference_S, others, users_S)
    for (test, _), expected in zip(together, alone, strict=True):
        assert test.p_value == expected.p_value
        assert vars(test.difference) == pytest.approx(vars(expected.difference))
    low, high = sorted(test.p_value or 0.0 for test, _ in together)
    assert sorted(corrected or 0.0 for _, corrected in together) == [min(1, 2 * low), max(min(1, 2 * low), high)]
