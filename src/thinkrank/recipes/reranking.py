"""A re-ranker's run: EGLR's evaluator, the generator's warm start, its reinforcement; judged on displayed lists."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, model_validator

from thinkrank.data import ImpressionDataset, ImpressionSplit
from thinkrank.errors import ThinkrankError
from thinkrank.evaluate import RerankingEvaluation, ResultRow, evaluate_reranking
from thinkrank.evaluate.verdict import in_words, verdict
from thinkrank.recipes import reporting
from thinkrank.recipes.base import (
    EvaluationOptions,
    Judged,
    OpenRun,
    Phase,
    Validation,
    refuse_retrieval_options,
)
from thinkrank.recipes.data import LIST_DEFAULTS, ListDataSettings
from thinkrank.recipes.kept import kept_step, kept_value
from thinkrank.recipes.layers import Layers, TrainingSettings, defaults_of, merge
from thinkrank.recipes.own import StageClass
from thinkrank.recipes.synthetic_world import expected_click_rows
from thinkrank.recipes.writers import kept_weights
from thinkrank.report import Report
from thinkrank.rerank import (
    EGLR,
    EGLRConfig,
    EvaluatorTrainerOptions,
    ExpertOptions,
    GrpoOptions,
    InitialOrder,
    WarmStartOptions,
    train_eglr,
)
from thinkrank.stages.protocols import Configured, Reranker
from thinkrank.training import Progress, Run, no_progress
from thinkrank.training.progress import Expected

DISPLAYED = "displayed order"
PHASES = {
    "evaluator": "Evaluator",
    "warm_start": "Warm start",
    "expert": "Expert iteration",
    "grpo": reporting.REINFORCEMENT,
}
"""Trainings by their tables of settings, in order, and what reports call them."""


class RerankSettings(TrainingSettings):
    """Hold everything that `thinkrank train rerank` can be told."""

    data: ListDataSettings
    model: EGLRConfig = EGLRConfig()
    evaluator: EvaluatorTrainerOptions = EvaluatorTrainerOptions()
    warm_start: WarmStartOptions = WarmStartOptions()
    expert: ExpertOptions = ExpertOptions()
    grpo: GrpoOptions = GrpoOptions()
    reranker: StageClass | None = Field(None, description="a re-ranker of your own in the place of EGLR")

    @property
    def stage_class(self) -> StageClass | None:
        """Return the class that takes EGLR's place."""
        return self.reranker

    @model_validator(mode="after")
    def _has_a_threshold(self) -> "RerankSettings":
        if self.model.reasoning.lacks_threshold and not (self.grpo.steps or self.expert.steps):
            raise ValueError(
                "grpo.steps is 0, and without reinforcement or expert.steps nothing sets the threshold of the gate: "
                "give model.reasoning.threshold, or set model.reasoning.mode to none"
            )
        return self


def rerank_settings(layers: Layers) -> RerankSettings:
    """Lay settings over the defaults; see `Layers.over`."""

    def defaults(source: str | None) -> dict[str, Any]:
        tables = defaults_of(RerankSettings)
        merge(tables, LIST_DEFAULTS.get(source or ListDataSettings().source, {}))
        return tables

    return layers.over(RerankSettings, defaults)


class RerankingRecipe:
    """Train and judge a re-ranker."""

    stage: ClassVar[str] = "rerank"
    settings: ClassVar[type[RerankSettings]] = RerankSettings
    references: ClassVar[tuple[str, ...]] = (DISPLAYED,)

    def samples(self, settings: Any) -> int | None:
        """Judge on all lists."""
        return None

    def seed(self, settings: RerankSettings) -> int:
        """Return the seed of the reinforcement."""
        return settings.grpo.seed

    def sized(self, settings: Any, split: Any) -> Any:
        """Return the settings as they are: defaults do not depend on the data's size."""
        return settings

    def completed(self, settings: Any, split: Any, model: Any, progress: Progress, folder: Path) -> Any:
        """Return the trained model: it answers alone."""
        return model

    def finishing(self, settings: Any, split: Any) -> Mapping[str, Expected]:
        """Return nothing: the trained model answers as it is."""
        return {}

    def ending(
        self, settings: Any, split: Any, model: Any, judging: EvaluationOptions | None, seconds: float
    ) -> Mapping[str, Expected]:
        """Return nothing: the trained model answers as it is, and its judging is not foreseen."""
        return {}

    def create(
        self, settings: RerankSettings, split: ImpressionSplit, *, device: str, progress: Progress = no_progress
    ) -> EGLR:
        """Build an untrained EGLR."""
        return EGLR.create(settings.model, split.train, seed=settings.warm_start.seed, device=device)

    def load(self, folder: Path, *, device: str) -> EGLR:
        """Load an EGLR."""
        return EGLR.from_pretrained(folder, device=device)

    def phases(self, settings: RerankSettings, split: ImpressionSplit) -> Sequence[Phase]:
        """Return the trainings that have steps; each resumes in a folder of its own."""

        def phase(name: str) -> Phase:
            options = getattr(settings, name)

            def learn(model: EGLR, run: Run, progress: Progress) -> None:
                train_eglr(model, split, options, run, progress=progress)

            return Phase(PHASES[name], options, learn, folder=name.replace("_", "-"))

        return [phase(name) for name in PHASES if getattr(settings, name).steps]

    def validations(self, settings: RerankSettings, logs: Mapping[str, list[dict[str, Any]]]) -> list[Validation]:
        """Tell the kept one of the reinforcement."""
        grpo, rows = settings.grpo, logs.get(PHASES["grpo"], [])
        key = f"valid_ndcg@{grpo.length}"
        step = kept_step(rows, key, grpo.keep)
        about = f"{grpo.keep} validation NDCG@{grpo.length}"
        if step is not None:
            about += f", {kept_weights(step)}"
        return [Validation(key, kept_value(rows, key, grpo.keep), about)]

    def questions(
        self, settings: RerankSettings, split: ImpressionSplit, options: EvaluationOptions
    ) -> ImpressionDataset:
        """Draw lists of a part."""
        refuse_retrieval_options(options)
        if options.thoughts > 1 or options.controls:
            raise ThinkrankError("a re-ranker writes no thoughts, so neither several of them nor controls of them")
        if options.sasrec:
            raise ThinkrankError("SASRec predicts the next item of a history and cannot order displayed lists")
        part = options.part
        lists = split.test if part == "test" else split.valid
        if not len(lists):
            raise ThinkrankError(
                f"{lists.name}: the {part} part holds no list: raise data.{part}_share, or give more lists"
            )
        if options.samples is None or len(lists) <= options.samples:
            return lists
        random = np.random.default_rng(options.seed)
        return lists.subset(np.sort(random.choice(len(lists), options.samples, replace=False)))

    def systems(
        self,
        settings: RerankSettings,
        split: ImpressionSplit,
        model: Any,
        options: EvaluationOptions,
        progress: Progress,
    ) -> dict[str, Reranker]:
        """Return the displayed order and the model: without thinking, as it is, and the evaluator's best of several."""
        systems: dict[str, Reranker] = {DISPLAYED: InitialOrder()}
        if settings.reranker is not None:
            return {**systems, settings.reranker.title: model}
        reasoning, best_of = model.config.reasoning, options.best_of
        if reasoning.mode != "none":
            unthinking = reasoning.model_copy(update={"mode": "none"})
            systems["EGLR, no thinking"] = Configured(model, reasoning=unthinking)
        systems["EGLR"] = model
        if best_of > 1 and model.report is not None:
            systems[f"EGLR, the evaluator's best of {best_of}"] = best_of_several(model, settings, best_of)
        return systems

    def judge(
        self,
        systems: Mapping[str, Reranker],
        questions: ImpressionDataset,
        options: EvaluationOptions,
        progress: Progress,
    ) -> RerankingEvaluation:
        """Read the feedback along every system's order."""
        return evaluate_reranking(systems, questions, progress=progress)

    def verdict(self, settings: RerankSettings, evaluation: RerankingEvaluation) -> str:
        """Say in words how the run's own lists compare with the displayed ones by what was clicked there."""
        own = settings.reranker.title if settings.reranker else "EGLR"
        metric = f"ndcg@{max(evaluation.cutoffs)}"
        told = in_words(evaluation, own, [DISPLAYED], metric, does="places what was clicked")
        return f"{told}\n{verdict(evaluation, own, [DISPLAYED], metric)}"

    def rows(
        self,
        evaluation: RerankingEvaluation,
        questions: ImpressionDataset,
        split: ImpressionSplit,
        part: str,
        seeds: Mapping[str, Sequence[int]],
    ) -> list[ResultRow]:
        """Return NDCG, MAP, hits and the like and, of a synthetic world, the clicks to expect."""
        return [
            *evaluation.rows(dataset=questions.name, split=part, seeds=seeds),
            *expected_click_rows(evaluation, questions, part, seeds),
        ]

    def report(self, opened: OpenRun, judged: Judged | None) -> Report:
        """Collect curves, the evaluator's report, some lists and, where it was judged, figures."""
        return reporting.reranking_report(opened, judged)


def best_of_several(model: EGLR, settings: RerankSettings, samples: int, **options: Any) -> Configured:
    """Have several lists written for each request, of which the evaluator picks one by what it rewarded in training."""
    grpo = settings.grpo
    return Configured(model, samples=samples, reward=grpo.reward, places=grpo.length, **options)


RECIPE = RerankingRecipe()
