"""The command line that every benchmark has, and how its figures are shown and kept."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path


def parser(about: str | None, *, quick: str) -> argparse.ArgumentParser:
    """`--json FILE` and `--quick`; a script may add what else it takes."""
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--json", type=Path, help="write the figures here")
    made.add_argument("--quick", action="store_true", help=quick)
    return made


def tell(figures: Mapping[str, float], file: Path | None) -> None:
    """Print a flat object of figures, and write it if a file is given."""
    for name, value in figures.items():
        print(f"{name:42} {value:.4g}")
    if file is not None:
        file.write_text(json.dumps(figures, indent=2) + "\n")
