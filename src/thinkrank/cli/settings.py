"""`thinkrank settings`: everything that can be set, with its type, default, bounds and what it does."""

import sys
from typing import Annotated, cast

import typer

from thinkrank.cli import options, tables
from thinkrank.errors import ThinkrankError
from thinkrank.training.progress import console_progress

TRAINED = ("retrieve", "rank", "rerank", "cascade")
COMMANDS = (*TRAINED, "probe", "baselines", "serve")


def settings(
    stage: Annotated[
        str | None,
        typer.Argument(
            help=f"Command whose settings are shown: {', '.join(COMMANDS)}. [default: all]", show_default=False
        ),
    ] = None,
    grep: Annotated[
        str | None, typer.Option("--grep", help="Only settings in whose name or description this word stands.")
    ] = None,
    json_output: options.Json = False,
) -> None:
    """Show every setting that --set and a TOML file take: its type, default, bounds, and what it does.

    Examples: `thinkrank settings retrieve --grep validation`, `thinkrank settings rank`
    """
    if stage is not None:
        options.one_of("the command", *COMMANDS)(stage)
    with console_progress("starting", 0):
        from thinkrank.recipes.described import Described, Kind, described, described_as
        from thinkrank.serve.options import BY_OPTION, ServeOptions

    def all_of(kind: str) -> list[Described]:
        if kind != "serve":
            return described(cast(Kind, kind))
        return [one for one in described_as(ServeOptions()) if one.name not in BY_OPTION]

    kinds = COMMANDS if stage is None else (stage,)
    found = {
        kind: [
            setting
            for setting in all_of(kind)
            if grep is None or grep.lower() in f"{setting.name} {setting.description}".lower()
        ]
        for kind in kinds
    }
    if not any(found.values()):
        raise ThinkrankError(f"no setting of {', '.join(kinds)} has {grep!r} in its name or description")
    if json_output:
        tables.print_json({kind: [vars(one) for one in every] for kind, every in found.items()}, indent=1)
        return
    for kind, every in found.items():
        command = f"train {kind}" if kind in TRAINED else kind
        sys.stdout.write(f"# thinkrank {command}\n" if every else "")
        for one in every:
            bounds = f", {one.bounds}" if one.bounds else ""
            sys.stdout.write(f"{one.name} = {one.default}  ({one.type}{bounds})\n    {one.description}\n")
