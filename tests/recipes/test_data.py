"""Settings of data say how much of it is kept for validation and for the test."""

import numpy as np
import pytest
from pydantic import ValidationError

from thinkrank.data import split_dataset
from thinkrank.recipes.data import DataSettings

WORLD = {"users": 60, "items": 30, "styles": 8, "kinds": 8, "events": 8}


def test_shares_of_a_temporal_split_are_those_asked_for():
    settings = DataSettings(source="synthetic", options=WORLD, valid_share=0.05, test_share=0.3)
    split = settings.load_split()
    sizes = np.array([len(split.train), len(split.valid), len(split.test)])
    np.testing.assert_allclose(sizes / sizes.sum(), [0.65, 0.05, 0.3], atol=0.02)
    same = split_dataset(settings.load(), "temporal", fractions=(0.65, 0.05, 0.3))
    assert np.array_equal(split.test.positions, same.test.positions)
    assert split.manifest()["fractions"] == [0.65, 0.05, 0.3]


def test_shares_that_nobody_named_are_a_tenth_each():
    assert DataSettings(source="synthetic", options=WORLD).load_split().manifest()["fractions"] == [0.8, 0.1, 0.1]


def test_shares_of_a_relay_are_of_its_users():
    few, many = (
        DataSettings(source="synthetic-relay", options={"users": 100, "styles": 4, "kinds": 4}, test_share=share)
        for share in (0.1, 0.4)
    )
    assert len(many.load_split().test) == 4 * len(few.load_split().test)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"split": "leave-last-out", "test_share": 0.3}, "leave-last-out tests on last events"),
        ({"valid_share": 0.5, "test_share": 0.6}, "leave nothing to learn from"),
    ],
)
def test_shares_that_cannot_be_are_refused(settings, says):
    with pytest.raises(ValidationError, match=says):
        DataSettings(source="synthetic", **settings)
