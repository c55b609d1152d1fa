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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from thinkrank._files import atomic_write, writing
from thinkrank._lock import LOCK_FILE
from thinkrank.errors import ThinkrankError
from thinkrank.training.tracking import Following

if TYPE_CHECKING:
    from thinkrank.distributed.world import World
else:
    World = Any  # its module imports torch, and commands look at runs before they need that

CONFIG, MANIFEST, METRICS = "config.toml", "manifest.json", "metrics.jsonl"
_STARTED = (CONFIG, MANIFEST, METRICS, "bad_rows.csv")
"""Files that every start writes anew."""
_FOLLOWED = ("tensorboard", "wandb", "mlruns")
"""Folders that trackers leave."""
_PACKAGES = ("thinkrank", "torch", "transformers", "peft", "numpy", "polars", "safetensors", "tokenizers")


class Run:
    """Record one training in one folder; opening a folder that already holds the same run continues it.

    Args:
        folder: made if it does not exist.
        config: every setting, as nested plain values; None values are left out.
        manifest: what the run is made from; package versions are added. Its `split` holds the data's fingerprint.
        report_to: trackers that get what is logged; see `thinkrank.training.tracking`.
        world: the processes that train together, of which the first one has a `Run`; None for this one alone.

    Raises:
        ThinkrankError: if the folder holds a run with another configuration or other data, or a tracker is missing.
    """

    saves = True
    """Whether there is a folder to write into."""
    _world: World | None = None
    ending = 0.0
    """Seconds that a training should keep for its last encoding and validation, where they were measured before."""

    def __init__(
        self,
        folder: str | Path,
        config: Mapping[str, Any],
        manifest: Mapping[str, Any],
        *,
        report_to: Sequence[str] = (),
        world: World | None = None,
    ) -> None:
        self.folder, self._world = Path(folder), world
        self.config = without_none(config)
        self._row: dict[str, Any] = {}
        self._following = Following(report_to, self.folder, self.config)
        self.folder.mkdir(parents=True, exist_ok=True)
        config_file = self.folder / CONFIG
        if is_begun(self.folder):
            difference = _first_difference(_read_toml(config_file), self.config)
            if difference:
                raise another_run(self.folder, difference)
        else:
            (self.folder / MANIFEST).unlink(missing_ok=True)
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
        return cls(folder, _read_toml(Path(folder) / CONFIG), {"split": split})

    @property
    def world(self) -> World:
        """Return the processes that train together."""
        from thinkrank.distributed.world import SINGLE

        return self._world or SINGLE

    @property
    def checkpoints(self) -> Path:
        """Return the folder where checkpoints are kept."""
        return self.folder / "checkpoints"

    @property
    def metrics_file(self) -> Path:
        """Return the path of the log."""
        return self.folder / METRICS

    def log(self, values: Mapping[str, Any]) -> None:
        """Add figures to the row of their `step`; a row is written when the next one begins, or by `flush`."""
        if self._row and self._row["step"] != values["step"]:
            self.flush()
        self._row |= values

    def flush(self) -> None:
        """Append the row that is being gathered to the log."""
        if not self._row:
            return
        way_out = "make room, and the same command goes on"
        with writing(self.metrics_file, otherwise=way_out), self.metrics_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(self._row) + "\n")
        self._following.log(self._row)
        self._row = {}

    def close(self) -> None:
        """Write what was gathered, and end the trackers that follow this run; a later row starts them again."""
        self.flush()
        self._following.end()

    def metrics(self) -> list[dict[str, Any]]:
        """Read the log, a row for each step; a last line that a kill cut short is left out."""
        is_there = self.metrics_file.exists()
        lines = self.metrics_file.read_text(encoding="utf-8").splitlines(keepends=True) if is_there else []
        rows = []
        for number, line in enumerate(lines, 1):
            try:
                rows += [json.loads(line)] if line.endswith("\n") else []
            except ValueError as error:
                raise ThinkrankError(f"{self.metrics_file}: line {number} is damaged: delete that line") from error
        return [*rows, dict(self._row)] if self._row else rows

    def rewind(self, step: int) -> None:
        """Drop log rows of updates after this step: a resumed run makes them again."""
        kept, self._row = [row for row in self.metrics() if row["step"] <= step], {}
        _write_text(self.metrics_file, "".join(json.dumps(row) + "\n" for row in kept))

    def _kept_manifest(self, made: dict[str, Any]) -> dict[str, Any]:
        """Return the manifest of the run's first start, which says what it was made from; write it if this is it."""
        path = self.folder / MANIFEST
        if not path.exists():
            _write_text(path, json.dumps(made, indent=2) + "\n")
            return made
        kept = read_manifest(self.folder)
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

    def __init__(self, world: World | None = None) -> None:
        self.config, self.manifest, self._world = {}, {}, world
        self._rows: list[dict[str, Any]] = []

    def log(self, values: Mapping[str, Any]) -> None:
        """Add figures to the row of their step."""
        if self._rows and self._rows[-1]["step"] == values["step"]:
            self._rows[-1] |= values
        else:
            self._rows.append(dict(values))

    def flush(self) -> None:
        """Do nothing: there is no file."""

    def close(self) -> None:
        """Do nothing: no tracker follows."""

    def metrics(self) -> list[dict[str, Any]]:
        """Return the rows."""
        return list(self._rows)

    def rewind(self, step: int) -> None:
        """Drop rows of later updates."""
        self._rows = [row for row in self._rows if row["step"] <= step]


class FollowingRun(UnsavedRun):
    """Follow a run that the first process writes: read its checkpoints, and write nothing."""

    saves = True

    def __init__(self, folder: str | Path, world: World) -> None:
        super().__init__(world)
        self.folder = Path(folder)

    def log(self, values: Mapping[str, Any]) -> None:
        """Do nothing: the first process logs."""


def is_begun(folder: Path) -> bool:
    """Tell whether a run's folder holds more than a start leaves that failed: a checkpoint, a model, anything made."""
    if not (folder / CONFIG).is_file():
        return False
    return any(map(_is_made, folder.iterdir()))


def _is_made(path: Path) -> bool:
    """Tell what a training or a user made from what every start writes anew."""
    if path.is_dir():
        return path.name not in _FOLLOWED and any(map(_is_made, path.iterdir()))
    return not path.name.startswith(".") and path.name not in (*_STARTED, LOCK_FILE)


def has_checkpoint(folder: Path) -> bool:
    """Tell whether a run interrupted now would go on from a checkpoint, its own or one of a later phase."""
    return any(folder.glob("checkpoints/step-*")) or any(folder.glob("*/checkpoints/step-*"))


def another_run(folder: Path, difference: str) -> ThinkrankError:
    """Say that a folder is taken."""
    return ThinkrankError(f"{folder} holds another run: {difference}. Give another folder, or delete this one.")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read what a run was made from; nothing if its folder does not tell.

    Raises:
        ThinkrankError: if the file is damaged.
    """
    path = folder / MANIFEST
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ThinkrankError(f"{path}: damaged ({error}): delete it, and the next start writes it anew") from error
    return kept if isinstance(kept, dict) else {}


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ThinkrankError(f"{path}: damaged ({error}): mend it, or train into another folder") from error


def _write_text(path: Path, text: str) -> None:
    with atomic_write(path) as file:
        file.write(text.encode())


def without_none(value: Any) -> Any:
    """Turn a value into plain TOML: TOML has no null, so a setting without a value is absent."""
    if isinstance(value, Mapping):
        return {str(key): without_none(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [without_none(inner) for inner in value]
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
