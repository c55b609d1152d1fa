"""Run one arm of a study with one seed, or all that are missing, and write what came out as JSON.

    python studies/late/study.py studies/late/movielens-100k.toml --arm reader --seed 0

A study is a settings file of `thinkrank train retrieve` with a table `[study]`, which says which seeds, how many test
samples (all without a number) and how many minutes the tuning of all baselines has. The arm `baselines` tunes and
trains every system without a language model; the arm `reader` trains R²ec reading late, and judges it alone, fused with
what counts, with what counts and the likeness of texts (`crowd`: what `thinkrank train retrieve` saves), and with all
baselines, beside the same fusions without it. Seeds are whole trainings. What is done is not done again; an arm whose
result file is there is left alone.
"""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from thinkrank.data import Samples, Split
from thinkrank.pretrained import load
from thinkrank.recipes import retrieval
from thinkrank.recipes.baseline_run import BaselineSettings, read_tuning, run_baselines
from thinkrank.recipes.baselines import EASE_R, IALS, ITEM_KNN, POPULARITY, SYSTEMS, TEXT
from thinkrank.recipes.layers import Layers
from thinkrank.recipes.presets import Preset
from thinkrank.recipes.reader import READER
from thinkrank.recipes.remembered import Remembered
from thinkrank.recipes.retrieval import RetrieveSettings, retrieve_settings
from thinkrank.recipes.running import train
from thinkrank.recipes.studies import Study, kept_of
from thinkrank.retrieve import Fused

RESULTS = Path(__file__).parent / "results"
COUNTS = (POPULARITY, ITEM_KNN, EASE_R, IALS)
CROWD = (POPULARITY, ITEM_KNN, EASE_R, TEXT, IALS)
sys.path.append(str(Path(__file__).parents[1]))  # what studies share


class LateStudy(Study):
    """A study of the late reader beside and with the crowd."""

    group = "late"
    split: Split

    def settings(self, over: dict[str, Any]) -> RetrieveSettings:
        """Lay others over the common settings; the reader is trained alone."""
        return retrieve_settings(Preset.thinkrank, Layers(tables=[self.tables, over, {"crowd": []}]))

    def arm(self, name: str, seed: int) -> RetrieveSettings:
        """Return the settings with a seed, fitted to the data's size."""
        over = {key: self.arms[name][key] for key in ("model", "training") if key in self.arms[name]}
        over["training"] = {**over.get("training", {}), "seed": seed}
        return retrieval.RECIPE.sized(self.settings(over), self.split)

    def decisive(self, name: str, settings: RetrieveSettings) -> Any:
        """Return what of an arm's settings its result depends on: baselines know no language model."""
        return settings.data if name in self.always else settings

    def samples(self) -> Samples:
        """Return what every arm is judged on: all test samples, or as many as the study says."""
        test, samples = self.split.test, self.options.get("samples")
        return test if samples is None else test.subset(samples, seed=0)

    def users(self) -> list[int]:
        """Tell whose each sample is."""
        return self.samples().users.tolist()

    def baselines(self, seed: int) -> dict[str, Any]:
        """Return the tuned baselines of a seed."""
        folder = self.folder / f"baselines-{seed}"
        settings = BaselineSettings(data=self.settings({}).data, seed=seed)
        if {record.system for record in read_tuning(folder)} != {*SYSTEMS} or settings != settings.from_run(folder):
            run_baselines(settings, folder, minutes=self.options["minutes"], split=self.split, progress=self.progress)
        return {name: load(folder / system.slug) for name, system in SYSTEMS.items()}

    def run_arm(self, name: str, seed: int) -> dict[str, Any]:
        """Train and judge an arm."""
        started = time.perf_counter()
        baselines = self.baselines(seed)
        if name == "baselines":
            ranks = {system: self.ranks(model) for system, model in baselines.items()}
            return {
                "about": "systems without a language model, each tuned on validation",
                "seconds": time.perf_counter() - started,
                "ranks": ranks,
                "seedless": [name for name, system in SYSTEMS.items() if not system.is_network],
                "buckets": self.buckets(),
            }
        settings = self.arm(name, seed)
        rows, reader = self.reader(settings, seed)
        fusions, weights = self.fused({**{n: Remembered(m) for n, m in baselines.items()}, READER: Remembered(reader)})
        return {
            "about": self.arms[name]["about"],
            "seconds": rows[-1]["seconds"],
            "predictions": rows[-1]["examples"],
            "kept_step": kept_of(rows, settings.training.keep),
            "ranks": {mode: self.ranks(model) for mode, model in fusions.items()},
            "weights": weights,
        }

    def reader(self, settings: RetrieveSettings, seed: int) -> tuple[list[dict[str, Any]], Any]:
        """Return the log of a seed's training, and the R²ec that it left."""
        folder = self.folder / f"reader-{seed}"
        run, reader = train(retrieval.RECIPE, settings, folder, split=self.split, progress=self.progress)
        return run.metrics(), reader

    def fused(self, parts: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Fuse the reader with what counts, with the crowd, and with all baselines, and the same without it."""
        chosen = {
            "counts": COUNTS,
            "counts and reader": (*COUNTS, READER),
            "crowd": CROWD,
            "crowd and reader": (*CROWD, READER),
            "baselines": [name for name in parts if name != READER],
            "baselines and reader": list(parts),
        }
        fusions = {mode: Fused({name: parts[name] for name in names}).fit(self.split) for mode, names in chosen.items()}
        return {"alone": parts[READER], **fusions}, {mode: fusion.weights for mode, fusion in fusions.items()}

    def ranks(self, retriever: Any) -> list[int]:
        """Return the places of the test targets."""
        samples = self.samples()
        return retriever.target_ranks(samples.requests(), samples.targets).tolist()

    def buckets(self) -> dict[str, list[int]]:
        """Group the samples by how long their histories are and how often their targets occur in training."""
        samples = self.samples()
        lengths = np.array([len(history) for history in samples.histories()])
        counts = self.split.train_counts[samples.targets]
        return {
            "history of 1 or 2": np.flatnonzero(lengths <= 2).tolist(),
            "3 to 9": np.flatnonzero((lengths > 2) & (lengths < 10)).tolist(),
            "10 and more": np.flatnonzero(lengths >= 10).tolist(),
            "target never trained on": np.flatnonzero(counts == 0).tolist(),
            "1 to 9 times": np.flatnonzero((counts > 0) & (counts < 10)).tolist(),
            "10 times and more": np.flatnonzero(counts >= 10).tolist(),
        }


if __name__ == "__main__":
    from command import main

    main(__doc__, RESULTS, LateStudy)
