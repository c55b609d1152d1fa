"""The built site: it builds without a warning, and each setting, command, source and option stands in it."""

import html
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from thinkrank.cli.main import app
from thinkrank.data.sources import LIST_SOURCES, SOURCES, registry
from thinkrank.recipes.baseline_run import BaselineSettings
from thinkrank.recipes.layers import setting_names
from thinkrank.recipes.ranking import RankSettings
from thinkrank.recipes.reranking import RerankSettings
from thinkrank.recipes.retrieval import RetrieveSettings

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(build, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def page(site: Path, name: str) -> str:
    return (site / "reference" / name / "index.html").read_text(encoding="utf-8")


def rows(text: str) -> dict[str, str]:
    """Everything that is told of each name in the first column of a table; a name may have several rows."""
    found: dict[str, str] = {}
    for first, rest in re.findall(r"<tr>\s*<td>(.*?)</td>(.*?)</tr>", text, re.DOTALL):
        for name in re.findall(r"<code>(.*?)</code>", first):
            found[html.unescape(name)] = found.get(html.unescape(name), "") + html.unescape(rest)
    return found


def section(text: str, anchor: str) -> str:
    """What stands below a heading, up to the next one."""
    (found,) = re.findall(rf'<h[23] id="{re.escape(anchor)}">.*?(?=<h[23] |</article>)', text, re.DOTALL)
    return found


def test_every_setting_has_a_row_and_a_description(site):
    shown = rows(page(site, "settings"))
    for settings in (RetrieveSettings, RankSettings, RerankSettings, BaselineSettings):
        assert set(setting_names(settings)) <= shown.keys()
    assert len(shown) > 250
    undescribed = [name for name, told in shown.items() if not re.search(r"<td>[^<]*\w{3,}[^<]* [^<]*", told)]
    assert not undescribed


def test_bounds_choices_and_presets_stand_beside_a_setting(site):
    shown = rows(page(site, "settings"))
    assert "whole number, at least 0" in shown["training.steps"]
    assert "<code>linear</code>, <code>constant</code>" in shown["training.schedule"]
    assert "&lt;answer&gt;" in page(site, "settings")


def test_every_command_and_option_stands_in_the_site(site):
    text = page(site, "commands")

    def walk(command, name):
        yield name, command
        for key, inner in getattr(command, "commands", {}).items():
            yield from walk(inner, f"{name} {key}")

    found = dict(walk(typer.main.get_command(app), "thinkrank"))
    assert {"thinkrank train retrieve", "thinkrank data describe", "thinkrank recommend"} <= found.keys()
    for name, command in found.items():
        part = rows(section(text, name.replace(" ", "-")))
        for parameter in command.params:
            for told in [*parameter.opts, *parameter.secondary_opts]:
                assert (told if told.startswith("-") else told.upper()) in part, (name, told)


@pytest.mark.parametrize("gives", ["events", "lists"])
def test_every_source_stands_in_the_site_with_its_options(site, gives):
    text = page(site, "sources")
    names = SOURCES if gives == "events" else LIST_SOURCES
    assert len(names) > 4
    for name in names:
        told = rows(section(text, f"{gives}-{name}"))
        options = setting_names(registry._SOURCES[gives][name].options)
        assert options == list(told), name
        assert all(re.search(r"\w{3,} \w", told[option].rpartition("<td>")[2]) for option in options), name


def test_no_script_of_ours_is_published(site):
    assert not list(site.rglob("*.py"))
