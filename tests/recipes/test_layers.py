"""Settings are laid over each other, kept whole, and refused in one line."""

import tomllib

import pytest
import tomli_w

from thinkrank.errors import ThinkrankError
from thinkrank.recipes.layers import Layers, parse_assignment, setting_names, validated
from thinkrank.recipes.presets import Preset
from thinkrank.recipes.ranking import RankSettings, rank_settings
from thinkrank.recipes.reranking import RerankSettings, rerank_settings
from thinkrank.recipes.retrieval import RetrieveSettings, retrieve_settings
from thinkrank.training.run import _without_none


def test_each_layer_lies_over_the_one_before(tmp_path):
    (tmp_path / "mine.toml").write_text("[training]\nsteps = 7\nseed = 3\nbatch_size = 2\n", encoding="utf-8")
    layers = Layers(
        config=tmp_path / "mine.toml",
        source="synthetic",
        tables=[{"training": {"seed": 4, "batch_size": 3}}, {"training": {"batch_size": 5}}],
        assignments=["training.batch_size=6"],
    )
    training = retrieve_settings(Preset.thoughts, layers).training
    assert (training.steps, training.seed, training.batch_size) == (7, 4, 6)
    assert training.thought_share == 0.75  # the preset's


def test_the_data_decides_how_items_are_called():
    assert retrieve_settings(Preset.paper, Layers(source="amazon-2023")).model.prompt.noun == "product"
    assert retrieve_settings(Preset.paper, Layers(source="table")).model.prompt.noun == "item"
    assert rank_settings(Layers()).model.prompt.line == "{title} ({categories})"


@pytest.mark.parametrize(
    "settings",
    [retrieve_settings(Preset.released, Layers()), rank_settings(Layers()), rerank_settings(Layers())],
    ids=lambda settings: type(settings).__name__,
)
def test_settings_are_what_their_file_says_and_name_no_class_unless_one_is_chosen(settings):
    kept = settings.model_dump(mode="json")
    assert not {"retriever", "ranker", "reranker"} & kept.keys()
    text = tomli_w.dumps(_without_none(kept))
    assert validated(type(settings), tomllib.loads(text)) == settings


@pytest.mark.parametrize(
    ("make", "table"),
    [
        (lambda layers: retrieve_settings(Preset.thinkrank, layers), "retriever"),
        (rank_settings, "ranker"),
        (rerank_settings, "reranker"),
    ],
)
def test_a_class_and_its_options_are_settings_like_others(make, table):
    given = [f"{table}.class=my.module:Mine", f"{table}.options.width=8", f"{table}.options.name=old"]
    settings = make(Layers(assignments=given))
    chosen = settings.stage_class
    assert (chosen.name, chosen.options, chosen.title) == ("my.module:Mine", {"width": 8, "name": "old"}, "Mine")
    kept = settings.model_dump(mode="json")
    assert kept[table] == {"class": "my.module:Mine", "options": {"width": 8, "name": "old"}}
    assert validated(type(settings), kept) == settings


def test_every_setting_has_a_name_and_a_misspelt_one_is_told_the_nearest():
    named = {RetrieveSettings: "retriever.class", RankSettings: "ranker.options", RerankSettings: "reranker.class"}
    for settings, name in named.items():
        assert name in setting_names(settings)
    with pytest.raises(ThinkrankError, match=r"unknown setting cold_start.stpes; did you mean cold_start.steps\?"):
        rank_settings(Layers(assignments=["cold_start.stpes=3"]))
    with pytest.raises(ThinkrankError, match=r"setting grpo.steps: .*, got 'many'"):
        rerank_settings(Layers(assignments=["grpo.steps=many"]))


def test_values_are_read_as_toml_and_else_as_text():
    assert parse_assignment("a.b=3") == ("a.b", 3)
    assert parse_assignment("a=[1, 2]") == ("a", [1, 2])
    assert parse_assignment("a=true") == ("a", True)
    assert parse_assignment("a=leave-last-out") == ("a", "leave-last-out")
    assert parse_assignment("a=x=y") == ("a", "x=y")
    with pytest.raises(ThinkrankError, match="not of the form key=value"):
        parse_assignment("nonsense")
