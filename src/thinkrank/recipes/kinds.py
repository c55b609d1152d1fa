"""By what the folder of a run is known, without importing what made it."""

import tomllib
from pathlib import Path

TABLES = {"cascade": "cascade", "rank": "cold_start", "rerank": "evaluator", "retrieve": "training"}
"""Per stage, the table of settings that only its runs have; a cascade's, which come first, have a retriever's too."""


def stage_of(folder: Path) -> str | None:
    """Return the stage of a run; None if the folder holds none, or one that cannot be read."""
    try:
        config = tomllib.loads((folder / "config.toml").read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return None
    return next((stage for stage, table in TABLES.items() if table in config), None)
