"""Run one arm of a study with one seed, or all that are missing, and write what came out as JSON.

    python studies/r2ec/study.py studies/r2ec/movielens-100k.toml --arm recpo --seed 0

A study is a settings file of `thinkrank train retrieve` with two tables more. `[study]` says which seeds and how many
test samples; `[arms.NAME]` lays settings over the common ones and names its `phase`, recpo or contrastive. All arms of
a seed begin with the same warm start, which `[training]` describes; with `shared_warm_start` all seeds do. An arm with
a table `warm_start` lays it over `[training]` and has a warm start of its own. The arm `baselines`, systems without a
language model on the same samples, is always there. Trainings resume; an arm whose result file is there is done.
"""

import sys
import time
import tomllib
from pathlib import Path
from typing import Any

from thinkrank.data import Split
from thinkrank.language import Backbone, load_backbone
from thinkrank.recipes.presets import Preset
from thinkrank.recipes.settings import Layers, RetrieveSettings, retrieve_settings
from thinkrank.retrieve import EASE, ItemKNN, Popularity, R2ec, SASRec, SasrecOptions, train_contrastive, train_recpo
from thinkrank.retrieve.r2ec.controls import control_scores
from thinkrank.retrieve.r2ec.trainer import sample_ranks
from thinkrank.stages.order import mask_seen, target_ranks
from thinkrank.training import Run, console_progress

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results"
sys.path.append(str(ROOT / "studies"))  # what studies share


class Study:
    """A study's file, its data, and where its runs are."""

    always = ("baselines",)

    def __init__(self, path: Path, runs: Path, data: str | None) -> None:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        if data is not None:
            tables["data"]["path"] = data
        self.name, self.path, self.folder = path.stem, path, runs / path.stem
        self.options: dict[str, Any] = tables.pop("study")
        self.arms: dict[str, dict[str, Any]] = tables.pop("arms")
        self.tables = tables
        self.common = self.settings({})
        self.split: Split = self.common.data.load_split()

    def settings(self, over: dict[str, Any]) -> RetrieveSettings:
        """The common settings with an arm's laid over them."""
        return retrieve_settings(Preset.thinkrank, Layers(tables=[self.tables, over]))

    def arm(self, name: str, seed: int) -> RetrieveSettings:
        """An arm's settings with a seed."""
        arm = self.arms[name]
        over = {key: arm[key] for key in ("model", "training", "recpo") if key in arm}
        if not over.get("model", {}).keys() <= {"thinker", "thought"}:
            raise SystemExit(f"arm {name}: all arms share the warm start's model; only thinker and thought may differ")
        if "warm_start" in arm:
            over["training"] = {**arm["warm_start"], **over.get("training", {})}
        phase = {"recpo": "recpo", "contrastive": "training"}[arm["phase"]]
        over[phase] = {**over.get(phase, {}), "seed": seed}
        return self.settings(over)

    def warm_start(self, arm: str, seed: int) -> Path:
        """The folder of the model that an arm begins with, trained if it is not there."""
        seed = self.options["seeds"][0] if self.options.get("shared_warm_start") else seed
        own = self.arms[arm].get("warm_start")
        folder = self.folder / (f"warm_{arm}-{seed}" if own else f"warm-{seed}")
        if (folder / "model" / "config.json").is_file():
            return folder / "model"
        settings = self.settings({"training": {**(own or {}), "seed": seed}})
        model = R2ec.create(settings.model, self.split.dataset.catalogue, backbone=self.backbone(), seed=seed)
        run = Run(folder, settings.model_dump(mode="json"), {"split": self.split.manifest(), "seed": seed})
        train_contrastive(model, self.split, settings.training, run, progress=console_progress)
        model.save_pretrained(folder / "model")
        return folder / "model"

    def backbone(self) -> Backbone:
        """The base model; for `small` a language model of the study's own, trained if it is not there."""
        model = self.common.model
        if model.backbone != "small":
            return load_backbone(model.backbone, dtype=model.dtype)
        folder = self.folder / "small"
        if not (folder / "config.json").is_file():
            from chains import Chains
            from small_language_model import write_small_language_model

            catalogue, histories = self.split.dataset.catalogue, self.split.train.histories()

            def texts(backbone: Backbone) -> Chains:
                return Chains(backbone, catalogue, histories, model.prompt)

            write_small_language_model(folder, catalogue, texts, console_progress)
        return load_backbone(str(folder), dtype=model.dtype)


def train(study: Study, arm: str, seed: int) -> tuple[R2ec, Run]:
    settings, phase = study.arm(arm, seed), study.arms[arm]["phase"]
    model = R2ec.from_pretrained(study.warm_start(arm, seed), backbone=study.backbone())
    model.config = settings.model
    run = Run(study.folder / f"{arm}-{seed}", settings.model_dump(mode="json"), {"split": study.split.manifest()})
    if phase == "recpo":
        train_recpo(model, study.split, settings.recpo, run, progress=console_progress)
    else:
        train_contrastive(model, study.split, settings.training, run, progress=console_progress)
    return model, run


def judge(study: Study, model: R2ec, *, thinks: bool, controls: bool) -> dict[str, Any]:
    """Ranks of the test targets: without a thought, after the model's own, and after each control.

    An empty thought is no thought, token for token, so that control is the answer without one.
    """
    samples = study.split.test.subset(study.options["samples"], seed=0)
    histories = samples.histories()
    found: dict[str, Any] = {"no thought": sample_ranks(model, samples).tolist()}
    if thinks:
        thoughts = model.think(histories)
        found["thought"] = sample_ranks(model, samples, thoughts).tolist()
        found["thought_tokens"] = [len(thought.ids) for thought in thoughts]
        for control in ("other", "filler") if controls else ():
            scores = mask_seen(control_scores(model, histories, thoughts, control), histories)
            found[control] = target_ranks(scores, samples.targets).tolist()
    return found


def judge_baselines(study: Study, seed: int) -> dict[str, Any]:
    """The same samples ranked by what knows ids only."""
    started, samples = time.perf_counter(), study.split.test.subset(study.options["samples"], seed=0)
    fitted = {
        "popularity": Popularity().fit(study.split),
        "item-kNN": ItemKNN().fit(study.split),
        "EASE": EASE().fit(study.split),
        "SASRec": SASRec(SasrecOptions(seed=seed)).fit(study.split, progress=console_progress),
    }
    histories = samples.histories()
    ranks = {
        name: target_ranks(mask_seen(model.scores(histories), histories), samples.targets).tolist()
        for name, model in fitted.items()
    }
    about = "systems without a language model"
    return {"about": about, "seconds": time.perf_counter() - started, "ranks": ranks}


def run_arm(study: Study, arm: str, seed: int) -> dict[str, Any]:
    if arm == "baselines":
        return judge_baselines(study, seed)
    model, run = train(study, arm, seed)
    rows = run.metrics()
    keeps = study.options.get("keep_thoughts", True)
    shown = [row for row in rows if "thoughts" in row] if keeps else []
    return {
        "about": study.arms[arm]["about"],
        "seconds": rows[-1]["seconds"],
        "validations": [
            {key: row[key] for key in row if key in ("step", "seconds") or key.startswith("valid")}
            for row in rows
            if any(key.startswith("valid") for key in row)
        ],
        "rewards": [
            {key: row[key] for key in ("step", "reward", "thought_tokens", "tied_share", "own_entropy")}
            for row in rows
            if "reward" in row
        ],
        "ranks": judge(
            study,
            model,
            thinks=study.arms[arm].get("thinks", True),
            controls=study.arms[arm].get("controls", False),
        ),
        "thoughts": {"before": shown[0]["thoughts"], "after": shown[-1]["thoughts"]} if len(shown) > 1 else {},
    }


if __name__ == "__main__":
    from command import main

    main(__doc__, RESULTS, Study, run_arm)
