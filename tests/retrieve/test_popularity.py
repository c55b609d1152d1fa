"""Popularity counts what was taken."""

import polars as pl
import pytest
from pydantic import ValidationError

from thinkrank.data import Catalogue, Dataset, History, split_dataset
from thinkrank.errors import ThinkrankError
from thinkrank.retrieve import Popularity, PopularityConfig
from thinkrank.testing import two_tribes

DAY = 86_400


def dataset_of(*events: tuple[str, str, int]) -> Dataset:
    catalogue = Catalogue(pl.DataFrame({"item": ["a", "b", "c"], "title": ["A", "B", "C"]}))
    return Dataset("tiny", pl.DataFrame(list(events), schema=["user", "item", "timestamp"], orient="row"), catalogue)


def test_scores_are_counts_and_a_repurchase_counts_twice():
    popularity = Popularity().fit(dataset_of(("u", "a", 0), ("u", "a", 1), ("v", "b", 2), ("v", "a", 3)))
    assert popularity.scores([History.of([])]).tolist() == [[3, 1, 0]]


def test_every_history_gets_the_same_answer():
    popularity = Popularity().fit(two_tribes())
    scores_BI = popularity.scores([History.of([1]), History.of([]), History.of([6, 7])])
    assert (scores_BI == scores_BI[0]).all()


def test_an_interaction_one_half_life_old_counts_half():
    events = dataset_of(("u", "a", 0), ("u", "b", 3 * DAY), ("v", "c", 6 * DAY))
    popularity = Popularity(PopularityConfig(half_life_days=3)).fit(events)
    assert popularity.scores([History.of([])]).tolist() == [[0.25, 0.5, 1]]


def test_a_split_teaches_its_training_part_only():
    split = split_dataset(two_tribes(), "leave-last-out")
    learnt = Popularity().fit(split).scores([History.of([])])
    assert learnt.sum() == sum(len(history) for history in split.train_histories())
    assert learnt.sum() < Popularity().fit(split.dataset).scores([History.of([])]).sum()


def test_a_misspelt_or_senseless_option_is_an_error():
    with pytest.raises(ValidationError, match="half_life"):
        PopularityConfig.model_validate({"half_life": 3})
    with pytest.raises(ValidationError, match="greater than 0"):
        PopularityConfig(half_life_days=0)


def test_scoring_or_saving_before_fitting_is_an_error(tmp_path):
    with pytest.raises(ThinkrankError, match="call fit first"):
        Popularity().scores([History.of([])])
    with pytest.raises(ThinkrankError, match="call fit first"):
        Popularity().save_pretrained(tmp_path)
