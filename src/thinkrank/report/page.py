"""The report: one HTML file that needs nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from thinkrank._files import atomic_write
from thinkrank.evaluate.results import Comparison, ResultRow
from thinkrank.report.cascade import CascadeStory, cascade_section
from thinkrank.report.cases import UserCase
from thinkrank.report.curves import curves_section
from thinkrank.report.facts import data_section, facts_list
from thinkrank.report.faithful import faithfulness_section
from thinkrank.report.figures import results_section
from thinkrank.report.html import Html, join, tag
from thinkrank.report.thoughts import ThoughtChange, thoughts_section
from thinkrank.report.users import users_section
from thinkrank.report.writing import ListWriting, writing_section

SAFETY = "default-src 'none'; style-src 'unsafe-inline'"
"""All text is escaped; should a script slip through all the same, the browser may run none and load nothing."""


@dataclass(frozen=True)
class Report:
    """Hold what a report shows. Every part but the title may be left out, and its section is then left out too.

    Attributes:
        title: of the page.
        subtitle: one line below it.
        data_card: as `Dataset.describe` gives it.
        manifest: as `Split.manifest` gives it.
        rows: what was measured, as `Evaluation.rows` gives it.
        comparisons: paired tests against a reference, as `Evaluation.comparisons` gives them.
        policy: how it was measured, as `Evaluation.policy` gives it.
        verdict: what was found, in sentences: the first line in words, the others in figures.
        about: what the page is about: dates, versions, command, model, licences.
        headline: the metric to plot.
        curves: rows of `metrics.jsonl`, by the name of the training that logged them.
        thoughts: what reinforcement made of them, as `thought_change` gives it.
        users: single users, as `user_cases` gives them.
        writing: what a re-ranker makes of lists, and who rewarded it.
        faithfulness: how far reasons hold and decide, as `thinkrank.evaluate.faithfulness` measures it.
        cascade: what each stage of a cascade found and cost.
        notes: paragraphs of plain text for the end: what a reader should know.
    """

    title: str
    subtitle: str = ""
    data_card: Mapping[str, Any] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)
    rows: Sequence[ResultRow] = ()
    comparisons: Sequence[Comparison] = ()
    policy: Mapping[str, Any] = field(default_factory=dict)
    verdict: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)
    headline: str = "ndcg@10"
    curves: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    thoughts: ThoughtChange | None = None
    users: Sequence[UserCase] = ()
    writing: ListWriting | None = None
    faithfulness: Sequence[ResultRow] = ()
    cascade: CascadeStory | None = None
    notes: Sequence[str] = ()


def render_report(report: Report) -> str:
    """Write the page as text. The same report gives the same text."""
    sections = {
        "results": results_section(report.rows, report.comparisons, report.policy, report.headline),
        "stages": cascade_section(report.cascade),
        "users": users_section(report.users),
        "reasons": faithfulness_section(report.faithfulness),
        "thoughts": thoughts_section(report.thoughts),
        "curves": curves_section(report.curves),
        "lists": writing_section(report.writing),
        "data": data_section(report.data_card, report.manifest),
        "notes": _notes(report.notes),
    }
    shown = {name: section for name, section in sections.items() if section is not None}
    links = [tag("a", name.capitalize(), href=f"#{name}") for name in shown]
    body = tag(
        "body",
        tag(
            "header",
            tag("h1", report.title, dir="auto"),
            tag("p", report.subtitle, class_="lead", dir="auto") if report.subtitle else None,
            _verdict(report.verdict),
            tag("div", facts_list(report.about), class_="about") if report.about else None,
            tag("nav", *links, aria_label="Sections") if len(links) > 1 else None,
            class_="page",
        ),
        tag("main", *shown.values()),
    )
    return f"<!doctype html>\n{tag('html', _head(report.title), body, lang='en')}\n"


def write_report(path: str | Path, report: Report) -> None:
    """Write the page to a file, whole or not at all."""
    with atomic_write(Path(path)) as file:
        file.write(render_report(report).encode())


def _head(title: str) -> Html:
    style = files("thinkrank.report").joinpath("report.css").read_text(encoding="utf-8")
    return tag(
        "head",
        Html('<meta charset="utf-8">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{SAFETY}">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<meta name="color-scheme" content="light dark">'),
        tag("title", title),
        Html(f"<style>{style}</style>"),
    )


def _verdict(verdict: str) -> Html | None:
    """Write what was found: in words first, in figures below."""
    if not verdict:
        return None
    words, *figures = verdict.split("\n")
    told = [tag("p", sentence, class_="facts", dir="auto") for sentence in figures]
    return tag("div", tag("p", words, class_="words", dir="auto"), *told, class_="card told")


def _notes(notes: Sequence[str]) -> Html | None:
    if not notes:
        return None
    return tag("section", tag("h2", "Notes"), *(tag("p", join(note), dir="auto") for note in notes), id="notes")
