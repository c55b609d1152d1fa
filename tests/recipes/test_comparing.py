"""Runs against runs on the same samples; what cannot be compared is refused."""

import numpy as np
import pytest

from thinkrank.errors import ThinkrankError
from thinkrank.evaluate.per_sample import PerSample
from thinkrank.recipes.comparing import compared

USERS = np.repeat(np.arange(40), 2)
ABOUT = {"data": "shop abc", "part": "test", "samples": "80 (x)"}


def judged(folder, shift, **about):
    random = np.random.default_rng(3)
    base_S = random.random(80)
    values_SC = np.stack([base_S, base_S + shift + random.normal(0, 0.05, 80)], axis=1)
    folder.mkdir()
    PerSample(ABOUT | about, "mine", [("EASE", "mrr"), ("mine", "mrr")], USERS, values_SC).save(folder)
    return str(folder)


def test_the_others_are_compared_with_the_first_each_by_what_it_trained(tmp_path):
    first, better, same = judged(tmp_path / "a", 0.0), judged(tmp_path / "b", 0.1), judged(tmp_path / "c", 0.0)
    lines, about = compared([first, better, same], "mrr")
    assert [line.run for line in lines] == [first, better, same]
    assert {line.system for line in lines} == {"mine"}
    assert lines[1].value - lines[0].value == pytest.approx(0.1) == pytest.approx(lines[1].difference)
    assert lines[1].corrected < 0.01 < lines[1].low
    assert (lines[2].difference, lines[2].corrected) == (0, 1)
    assert lines[0].difference is None
    assert (about["metric"], about["users"], about["part"]) == ("mrr", 40, "test")


def test_a_system_of_a_table_is_named_behind_the_folder(tmp_path):
    run = judged(tmp_path / "a", 0.2)
    lines, _ = compared([f"{run}:EASE", run], "mrr")
    assert [line.system for line in lines] == ["EASE", "mine"]
    assert lines[1].difference == pytest.approx(0.2, abs=0.03)
    with pytest.raises(ThinkrankError, match=r"there is no mrr of 'KNN'"):
        compared([f"{run}:KNN", run], "mrr")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"part": "valid"}, r"other part than .* \(valid, not test\)"),
        ({"samples": "70 (y)"}, "other samples"),
        ({"data": "shop xyz"}, "other data"),
    ],
)
def test_other_data_part_or_samples_are_refused(other, said, tmp_path):
    runs = [judged(tmp_path / "a", 0.0), judged(tmp_path / "b", 0.1, **other)]
    with pytest.raises(ThinkrankError, match=said):
        compared(runs, "mrr")


def test_two_runs_are_needed_and_must_be_there(tmp_path):
    run = judged(tmp_path / "a", 0.0)
    with pytest.raises(ThinkrankError, match="give two runs at least"):
        compared([run])
    with pytest.raises(ThinkrankError, match="no such folder"):
        compared([run, str(tmp_path / "b")])
