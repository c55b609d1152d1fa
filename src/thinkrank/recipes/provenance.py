"""What a report is about: when, by what, from what it was made, and under which terms."""

import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from thinkrank._code import code_version
from thinkrank._version import __version__
from thinkrank.recipes.base import OpenRun, logs_of
from thinkrank.recipes.licences import data_terms, weights_terms
from thinkrank.recipes.reader import reader_of


def about(opened: OpenRun, *, now: datetime | None = None) -> dict[str, Any]:
    """Tell what a run's report is about, by the words its lines begin with.

    Args:
        opened: the run.
        now: when the report is written; the present time if None.
    """
    manifest = opened.run.manifest
    return {
        "written": (now or datetime.now(tz=UTC)).strftime("%Y-%m-%d %H:%M UTC"),
        "version": _version(manifest),
        "command": told_command(opened),
        "training": _duration(opened),
        "model": _model(opened),
        "data": _data(opened),
    }


def told_command(opened: OpenRun) -> str:
    """Write the command that trains such a run: the one it was started with, or else one with the same outcome."""
    started = opened.run.manifest.get("command")
    if started:
        return str(started)
    data, folder = opened.settings.data, opened.run.folder
    path = ["--path", data.path] if data.path else []
    words = ["thinkrank", "train", opened.recipe.stage, data.source, *path, "--config", folder / "config.toml"]
    return shlex.join([*map(str, words), "--out", str(folder)])


def _version(manifest: Mapping[str, Any]) -> str:
    versions = manifest.get("versions", {})
    made = versions.get("thinkrank", "unknown")
    others = ", ".join(f"{name} {versions[name]}" for name in ("torch", "transformers") if name in versions)
    code = "" if code_version().endswith(__version__) else f" ({code_version()})"
    return f"trained by thinkrank {made}{f' with {others}' if others else ''}; report by {__version__}{code}"


def _duration(opened: OpenRun) -> str:
    """Sum up what the logs of a run's trainings say they took."""
    logs = logs_of(opened.recipe, opened.settings, opened.split, opened.run)
    told = [seconds for rows in logs.values() if (seconds := _seconds(rows)) is not None]
    if not told:
        return "nothing was trained step by step"
    minutes = sum(told) / 60
    return f"{minutes:,.0f} minutes" if minutes >= 2 else f"{sum(told):,.0f} seconds"


def _seconds(rows: Sequence[Mapping[str, Any]]) -> float | None:
    return max((float(row["seconds"]) for row in rows if "seconds" in row), default=None)


def _model(opened: OpenRun) -> str:
    """Name what was trained, its size, and the language model below it with its terms."""
    chosen = opened.settings.stage_class
    if chosen is not None:
        return str(chosen.name)
    model = reader_of(opened.model)
    backbone = getattr(opened.settings.model, "backbone", None)
    weights = getattr(getattr(model, "backbone", None), "model", getattr(model, "writer", model))
    count = sum(part.numel() for part in weights.parameters()) if hasattr(weights, "parameters") else 0
    size = f"{count / 1e6:,.0f} million parameters" if count >= 1e6 else f"{count:,} parameters" if count else ""
    if backbone is None:
        return ", ".join(filter(None, [f"{type(model).__name__}", size]))
    terms = weights_terms(backbone)
    return ", ".join(filter(None, [terms.name, size, f"weights: {terms.text}"]))


def _data(opened: OpenRun) -> str:
    split = opened.split
    dataset = split.train if opened.recipe.stage == "rerank" else split.dataset
    source = str(dataset.source.get("source", opened.settings.data.source))
    return f"{dataset.name}, terms: {data_terms(source).text}"
