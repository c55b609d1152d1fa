"""A run's folder: what was asked, with what, and what happened.

config.toml      every setting
manifest.json    data fingerprint, split, versions, seed, device
metrics.jsonl    one row per logged event, in order
checkpoints/     see `thinkrank.training.checkpoint`
"""

import importlib.metadata
import json
import os
import platform
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from thinkrank._files import atomic_write
from thinkrank.errors import ThinkrankError

_PACKAGES = ("thinkrank", "torch", "transformers", "peft", "numpy", "polars", "safetensors", "tokenizers")


class Run:
    """Record one training in one folder; opening a folder that already holds the same run continues it.

    Args:
        folder: made if it does not exist.
        config: every setting, as nested plain values; None values are left out.
        manifest: what the run is made from; package versions are added. Its `split` holds the data's fingerprint.

    Raises:
        ThinkrankError: if the folder holds a run with another configuration or other data.
    """

    saves = True
    """Whether there is a folder to write into."""

    def __init__(self, folder: str | Path, config: Mapping[str, Any], manifest: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        self.config = _without_none(config)
        self.folder.mkdir(parents=True, exist_ok=True)
        config_file = self.folder / "config.toml"
        if config_file.exists():
            difference = _first_difference(tomllib.loads(config_file.read_text(encoding="utf-8")), self.config)
            if difference:
                raise ThinkrankError(
                    f"{self.folder} holds another run: {difference}. Give another folder, or delete this one."
                )
        else:
            _write_text(config_file, tomli_w.dumps(self.config))
        self.manifest = self._kept_manifest({**manifest, "versions": _versions(), "platform": platform.platform()})

    @classmethod
    def open(cls, folder: str | Path, split: Mapping[str, Any]) -> "Run":
        """Open an existing run as it was made, whatever the defaults of settings are by now.

        Args:
            folder: of the run.
            split: manifest of the data at hand, which must be that of the run.

        Raises:
            ThinkrankError: if the data is not what the run was made from.
        """
        config = tomllib.loads((Path(folder) / "config.toml").read_text(encoding="utf-8"))
        return cls(folder, config, {"split": split})

    @property
    def checkpoints(self) -> Path:
        """Return the folder where checkpoints are kept."""
        return self.folder / "checkpoints"

    @property
    def metrics_file(self) -> Path:
        """Return the path of the log."""
        return self.folder / "metrics.jsonl"

    def log(self, row: Mapping[str, Any]) -> None:
        """Append one row to the log; each row has a `step`."""
        with self.metrics_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """Read the log; a last line that a kill cut short is left out."""
        if not self.metrics_file.exists():
            return []
        lines = self.metrics_file.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def rewind(self, step: int) -> None:
        """Drop log rows of updates after this step: a resumed run makes them again."""
        kept = [row for row in self.metrics() if row["step"] <= step]
        _write_text(self.metrics_file, "".join(json.dumps(row) + "\n" for row in kept))

    def _kept_manifest(self, made: dict[str, Any]) -> dict[str, Any]:
        """Return the manifest of the run's first start, which says what it was made from; write it if this is it."""
        path = self.folder / "manifest.json"
        if not path.exists():
            _write_text(path, json.dumps(made, indent=2) + "\n")
            return made
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        old, new = (manifest.get("split", {}).get("fingerprint") for manifest in (kept, made))
        if old != new:
            raise ThinkrankError(
                f"{self.folder} was made from other data (fingerprint {old}, now {new}). "
                "Restore the files, or give another folder."
            )
        return kept


class UnsavedRun(Run):
    """Keep the log of a training in memory: it writes no checkpoint and cannot be resumed."""

    saves = False

    def __init__(self) -> None:
        self.config, self.manifest = {}, {}
        self._rows: list[dict[str, Any]] = []

    def log(self, row: Mapping[str, Any]) -> None:
        """Keep one row."""
        self._rows.append(dict(row))

    def metrics(self) -> list[dict[str, Any]]:
        """Return the rows."""
        return list(self._rows)

    def rewind(self, step: int) -> None:
        """Drop rows of later updates."""
        self._rows = [row for row in self._rows if row["step"] <= step]


def _write_text(path: Path, text: str) -> None:
    with atomic_write(path) as file:
        file.write(text.encode())


def _without_none(value: Any) -> Any:
    """Turn a value into plain TOML: TOML has no null, so a setting without a value is absent."""
    if isinstance(value, Mapping):
        return {str(key): _without_none(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [_without_none(inner) for inner in value]
    return value


def _first_difference(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> str:
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            inner = _first_difference(before, after, f"{prefix}{key}.")
            if inner:
                return inner
        elif before != after:
            return f"its {prefix}{key} is {before!r}, not {after!r}"
    return ""


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    versions["cpus"] = str(os.cpu_count())
    return versions
