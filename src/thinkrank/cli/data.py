"""`thinkrank data`: look at data, find everything that is wrong with it, and keep a prepared copy."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thinkrank._files import check_writable
from thinkrank.cli import options, tables
from thinkrank.training.progress import console_progress

if TYPE_CHECKING:
    from thinkrank.data import Checked
    from thinkrank.recipes.data import DataSettings, ListDataSettings

app = typer.Typer(no_args_is_help=True, help="Look at data, find what is wrong with it, and keep a prepared copy.")

Source = Annotated[
    str,
    typer.Argument(
        help="movielens-100k, movielens, amazon-2018, amazon-2023, table, synthetic or synthetic-relay; trivago, mind, "
        "kuairand or ebnerd for displayed lists; or a folder that `data prepare` wrote."
    ),
]
Lists = Annotated[
    bool,
    typer.Option("--lists", help="Read displayed lists; needed where interactions have a source of this name too."),
]


@app.command()
def describe(
    source: Source,
    path: options.DataPath = None,
    option: options.SourceOption = None,
    filters: options.Filter = None,
    lists: Lists = False,
    on_bad: options.OnBad = None,
    bad_rows: options.BadRows = None,
    json_output: options.Json = False,
) -> None:
    """Show what data holds: counts, dates, texts, types of events, lengths, and what was dropped while reading.

    Examples: `thinkrank data describe movielens --path ml-latest-small`,
    `thinkrank data describe mind --path MINDsmall_dev`
    """
    settings = _settings(source, path, option, filters, lists, on_bad, bad_rows)
    with console_progress("reading the data", 0):
        data = settings.load()
    if json_output:
        tables.print_json(data.describe(), indent=2)
    else:
        tables.print_facts(data.name, data.describe())


@app.command()
def check(
    source: Source,
    path: options.DataPath = None,
    option: options.SourceOption = None,
    filters: options.Filter = None,
    lists: Lists = False,
    on_bad: options.OnBad = None,
    bad_rows: options.BadRows = None,
    json_output: options.Json = False,
) -> None:
    """List everything that is wrong with the files at once: every kind of fault, how often, and the first lines.

    Ends with exit code 2 if something has to be mended, else 0. Rows that can't be right are faults; with
    `--on-bad drop` they are left out. Lines are counted as an editor counts them: the header is line 1.

    Examples: `thinkrank data check table --path shop/`,
    `thinkrank data check table --path shop/ --on-bad drop --bad-rows bad.csv`
    """
    from thinkrank.data import Checked, check_source
    from thinkrank.recipes.data import DataSettings, prepared_folder

    settings = _settings(source, path, option, filters, lists, on_bad, bad_rows)
    if prepared_folder(source) is not None:
        with console_progress("reading the data", 0):
            data = settings.load()
        checked = Checked((), (), data.notices, "refuse", data)
        if json_output:
            tables.print_json(checked.record(), indent=2, ensure_ascii=False)
        else:
            sys.stdout.write(f"{source}: a prepared data set, and sound\n")
        return
    with console_progress("reading the data", 0):
        checked = check_source(
            settings.source,
            settings.path,
            gives="events" if isinstance(settings, DataSettings) else "lists",
            on_bad=settings.on_bad,
            bad_rows=settings.bad_rows,
            filters=settings.filters if isinstance(settings, DataSettings) else None,
            **settings.options,
        )
    if json_output:
        tables.print_json(checked.record(), indent=2, ensure_ascii=False)
    else:
        _print_checked(checked)
    if not checked.is_sound:
        raise typer.Exit(2)


@app.command()
def prepare(
    source: Source,
    out: Annotated[Path, typer.Option("--out", callback=options.from_home, help="Folder for the prepared data set.")],
    path: options.DataPath = None,
    option: options.SourceOption = None,
    filters: options.Filter = None,
    on_bad: options.OnBad = None,
    bad_rows: options.BadRows = None,
    json_output: options.Json = False,
) -> None:
    """Read, check and filter a data set once, and keep it as Parquet with a fingerprint.

    Dropped rows are written to bad_rows.csv in that folder, or where --bad-rows says.

    Example: `thinkrank data prepare amazon-2023 -o category=Office_Products -f k_core=5 --out data/office`
    """
    check_writable(out, otherwise="name another folder with --out")
    settings = _settings(source, path, option, filters, False, on_bad, bad_rows, only_events=True)
    with console_progress("reading the data", 0):
        dataset: Any = settings.load(out)
    with console_progress("writing the data", 0):
        dataset.save(out)
    if json_output:
        tables.print_json({"folder": str(out), "fingerprint": dataset.fingerprint})
        return
    tables.print_facts(dataset.name, dataset.describe())
    sys.stdout.write(f"saved to {out}; use that folder wherever a source is asked for\n")


def _settings(
    source: str,
    path: str | None,
    option: list[str] | None,
    filters: list[str] | None,
    lists: bool,
    on_bad: str | None,
    bad_rows: Path | None,
    *,
    only_events: bool = False,
) -> "DataSettings | ListDataSettings":
    from thinkrank.data import LIST_SOURCES, SOURCES
    from thinkrank.errors import ThinkrankError
    from thinkrank.recipes.data import DataSettings, ListDataSettings
    from thinkrank.recipes.layers import parse_assignments, validated

    told = {
        "source": source,
        "path": path,
        "options": parse_assignments(option or []),
        "bad_rows": None if bad_rows is None else str(bad_rows),
        **({} if on_bad is None else {"on_bad": on_bad}),
    }
    if (lists or (source in LIST_SOURCES and source not in SOURCES)) and not only_events:
        if filters:
            raise ThinkrankError("filters choose interactions, and these are displayed lists; leave -f out")
        return validated(ListDataSettings, told)
    return validated(DataSettings, {**told, "filters": parse_assignments(filters or [])})


def _print_checked(checked: "Checked") -> None:
    """Show what has to be mended, what would be dropped, what was noticed, and what is left."""
    write, must = sys.stdout.write, checked.on_bad == "refuse"
    for failure in checked.failures:
        write(f"MUST BE MENDED  {failure}\n")
    for fault in checked.faults:
        places = ", ".join(f"{place.number:,}" for place in fault.places)
        unit, many = "row" if fault.first.line is None else "line", "s" * (fault.count > 1)
        more = ", ..." if fault.count > len(fault.places) else ""
        where = f"{fault.first.file}: {fault.count:,} row{many}, {unit}{many} {places}{more}"
        write(f"{'MUST BE MENDED' if must else 'DROPPED       '}  {where}: {fault.problem}\n")
    for notice in checked.notices:
        write(f"noticed         {notice}\n")
    if checked.data is not None and not checked.failures:
        about = checked.data.describe()
        counts = ", ".join(
            f"{about[key]:,} {key}" for key in ("interactions", "lists", "users", "items") if key in about
        )
        write(f"left            {checked.data.name}: {counts}\n")
    if checked.is_sound:
        write("sound: nothing has to be mended\n")
        return
    at_fault = sum(fault.count for fault in checked.faults)
    if at_fault and not checked.failures:
        write(f"{at_fault:,} rows have to be mended, or left out: --on-bad drop\n")
