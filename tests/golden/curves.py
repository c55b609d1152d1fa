"""Every trainer of the package for a few steps, its curve and its final weights as text.

The rows of its log as JSON lines, floats as float.hex(), what a clock measured left out; then a line per final tensor:
name, shape, the sum of its numbers in float64, and the beginning of the SHA-256 of its bytes.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from golden import models, settings, world

CLOCK = ("seconds", "cpu_seconds", "share_")


def is_timed(key: str) -> bool:
    return key.startswith(CLOCK) or key.endswith("_per_second")


def exact(value: Any) -> Any:
    """Floats as hexadecimal text, inside of lists and tables too; what a clock measured is left out of tables."""
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, Mapping):
        return {key: exact(inner) for key, inner in value.items() if not is_timed(key)}
    if isinstance(value, list | tuple):
        return [exact(inner) for inner in value]
    return value


def checksums(tensors: Mapping[str, torch.Tensor], kind: str = "weights") -> Iterable[str]:
    for name, tensor in sorted(tensors.items()):
        plain = tensor.detach().cpu().contiguous()
        digest = hashlib.sha256(plain.numpy().tobytes()).hexdigest()[:16]
        yield f"{kind} {name} {tuple(plain.shape)} {plain.double().sum().item().hex()} {digest}"


def written(rows: Iterable[Mapping[str, Any]], tensors: Mapping[str, torch.Tensor]) -> str:
    lines = [json.dumps(exact(row), sort_keys=True, ensure_ascii=False) for row in rows]
    return "\n".join([*lines, *checksums(tensors)]) + "\n"


def fitted(fit: Any) -> str:
    """The log and the weights the model ends with."""
    return written(models.bring_to_end(fit), fit.weights())


def contrastive(name: str, folder: Path) -> dict[str, str]:
    config, options = settings.CONTRASTIVES[name]
    return {f"contrastive-{name}": fitted(models.contrastive_fit(models.r2ec(config), options, folder))}


def recpo(name: str, folder: Path) -> dict[str, str]:
    config, options = settings.RECPOS[name]
    return {f"recpo-{name}": fitted(models.recpo_fit(models.r2ec(config), options, folder))}


def cold_start(name: str, folder: Path) -> dict[str, str]:
    config, options = settings.COLD_STARTS[name]
    return {f"cold-start-{name}": fitted(models.cold_start_fit(models.r2rank(config), options, folder))}


def reinforce(name: str, folder: Path) -> dict[str, str]:
    config, options = settings.REINFORCES[name]
    return {f"reinforce-{name}": fitted(models.reinforce_fit(models.r2rank(config), options, folder))}


def eglr(name: str, folder: Path) -> dict[str, str]:
    """The three phases, one after the other, as the command line does."""
    config, judged, warm, grpo = settings.EGLRS[name]
    model = models.eglr(config)
    frozen = {f"eglr-{name}-1-evaluator": fitted(models.evaluator_fit(model, judged, folder / "evaluator"))}
    frozen[f"eglr-{name}-1-evaluator"] += json.dumps(exact(model.report.model_dump(mode="json")), sort_keys=True) + "\n"
    frozen[f"eglr-{name}-2-warm-start"] = fitted(models.warm_start(model, warm, folder / "warm"))
    frozen[f"eglr-{name}-3-grpo"] = fitted(models.grpo_fit(model, grpo, folder / "grpo"))
    return frozen


def sasrec(name: str, folder: Path) -> dict[str, str]:
    return baseline("sasrec", f"sasrec-{name}", *models.sasrec(settings.SASRECS[name]))


def lists(name: str, folder: Path) -> dict[str, str]:
    return baseline(name, f"lists-{name}", *models.list_baseline(name, settings.LIST_BASELINES[name]))


def counted(name: str, folder: Path) -> dict[str, str]:
    return baseline(name, name, getattr(models, name)(getattr(settings, name.upper())))


def baseline(kind: str, name: str, model: Any, validations: Iterable[float] = ()) -> dict[str, str]:
    rows = [{"validation": value} for value in validations]
    return {name: written(rows, models.weights_of(kind, model))}


def data(name: str, folder: Path) -> dict[str, str]:
    """Fingerprints: if these differ, the data was not rebuilt alike and nothing else can agree."""
    splits = {"walks": world.walks_split(), "kinds": world.kinds_split(), "displayed": world.displayed_split()}
    rows = [{"data": name, "manifest": split.manifest()} for name, split in splits.items()]
    return {"data": written(rows, {})}


JOBS: dict[str, tuple[Callable[[str, Path], dict[str, str]], Iterable[str]]] = {
    "data": (data, ["all"]),
    "contrastive": (contrastive, settings.CONTRASTIVES),
    "recpo": (recpo, settings.RECPOS),
    "cold-start": (cold_start, settings.COLD_STARTS),
    "reinforce": (reinforce, settings.REINFORCES),
    "eglr": (eglr, settings.EGLRS),
    "sasrec": (sasrec, settings.SASRECS),
    "lists": (lists, settings.LIST_BASELINES),
    "counted": (counted, ["item_knn", "ease", "popularity"]),
}
