"""Run one arm of a study with one seed, or all that are missing, and write what came out as JSON.

    python studies/cascade/study.py studies/cascade/movielens-100k.toml --arm cascade --seed 0

A study is a settings file of `thinkrank train cascade` with a table `[study]`, which says which seeds, how many test
samples (all without a number) and how many minutes the tuning of all baselines has. The arm `baselines` tunes and
trains every system without a language model; the arm `cascade` fuses those that its settings name with a reader, builds
what stands behind, and judges it beside each of its stages alone, and beside all baselines fused, without and with the
same ranker behind them. Seeds are whole trainings. What is done is not done again: tuned baselines and readers are
those of the study of the same name in studies/late where they are kept; an arm whose result file is there is left
alone.
"""

import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))  # what studies share

from late.study import LateStudy

from thinkrank.cascade import Cascade, EvidenceRanker
from thinkrank.cascade.training_data import lists_from_retriever
from thinkrank.data import Candidates
from thinkrank.evidence import Crowd
from thinkrank.recipes import retrieval
from thinkrank.recipes.cascade import RECIPE, CascadeSettings, cascade_settings, stage_table
from thinkrank.recipes.later_stages import Building
from thinkrank.recipes.layers import Layers
from thinkrank.recipes.presets import Preset
from thinkrank.recipes.reader import READER
from thinkrank.recipes.remembered import Remembered, remembering
from thinkrank.recipes.retrieval import retrieve_settings
from thinkrank.recipes.studies import kept_of
from thinkrank.retrieve import Fused
from thinkrank.stages import mask_seen, target_ranks

RESULTS = Path(__file__).parent / "results"
_AT_ONCE = 64
_OF_READER = ("data", "model", "training")
"""Tables of settings that decide what the reader becomes."""


class CascadeStudy(LateStudy):
    """A study of a cascade beside its stages and the crowd."""

    def settings(self, over: dict[str, Any]) -> CascadeSettings:
        """Lay others over the common settings."""
        return cascade_settings(Preset.thinkrank, Layers(tables=[self.tables, over]))

    def arm(self, name: str, seed: int) -> CascadeSettings:
        """Return the settings with a seed, fitted to the data's size."""
        return RECIPE.sized(self.settings(self._over(name, seed)), self.split)

    def _over(self, name: str, seed: int) -> dict[str, Any]:
        tables = ("model", "training", "crowd", "cascade", "stages")
        over = {key: self.arms[name][key] for key in tables if key in self.arms[name]}
        over["training"] = {**over.get("training", {}), "seed": seed}
        over["stages"] = {**over.get("stages", {}), "seed": seed}
        return over

    def run_arm(self, name: str, seed: int) -> dict[str, Any]:
        """Train and judge an arm."""
        if name == "baselines":
            return super().run_arm(name, seed)
        settings = self.arm(name, seed)
        given = [
            {key: some[key] for key in _OF_READER if key in some} for some in (self.tables, self._over(name, seed))
        ]
        alone = retrieve_settings(Preset.thinkrank, Layers(tables=[*given, {"crowd": []}]))
        rows, reader = self.reader(retrieval.RECIPE.sized(alone, self.split), seed)
        started = time.perf_counter()
        systems = remembering(self.baselines(seed))
        parts = {**{name: systems[name] for name in settings.crowd}, READER: Remembered(reader)}
        built = {"cascade": self.built(settings, parts)}
        retriever = built["cascade"].stages["retrieve"]
        modes = {"retriever": retriever, "cascade": built["cascade"]}
        if {*settings.crowd} != {*systems}:  # else they are judged with the arm that leaves some out
            built["behind"] = self.built(settings, systems)
            modes |= {
                "reader": parts[READER],
                "ranker": RankerAlone(self.fitted_alone(settings, built["cascade"])),
                "baselines fused": built["behind"].stages["retrieve"],
                "baselines fused, ranker behind": built["behind"],
            }
        ranks = {mode: self.ranks(system) for mode, system in modes.items()}
        return {
            "about": self.arms[name]["about"],
            "seconds": rows[-1]["seconds"] + time.perf_counter() - started,
            "predictions": rows[-1]["examples"],
            "kept_step": kept_of(rows, settings.training.keep),
            "ranks": ranks,
            "stages": {mode: stage_table(one) for mode, one in built.items()},
            "weights": {mode: one.stages["rank"].weights for mode, one in built.items()},
        }

    def built(self, settings: CascadeSettings, parts: Mapping[str, Any]) -> Cascade:
        """Fuse retrievers, and build what stands behind."""
        fused = Fused(parts).fit(self.split)
        return Building(settings.stages, settings.cascade, self.split, fused, device="auto").built(self.progress)

    def fitted_alone(self, settings: CascadeSettings, cascade: Cascade) -> EvidenceRanker:
        """Learn the weights of a ranker, on the same lists, that is told nothing of what the retriever said."""
        samples = self.split.valid.subset(settings.stages.samples, settings.stages.seed)
        lists = lists_from_retriever(
            samples, cascade.stages["retrieve"], settings.cascade.candidates, filter_seen=not samples.dataset.repeats
        )
        candidates = replace(lists.candidates, numeric_BNF=None, numeric_names=())
        taken_L = lists.feedback().argmax(axis=1)
        return EvidenceRanker().fit(lists.requests, candidates, taken_L, Crowd.of(self.split), cascade.catalogue)


class RankerAlone:
    """Retriever that lets a ranker sort the whole catalogue, with nothing said of it before."""

    def __init__(self, ranker: Any) -> None:
        self.ranker = ranker

    def target_ranks(self, requests: Any, targets_B: np.ndarray) -> np.ndarray:
        """Return the places of the targets, what was seen left out."""
        everything, found = np.arange(len(self.ranker.catalogue), dtype=np.int32), []
        for part, batch in requests.batches(_AT_ONCE):
            answer = self.ranker.rank(batch, Candidates(np.tile(everything, (len(batch), 1))))
            scores_BI = mask_seen(answer.scores_given(len(everything)), batch.histories)
            found.append(target_ranks(scores_BI, targets_B[part]))
        return np.concatenate(found)


if __name__ == "__main__":
    from command import main

    main(__doc__, RESULTS, CascadeStudy)
