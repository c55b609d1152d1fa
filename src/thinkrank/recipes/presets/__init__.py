"""Named configurations, each a TOML file beside this one; what it does not name has its default."""

import tomllib
from enum import StrEnum
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thinkrank.retrieve import ContrastiveOptions, R2ecConfig, RecpoOptions


class Preset(StrEnum):
    """Named configurations of R²ec; docs/guide/recpo.md explains each line by line."""

    thinkrank = "thinkrank"
    thoughts = "thoughts"
    paper = "paper"
    released = "released"


def preset_tables(name: Preset, *, noun: str = "item") -> dict[str, Any]:
    """Return what a preset sets, as tables of `RetrieveSettings`.

    Args:
        name: which preset.
        noun: what the catalogue holds, in the singular.
    """
    tables = tomllib.loads(files(__name__).joinpath(f"{name}.toml").read_text(encoding="utf-8"))
    model = tables.setdefault("model", {})
    model["prompt"] = {**model.get("prompt", {}), "noun": noun}
    return tables


def preset(name: Preset, *, noun: str = "item") -> "tuple[R2ecConfig, ContrastiveOptions, RecpoOptions]":
    """Return the model, its training without reinforcement, and its RecPO; see `preset_tables`."""
    from thinkrank.retrieve import ContrastiveOptions, R2ecConfig, RecpoOptions

    tables = preset_tables(name, noun=noun)
    return (
        R2ecConfig.model_validate(tables["model"]),
        ContrastiveOptions.model_validate(tables.get("training", {})),
        RecpoOptions.model_validate(tables.get("recpo", {})),
    )
