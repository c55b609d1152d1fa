"""What commands print: results, answers, facts."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

    from thinkrank.recipes.answering import Asked, Recommended
    from thinkrank.stages import Check

COSTS = ("ceiling", "milliseconds", "tokens")
"""What the table of a cascade has more: the share found among its candidates, and what an answer takes."""
SHOWN_METRICS = ("hit@10", "ndcg@10", "mrr", "coverage@10", "ips@10", "snips@10", "dr@10", *COSTS)


def print_json(value: Any, **options: Any) -> None:
    """Print one JSON value; options are those of `json.dumps`."""
    sys.stdout.write(json.dumps(value, **options) + "\n")


def print_results(folder: Path, *, split: str | None = None) -> None:
    """Show the table of a run's results.json, of one split only if it is named, and where the report is."""
    from rich.console import Console

    from thinkrank.evaluate import read_results, results_table

    rows = read_results(folder / "results.json")
    Console().print(results_table([row for row in rows if row.metric in SHOWN_METRICS and split in (None, row.split)]))
    sys.stdout.write(f"report: {folder / 'report.html'}\n")


def print_facts(name: str, facts: Mapping[str, Any]) -> None:
    """Show nested facts, one a line."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(name), title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    for key, value in _flat(facts):
        table.add_row(escape(key), escape(value))
    Console().print(table)


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        label = f"{prefix}{key.replace('_', ' ')}"
        if isinstance(value, Mapping):
            rows += _flat(value, f"{label}, ")
        elif isinstance(value, list | tuple):
            rows += [(label, str(part)) for part in value]
        elif isinstance(value, int):
            rows.append((label, f"{value:,}"))
        else:
            rows.append((label, f"{value:.4g}" if isinstance(value, float) else str(value)))
    return rows


def print_recommended(answer: "Recommended", *, every_text: bool = False) -> None:
    """Show the thought if there is one that may be shown, the answer, and whether a thought came first."""
    from rich.console import Console
    from rich.markup import escape
    from rich.panel import Panel
    from rich.table import Table

    console = Console()
    for thought in answer.ranking.thoughts or ():
        told = thought.text if every_text else thought.shown
        words = "(not shown; --all-texts shows it)" if told is None else told or "(it wrote nothing)"
        checked = None if thought.check is None else escape(str(thought.check))
        console.print(
            Panel(escape(words), title="thought", title_align="left", subtitle=checked, subtitle_align="left")
        )
    table = Table("", "title", "score", box=None, padding=(0, 2, 0, 0))
    table.columns[2].justify = "right"
    for row in answer.table().iter_rows(named=True):
        table.add_row(str(row["place"]), escape(row["title"]), f"{row['score']:.2f}")
    console.print(table)
    if answer.mode is not None and answer.mode.think is not None:
        console.print(f"answered {escape(answer.mode.told)}", style="dim", soft_wrap=True)


def print_history(asked: "Asked") -> None:
    """Show what is known at once of who asks."""
    from rich.console import Console
    from rich.markup import escape

    past = asked.history
    shown = past if asked.window is None else past.last(asked.window)
    titles = "; ".join(escape(asked.catalogue.titles[row]) for row in shown.items)
    Console().print(f"[bold]History[/bold] (the newest {len(shown)} of {len(past)}): {titles or 'empty'}")
    sys.stdout.flush()


def recommended_json(answer: "Recommended", *, every_text: bool = False) -> dict[str, Any]:
    """Tell the same for machines."""
    thoughts = [
        {
            "text": thought.text if every_text else thought.shown,
            "finish_reason": thought.finish_reason,
            "tokens": len(thought.token_ids),
            **checked_json(thought.check),
        }
        for thought in answer.ranking.thoughts or ()
    ]
    return {
        "history": [answer.catalogue.ids[row] for row in answer.history.items],
        "thought": thoughts[0] if thoughts else None,
        "answered": None if answer.mode is None else answer.mode.told,
        "items": [
            {"item": row["item"], "title": row["title"], "score": round(row["score"], 4)}
            for row in answer.table().iter_rows(named=True)
        ],
    }


def checked_json(check: "Check | None") -> dict[str, Any]:
    """Tell what came of checking a text; nothing where nobody did."""
    if check is None:
        return {}
    claims = {"checked": check.checked, "true": check.true}
    return {"claims": claims, "may_be_shown": check.may_be_shown, "faults": list(check.faults)}


FORMATS = {".csv": "csv", ".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl"}
"""What the end of a file's name says of its format, in any case."""


def check_table_file(path: Path | None) -> Path | None:
    """Refuse a file that cannot be written, or whose name says no format, before anything is worked out for it.

    Raises:
        ThinkrankError: naming the formats, or the folder.
    """
    from thinkrank._files import check_writable
    from thinkrank.errors import ThinkrankError

    if path is None:
        return None
    path = path.expanduser()
    if path.suffix.lower() not in FORMATS:
        raise ThinkrankError(
            f"--out {path}: nothing is written in the format {path.suffix or 'of a name without an end'}; "
            f"give a name that ends in {', '.join(FORMATS)}"
        )
    if path.is_dir():
        raise ThinkrankError(f"--out {path} is a folder; give the name of a file")
    check_writable(path.parent, otherwise="name another file with --out")
    return path


def write_table(table: "pl.DataFrame", path: Path | None) -> None:
    """Write the format that the name says, whole or not at all; without a name print CSV.

    Raises:
        ThinkrankError: if the name says none of `FORMATS`.
    """
    from thinkrank._files import atomic_write

    path = check_table_file(path)
    if path is None:
        sys.stdout.write(table.write_csv())
        return
    with atomic_write(path) as file:
        match FORMATS[path.suffix.lower()]:
            case "parquet":
                table.write_parquet(file)
            case "jsonl":
                table.write_ndjson(file)
            case _:
                file.write(table.write_csv().encode())
    sys.stderr.write(f"wrote {len(table):,} rows to {path}\n")
