"""What every setting of a run is, read from the fields themselves."""

import json
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from thinkrank.options import Options
from thinkrank.recipes.baseline_run import baseline_settings
from thinkrank.recipes.cascade import cascade_settings
from thinkrank.recipes.layers import Layers
from thinkrank.recipes.presets import Preset
from thinkrank.recipes.probe_options import probe_settings
from thinkrank.recipes.ranking import rank_settings
from thinkrank.recipes.reranking import rerank_settings
from thinkrank.recipes.retrieval import retrieve_settings
from thinkrank.recipes.sizing import FITTED

_SIGNS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below", "min_length": "length at least"}


@dataclass(frozen=True)
class Described:
    """Describe one setting.

    Attributes:
        name: dotted, as --set takes it.
        type: what it may be.
        default: as TOML writes it; "none" where it is absent unless set, "required" where its table needs it.
        bounds: of a number, in words; empty where there are none.
        description: what it does.
    """

    name: str
    type: str
    default: str
    bounds: str
    description: str


Kind = Literal["retrieve", "rank", "rerank", "cascade", "probe", "baselines"]
"""A command that takes settings."""


def described(kind: Kind) -> list[Described]:
    """Describe the settings of a command, with the defaults that it has without any."""
    make: dict[str, Callable[[], BaseModel]] = {
        "retrieve": lambda: retrieve_settings(Preset.thinkrank, Layers()),
        "rank": lambda: rank_settings(Layers()),
        "rerank": lambda: rerank_settings(Layers()),
        "cascade": lambda: cascade_settings(Preset.thinkrank, Layers()),
        "probe": lambda: probe_settings(Layers()),
        "baselines": lambda: baseline_settings(Layers()),
    }
    made = make[kind]()
    fitted = {f"training.{name}" for name in FITTED} if kind in ("retrieve", "cascade", "probe") else set()
    return [replace(one, default="fitted to the data") if one.name in fitted else one for one in described_as(made)]


def described_as(made: BaseModel) -> list[Described]:
    """Describe the fields of some settings, with the values that they have as defaults."""
    return _of(type(made), made, "")


def _of(model: type[BaseModel], values: BaseModel | None, prefix: str) -> list[Described]:
    found = []
    for field, info in model.model_fields.items():
        name, value = f"{prefix}{info.alias or field}", getattr(values, field, None)
        tables = [part for part in _parts(info.annotation) if isinstance(part, type) and issubclass(part, BaseModel)]
        if tables:
            found += _of(tables[0], value if isinstance(value, BaseModel) else None, f"{name}.")
            continue
        default = info.get_default(call_default_factory=True) if values is None else value
        found.append(Described(name, _type(info.annotation), _toml(default), _bounds(info), _sentence(info)))
    return found


def _parts(annotation: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if is_union else (annotation,)


def _type(annotation: Any) -> str:
    """Name a type in words that somebody who writes TOML knows."""
    parts = [part for part in _parts(annotation) if part is not type(None)]
    if typing.get_origin(parts[0]) is typing.Annotated:
        return _type(typing.get_args(parts[0])[0])
    if len(parts) > 1:
        return " or ".join(map(_type, parts))
    origin, inner = typing.get_origin(parts[0]), typing.get_args(parts[0])
    if origin is Literal:
        return " or ".join(json.dumps(value, ensure_ascii=False) for value in inner)
    if origin in (tuple, list):
        return f"list of {_type(inner[0])}"
    if origin is dict or parts[0] is dict:
        return "table"
    return {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "file"}.get(
        parts[0], getattr(parts[0], "__name__", str(parts[0]))
    )


def _bounds(info: FieldInfo) -> str:
    told = {key: value for note in info.metadata for key, value in _numbers(note)}
    return ", ".join(f"{_SIGNS[key]} {value:g}" for key, value in told.items())


def _numbers(note: Any) -> list[tuple[str, int | float]]:
    return [(key, getattr(note, key)) for key in _SIGNS if isinstance(getattr(note, key, None), int | float)]


def _sentence(info: FieldInfo) -> str:
    return (info.description or "").strip()


def _toml(value: Any) -> str:
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return "none"
    if isinstance(value, Options):
        return "a table"
    if isinstance(value, tuple | list | frozenset):
        return f"[{', '.join(_toml(part) for part in value)}]"
    return json.dumps(value, ensure_ascii=False, default=str)
