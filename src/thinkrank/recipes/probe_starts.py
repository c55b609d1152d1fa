"""Models that are trained already, with which a probe's trainings begin instead of warm starts of their own."""

from collections.abc import Collection, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from thinkrank.data import Split
from thinkrank.errors import ThinkrankError
from thinkrank.pretrained import MODEL, is_saved, read_config
from thinkrank.retrieve import R2ec, R2ecConfig
from thinkrank.training.run import read_manifest

_OF_START = ("backbone", "lora", "prompt", "head", "reading")
"""What of a model's configuration its start decides."""
_OF_SPLIT = ("dataset", "fingerprint", "filters", "kind", "fractions", "ties")


def model_of_starts(starts: Sequence[str], model: R2ecConfig, split: Split, given: Collection[str]) -> R2ecConfig:
    """Check that starts fit the data and each other, and return the configuration that goes on from them.

    Args:
        starts: folders of finished trainings of R²ec; none leaves the configuration as it is.
        model: what the settings say; who writes thoughts and how is taken from here.
        split: that the probe judges on, which must be the one that the starts were trained on.
        given: names of the settings that the user gave.

    Raises:
        ThinkrankError: if a folder holds no such training, or one of other data, another split or another model.
    """
    configs = [_config(Path(start), split) for start in starts]
    for key in given if configs else ():
        if key.startswith(tuple(f"model.{name}" for name in _OF_START)):
            wanted, kept = (_value(config, key) for config in (model, configs[0]))
            if wanted != kept:
                raise ThinkrankError(f"setting {key}: it is {kept!r} in {starts[0]}, not {wanted!r}: leave it out")
    for start, config in zip(starts, configs, strict=True):
        for name in _OF_START:
            if getattr(config, name) != getattr(configs[0], name):
                raise ThinkrankError(f"probe.starts: {start} differs in model.{name} from {starts[0]}")
    return model.model_copy(update={name: getattr(configs[0], name) for name in _OF_START}) if configs else model


def _value(model: R2ecConfig, key: str) -> Any:
    """Return a setting by its dotted name."""
    return reduce(getattr, key.split(".")[1:], model)


def _config(folder: Path, split: Split) -> R2ecConfig:
    if not is_saved(folder / MODEL):
        raise ThinkrankError(f"probe.starts: {folder} holds no model: name the folder of a finished `thinkrank train`")
    kept, here = read_manifest(folder).get("split"), split.manifest()
    if kept is None:
        raise ThinkrankError(f"probe.starts: {folder} has no manifest.json, which tells what it was trained on")
    for name in _OF_SPLIT:
        if kept.get(name) != here[name]:
            raise ThinkrankError(
                f"probe.starts: {folder} was trained on other data: {name} {kept.get(name)!r} instead of {here[name]!r}"
            )
    config = read_config(folder / MODEL, R2ec.kind, R2ecConfig)
    if config.latent.steps:
        raise ThinkrankError(f"probe.starts: {folder} thinks silently already: name one with model.latent.steps = 0")
    return config
