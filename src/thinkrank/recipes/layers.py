"""Settings of a run: defaults, then a TOML file, then tables, then `a.b=c`, each over the one before."""

import difflib
import functools
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import tomli_w
from pydantic import BaseModel, Field, ValidationError, field_validator, model_serializer

from thinkrank.errors import ThinkrankError
from thinkrank.language.options import INSTALLED_MODELS
from thinkrank.options import NONE, Options, spelt
from thinkrank.pretrained import KINDS
from thinkrank.training.run import another_run, read_manifest, without_none
from thinkrank.training.tracking import require_trackers

PRESET = "--preset "
"""Begins the name of the preset among what was given."""

_PLACES = ("path", "backbone", "encoder", "starts", "rank", "rerank")
"""Settings whose value may be a folder, whatever lies in it."""

SettingsT = TypeVar("SettingsT", bound=BaseModel)
RunSettingsT = TypeVar("RunSettingsT", bound="RunSettings")


class RunSettings(Options):
    """Group the settings that a run's folder keeps.

    A part without which a run is as runs always were is left out of what is kept.
    """

    @model_serializer(mode="wrap")
    def _without_unused(self, serialize: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        optional = [name for name, field in type(self).model_fields.items() if field.default is None]
        return {key: value for key, value in serialize(self).items() if value is not None or key not in optional}

    @functools.cached_property
    def given(self) -> frozenset[str]:
        """Return the names of the settings that were set and are no defaults, dotted; `Layers.over` tells them."""
        return frozenset(_set_fields(self))

    @classmethod
    def from_run(cls: type[SettingsT], folder: str | Path) -> SettingsT:
        """Read the settings a run was made with.

        Raises:
            ThinkrankError: if the folder is no run, or one of another stage.
        """
        return validated(cls, run_config(folder))


class TrainingSettings(RunSettings):
    """Group the settings of a run that trains: what follows the training, which changes nothing of its outcome."""

    report_to: tuple[str, ...] | None = Field(
        None,
        description="trackers that get the settings and every logged figure: tensorboard, mlflow, wandb, trackio, or a "
        "class of your own as package.module:Name; several with commas between them",
    )

    @field_validator("report_to", mode="before")
    @classmethod
    def _split(cls, names: Any) -> Any:
        return [name.strip() for name in names.split(",")] if isinstance(names, str) else names

    @field_validator("report_to")
    @classmethod
    def _installed(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        try:
            require_trackers(names or ())
        except ThinkrankError as error:
            raise ValueError(str(error)) from error
        return names


@dataclass(frozen=True)
class Layers:
    """Hold what differs from the defaults of a run's settings, each field laid over the one before.

    Attributes:
        config: a TOML file.
        source: of the data.
        path: of the data.
        split: of the data.
        options: of the source, each `key=value`.
        filters: of the data, each `key=value`.
        tables: further settings.
        assignments: single settings, each `a.b=value`.
    """

    config: Path | None = None
    source: str | None = None
    path: str | None = None
    split: str | None = None
    options: Sequence[str] = ()
    filters: Sequence[str] = ()
    tables: Sequence[Mapping[str, Any]] = ()
    assignments: Sequence[str] = ()

    def over(self, settings: type[SettingsT], defaults: Callable[[str | None], Mapping[str, Any]]) -> SettingsT:
        """Put everything together.

        Args:
            settings: of which stage.
            defaults: the lowest layer, made for the source that was named, if one was.

        Raises:
            ThinkrankError: on a missing file, an unknown key (with the nearest one) or a value that does not fit.
        """
        from_file = {} if self.config is None else read_toml(self.config)
        if self.config is not None:
            make_absolute(from_file, self.config.parent)
        named = {"source": self.source, "path": self.path, "split": self.split}
        data: dict[str, Any] = {key: value for key, value in named.items() if value is not None}
        if self.options:
            data["options"] = parse_assignments(self.options)
        if self.filters:
            data["filters"] = parse_assignments(self.filters)
        given: dict[str, Any] = {}
        for layer in [from_file, {"data": data}, *self.tables]:
            merge(given, layer)
        for assignment in self.assignments:
            key, value = parse_assignment(assignment)
            for part in reversed(key.split(".")):
                value = {part: value}
            merge(given, value, whole=())
        make_absolute(given, Path())
        source = given["data"].get("source") if isinstance(given["data"], dict) else None
        layers: dict[str, Any] = {"data": {}, **defaults(source if source is None else str(source))}
        merge(layers, given)
        made = validated(settings, layers)
        if isinstance(made, RunSettings):
            made.__dict__["given"] = frozenset(flat(given))  # what `given` would be without a lowest layer
        return made


def resumed(settings: RunSettingsT, folder: Path) -> RunSettingsT:
    """Return the settings that a folder's run goes on with, which are those it began with.

    A setting that the run was made before takes the meaning it had then. One whose default was another then, or was
    fitted to the data or to this machine, keeps its value if nobody gave it, now or then.

    Args:
        settings: of the command at hand, complete.
        folder: of a run that has begun.

    Raises:
        ThinkrankError: if what was given differs.
    """
    file = run_config(folder)
    kept = validated(type(settings), file)
    told = read_manifest(folder).get("given")
    here = settings.given
    is_preset_same = told is None or _presets(told) == _presets(here)
    in_file, old, new = set(flat(file)), flat(_dumped(kept)), flat(_dumped(settings))
    for key in sorted(old.keys() | new.keys()):
        is_given = not is_preset_same or _among(key, here)
        was_given = key in in_file and (told is None or _among(key, told))
        if old.get(key) == new.get(key) or not (is_given or was_given):
            continue
        if _absolute(key.rpartition(".")[2], old.get(key), Path()) == new.get(key):
            continue  # written before names in lists and of stages became absolute
        if key == "data.path" or (key == "data.source" and Path(str(old.get(key))).is_absolute()):
            continue  # where the data is; its fingerprint says what it is
        raise another_run(folder, f"its {key} is {old.get(key)!r}, not {new.get(key)!r}")
    if "report_to" in type(kept).model_fields:  # where a run is followed is no part of it
        kept = kept.model_copy(update={"report_to": getattr(settings, "report_to", None)})
    kept.__dict__["given"] = here
    return kept


def _dumped(settings: BaseModel) -> dict[str, Any]:
    return settings.model_dump(mode="json", exclude={"report_to"})


def _presets(given: Iterable[str]) -> set[str]:
    return {name for name in given if name.startswith(PRESET)}


def _among(key: str, given: Iterable[str]) -> bool:
    """Tell whether a setting was given, itself, as a part of a table, or as the whole of it."""
    return any(key == name or key.startswith(f"{name}.") or name.startswith(f"{key}.") for name in given)


def flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested table by dotted names; an absent value and none are the same."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        elif value is not None:
            found[f"{prefix}{key}"] = value
    return found


def _set_fields(settings: BaseModel, prefix: str = "") -> Iterator[str]:
    for name in settings.model_fields_set:
        value = getattr(settings, name)
        key = f"{prefix}{type(settings).model_fields[name].alias or name}"
        if isinstance(value, BaseModel):
            yield from _set_fields(value, f"{key}.")
        else:
            yield key


def make_absolute(tables: dict[str, Any], base: Path) -> None:
    """Make names of files and folders absolute, in place, so that a run finds them from wherever it is opened.

    Args:
        tables: settings.
        base: the folder that relative names are seen from: that of a settings file, or the present one.
    """
    for key, value in tables.items():
        if key != "options" or "path" not in tables:  # else they name files in that folder
            tables[key] = _absolute(key, value, base)


def _absolute(key: str, value: Any, base: Path) -> Any:
    """Return the value of a setting with absolute names of files and folders."""
    if isinstance(value, dict):
        make_absolute(value, base)
    elif isinstance(value, list | tuple):
        return [_absolute(key, one, base) for one in value]
    elif isinstance(value, str) and value and not Path(value).expanduser().is_absolute():
        path = base / Path(value).expanduser()
        named = key in _PLACES and value not in (*INSTALLED_MODELS, *KINDS, NONE)
        if (named and path.exists()) or (path.suffix and path.is_file()) or (path / "dataset.json").is_file():
            return str(path.resolve())
    return value


def toml_of(settings: BaseModel) -> str:
    """Write settings as the TOML that `Layers.config` takes."""
    return tomli_w.dumps(without_none(spelt(settings) | dict.fromkeys(["report_to"])))


def defaults_of(settings: type[BaseModel]) -> dict[str, Any]:
    """Return every part that has a default, whole, so that a single setting can be laid over it."""
    parts = {name: field.get_default() for name, field in settings.model_fields.items()}
    return {name: part.model_dump() for name, part in parts.items() if isinstance(part, BaseModel)}


def run_config(folder: str | Path) -> dict[str, Any]:
    """Read the settings that a run's folder holds.

    Raises:
        ThinkrankError: if the folder is no run.
    """
    path = Path(folder) / "config.toml"
    if not path.is_file():
        raise ThinkrankError(f"{folder}: no run here (no config.toml). Give the --out folder of a training run.")
    return read_toml(path)


def parse_assignments(texts: Iterable[str]) -> dict[str, Any]:
    """Split `key=value` texts; a key that is given several times has the list of its values."""
    values: dict[str, list[Any]] = {}
    for key, value in map(parse_assignment, texts):
        values.setdefault(key, []).append(value)
    return {key: found[0] if len(found) == 1 else found for key, found in values.items()}


def parse_assignment(text: str) -> tuple[str, Any]:
    """Split `key=value`; the value is read as TOML, and as plain text where it is none."""
    key, equals, raw = text.partition("=")
    if not equals or not key.strip():
        raise ThinkrankError(f"{text!r} is not of the form key=value")
    try:
        return key.strip(), tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), raw


def validated(model: type[SettingsT], values: Mapping[str, Any]) -> SettingsT:
    """Check values against a model and put the first fault into one line, with the nearest key for an unknown one."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in fault["loc"])
        if fault["type"] != "extra_forbidden":
            why = fault["msg"].removeprefix("Value error, ")
            raise ThinkrankError(f"setting {key}: {why}, got {fault['input']!r}") from error
        known = setting_names(model)
        inside = [name for name in known if name.endswith(f".{key}")]
        near = inside or difflib.get_close_matches(key, known, n=1, cutoff=0.4)
        hint = f"; did you mean {' or '.join(near)}?" if near else f"; there are {', '.join(sorted(known))}"
        raise ThinkrankError(f"unknown setting {key}{hint}") from error


def setting_names(model: type[BaseModel], prefix: str = "") -> list[str]:
    """List every setting of a model by its dotted name."""
    names = []
    for field, info in model.model_fields.items():
        name = f"{prefix}{info.alias or field}"
        inner = [kind for kind in _alternatives(info.annotation) if isinstance(kind, type)]
        tables = [kind for kind in inner if issubclass(kind, BaseModel)]
        names += setting_names(tables[0], f"{name}.") if tables else [name]
    return names


def read_toml(path: Path) -> dict[str, Any]:
    """Read a settings file.

    Raises:
        ThinkrankError: if it is not there, cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise ThinkrankError(f"{path}: no such settings file") from error
    except OSError as error:
        raise ThinkrankError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ThinkrankError(f"{path}: not valid TOML: {error}") from error


def merge(base: dict[str, Any], over: Mapping[str, Any], whole: Sequence[str] = ("options",)) -> None:
    """Lay one table over another, in place.

    Args:
        base: the lower one.
        over: the upper one.
        whole: tables of these names replace what was there, as options of another source must.
    """
    for key, value in over.items():
        if not isinstance(value, Mapping):
            base[key] = value
            continue
        if key in whole or not isinstance(base.get(key), dict):
            base[key] = {}
        merge(base[key], value, whole)


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    """List what a field may be, where it may be several."""
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if is_union else (annotation,)
