"""One run of baselines: tune each within a budget, keep it, and judge all of them on the same samples.

    rows = run_baselines(baseline_settings(Layers(source="movielens-100k")), "runs/baselines", minutes=20)

The folder holds `config.toml`, `manifest.json`, a folder for each system that `thinkrank.load` opens, `tuning.json`
(the budget, everything that was tried, the seconds spent), `results.json` and `comparisons.json`.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from thinkrank._files import atomic_write
from thinkrank._lock import locked
from thinkrank.data import Samples, Split
from thinkrank.errors import ThinkrankError
from thinkrank.evaluate import ResultRow, evaluate_retrieval, write_comparisons, write_results
from thinkrank.pretrained import CONFIG_FILE, load
from thinkrank.recipes.baselines import REFERENCES, SYSTEMS, VALIDATION_SAMPLES, Tuning, system_named, tuned_baselines
from thinkrank.recipes.comparing import per_sample
from thinkrank.recipes.data import DataSettings
from thinkrank.recipes.layers import Layers, RunSettings
from thinkrank.training import Progress, Run, no_progress

TUNING_FILE = "tuning.json"


class BaselineSettings(RunSettings):
    """Hold what decides the systems of a run, but for the time that their tuning had."""

    data: DataSettings
    samples: int = Field(VALIDATION_SAMPLES, ge=1, description="validation samples that settings are chosen by")
    seed: int = Field(0, ge=0, description="seed of the networks")


def baseline_settings(layers: Layers) -> BaselineSettings:
    """Lay settings over the defaults."""
    return layers.over(BaselineSettings, lambda source: {})


def run_baselines(
    settings: BaselineSettings,
    folder: str | Path,
    names: Sequence[str] = (),
    *,
    minutes: float,
    split: Split | None = None,
    device: str = "auto",
    progress: Progress = no_progress,
) -> list[ResultRow]:
    """Tune systems that the folder does not hold yet, judge all on every test sample, and write what was found.

    Args:
        settings: of the run.
        folder: of the run; an interrupted run there goes on with the systems that are left.
        names: of the systems; all where none is named.
        minutes: for the tuning of all systems, what earlier starts spent on them included. Judging comes on top.
        split: the data of the settings, if it is loaded already.
        device: auto, cpu, cuda, cuda:1 or mps.
        progress: how to show the work.

    Returns:
        the rows of `results.json`.

    Raises:
        ThinkrankError: if a name is unknown, the budget is not above 0, a part of the split is empty, or the folder
            holds a run with other settings or of other data.
    """
    if not minutes > 0:
        raise ThinkrankError(f"minutes must be above 0, got {minutes:g}")
    systems = [system_named(name) for name in dict.fromkeys(names or SYSTEMS)]
    if split is None:
        with progress("reading the data", 0):
            split = settings.data.load_split()
    folder = Path(folder)
    if not len(split.test):
        raise ThinkrankError(f"{split.dataset.name}: the test part holds no sample to judge on")
    with locked(folder):
        return _run(settings, folder, [system.name for system in systems], split, minutes, device, progress)


def _run(
    settings: BaselineSettings,
    folder: Path,
    names: list[str],
    split: Split,
    minutes: float,
    device: str,
    progress: Progress,
) -> list[ResultRow]:
    """Tune, keep and judge in a folder that is held."""
    Run(folder, settings.model_dump(mode="json"), {"split": split.manifest(), "seed": settings.seed, "device": device})
    done = {
        record.system: record
        for record in read_tuning(folder)
        if (folder / system_named(record.system).slug / CONFIG_FILE).is_file()
    }
    models: dict[str, Any] = {}
    wanted = set(names)
    tuned = tuned_baselines(
        split,
        names,
        minutes=minutes,
        samples=settings.samples,
        seed=settings.seed,
        device=device,
        done={name: record for name, record in done.items() if name in wanted},
        progress=progress,
    )
    for model, record in tuned:
        model.save_pretrained(folder / system_named(record.system).slug)
        done[record.system], models[record.system] = record, model
        _write_tuning(folder, minutes, list(done.values()))
    for system in SYSTEMS.values():  # those of earlier calls too: the table is of the folder
        if system.name in done and system.name not in models:
            models[system.name] = load(folder / system.slug, device=device)
    models = {system.name: models[system.name] for system in SYSTEMS.values() if system.name in models}
    return _judged(models, split.test, split, folder, settings.seed, done, progress)


def read_tuning(folder: str | Path) -> list[Tuning]:
    """Read how the systems of a run were tuned; nothing if none is yet.

    Raises:
        ThinkrankError: if the file is damaged.
    """
    path = Path(folder) / TUNING_FILE
    if not path.is_file():
        return []
    try:
        return [Tuning.model_validate(record) for record in json.loads(path.read_bytes())["systems"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ThinkrankError(f"{path}: damaged: {' '.join(str(error).split())[:200]}") from error


def _write_tuning(folder: Path, minutes: float, records: Sequence[Tuning]) -> None:
    told = {"minutes": minutes, "systems": [record.model_dump(mode="json") for record in records]}
    with atomic_write(folder / TUNING_FILE) as file:
        file.write(json.dumps(told, indent=1).encode() + b"\n")


def _judged(
    models: dict[str, Any],
    samples: Samples,
    split: Split,
    folder: Path,
    seed: int,
    done: dict[str, Tuning],
    progress: Progress,
) -> list[ResultRow]:
    """Ask every system the same, and write the figures, the tests and how settings were chosen."""
    evaluation = evaluate_retrieval(models, samples, progress=progress)
    seeds = {name: (seed,) for name in models if SYSTEMS[name].is_network}
    dataset = split.dataset.name
    rows = evaluation.rows(dataset=dataset, split="test", seeds=seeds, counts_I=split.train_counts)
    comparisons = [
        comparison
        for reference in REFERENCES
        if reference in models
        for comparison in evaluation.comparisons(reference, dataset=dataset, split="test")
    ]
    chosen = {name: done[name].chosen for name in models}
    write_comparisons(folder / "comparisons.json", comparisons, {**evaluation.protocol, "baseline settings": chosen})
    write_results(folder / "results.json", rows)
    best = max(models, key=lambda name: float(evaluation.values(name, "ndcg@10").mean()))
    per_sample(split, samples, evaluation, own=best, part="test").save(folder)
    return rows
