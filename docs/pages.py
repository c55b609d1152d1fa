"""Write the pages of the reference that are made from the code: settings, commands and data sources.

mkdocs calls `on_files` at every build (`hooks` in mkdocs.yml), so these pages cannot be older than the code.
`python docs/pages.py FOLDER` writes them into a folder, to be read without a build.
"""

import inspect
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from thinkrank.cli.main import app
from thinkrank.data.sources import registry
from thinkrank.recipes.base import EvaluationOptions
from thinkrank.recipes.baseline_run import BaselineSettings
from thinkrank.recipes.cascade import CascadeSettings
from thinkrank.recipes.presets import Preset, preset_tables
from thinkrank.recipes.probe_options import ProbeSettings
from thinkrank.recipes.ranking import RankSettings
from thinkrank.recipes.reranking import RerankSettings
from thinkrank.recipes.retrieval import RetrieveSettings
from thinkrank.serve import ServeOptions
from thinkrank.serve.options import BY_OPTION

RUNS: dict[str, type[BaseModel]] = {
    "train retrieve": RetrieveSettings,
    "train rank": RankSettings,
    "train rerank": RerankSettings,
    "train cascade": CascadeSettings,
    "probe": ProbeSettings,
    "baselines": BaselineSettings,
    "serve": ServeOptions,
}
"""The settings of each command that takes `--set`."""

_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below", "min_length": "length at least"}
_PATHS = {
    "always": "It needs `--path`",
    "sometimes": "`--path` is optional: without it, files are found or downloaded where that is possible",
    "never": "It is simulated and takes no `--path`",
}


def settings_page() -> str:
    """Return the page of all settings, a table for each part of a run."""
    lines = [
        "# Settings",
        "",
        "Every setting of every run, by its dotted name. Give one with `--set training.steps=100`, or several in a "
        "TOML file with `--config my.toml`; `--set` counts over the file. A run keeps them all in its `config.toml`.",
        "",
        "A source has options of its own (`data.options`, on the command line `-o key=value`): see "
        "[data sources](sources.md).",
    ]
    for command, settings in RUNS.items():
        lines += ["", f"## thinkrank {command}"]
        lines += _tables(settings, command.replace(" ", "-"))
        if settings is ServeOptions:
            told = ", ".join(f"`{name}` by `{option}`" for name, option in BY_OPTION.items())
            lines += ["", f"Given on the command line by options of their own: {told}."]
        if settings is RetrieveSettings:
            lines += _presets()
    lines += ["", "## Evaluation in Python", "", _first_line(EvaluationOptions), ""]
    lines += _rows(list(_flat(EvaluationOptions)))
    return "\n".join(lines) + "\n"


def commands_page() -> str:
    """Return the page of all commands with their arguments and options."""
    lines = [
        "# Commands",
        "",
        "Every command prints this with `--help`. `python -m thinkrank` is the same program, and "
        "`thinkrank --install-completion` lets your shell complete commands and options with the tab key.",
    ]
    for name, command in _commands(typer.main.get_command(app), "thinkrank"):
        lines += ["", f"## {name}", "", inspect.cleandoc(command.help or "")]
        lines += _parameters(command)
    return "\n".join(lines) + "\n"


def sources_page() -> str:
    """Return the page of all data sources with their options."""
    lines = [
        "# Data sources",
        "",
        "A source is a format of files, or a simulated data set. Give its options as `-o key=value` on the command "
        "line, as `data.options` in a TOML file, or as keyword arguments in Python. [Data](../guide/data.md) shows "
        "how; [your own method](../guide/own.md) shows how to add a source.",
    ]
    titles = {
        "events": ("What users did", "`thinkrank data`, `train retrieve`, `train rank`, `load_dataset`"),
        "lists": ("Lists that were shown", "`train rerank`, `rerank`, `load_impressions`"),
    }
    for gives, sources in registry._SOURCES.items():
        title, used = titles[gives]
        lines += ["", f"## {title}", "", f"For {used}."]
        for name, source in sources.items():
            lines += ["", f"### {name} {{ #{gives}-{name} }}", "", f"{_PATHS[source.path]}.", ""]
            fields = list(_flat(source.options))
            lines += _rows(fields) if fields else ["It has no options."]
    return "\n".join(lines) + "\n"


PAGES = {
    "reference/settings.md": settings_page,
    "reference/commands.md": commands_page,
    "reference/sources.md": sources_page,
}
"""Where each page stands in the site."""


def on_files(files: Any, config: Any) -> Any:
    """Add the pages to the site; mkdocs calls this."""
    from mkdocs.structure.files import File

    for name, page in PAGES.items():
        files.append(File.generated(config, name, content=page()))
    return files


def _tables(settings: type[BaseModel], anchor: str) -> list[str]:
    """Show one table per part; what stands on its own comes last."""
    lines, alone = [], []
    for key, field in settings.model_fields.items():
        inner = _group(field.annotation)
        if inner is None:
            alone.append((key, field))
        else:
            lines += ["", f"### {key} {{ #{anchor}-{key} }}", "", _first_line(inner), ""]
            lines += _rows(list(_flat(inner, f"{key}.", _made(field))))
    if alone:
        lines += ["", *(["### Further settings", ""] if lines else []), *_rows([(*pair, None) for pair in alone])]
    return lines


def _flat(options: type[BaseModel], prefix: str = "", made: Any = None) -> Iterator[tuple[str, FieldInfo, Any]]:
    """List settings by dotted name, with the default that the part around them gives them."""
    for key, field in options.model_fields.items():
        name, inner = f"{prefix}{field.alias or key}", _group(field.annotation)
        value = getattr(made, key) if made is not None else _made(field)
        if inner is None:
            yield name, field, value
        else:
            yield from _flat(inner, f"{name}.", value)


def _made(field: FieldInfo) -> Any:
    value = field.get_default(call_default_factory=True) if field.default_factory is not None else field.default
    return None if value is PydanticUndefined else value


def _group(annotation: Any) -> type[BaseModel] | None:
    """Return the class of options that a setting is a table of, if it is one."""
    for kind in _alternatives(annotation):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if is_union else (annotation,)


def _rows(fields: list[Any]) -> list[str]:
    lines = ["| setting | values | default | what it means |", "| --- | --- | --- | --- |"]
    for name, field, value in fields:
        default = "needed" if field.is_required() and value is None else _shown(value)
        lines.append(f"| `{name}` | {_values(field)} | {default} | {_cell(field.description or '')} |")
    return lines


def _values(field: FieldInfo) -> str:
    """Say what a setting may be, with its bounds."""
    kinds = [_kind(kind) for kind in _alternatives(field.annotation)]
    rules = ((rule, key) for rule in field.metadata for key in _BOUNDS if hasattr(rule, key))
    bounds = [f"{_BOUNDS[key]} {getattr(rule, key)}" for rule, key in rules]
    return _cell(", ".join([" or ".join(kinds), *bounds]))


def _kind(kind: Any) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return ", ".join(f"`{value}`" for value in typing.get_args(kind))
    if typing.get_origin(kind) is typing.Annotated:
        return _kind(typing.get_args(kind)[0])
    if kind is type(None):
        return "none"
    names = {int: "whole number", float: "number", str: "text", bool: "true or false", Path: "path"}
    origin = typing.get_origin(kind)
    if origin in (tuple, list, frozenset):
        return f"list of {_kind(typing.get_args(kind)[0])}"
    if origin is dict:
        return "table"
    return names.get(kind, getattr(kind, "__name__", str(kind)))


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        return f"`{value!r}`" if value.strip() != value or not value else f"`{_cell(value)}`"
    if isinstance(value, list | tuple | frozenset):
        return _cell(", ".join(f"`{inner}`" for inner in value)) or "empty"
    return f"`{_cell(str(value))}`" if value != {} else "empty"


def _presets() -> list[str]:
    """Show what the presets set, side by side."""
    tables = {preset: dict(_leaves(preset_tables(preset))) for preset in Preset}
    keys = sorted({key for table in tables.values() for key in table})
    lines = ["", "### Presets", "", "What each `--preset` sets. An empty cell means the default above.", ""]
    lines += ["| setting | " + " | ".join(f"`{preset}`" for preset in Preset) + " |"]
    lines += ["| --- " * (len(Preset) + 1) + "|"]
    for key in keys:
        cells = (_shown(table[key]) if key in table else "" for table in tables.values())
        lines.append(f"| `{key}` | " + " | ".join(cells) + " |")
    return lines


def _leaves(table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """List a program's commands, groups before their members."""
    yield name, command
    for key, inner in getattr(command, "commands", {}).items():
        if not inner.hidden:
            yield from _commands(inner, f"{name} {key}")


def _parameters(command: Any) -> list[str]:
    context = typer.Context(command)
    rows = []
    for parameter in command.get_params(context):
        if getattr(parameter, "hidden", False):
            continue
        names = [*parameter.opts, *parameter.secondary_opts]
        is_option = parameter.param_type_name == "option"
        shown = ", ".join(f"`{name}`" for name in names if is_option) or f"`{parameter.name.upper()}`"
        default = parameter.default
        told = "" if default in (None, False, ()) or callable(default) else f" Default: `{default}`."
        rows.append(f"| {shown} | {_cell(parameter.help or '')}{told} |")
    return ["", "| argument or option | what it means |", "| --- | --- |", *rows] if rows else []


def _first_line(options: type[BaseModel]) -> str:
    return inspect.cleandoc(options.__doc__ or "").splitlines()[0]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for page_name, page in PAGES.items():
        (folder / Path(page_name).name).write_text(page(), encoding="utf-8")
