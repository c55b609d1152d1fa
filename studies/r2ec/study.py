"""Run one arm of a study with one seed, or all that are missing, and write what came out as JSON.

    python studies/r2ec/study.py studies/r2ec/movielens-100k.toml --arm recpo --seed 0

A study is a settings file of `thinkrank train retrieve` with two tables more. `[study]` says which seeds and how many
test samples; `[arms.NAME]` lays settings over the common ones and names its `phase`, recpo or contrastive. All arms of
a seed begin with the same warm start, which `[training]` describes. An arm with a table `warm_start` lays it over
`[training]` and has a warm start of its own; one with `retriever.class` trains that class instead. The arm `baselines`,
systems without a language model on the same samples, is always there. Trainings resume; an arm whose result file is
there is done.
"""

import sys
import time
from pathlib import Path
from typing import Any

from thinkrank.data import Samples, Split
from thinkrank.language import Backbone, load_backbone
from thinkrank.recipes import retrieval
from thinkrank.recipes.baselines import EASE_R, ITEM_KNN, POPULARITY, SASREC, fitted_baselines
from thinkrank.recipes.control import (
    SMALL,
    Budget,
    ControlWorld,
    declared_control,
    relay_settings,
    require_control,
    small_backbone,
)
from thinkrank.recipes.layers import Layers
from thinkrank.recipes.own import with_places
from thinkrank.recipes.presets import Preset
from thinkrank.recipes.retrieval import RetrieveSettings, retrieve_settings
from thinkrank.recipes.running import train
from thinkrank.recipes.studies import Study, kept_of, logged, shown_thoughts
from thinkrank.retrieve import R2ec, train_contrastive, train_recpo
from thinkrank.retrieve.r2ec.balance import NORMS
from thinkrank.retrieve.r2ec.contrastive import reading_facts
from thinkrank.retrieve.r2ec.controls import control_scores
from thinkrank.retrieve.r2ec.trainer import sample_ranks
from thinkrank.stages.order import mask_seen, target_ranks
from thinkrank.training import Run

RESULTS = Path(__file__).parent / "results"
CONTROLS = Path(__file__).parent / "controls"
RELAY = Path(__file__).parent / "relay.toml"
sys.path.append(str(Path(__file__).parents[1]))  # what studies share


class RetrievalStudy(Study):
    """A study of retrievers."""

    split: Split

    def settings(self, over: dict[str, Any]) -> RetrieveSettings:
        """Lay others over the common settings."""
        return retrieve_settings(Preset.thoughts, Layers(tables=[self.tables, over]))

    def arm(self, name: str, seed: int) -> RetrieveSettings:
        """Return an arm's settings with a seed."""
        arm = self.arms[name]
        over = {key: arm[key] for key in ("model", "training", "recpo", "retriever") if key in arm}
        if not over.get("model", {}).keys() <= {"thinker", "thought"}:
            raise SystemExit(f"arm {name}: all arms share the warm start's model; only thinker and thought may differ")
        if "warm_start" in arm:
            over["training"] = {**arm["warm_start"], **over.get("training", {})}
        phase = {"recpo": "recpo", "contrastive": "training"}[arm.get("phase", "contrastive")]
        over[phase] = {**over.get(phase, {}), "seed": seed}
        return self.settings(over)

    def samples(self) -> Samples:
        """Return what every arm is judged on: all test samples, or as many as the study says."""
        test, samples = self.split.test, self.options.get("samples")
        return test if samples is None else test.subset(samples, seed=0)

    def users(self) -> list[int]:
        """Tell whose each sample is."""
        return self.samples().users.tolist()

    def warm_start(self, arm: str, seed: int) -> tuple[R2ec, Run]:
        """Return the model that an arm begins with, trained if it is not there, and its training."""
        laid_over = self.arms[arm].get("warm_start")
        settings = self.settings({"training": {**(laid_over or {}), "seed": seed}})
        catalogue = self.split.dataset.catalogue
        return self.trained(
            f"warm_{arm}-{seed}" if laid_over else f"warm-{seed}",
            settings,
            create=lambda: R2ec.create(settings.model, catalogue, backbone=self.backbone(), seed=seed),
            learn=lambda model, run: train_contrastive(
                model, self.split, settings.training, run, progress=self.progress
            ),
            load=lambda folder: R2ec.from_pretrained(folder, backbone=self.backbone()),
            seed=seed,
        )

    def backbone(self) -> Backbone:
        """Load the base model; for `small` a language model of the study's own, trained if it is not there."""
        model = self.settings({}).model
        if model.backbone != SMALL:
            return load_backbone(model.backbone, dtype=model.dtype)
        return small_backbone(self.folder / SMALL, self.split, self.settings({}), self.progress)

    def control(self, name: str, settings: RetrieveSettings) -> dict[str, Any]:
        """Try the budget of an arm that trains thoughts in the relay world; nothing for others, and in that world.

        Where the study says that its control is `open`, the result has none: control.py tries the budget apart.
        """
        recpo = settings.recpo
        if declared_control(self.arms[name], self.options) == "open":
            return {}
        if self.arms[name]["phase"] != "recpo" or not recpo.token_weight or settings.model.backbone == SMALL:
            return {}
        world = ControlWorld(relay_settings(RELAY), self.folder.parent / "control", progress=self.progress)
        budget = Budget.of(settings.training, recpo, window=settings.model.prompt.history_window)
        outcome = require_control(budget, world, CONTROLS, declared=declared_control(self.arms[name], self.options))
        return {"control": {"budget": budget.fingerprint, "before": outcome.before, "after": outcome.after}}

    def train_arm(self, name: str, seed: int) -> tuple[R2ec, Run, Run]:
        """Train an arm of R²ec from its warm start; return the model, its training and the warm start's."""
        settings = self.arm(name, seed)
        model, before = self.warm_start(name, seed)
        model.config = settings.model
        run = self.run(f"{name}-{seed}", settings)
        if self.arms[name]["phase"] == "recpo":
            train_recpo(model, self.split, settings.recpo, run, progress=self.progress)
        else:
            train_contrastive(model, self.split, settings.training, run, progress=self.progress)
        return model, run, before

    def run_arm(self, name: str, seed: int) -> dict[str, Any]:
        """Train and judge an arm."""
        started = time.perf_counter()
        if name == "baselines":
            names = (POPULARITY, ITEM_KNN, EASE_R, SASREC)
            fitted = fitted_baselines(self.split, names, seed=seed, progress=self.progress)
            ranks = {system: self.ranks(model) for system, model in fitted.items()}
            about = "systems without a language model"
            seedless = [name for name in names if name != SASREC]
            return {"about": about, "seconds": time.perf_counter() - started, "ranks": ranks, "seedless": seedless}
        arm, settings = self.arms[name], self.arm(name, seed)
        if settings.retriever is not None:
            folder = self.folder / f"{name}-{seed}"
            _, model = train(retrieval.RECIPE, settings, folder, split=self.split, progress=self.progress)
            ranks = {"answer": self.ranks(with_places(model, len(self.split.dataset.catalogue)))}
            return {"about": arm["about"], "seconds": time.perf_counter() - started, "ranks": ranks}
        control = self.control(name, settings)
        model, run, before = self.train_arm(name, seed)
        rows = run.metrics()
        rewards = ("step", "reward", "thought_tokens", "tied_share", "own_entropy")
        return {
            "about": arm["about"],
            "seconds": rows[-1]["seconds"],
            "kept_step": kept_of(rows, (settings.recpo if arm["phase"] == "recpo" else settings.training).keep),
            **control,
            "warm_start": reading_facts(before.metrics()),
            "pulls": logged(rows, "others_norm", ("step", "token_factor", "token_cosine", *NORMS)),
            "validations": logged(rows, "valid", ("step", "seconds"), prefix="valid"),
            "rewards": logged(rows, "reward", rewards),
            "ranks": self.judge(model, thinks=arm.get("thinks", True), controls=arm.get("controls", False)),
            "thoughts": shown_thoughts(rows) if self.options.get("keep_thoughts", True) else {},
        }

    def ranks(self, retriever: Any) -> list[int]:
        """Return the places of the test targets."""
        samples = self.samples()
        return retriever.target_ranks(samples.requests(), samples.targets).tolist()

    def judge(self, model: R2ec, *, thinks: bool, controls: bool) -> dict[str, Any]:
        """Return ranks of the test targets: without a thought, after the model's own, and after each control.

        An empty thought is no thought, token for token, so that control is the answer without one.
        """
        samples = self.samples()
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


if __name__ == "__main__":
    from command import main

    main(__doc__, RESULTS, RetrievalStudy)
