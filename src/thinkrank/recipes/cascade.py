"""A cascade's run: a retriever as `thinkrank train retrieve` makes it, then what sorts and writes behind it.

The retriever is trained in the run's own folder and resumes there. Later stages learn on the validation part, which no
part of the retriever has learnt from, and on lists of a retriever whose weights were fitted on other users; see
`thinkrank.cascade.crossfit`.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from thinkrank.cascade import Cascade, CascadeConfig
from thinkrank.cascade.options import STAGES
from thinkrank.data import Samples, Split
from thinkrank.errors import ThinkrankError
from thinkrank.evaluate import Evaluation, ResultRow
from thinkrank.evaluate.verdict import in_words, verdict
from thinkrank.pretrained import kind_of, load
from thinkrank.recipes import own, reporting, retrieval
from thinkrank.recipes.base import EvaluationOptions, Judged, OpenRun, Phase
from thinkrank.recipes.baselines import MOST_PAIRED_ITEMS
from thinkrank.recipes.cascade_story import with_story
from thinkrank.recipes.later_stages import BUILDING, Building, LaterStages
from thinkrank.recipes.layers import PRESET, Layers
from thinkrank.recipes.own import StageClass
from thinkrank.recipes.plan import straight
from thinkrank.recipes.presets import Preset
from thinkrank.recipes.reader import reader_of
from thinkrank.recipes.retrieval import RetrieveSettings
from thinkrank.report import Report
from thinkrank.stages.protocols import Configured, Retriever
from thinkrank.training import Progress, no_progress
from thinkrank.training.progress import Expected

logger = logging.getLogger(__name__)

CASCADE = "cascade"
THINKING = "cascade, thought first"
NOT_RERANKED = "cascade, without re-ranker"


class CascadeSettings(RetrieveSettings):
    """Hold everything that `thinkrank train cascade` can be told: a retriever's settings, and what stands behind it."""

    cascade: CascadeConfig = Field(CascadeConfig(), description="how the stages answer together")
    stages: LaterStages = Field(LaterStages(), description="what stands behind the retriever, and what it learns from")

    @property
    def stage_class(self) -> StageClass | None:
        """Return nothing: a class of your own takes one stage's place, and the cascade is ours."""
        return None


def cascade_settings(which: Preset, layers: Layers) -> CascadeSettings:
    """Lay settings over a preset of the retriever; see `Layers.over`."""

    def defaults(source: str | None) -> dict[str, Any]:
        whole = {"cascade": CascadeConfig().model_dump(), "stages": LaterStages().model_dump(exclude_none=True)}
        return {**retrieval.default_tables(which, source), **whole}

    settings = layers.over(CascadeSettings, defaults)
    settings.__dict__["given"] = settings.given | {f"{PRESET}{which}"}
    return settings


class CascadeRecipe(retrieval.RetrievalRecipe):
    """Train and judge a cascade."""

    stage: ClassVar[str] = "cascade"
    settings: ClassVar[type[RetrieveSettings]] = CascadeSettings

    def create(self, settings: RetrieveSettings, split: Split, *, device: str, progress: Progress = no_progress) -> Any:
        """Build an untrained R²ec, or the retriever of your own."""
        if settings.retriever is not None:
            return own.create(settings.retriever, "retrieve")
        return super().create(settings, split, device=device, progress=progress)

    def phases(self, settings: RetrieveSettings, split: Split) -> Sequence[Phase]:
        """Return the trainings of R²ec; what is of your own learns when they have ended."""
        return [] if settings.retriever is not None else super().phases(settings, split)

    def finishing(self, settings: RetrieveSettings, split: Split) -> Mapping[str, Expected]:
        """Estimate the fitting of the crowd's parts."""
        return {} if settings.retriever is not None else super().finishing(settings, split)

    def rehearsed(
        self, settings: RetrieveSettings, split: Split, retriever: Any, seconds: float
    ) -> tuple[Any, Mapping[str, Expected]]:
        """Build what stands behind a retriever on few samples, then on twice as many; networks are not foreseen."""
        assert isinstance(settings, CascadeSettings)  # noqa: S101 - the recipe's own
        stages, device = self._stages(settings, split), str(reader_of(retriever).backbone.device)
        if not len(split.valid) or stages.trains_networks:  # whose steps do not become fewer with the samples
            return Cascade(retriever, config=settings.cascade), {}
        built: list[Cascade] = []

        def build(samples: int) -> None:
            few = stages.model_copy(update={"samples": samples})
            built[:] = [Building(few, settings.cascade, split, retriever, device=device).built()]

        took = straight(build, min(stages.samples, len(split.valid)), seconds)
        return built[0], {BUILDING: Expected(3, took / 3)}

    def _stages(self, settings: CascadeSettings, split: Split) -> LaterStages:
        """Return the later stages that the catalogue allows."""
        stages, num_items = settings.stages, len(split.dataset.catalogue)
        if num_items > MOST_PAIRED_ITEMS and stages.rank == "evidence" and stages.ranker is None:
            logger.warning("%s items: evidence would hold a number for each pair, so there is no ranker", num_items)
            return stages.model_copy(update={"rank": "none"})
        return stages

    def completed(self, settings: RetrieveSettings, split: Split, model: Any, progress: Progress, folder: Path) -> Any:
        """Make the retriever whole, and build what stands behind it."""
        assert isinstance(settings, CascadeSettings)  # noqa: S101 - the recipe's own
        device = str(getattr(getattr(model, "backbone", None), "device", "auto"))
        if settings.retriever is None:
            retriever: Any = super().completed(settings, split, model, progress, folder)
        else:
            own.learn(settings.retriever, model, split, own.run_inside(folder, "retrieve", settings.retriever, split))
            retriever = model
        stages = self._stages(settings, split)
        if not len(split.valid):
            logger.warning(
                "%s: the validation part is empty, so nothing stands behind the retriever", split.dataset.name
            )
            return Cascade(retriever, config=settings.cascade)
        noun = settings.model.prompt.noun
        building = Building(stages, settings.cascade, split, retriever, device=device, noun=noun, folder=folder)
        return building.built(progress)

    def load(self, folder: Path, *, device: str) -> Any:
        """Load a cascade; classes of your own are those that the run's settings name."""
        if kind_of(folder) != Cascade.kind:
            return load(folder, device=device)
        settings = CascadeSettings.from_run(folder.parent)
        classes = (settings.retriever, settings.stages.ranker, settings.stages.reranker)
        stages = {
            verb: own.load(chosen, verb, folder / verb, device)
            for verb, chosen in zip(STAGES, classes, strict=True)
            if chosen is not None
        }
        return Cascade.from_pretrained(folder, device=device, stages=stages)

    def systems(
        self, settings: RetrieveSettings, split: Split, model: Any, options: EvaluationOptions, progress: Progress
    ) -> dict[str, Retriever]:
        """Return baselines, the retriever and its parts, the cascade, and it without its re-ranker if it has one."""
        alone = options.model_copy(update={"think": False})
        systems = super().systems(settings, split, model.stages["retrieve"], alone, progress)
        able = bool(model.thinking_stages)
        if options.think and not able:
            raise ThinkrankError("no stage of this run's cascade can think: leave --think out")
        if retrieval.FUSED in systems:  # its parts remember what they said
            model = Cascade(systems[retrieval.FUSED], *map(model.stages.get, STAGES[1:]), config=model.config)
        if "rerank" in model.stages and model.config.blend("rerank").own:
            shorter = Cascade(model.stages["retrieve"], model.stages.get("rank"), config=model.config)
            systems[NOT_RERANKED] = Configured(shorter, think=False) if shorter.thinking_stages else shorter
        systems[CASCADE] = Configured(model, think=False) if able else model
        if options.think:
            systems[THINKING] = Configured(model, think=True)
        return systems

    def verdict(self, settings: RetrieveSettings, evaluation: Evaluation) -> str:
        """Say in words how the cascade compares with everything else, then in figures."""
        ours = {CASCADE, THINKING, NOT_RERANKED}
        others = [name for name in evaluation.systems if name not in ours]
        told = in_words(evaluation, CASCADE, others, does=f"finds the next {settings.model.prompt.noun}")
        return f"{told}\n{verdict(evaluation, CASCADE, others)}"

    def rows(
        self, evaluation: Evaluation, questions: Samples, split: Split, part: str, seeds: Mapping[str, Sequence[int]]
    ) -> list[ResultRow]:
        """Return the rows of a retriever and, per system, what a cascade is judged by besides.

        That is the ceiling of whatever would stand behind the system, which is the share of samples whose true item is
        among its first hundred, and milliseconds and tokens per request.
        """
        rows, count = super().rows(evaluation, questions, split, part, seeds), len(evaluation.users_S)
        of = partial(ResultRow, dataset=split.dataset.name, split=part, low=None, high=None, n=count)
        for system, cost in evaluation.cost.items():
            ceiling = float(evaluation.values(system, f"hit@{evaluation.cutoffs[-1]}").mean())
            told = {"ceiling": ceiling, "milliseconds": 1000 * cost.seconds / count, "tokens": cost.tokens / count}
            seeds_of = tuple(seeds.get(system, ()))
            rows += [of(system=system, metric=metric, value=value, seeds=seeds_of) for metric, value in told.items()]
        return rows

    def report(self, opened: OpenRun, judged: Judged | None) -> Report:
        """Collect what a retriever's report has, of the cascade's retriever, and what each stage finds and costs."""
        report = reporting.retrieval_report(replace(opened, model=opened.model.stages["retrieve"]), judged)
        return report if judged is None else with_story(report, opened, judged)


RECIPE = CascadeRecipe()


def stage_table(cascade: Cascade) -> list[dict[str, Any]]:
    """Return a row for each stage: what it added on validation, and what it takes for one request.

    Columns are stage, class, candidates (that it is given), ceiling, ndcg_before, ndcg_after, error (of their
    difference), weight (of its own score), milliseconds, thinking_milliseconds and tokens; None where it is not known.
    """
    rows = []
    for verb, stage in cascade.stages.items():
        config = cascade.config
        gain = {str(name): one for name, one in config.gains.items()}.get(verb)
        cost, units = cascade.costs.known.get(verb), config.candidates if verb == "rank" else 1
        given = {"rank": config.candidates, "rerank": config.slate}.get(verb)
        row: dict[str, Any] = {"stage": verb, "class": type(stage).__name__, "candidates": given}
        row |= {
            "ceiling": None if gain is None else gain.ceiling,
            "ndcg_before": None if gain is None else gain.before,
            "ndcg_after": None if gain is None else gain.after,
            "error": None if gain is None else gain.error,
            "weight": None if verb == "retrieve" else config.blend(verb).own,
        }
        for name in ("milliseconds", "thinking_milliseconds", "tokens"):
            each = None if cost is None else getattr(cost, name)
            row[name] = None if each is None else each * units
        rows.append(row)
    return rows
