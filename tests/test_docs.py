"""What the documentation says is what the files say."""

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
MADE_AT_BUILD = {f"reference/{name}.md" for name in ("commands", "settings", "sources")}
"""Pages that docs/pages.py makes when the site is built."""


def test_every_table_of_results_is_what_its_result_file_holds():
    done = subprocess.run([sys.executable, str(ROOT / "docs" / "tables.py"), "--check"], check=False)
    assert done.returncode == 0, "run `python docs/tables.py`"


@pytest.mark.parametrize("folder", sorted((ROOT / "studies" / "probe" / "results").iterdir()), ids=lambda one: one.name)
def test_what_a_published_probe_says_follows_from_its_answers(folder):
    from thinkrank.recipes.probe_arms import chosen_arms
    from thinkrank.recipes.probe_verdict import read_probe

    told = json.loads((folder / "probe.json").read_text(encoding="utf-8"))
    about = told["about"]
    arms = chosen_arms(
        [way["name"] for way in told["ways"]],
        "text" if about["histories"] == "as text" else "late",
        is_started=bool(about.get("trained before")),
    )
    found = read_probe(folder, arms, dataset=folder.name, about=about, tables=False)
    assert [found.sentence, *found.details] == [told["sentence"], *told["details"]]
    assert [way.test.p_value for way in found.ways] == pytest.approx([way["p"] for way in told["ways"]])


def test_only_pages_that_changed_are_made_again_to_be_compared(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs" / "tables.py")
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    texts = {page.relative_to(tables.DOCS).as_posix(): page.read_text() for page in tables.DOCS.rglob("*.md")}
    known = {name: tables.digest(text) for name, text in texts.items() if tables.MARKED.search(text)}
    assert "results.md" in known
    made = []
    monkeypatch.setattr(tables, "LOCK", tmp_path / "tables.lock")
    monkeypatch.setattr(tables, "filled", lambda text: made.append(text) or f"{text} otherwise")
    monkeypatch.setattr(sys, "argv", ["tables.py", "--check"])
    tables.LOCK.write_text(json.dumps(known))
    assert tables.main() == 0
    assert made == []
    tables.LOCK.write_text(json.dumps(known | {"results.md": tables.digest(texts["results.md"] + "by hand")}))
    assert tables.main() == 1
    assert made == [texts["results.md"]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        file = (page.parent / target).resolve()
        made = {ROOT / "docs" / name for name in MADE_AT_BUILD}
        assert file.exists() or file in made, f"{page.name} links to {target}"


def test_the_papers_are_cited_alike_in_the_readme_and_in_the_site():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert (ROOT / "docs" / "papers.bib").read_text(encoding="utf-8") in readme


def test_every_setting_the_guide_names_exists():
    from thinkrank.recipes.layers import setting_names
    from thinkrank.recipes.retrieval import RetrieveSettings

    text = "".join(
        (ROOT / "docs" / "guide" / f"{page}.md").read_text(encoding="utf-8") for page in ("retrieve", "recpo")
    )
    named = set(re.findall(r"`((?:training|model|recpo)\.\w+(?:\.\w+)*)`", text))
    known = setting_names(RetrieveSettings)
    tables = {".".join(key.split(".")[:depth]) for key in known for depth in (1, 2, 3)}
    assert len(named) > 30
    assert named <= {*known, *tables}


@pytest.mark.parametrize(
    "study",
    sorted(file for name in ("r2ec", "cuda") for file in (ROOT / "studies" / name).rglob("*.toml")),
    ids=lambda path: path.stem,
)
def test_every_study_is_a_valid_configuration(study):
    from thinkrank.recipes.layers import Layers
    from thinkrank.recipes.presets import Preset
    from thinkrank.recipes.retrieval import retrieve_settings
    from thinkrank.recipes.studies import TOLD_ONLY

    tables = tomllib.loads(study.read_text(encoding="utf-8"))
    arms = tables.pop("arms", {})
    assert tables.pop("study", {}).keys() <= {"seeds", "samples", "keep_thoughts", "control", *TOLD_ONLY}
    for arm in [{}, *arms.values()]:
        over = {key: arm[key] for key in ("model", "training", "recpo") if key in arm}
        retrieve_settings(Preset.thoughts, Layers(tables=[tables, over, {"training": arm.get("warm_start", {})}]))
        known = {"about", "phase", "thinks", "controls", "control", "warm_start", *over}
        assert arm.keys() <= known, "an arm says what nothing reads"


def test_every_study_says_what_was_chosen_on_its_test_samples():
    from thinkrank.evaluate.study_tables import study_notes

    studies = [file for file in (ROOT / "studies").rglob("*.toml") if file.name != "arms.toml"]
    told = {file: tomllib.loads(file.read_text(encoding="utf-8")).get("study") for file in studies}
    assert sum(options is not None for options in told.values()) > 10
    for file, options in told.items():
        if options is not None:
            study_notes(options, file)


@pytest.mark.parametrize(
    "study", ["movielens-100k", "movielens-100k-evidence", "amazon-office", "amazon-office-evidence", "two-clues"]
)
def test_the_arms_of_ranking_studies_are_settings(study):
    from thinkrank.recipes.layers import Layers
    from thinkrank.recipes.ranking import rank_settings

    folder = ROOT / "studies" / "r2rank"
    tables = tomllib.loads((folder / f"{study}.toml").read_text(encoding="utf-8"))
    arms = tables.pop("arms", None) or tomllib.loads((folder / "arms.toml").read_text(encoding="utf-8"))
    del tables["study"]
    for arm in arms.values():
        over = {key: arm[key] for key in ("model", "traces", "cold_start", "reinforce") if key in arm}
        assert arm.keys() <= {"about", "thinks", "after", *over}, "an arm says what nothing reads"
        thinks = {"model": {"thinks": arm.get("thinks", True)}}
        rank_settings(Layers(tables=[tables, thinks, over]))
        assert arm.get("after") in (None, *arms)


@pytest.mark.parametrize("study", ["trivago", "mind", "synthetic"])
def test_the_arms_of_re_ranking_studies_are_settings(study):
    from thinkrank.recipes.layers import Layers
    from thinkrank.recipes.reranking import rerank_settings

    folder = ROOT / "studies" / "eglr"
    tables = tomllib.loads((folder / f"{study}.toml").read_text(encoding="utf-8"))
    arms = tomllib.loads((folder / "arms.toml").read_text(encoding="utf-8"))
    assert set(tables.pop("study").get("arms", arms)) <= set(arms)
    for arm in arms.values():
        rerank_settings(Layers(tables=[tables, {key: arm[key] for key in ("model", "grpo") if key in arm}]))
        assert arm.get("match") in (None, *arms)


def test_single_options_of_a_source_add_up_and_a_table_of_them_replaces():
    from thinkrank.recipes.layers import Layers
    from thinkrank.recipes.reranking import rerank_settings

    table = {"data": {"options": {"users": 9}}}
    settings = rerank_settings(Layers(tables=[table, {"data": {"options": {"items": 8}}}]))
    assert settings.data.options == {"items": 8}
    settings = rerank_settings(Layers(tables=[table], assignments=["data.options.items=8", "data.options.lists=7"]))
    assert settings.data.options == {"users": 9, "items": 8, "lists": 7}


def test_every_setting_the_ranking_guide_names_exists():
    from thinkrank.recipes.layers import setting_names
    from thinkrank.recipes.ranking import RankSettings

    text = (ROOT / "docs" / "guide" / "rank.md").read_text(encoding="utf-8")
    stages = "model|cold_start|reinforce|traces|candidates"
    named = set(re.findall(rf"(?:`|--set )((?:{stages})\.\w+(?:\.\w+)*)", text))
    assert len(named) > 4
    assert named <= set(setting_names(RankSettings))
