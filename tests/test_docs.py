"""What the documentation says is what the files say."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_every_table_of_results_is_what_its_result_file_holds():
    done = subprocess.run([sys.executable, str(ROOT / "docs" / "tables.py"), "--check"], check=False)
    assert done.returncode == 0, "run `python docs/tables.py`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_setting_the_guide_names_exists():
    from thinkrank.cli.settings import RetrieveSettings, _keys

    text = "".join(
        (ROOT / "docs" / "guide" / f"{page}.md").read_text(encoding="utf-8") for page in ("retrieve", "recpo")
    )
    named = set(re.findall(r"`((?:training|model|recpo)\.\w+(?:\.\w+)*)`", text))
    known = _keys(RetrieveSettings)
    tables = {".".join(key.split(".")[:depth]) for key in known for depth in (1, 2, 3)}
    assert len(named) > 30
    assert named <= {*known, *tables}


@pytest.mark.parametrize("study", sorted((ROOT / "studies" / "r2ec").rglob("*.toml")), ids=lambda path: path.stem)
def test_every_study_is_a_valid_configuration(study):
    from thinkrank.cli.settings import Layers, retrieve_settings
    from thinkrank.retrieve.presets import Preset

    tables = tomllib.loads(study.read_text(encoding="utf-8"))
    arms = tables.pop("arms", {})
    assert tables.pop("study", {}).keys() <= {"seeds", "shared_warm_start", "samples"}
    for arm in [{}, *arms.values()]:
        over = {key: value for key, value in arm.items() if key not in ("about", "phase", "thinks", "controls")}
        retrieve_settings(Preset.thinkrank, Layers(tables=[tables, over]))


@pytest.mark.parametrize("study", sorted((ROOT / "studies" / "r2rank").glob("*.toml")), ids=lambda path: path.stem)
def test_the_arms_of_ranking_studies_are_settings(study):
    from thinkrank.cli.settings import Layers, rank_settings

    tables = tomllib.loads(study.read_text(encoding="utf-8"))
    arms = tables.pop("arms")
    del tables["study"]
    for arm in arms.values():
        over = {key: arm[key] for key in ("model", "cold_start", "reinforce") if key in arm}
        thinks = {"model": {"thinks": arm.get("thinks", True)}}
        rank_settings(Layers(tables=[tables, thinks, over]))
        assert arm.get("after") in (None, *arms)


def test_every_setting_the_ranking_guide_names_exists():
    from thinkrank.cli.settings import RankSettings, _keys

    text = (ROOT / "docs" / "guide" / "rank.md").read_text(encoding="utf-8")
    stages = "model|cold_start|reinforce|traces|candidates"
    named = set(re.findall(rf"(?:`|--set )((?:{stages})\.\w+(?:\.\w+)*)", text))
    assert len(named) > 4
    assert named <= set(_keys(RankSettings))
