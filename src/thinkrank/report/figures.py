"""The section of results: the headline figure as a plot, every figure in tables, and what the words in them mean."""

from collections.abc import Mapping, Sequence
from typing import Any

from thinkrank.evaluate.results import Comparison, ResultRow, format_value, ties_note
from thinkrank.evaluate.verdict import metric_name
from thinkrank.report.facts import facts_list
from thinkrank.report.html import Html, join, tag
from thinkrank.report.plots import interval_plot
from thinkrank.report.tables import Cell, table

Cells = Mapping[tuple[str, str], ResultRow]
Tests = Mapping[tuple[str, str], Comparison]

MEANINGS = {
    "ndcg": "NDCG@10: 1 if the true item stands first, less further down, 0 beyond place 10.",
    "hit": "hit@10: share of samples whose true item stands in the first 10.",
    "mrr": "MRR: mean of 1 / place of the true item.",
    "map": "MAP@10: mean precision at the places of what was clicked.",
    "auc": "AUC: chance that what was clicked stands above what was not, .5 for a random order.",
    "expected clicks": "Expected clicks: known in a synthetic world, whatever was displayed; more is better.",
    "coverage": "Coverage: share of the catalogue that someone is recommended.",
    "popularity": "Popularity: mean percentile of the recommended items among all, .5 if drawn at random.",
    "arp": "Interactions: their mean number of training interactions.",
    "novelty": "Novelty: their mean self-information, in bits.",
}
HEADS = {"arp": "interactions"}
UNITS = {"novelty": ", bits"}
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
) -> Html | None:
    """Write everything measured, one block per data set and split; None without rows.

    A block that lacks the headline metric plots its first one; tests are matched to rows by their names. Parts of a
    split, called as "test, history 1-3", stand in one table of the headline metric behind it.
    """
    if not rows:
        return None
    blocks = dict.fromkeys((row.dataset, row.split) for row in rows)
    whole = [block for block in blocks if (block[0], block[1].partition(", ")[0]) not in blocks or ", " not in block[1]]
    parts = [
        _block(
            [row for row in rows if (row.dataset, row.split) == block],
            {(test.system, test.metric): test for test in comparisons if (test.dataset, test.split) == block},
            headline,
            [row for row in rows if row.dataset == block[0] and row.split.startswith(f"{block[1]}, ")],
        )
        for block in whole
    ]
    return tag(
        "section",
        tag("h2", "Results"),
        *parts,
        tag("details", tag("summary", "How it was measured"), facts_list(policy), class_="card") if policy else None,
        id="results",
    )


def _block(rows: Sequence[ResultRow], tests: Tests, headline: str, buckets: Sequence[ResultRow]) -> Html:
    cells = {(row.system, row.metric): row for row in rows}
    metrics = list(dict.fromkeys(row.metric for row in rows))
    accuracy = [metric for metric in metrics if any(row.low is not None for row in rows if row.metric == metric)]
    described = _same_cutoff([metric for metric in metrics if metric not in accuracy], headline)
    shown = headline if headline in metrics else metrics[0]
    shown_first = _same_cutoff(accuracy, headline, uncut=True)
    others = [metric for metric in accuracy if metric not in shown_first]
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
        _forest(cells, tests, shown, reference),
        _table("Accuracy", cells, shown_first, tests) if accuracy else None,
        _folded("Accuracy at other cut-offs", cells, others, tests),
        tag("p", " ".join(notes), class_="facts") if notes else None,
        meanings(accuracy),
        _buckets(buckets, shown) if buckets else None,
        _table("What is recommended", cells, described, {}) if described else None,
        meanings(described),
    )


def meanings(metrics: Sequence[str]) -> Html | None:
    """Say what metrics mean, each once; None where nothing is known of them."""
    names = dict.fromkeys(metric.split("@")[0] for metric in metrics)
    known = [MEANINGS[name] for name in names if name in MEANINGS]
    return tag("p", " ".join(known), class_="facts") if known else None


def head(metric: str) -> str:
    """Write a metric as a column's head."""
    name = metric.partition("@")[0]
    return metric_name(metric.replace(name, HEADS.get(name, name), 1)) + UNITS.get(name, "")


def _same_cutoff(metrics: Sequence[str], headline: str, *, uncut: bool = False) -> list[str]:
    """Keep those with the headline's cut-off, if there are any, and on wish those without one."""
    cut = headline.split("@")[1:]
    found = [metric for metric in metrics if metric.split("@")[1:] == cut]
    return [metric for metric in metrics if metric in found or (uncut and "@" not in metric)] if found else [*metrics]


def _folded(caption: str, cells: Cells, metrics: Sequence[str], tests: Tests) -> Html | None:
    """Fold a table away; None without metrics."""
    if not metrics:
        return None
    return tag("details", tag("summary", caption), _table(caption, cells, metrics, tests), class_="more")


def _forest(cells: Cells, tests: Tests, metric: str, reference: str | None) -> Html:
    rows = [row for (_, name), row in cells.items() if name == metric]
    top = max((row.high if row.high is not None else row.value for row in rows), default=0) * 1.02
    lines = []
    for row in rows:
        label = f"{row.system}: {metric_name(metric)} {_figure(row)}"
        value = tag("b", format_value(row.value)), _p_value(tests.get((row.system, metric)))
        line = (
            tag("span", tag("bdi", row.system), class_="system"),
            interval_plot(row.value, row.low, row.high, top=top, label=label),
            tag("span", *value, class_="value"),
        )
        lines.append(tag("div", *line, class_="row"))
    is_tested = any((row.system, metric) in tests for row in rows)
    against = f"; p-values compare with {reference}" if is_tested else ""
    caption = tag("figcaption", tag("b", metric_name(metric)), f", axis from 0 to {format_value(top)}{against}")
    return tag("figure", caption, *lines, class_="card forest")


def _table(caption: str, cells: Cells, metrics: Sequence[str], tests: Tests) -> Html:
    systems = list(dict.fromkeys(system for system, _ in cells))
    references = {test.reference for test in tests.values()}
    best = {metric: _best(cells, metric) for metric in metrics}
    lines = []
    for system in systems:
        known = [(cells.get((system, metric)), metric) for metric in metrics]
        name = join(
            tag("bdi", system),
            _seeds(cells, system),
            tag("small", "reference") if system in references else None,
        )
        lines.append((name, [_cell(row, tests.get((system, metric)), row is best[metric]) for row, metric in known]))
    return table(caption, "system", [head(metric) for metric in metrics], lines)


def _buckets(rows: Sequence[ResultRow], metric: str) -> Html:
    """Write one line per part of the split: the headline metric of every system."""
    systems = list(dict.fromkeys(row.system for row in rows if row.metric == metric))
    parts = list(dict.fromkeys(row.split for row in rows))
    lines: list[tuple[Html, list[Cell]]] = []
    for part in parts:
        of_part = {row.system: row for row in rows if row.split == part and row.metric == metric}
        n = next((row.n for row in of_part.values()), 0)
        name = join(tag("span", part.partition(", ")[2]), tag("small", f"{n:,} samples"))
        lines.append((name, [_cell(of_part.get(system), None, False) for system in systems]))
    return table(f"{metric_name(metric)} by kind of sample", "samples", systems, lines)


def _cell(row: ResultRow | None, test: Comparison | None, is_best: bool) -> Cell:
    if row is None:
        return "–"
    value = tag("b" if is_best else "span", format_value(row.value), class_="number")
    if row.low is None or row.high is None:
        return value
    between = tag("small", f"{format_value(row.low)}–{format_value(row.high)}")
    return join(value, between, _difference(test))


def _best(cells: Cells, metric: str) -> ResultRow | None:
    """Find the highest of several accuracies; None for other figures: to recommend what is popular is not better."""
    rows = [row for (_, name), row in cells.items() if name == metric and row.low is not None]
    return max(rows, key=lambda row: row.value) if len(rows) > 1 else None


def _difference(test: Comparison | None) -> Html | None:
    if test is None:
        return None
    sign = "−" if test.difference < 0 else "+"
    visible = "" if test.visible is None else f" (± {format_value(test.visible)})"
    parts = (f"{sign}{format_value(abs(test.difference))}", f"{visible}, ", p_text(test))
    return tag("small", *(tag("span", part) for part in parts), class_="test")


def _p_value(test: Comparison | None) -> Html | None:
    if test is None:
        return None
    return tag("small", "too few users" if test.p_value is None else p_text(test))


def p_text(test: Comparison) -> str:
    """Print a p-value as papers do, the corrected one if there is one."""
    p_value = test.p_value if test.corrected is None else test.corrected
    return f"{test.num_clusters} users: too few to test" if p_value is None else p_words(p_value)


def p_words(p_value: float) -> str:
    """Print a p-value as papers do."""
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
