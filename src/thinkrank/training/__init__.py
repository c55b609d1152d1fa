"""What every training run shares: its folder, exact resume, schedules, progress, the training loop."""

from typing import TYPE_CHECKING

from thinkrank._lazy import lazy_names

if TYPE_CHECKING:
    from thinkrank.training.checkpoint import Checkpoint, latest_checkpoint, write_checkpoint
    from thinkrank.training.fit import AdapterFit, Counters, Fit, carry_out, under
    from thinkrank.training.optimizer import load_optimizer_tensors, optimizer_tensors
    from thinkrank.training.options import AdapterFitOptions, FitOptions
    from thinkrank.training.progress import Progress, console_progress, no_progress
    from thinkrank.training.run import Run
    from thinkrank.training.schedule import warmup_factor

__all__ = [
    "AdapterFit",
    "AdapterFitOptions",
    "Checkpoint",
    "Counters",
    "Fit",
    "FitOptions",
    "Progress",
    "Run",
    "carry_out",
    "console_progress",
    "latest_checkpoint",
    "load_optimizer_tensors",
    "no_progress",
    "optimizer_tensors",
    "under",
    "warmup_factor",
    "write_checkpoint",
]

__getattr__ = lazy_names(
    __name__,
    {
        "AdapterFit": "fit",
        "AdapterFitOptions": "options",
        "Checkpoint": "checkpoint",
        "Counters": "fit",
        "Fit": "fit",
        "FitOptions": "options",
        "Progress": "progress",
        "Run": "run",
        "carry_out": "fit",
        "console_progress": "progress",
        "latest_checkpoint": "checkpoint",
        "load_optimizer_tensors": "optimizer",
        "no_progress": "progress",
        "optimizer_tensors": "optimizer",
        "under": "fit",
        "warmup_factor": "schedule",
        "write_checkpoint": "checkpoint",
    },
)
