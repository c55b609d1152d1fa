"""A positive control of RecPO: can this budget learn anything at all?

In the relay world (`thinkrank.data.RelayWorld`) one kind of thought leads to the answer, and RecPO finds it when it is
given enough batches at a high enough rate, after a warm start that read enough answers behind thoughts. A budget that
does not find it there says nothing about thoughts anywhere else. So a study's budget is run there first, with the very
same numbers, once; what came out is kept beside the study under the budget's fingerprint.

That a budget passes is no promise for other data: the relay world's model is small and its reward sharp.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from thinkrank._files import atomic_write
from thinkrank.data import Split
from thinkrank.errors import ThinkrankError
from thinkrank.language import Backbone, load_backbone
from thinkrank.options import Options
from thinkrank.pretrained import is_saved
from thinkrank.recipes.chains import Chains
from thinkrank.recipes.layers import Layers, read_toml
from thinkrank.recipes.presets import Preset
from thinkrank.recipes.retrieval import RetrieveSettings, retrieve_settings
from thinkrank.recipes.small_language_model import write_small_language_model
from thinkrank.retrieve import ContrastiveOptions, R2ec, RecpoOptions, train_contrastive, train_recpo
from thinkrank.retrieve.r2ec.trainer import sample_ranks
from thinkrank.training import Progress, UnsavedRun, no_progress

PASSED = 0.95
"""NDCG@10 after the thought that a budget must reach in the relay world; before reinforcement it is about .76."""

SMALL = "small"
"""Name of the relay world's own language model in its settings."""

_TAKEN = (
    "steps", "learning_rate", "warmup_steps", "schedule", "weight_decay", "grad_clip", "head_learning_rate",
    "users", "group_size", "ndcg_k", "beta", "advantages", "advantage_epsilon", "credit", "updates", "normalisation",
    "ratio_level", "clip_low", "clip_high", "importance_weights", "weight_cap", "kl_coefficient",
    "entropy_coefficient", "token_weight", "token_balance", "measure_every", "item_weight", "item_floor", "candidates",
    "memory", "selection", "selection_k", "selection_floor",
)  # fmt: skip
"""Settings of RecPO that are a budget's; the others say what is read, watched and saved, or suit the data."""

_ADDED = ("fused_weight", "gain_weight", "gain_limit", "marginal_weight", "targets", "item_marginal", "behind")
"""Settings that are a budget's too where they are not as they were before there were any."""


class Budget(Options):
    """Hold what decides whether RecPO can learn, whatever the data.

    Raises:
        ThinkrankError: if the options name no batches.
    """

    readings: int = Field(description="answers behind a thought that the warm start reads")
    after_thought_share: float = Field(description="share of the warm start's item loss that these carry")
    temperature: float = Field(description="temperature of the rollouts")
    recpo: dict[str, Any] = Field(description="settings of RecPO")

    @classmethod
    def of(cls, training: ContrastiveOptions, recpo: RecpoOptions, *, window: int) -> "Budget":
        """Take the budget out of a run's settings.

        Args:
            training: of the warm start.
            recpo: of the reinforcement.
            window: lines a prompt shows, behind which closings stand.
        """
        return cls(
            readings=training.expected_readings(window),
            after_thought_share=training.after_thought_share,
            temperature=recpo.rollout.temperature,
            recpo={
                **recpo.model_dump(mode="json", include=set(_TAKEN)),
                **recpo.model_dump(mode="json", include=set(_ADDED), exclude_defaults=True),
            },
        )

    @property
    def fingerprint(self) -> str:
        """Return a short name that equal budgets share."""
        plain = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(plain.encode()).hexdigest()[:12]

    def __str__(self) -> str:
        """Say the numbers that matter most."""
        told = self.recpo
        batches = f"{told['steps']} batches of {told['users']} x {told['group_size']} at {told['learning_rate']:g}"
        return f"{batches} after {self.readings:,} readings"


class Outcome(Options):
    """Hold what a budget came to in the relay world."""

    budget: Budget = Field(description="what was tried")
    before: float = Field(description="NDCG@10 after the warm start's thought")
    after: float = Field(description="NDCG@10 after the thought that RecPO trained")

    @property
    def passed(self) -> bool:
        """Tell whether the budget can learn the relay world."""
        return self.after >= PASSED


class ControlWorld:
    """A relay world with its language model and warm starts, each trained once and kept in a folder.

    Args:
        settings: of a run in the relay world, such as those of studies/r2ec/relay.toml.
        folder: what was trained is kept there.
        samples: of the test part that are judged on.
        language: arguments of `write_small_language_model`.
        progress: how to show the work.
    """

    def __init__(
        self,
        settings: RetrieveSettings,
        folder: Path,
        *,
        samples: int = 500,
        language: dict[str, Any] | None = None,
        progress: Progress = no_progress,
    ) -> None:
        self.settings, self.folder, self.progress = settings, folder, progress
        self.split: Split = settings.data.load_split()
        self.samples = self.split.test.subset(samples, seed=0)
        self._language = language or {}

    def backbone(self) -> Backbone:
        """Load the world's language model, trained if it is not there."""
        return small_backbone(self.folder / SMALL, self.split, self.settings, self.progress, **self._language)

    def warm_start(self, budget: Budget) -> R2ec:
        """Load the model that read as many answers behind thoughts as the budget's warm start, or all there are."""
        training = self.settings.training
        share = round(min(1.0, budget.readings / training.sequences), 2)
        folder = self.folder / f"warm-{share:g}-{budget.after_thought_share}"
        if not is_saved(folder):
            model = R2ec.create(self.settings.model, self.split.dataset.catalogue, backbone=self.backbone())
            update = {"thought_share": share, "after_thought_share": budget.after_thought_share}
            options = training.model_copy(update=update)
            train_contrastive(model, self.split, options, UnsavedRun(), progress=self.progress)
            model.save_pretrained(folder)
        return R2ec.from_pretrained(folder, backbone=self.backbone())

    def run(self, budget: Budget) -> Outcome:
        """Reinforce the warm start with a budget and judge it before and after."""
        model, own = self.warm_start(budget), self.settings.recpo
        before = self._judge(model)
        rollout = own.rollout.model_copy(update={"temperature": budget.temperature})
        unwatched = {"validate_every": budget.recpo["steps"] + 1, "validation_samples": 1}
        recpo = RecpoOptions.model_validate({**own.model_dump(), **budget.recpo, **unwatched, "rollout": rollout})
        train_recpo(model, self.split, recpo, UnsavedRun(), progress=self.progress)
        return Outcome(budget=budget, before=before, after=self._judge(model))

    def _judge(self, model: R2ec) -> float:
        ranks = sample_ranks(model, self.samples, model.think(self.samples.histories()))
        return float(np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0.0).mean())


def relay_settings(file: Path) -> RetrieveSettings:
    """Read the common settings of the relay study: what controls are run with."""
    tables = {name: table for name, table in read_toml(file).items() if name not in ("study", "arms")}
    return retrieve_settings(Preset.thoughts, Layers(tables=[tables]))


def study_budgets(file: Path) -> dict[str, tuple[Budget, str]]:
    """Read the budgets of a study's arms that train thoughts, and what its settings say of their control, by arm."""
    tables = read_toml(file)
    study, arms = tables.pop("study", {}), tables.pop("arms", {})
    found = {}
    for name, arm in arms.items():
        over = {key: arm[key] for key in ("model", "recpo") if key in arm} | {"training": arm.get("warm_start", {})}
        run = retrieve_settings(Preset.thoughts, Layers(tables=[tables, over]))
        if arm.get("phase") == "recpo" and run.recpo.token_weight:
            budget = Budget.of(run.training, run.recpo, window=run.model.prompt.history_window)
            found[name] = (budget, declared_control(arm, study))
    return found


def declared_control(arm: Mapping[str, Any], study: Mapping[str, Any]) -> str:
    """Return what an arm, or else its study, says of its control."""
    return str(arm.get("control", study.get("control", "passed")))


def small_backbone(
    folder: Path, split: Split, settings: RetrieveSettings, progress: Progress, **language: Any
) -> Backbone:
    """Load a relay world's language model, which can follow links, trained if the folder does not hold it."""
    if not is_saved(folder):
        catalogue, histories = split.dataset.catalogue, split.train.histories()
        write_small_language_model(
            folder,
            catalogue,
            lambda backbone: Chains(backbone, catalogue, histories, settings.model.prompt),
            progress,
            **language,
        )
    return load_backbone(str(folder), dtype=settings.model.dtype)


def require_control(budget: Budget, world: ControlWorld, outcomes: Path, *, declared: str = "passed") -> Outcome:
    """Run a budget's control, unless its outcome is kept already, and refuse a budget that cannot learn.

    Args:
        budget: of a study's arm.
        world: where it is tried.
        outcomes: folder of kept outcomes, one file per budget.
        declared: what the study's settings say of the control; with `failed` a budget may fail, and only then.

    Raises:
        ThinkrankError: if the budget fails and the settings do not say so.
    """
    file = outcomes / f"{budget.fingerprint}.json"
    if file.is_file():
        outcome = Outcome.model_validate_json(file.read_text(encoding="utf-8"))
    else:
        outcome = world.run(budget)
        with atomic_write(file) as out:
            out.write((outcome.model_dump_json(indent=1) + "\n").encode())
    if not outcome.passed and declared != "failed":
        raise ThinkrankError(
            f"this budget cannot learn the relay world: {budget} end at NDCG@10 {outcome.after:.3f} there, not "
            f'{PASSED}. Give it more, or say control = "failed" in the study\'s table of settings'
        )
    return outcome
