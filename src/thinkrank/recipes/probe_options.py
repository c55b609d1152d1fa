"""What a probe can be told, and what it has by default."""

import tomllib
from dataclasses import replace
from importlib.resources import files
from typing import Any

from pydantic import Field, model_validator

from thinkrank.errors import ThinkrankError
from thinkrank.options import Options
from thinkrank.recipes.data import origin
from thinkrank.recipes.layers import PRESET, Layers, merge, parse_assignments
from thinkrank.recipes.presets import Preset
from thinkrank.recipes.probe_arms import chosen_arms
from thinkrank.recipes.retrieval import RetrieveSettings, default_tables

RELAY = "synthetic-relay"
"""The source with a right answer that thinking finds: the positive control of a probe, its negative one shuffled."""
_RELAY_WORLD = {"users": 4000, "styles": 8, "kinds": 8, "relay_length": 5}


class ProbeOptions(Options):
    """Say how much a probe may take."""

    minutes: float | None = Field(
        None, gt=0, description="minutes for everything; none for what the data's size and the settings need"
    )
    trainings: int = Field(
        1,
        ge=1,
        description="whole trainings of every arm, each with a warm start of its own; from 3 on tests count them",
    )
    samples: int | None = Field(
        None, ge=1, description="test samples that are judged on; none for all, or as many as the minutes allow"
    )
    starts: tuple[str, ...] = Field(
        (),
        description="folders of finished trainings of R²ec on the same data, one for each training of the probe, which "
        "then begins with their models instead of a warm start of its own",
    )
    ways: tuple[str, ...] = Field(
        (),
        description="ways of thinking to try, of words, dense, several, latent, evidence, distilled; none named "
        "tries thoughts in words and silent steps",
    )

    @model_validator(mode="after")
    def _one_start_for_each(self) -> "ProbeOptions":
        if self.starts and len(self.starts) != self.trainings:
            raise ValueError(f"starts must name a folder for each of the trainings: set trainings = {len(self.starts)}")
        return self


class ProbeSettings(RetrieveSettings):
    """Hold everything that `thinkrank probe` can be told."""

    probe: ProbeOptions = ProbeOptions()


def probe_settings(layers: Layers) -> ProbeSettings:
    """Lay settings over those that a probe has by default; see `Layers.over`."""
    if layers.source == RELAY:
        told = parse_assignments(layers.options)
        world = [f"{name}={value}" for name, value in _RELAY_WORLD.items() if name not in told]
        layers = replace(layers, options=[*layers.options, *world])
    settings = layers.over(ProbeSettings, _defaults)
    if settings.retriever is not None or settings.crowd:
        raise ThinkrankError("a probe trains R²ec alone: leave out retriever and crowd")
    chosen_arms(settings.probe.ways, settings.model.reading)
    settings.__dict__["given"] = settings.given | {f"{PRESET}probe"}
    return settings


def _defaults(source: str | None) -> dict[str, Any]:
    name = "probe-relay" if origin(source) == RELAY else "probe"
    tables = default_tables(Preset.thoughts, source)
    merge(tables, tomllib.loads(files("thinkrank.recipes.presets").joinpath(f"{name}.toml").read_text("utf-8")))
    return tables
