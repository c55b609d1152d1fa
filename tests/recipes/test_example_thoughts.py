"""When no example thought is left, the error says what dropped most of them, and the setting to change."""

import json

import pytest

from thinkrank.data import load_dataset, split_dataset
from thinkrank.errors import ThinkrankError
from thinkrank.rank import R2Rank
from thinkrank.recipes.layers import Layers
from thinkrank.recipes.ranking import cold_start_lists, rank_settings

SMALL = ("model.backbone=tiny", "traces.lists=4", "candidates.size=4", "cold_start.validation_samples=2")


@pytest.fixture(scope="module")
def split():
    return split_dataset(load_dataset("synthetic", users=20, items=40))


def lists(split, folder, *assignments):
    settings = rank_settings(Layers(source="synthetic", assignments=(*SMALL, *assignments)))
    model = R2Rank.create(settings.model, split.dataset.catalogue)
    return cold_start_lists(settings, model, split, folder / "traces.jsonl")


def test_thoughts_longer_than_the_model_may_write(split, tmp_path):
    fault = r"no list is left to train on: of [\d,]+ example thoughts [\d,]+ were dropped as too long; raise "
    with pytest.raises(ThinkrankError, match=f"{fault}model.thought.max_new_tokens, which is 6"):
        lists(split, tmp_path, "model.thought.max_new_tokens=6")


def test_verdicts_that_never_agree_with_what_was_chosen(split, tmp_path):
    everything = [
        {"position": place, "item": item, "reasoning": "Perhaps.", "likely": row != taken}
        for place, taken in enumerate(split.dataset.items_E.tolist())
        for row, item in enumerate(split.dataset.catalogue.ids)
    ]
    told = tmp_path / "verdicts.jsonl"
    told.write_text("\n".join(map(json.dumps, everything)), encoding="utf-8")
    with pytest.raises(ThinkrankError, match=r"dropped as no answer; set traces\.reflect=false"):
        lists(split, tmp_path, f"traces.path='{told}'")
    assert len(lists(split, tmp_path / "all", f"traces.path='{told}'", "traces.reflect=false"))
