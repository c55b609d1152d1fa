"""The section of results: the headline figure as a plot, and every figure in tables."""

from collections.abc import Mapping, Sequence
from typing import Any

from thinkrank.evaluate.results import Comparison, ResultRow, format_value, ties_note
from thinkrank.report.facts import facts_list
from thinkrank.report.html import Html, join, tag
from thinkrank.report.plots import interval_plot

Cells = Mapping[tuple[str, str], ResultRow]
Tests = Mapping[tuple[str, str], Comparison]

MEANINGS = {
    "coverage": "Coverage: share of the catalogue that someone is recommended.",
    "popularity": "Popularity: mean percentile of the recommended items among all, .5 if drawn at random.",
    "arp": "Arp: their mean number of training interactions.",
    "novelty": "Novelty: their mean self-information, in bits.",
}
INTERVALS = "Ranges are 95 % bootstrap intervals that draw whole users."
TESTS = (
    "Differences and p-values compare with {reference}: paired sign-flip test of these trained models, p {corrected}; "
    "± is the smallest difference that it sees with 80 % power."
)


def results_section(
    rows: Sequence[ResultRow],
    comparisons: Sequence[Comparison],
    policy: Mapping[str, Any],
    headline: str,
    verdict: str = "",
) -> Html | None:
    """Write everything measured, one block per data set and split; None without rows.

    A block that lacks the headline metric plots its first one; tests are matched to rows by their names.
    """
    if not rows:
        return None
    blocks = dict.fromkeys((row.dataset, row.split) for row in rows)
    parts = [
        _block(
            [row for row in rows if (row.dataset, row.split) == block],
            {(test.system, test.metric): test for test in comparisons if (test.dataset, test.split) == block},
            headline,
        )
        for block in blocks
    ]
    return tag(
        "section",
        tag("h2", "Results"),
        tag("p", tag("strong", verdict), dir="auto") if verdict else None,
        *parts,
        tag("details", tag("summary", "How it was measured"), facts_list(policy), class_="card") if policy else None,
        id="results",
    )


def _block(rows: Sequence[ResultRow], tests: Tests, headline: str) -> Html:
    cells = {(row.system, row.metric): row for row in rows}
    metrics = list(dict.fromkeys(row.metric for row in rows))
    accuracy = [metric for metric in metrics if any(row.low is not None for row in rows if row.metric == metric)]
    described = _same_cutoff([metric for metric in metrics if metric not in accuracy], headline)
    dataset, split, n = rows[0].dataset, rows[0].split, rows[0].n
    reference = next((test.reference for test in tests.values()), None)
    notes = [INTERVALS] if accuracy else []
    if reference:
        corrected = any(test.corrected is not None for test in tests.values())
        said = "corrected by Holm for the systems compared" if corrected else "not corrected for the number of tests"
        notes.append(TESTS.format(reference=reference, corrected=said))
    notes += [f"{ties}."] if (ties := ties_note(rows)) else []
    return join(
        tag("h3", f"{dataset}, {split}: {n:,} samples"),
        _forest(cells, tests, headline if headline in metrics else metrics[0]),
        _table("Accuracy", cells, accuracy, tests) if accuracy else None,
        tag("p", " ".join(notes), class_="facts") if notes else None,
        _table("What is recommended", cells, described, {}) if described else None,
        tag("p", " ".join(_meanings(described)), class_="facts") if described else None,
    )


def _same_cutoff(metrics: Sequence[str], headline: str) -> list[str]:
    """Keep those with the headline's cut-off, if there are any: how lists look changes little from one to the next."""
    return [metric for metric in metrics if metric.split("@")[1:] == headline.split("@")[1:]] or list(metrics)


def _meanings(metrics: Sequence[str]) -> list[str]:
    names = dict.fromkeys(metric.split("@")[0] for metric in metrics)
    return [MEANINGS[name] for name in names if name in MEANINGS]


def _forest(cells: Cells, tests: Tests, metric: str) -> Html:
    rows = [row for (_, name), row in cells.items() if name == metric]
    top = max((row.high if row.high is not None else row.value for row in rows), default=0) * 1.02
    lines = []
    for row in rows:
        label = f"{row.system}: {metric} {_figure(row)}"
        value = tag("b", format_value(row.value)), _p_value(tests.get((row.system, metric)))
        line = (
            tag("span", tag("bdi", row.system), class_="system"),
            interval_plot(row.value, row.low, row.high, top=top, label=label),
            tag("span", *value, class_="value"),
        )
        lines.append(tag("div", *line, class_="row"))
    caption = tag("figcaption", tag("b", metric), f", axis from 0 to {format_value(top)}")
    return tag("figure", caption, *lines, class_="card forest")


def _table(caption: str, cells: Cells, metrics: Sequence[str], tests: Tests) -> Html:
    systems = list(dict.fromkeys(system for system, _ in cells))
    references = {test.reference for test in tests.values()}
    best = {metric: _best(cells, metric) for metric in metrics}
    header = tag("tr", tag("th", "system", scope="col"), *(tag("th", metric, scope="col") for metric in metrics))
    body = []
    for system in systems:
        known = [(cells.get((system, metric)), metric) for metric in metrics]
        data = [_cell(row, tests.get((system, metric)), row is best[metric]) for row, metric in known]
        body.append(
            tag(
                "tr",
                tag(
                    "th",
                    tag("bdi", system),
                    _seeds(cells, system),
                    tag("small", "reference") if system in references else None,
                    scope="row",
                ),
                *data,
            )
        )
    table = tag("table", tag("caption", caption), tag("thead", header), tag("tbody", *body), class_="figures")
    return tag("div", table, class_="scroll card", tabindex="0", role="region", aria_label=caption)


def _cell(row: ResultRow | None, test: Comparison | None, is_best: bool) -> Html:
    if row is None:
        return tag("td", "–")
    value = tag("b" if is_best else "span", format_value(row.value), class_="number")
    if row.low is None or row.high is None:
        return tag("td", value)
    between = tag("small", f"{format_value(row.low)}–{format_value(row.high)}")
    return tag("td", value, between, _difference(test))


def _best(cells: Cells, metric: str) -> ResultRow | None:
    """Find the highest of several accuracies; None for other figures: to recommend what is popular is not better."""
    rows = [row for (_, name), row in cells.items() if name == metric and row.low is not None]
    return max(rows, key=lambda row: row.value) if len(rows) > 1 else None


def _difference(test: Comparison | None) -> Html | None:
    if test is None:
        return None
    sign = "−" if test.difference < 0 else "+"
    visible = "" if test.visible is None else f" (± {format_value(test.visible)})"
    return tag("small", f"{sign}{format_value(abs(test.difference))}{visible}, {p_text(test)}", class_="test")


def _p_value(test: Comparison | None) -> Html | None:
    return None if test is None else tag("small", p_text(test))


def p_text(test: Comparison) -> str:
    """Print a p-value as papers do, the corrected one if there is one."""
    p_value = test.p_value if test.corrected is None else test.corrected
    if p_value is None:
        return f"{test.num_clusters} users: too few to test"
    return "p < .001" if p_value < 0.001 else f"p = {p_value:.3f}".replace("0.", ".", 1)


def _seeds(cells: Cells, system: str) -> Html | None:
    seeds = next(row.seeds for (name, _), row in cells.items() if name == system)
    if not seeds:
        return None
    return tag("small", f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}")


def _figure(row: ResultRow) -> str:
    value = format_value(row.value)
    if row.low is None or row.high is None:
        return value
    return f"{value}, interval {format_value(row.low)} to {format_value(row.high)}"
