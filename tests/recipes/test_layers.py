"""Settings are laid over each other, kept whole, and refused in one line."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from pydantic import BaseModel, PositiveInt

from thinkrank.errors import ThinkrankError
from thinkrank.language import LoraOptions
from thinkrank.options import Options, spelt
from thinkrank.recipes.layers import Layers, parse_assignment, resumed, setting_names, toml_of, validated
from thinkrank.recipes.presets import Preset, preset
from thinkrank.recipes.ranking import RankSettings, rank_settings
from thinkrank.recipes.reranking import RerankSettings, rerank_settings
from thinkrank.recipes.retrieval import RetrieveSettings, retrieve_settings
from thinkrank.rerank import EGLRConfig, GrpoOptions
from thinkrank.training.run import without_none


class Anything(BaseModel):
    """Settings as they come to a stage."""

    data: dict[str, Any]
    probe: dict[str, Any]
    stages: dict[str, Any]


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
    text = tomli_w.dumps(without_none(kept))
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
    told = r"unknown setting learning_rate; did you mean training.learning_rate or recpo.learning_rate\?"
    with pytest.raises(ThinkrankError, match=told):  # all settings of that name
        retrieve_settings(Preset.thinkrank, Layers(assignments=["learning_rate=3"]))
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


def begun(folder, settings, *, without=(), **manifest):
    """A run's folder as a training of these settings leaves it, some of them unknown then."""
    table = without_none(settings.model_dump(mode="json"))
    for key in without:
        *path, name = key.split(".")
        inner = table
        for part in path:
            inner = inner[part]
        del inner[name]
    folder.mkdir(exist_ok=True)
    (folder / "config.toml").write_text(tomli_w.dumps(table), encoding="utf-8")
    (folder / "traces.jsonl").touch()
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def test_a_setting_that_an_older_run_did_not_know_has_the_meaning_it_had_then(tmp_path):
    here = retrieve_settings(Preset.thinkrank, Layers(source="table"))
    then = here.model_copy(update={"model": here.model.model_copy(update={"reading": "text"}), "crowd": ()})
    folder = begun(tmp_path, then, without=["model.reading", "model.head.shared_bias", "crowd"])
    resume = resumed(here, folder)  # today's preset reads late and has a crowd; nobody gave either
    assert (resume.model.reading, resume.model.head.shared_bias, resume.crowd) == ("text", False, ())
    asked = retrieve_settings(Preset.thinkrank, Layers(source="table", assignments=["model.reading=late"]))
    with pytest.raises(ThinkrankError, match=r"its model.reading is 'text', not 'late'"):
        resumed(asked, folder)


def test_a_default_that_changed_does_not_refuse_the_same_command_and_a_dropped_setting_does(tmp_path):
    given = Layers(source="table", assignments=["reinforce.steps=3"])
    here = rank_settings(given)
    then = here.model_copy(update={"cold_start": here.cold_start.model_copy(update={"validation_samples": 7})})
    folder = begun(tmp_path, then, given=sorted(here.given))
    assert resumed(here, folder).cold_start.validation_samples == 7
    with pytest.raises(ThinkrankError, match=r"its reinforce.steps is 3, not "):
        resumed(rank_settings(Layers(source="table")), folder)
    told = Layers(source="table", assignments=["reinforce.steps=3", "cold_start.validation_samples=8"])
    with pytest.raises(ThinkrankError, match=r"its cold_start.validation_samples is 7, not 8"):
        resumed(rank_settings(told), folder)
    begun(tmp_path, then)  # an older run, which does not say what was given
    with pytest.raises(ThinkrankError, match=r"its cold_start.validation_samples is 7"):
        resumed(here, folder)


def test_another_preset_is_another_run(tmp_path):
    here = retrieve_settings(Preset.thoughts, Layers(source="table"))
    folder = begun(tmp_path, here, given=sorted(here.given))
    assert resumed(here, folder) == here
    with pytest.raises(ThinkrankError, match="holds another run"):
        resumed(retrieve_settings(Preset.paper, Layers(source="table")), folder)


def test_settings_made_in_python_tell_what_was_set():
    settings = RerankSettings(data={"source": "synthetic"}, grpo=GrpoOptions(steps=3))
    assert settings.given == {"data.source", "grpo.steps"}
    assert settings.model_copy(update={"model": EGLRConfig()}).given == settings.given


def test_names_of_files_become_absolute_where_they_are_given(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    for name in ("orders.csv", "in/base", "in/shop"):
        path = tmp_path / name
        path.touch() if path.suffix else path.mkdir()
    (tmp_path / "in" / "shop" / "dataset.json").touch()
    (tmp_path / "in" / "mine.toml").write_text(
        '\ufeff[data]\nsource = "shop"\n[model]\nbackbone = "base"\n[training]\nsteps = 2\n', encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    layers = Layers(
        config=Path("in/mine.toml"),
        assignments=["data.options.interactions=orders.csv", "data.options.event=in", "model.prompt.noun=base"],
    )
    settings = layers.over(RetrieveSettings, lambda source: {"model": {}, "training": {}})
    assert settings.data.source == str(tmp_path / "in" / "shop")
    assert settings.model.backbone == str(tmp_path / "in" / "base")
    assert settings.data.options == {"interactions": str(tmp_path / "orders.csv"), "event": "in"}
    assert settings.model.prompt.noun == "base"
    many = Layers(
        options=['interactions=["orders.csv", "absent.csv"]'],
        assignments=['probe.starts=["in/base"]', "stages.rerank=in/base", "stages.rank=evidence"],
    )
    (tmp_path / "evidence").mkdir()
    listed = many.over(Anything, lambda source: {})
    base = str(tmp_path / "in" / "base")
    assert listed.data["options"] == {"interactions": [str(tmp_path / "orders.csv"), "absent.csv"]}
    assert (listed.probe, listed.stages) == ({"starts": [base]}, {"rerank": base, "rank": "evidence"})
    inside = Layers(source="table", path="in", options=["interactions=orders.csv"])  # of the folder that is named
    assert inside.over(RetrieveSettings, lambda source: {"model": {}, "training": {}}).data.options == {
        "interactions": "orders.csv"
    }


def test_where_a_run_is_followed_may_change_when_it_goes_on(tmp_path):
    before = retrieve_settings(Preset.thinkrank, Layers(source="table"))
    folder = begun(tmp_path, before, given=sorted(before.given))
    here = before.model_copy(update={"report_to": ("trackio",)})
    here.__dict__["given"] = before.given
    assert resumed(here, folder).report_to == ("trackio",)
    assert resumed(here, folder).given == before.given


@pytest.mark.parametrize("which", [Preset.paper, Preset.released])
def test_presets_of_the_paper_adapt_all_layers_on_the_command_line_too(which):
    assert retrieve_settings(which, Layers()).model.lora == preset(which)[0].lora
    assert preset(which)[0].lora.top_layers is None


def test_a_number_is_left_out_by_the_word_none():
    laid = Layers(assignments=["model.lora.top_layers=none", "model.thought.top_p=0.5"])
    assert retrieve_settings(Preset.thinkrank, laid).model.lora.top_layers is None
    assert LoraOptions(top_layers="none").top_layers is None
    with pytest.raises(ThinkrankError, match=r"setting model\.lora\.rank: .*got 'none'"):
        retrieve_settings(Preset.thinkrank, Layers(assignments=["model.lora.rank=none"]))


def test_a_number_that_is_left_out_stays_so_in_files_of_settings_and_in_runs(tmp_path):
    paper = retrieve_settings(Preset.paper, Layers(source="table", assignments=["recpo.ndcg_k=none"]))
    (tmp_path / "paper.toml").write_text(toml_of(paper), encoding="utf-8")
    again = retrieve_settings(Preset.thinkrank, Layers(config=tmp_path / "paper.toml"))
    assert (again.model.lora.top_layers, again.recpo.ndcg_k) == (None, None)
    assert again == paper
    folder = begun(tmp_path / "run", paper, given=sorted(paper.given))
    (folder / "config.toml").write_text(tomli_w.dumps(without_none(spelt(paper))), encoding="utf-8")
    assert resumed(paper, folder).recpo.ndcg_k is None
    window = spelt(Restricted(window=None), Restricted())
    assert window == {"window": "none"}
    assert validated(Restricted, window).window is None


class Restricted(Options):
    """A number of a restricted kind, as retrievers have."""

    window: PositiveInt | None = 20


def test_a_run_of_before_names_in_lists_were_absolute_goes_on(tmp_path, monkeypatch):
    (tmp_path / "orders.csv").touch()
    monkeypatch.chdir(tmp_path)
    here = retrieve_settings(Preset.thinkrank, Layers(source="table", options=['interactions=["orders.csv"]']))
    assert here.data.options == {"interactions": [str(tmp_path / "orders.csv")]}
    kept = here.data.model_copy(update={"options": {"interactions": ["orders.csv"]}})
    folder = begun(tmp_path / "run", here.model_copy(update={"data": kept}), given=sorted(here.given))
    assert resumed(here, folder).data.options == {"interactions": ["orders.csv"]}
    other = retrieve_settings(Preset.thinkrank, Layers(source="table", options=['interactions=["others.csv"]']))
    with pytest.raises(ThinkrankError, match=r"data\.options\.interactions"):
        resumed(other, folder)
