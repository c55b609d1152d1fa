"""Memory and time of training by the size of the language model: what SmolLM2-135M takes, beside the stated formula.

The retriever of the preset `thinkrank` trains on MovieLens-100K for a few updates; the peak of resident memory is read
from Linux after each part. The formula is the one of docs/jobs/bigger.md (`formula_gib`). Its constant for activations
was chosen on a first run of this measurement, so `formula_over_measured` tells how well it fits here and nothing about
larger models.
"""

import itertools
import resource
import time

import torch

from _figures import parser, tell
from thinkrank.recipes import Layers, Preset, retrieve_settings
from thinkrank.recipes.retrieval import RECIPE
from thinkrank.retrieve import R2ec, train_contrastive
from thinkrank.training import UnsavedRun

GIB = 2**30
PROGRAM_GIB = 0.5
"""Python with torch, transformers and polars loaded, and the data set."""
WEIGHT_BYTES = 6
"""Of each parameter on a CPU: bf16 weights, a copy laid out for fast products, and pages of the file."""
ACTIVATION_BYTES = 180
"""Kept for the backward pass, for each position, layer and channel that is trained."""


def formula_gib(parameters: int, trained: int, items: int, width: int, layers: int, positions: int) -> float:
    """Weights; adapter, learned item vectors and their optimiser in 16 bytes, item states in 4; activations."""
    kept = WEIGHT_BYTES * parameters + 16 * trained + 20 * items * width
    return PROGRAM_GIB + (kept + ACTIVATION_BYTES * positions * layers * width) / GIB


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


def main() -> None:
    options = parser(__doc__, quick="two updates").parse_args()
    steps = 2 if options.quick else 12
    settings = retrieve_settings(Preset.thinkrank, Layers(source="movielens-100k"))
    split = settings.data.load_split()
    settings = RECIPE.sized(settings, split)
    figures = {"before_peak_gib": peak_gib()}
    started = time.perf_counter()
    model = R2ec.create(settings.model, split.dataset.catalogue)
    figures |= {"encoding_seconds": time.perf_counter() - started, "encoding_peak_gib": peak_gib()}
    changes = {"steps": steps, "validate_every": steps, "validation_samples": 50, "refresh_every": steps + 1}
    training = settings.training.model_copy(update=changes)
    run = UnsavedRun()
    train_contrastive(model, split, training, run)
    rows = [row for row in run.metrics() if "loss" in row]
    seconds = sorted(after["seconds"] - before["seconds"] for before, after in itertools.pairwise(rows))
    weights = list(model.backbone.model.parameters())
    trained = sum(weight.numel() for weight in weights if weight.requires_grad)
    width, layers = model.head.residual_ID.shape[1], settings.model.lora.top_layers or 30
    made = formula_gib(
        sum(weight.numel() for weight in weights) - trained,
        trained,
        len(split.dataset.catalogue),
        width,
        layers,
        training.batch_size * training.stretch,
    )
    figures |= {
        "threads": float(torch.get_num_threads()),
        "parameters": float(sum(weight.numel() for weight in weights) - trained),
        "trained_parameters": float(trained),
        "positions_per_update": float(training.batch_size * training.stretch),
        "update_seconds": seconds[len(seconds) // 2] if seconds else 0.0,
        "training_peak_gib": peak_gib(),
        "formula_gib": made,
        "formula_over_measured": made / peak_gib(),
    }
    tell(figures, options.json)


if __name__ == "__main__":
    main()
