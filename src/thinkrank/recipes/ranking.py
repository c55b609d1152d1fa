"""A ranker's run: traces by a teacher, R2Rank's cold start on them, the reward of lists; judged on candidate sets."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from thinkrank.data import Catalogue, Samples, Split
from thinkrank.data.candidate_lists import read_candidate_lists
from thinkrank.data.candidates import CandidateSets, candidate_sets
from thinkrank.data.popularity import with_popularity
from thinkrank.errors import ThinkrankError
from thinkrank.evaluate import (
    Evaluation,
    ResultRow,
    bucket_rows,
    evaluate_ranking,
    history_buckets,
    popularity_buckets,
    random_scores,
)
from thinkrank.evaluate.verdict import in_words, verdict
from thinkrank.evidence import Crowd
from thinkrank.language import encode_text
from thinkrank.options import Options
from thinkrank.prompts.fields import check_fields, line_columns
from thinkrank.prompts.options import PairPromptOptions
from thinkrank.rank import ColdStartOptions, R2Rank, R2RankConfig, ReinforceOptions, train_cold_start, train_reinforce
from thinkrank.rank.r2rank.groups import TrainingGroup, TrainingGroups, with_traces
from thinkrank.recipes import reporting
from thinkrank.recipes.base import (
    THINKING_SAMPLES,
    EvaluationOptions,
    Judged,
    OpenRun,
    Phase,
    Validation,
    drawn_samples,
    refuse_retrieval_options,
)
from thinkrank.recipes.baselines import REFERENCES, SASREC, fitted_baselines
from thinkrank.recipes.data import LINES, NOUNS, CandidateSettings, DataSettings, origin
from thinkrank.recipes.kept import kept_value
from thinkrank.recipes.layers import Layers, TrainingSettings, defaults_of
from thinkrank.recipes.own import StageClass
from thinkrank.recipes.thinking import thinking_systems
from thinkrank.report import Report
from thinkrank.stages.protocols import Ranker
from thinkrank.teachers import (
    JsonlTeacher,
    Pair,
    ReflectOptions,
    RuleOptions,
    RuleTeacher,
    TraceCounts,
    read_traces,
    write_traces,
)
from thinkrank.teachers.attributes import reasoned_columns
from thinkrank.training import Progress, Run, no_progress
from thinkrank.training.progress import Expected
from thinkrank.training.rehearsal import Rehearsal

RANDOM = "random"
_BATCH = 16

logger = logging.getLogger(__name__)


class TraceSettings(Options):
    """Say where the traces of a cold start come from."""

    lists: int = Field(800, ge=0, description="training lists whose pairs the teacher reasons about")
    path: str | None = Field(
        None, description="JSONL file of verdicts by another teacher; rules write them without one"
    )
    reflect: bool = Field(
        True, description="keep only verdicts that agree with the label, after reflection; without, every first answer"
    )


class RankSettings(TrainingSettings):
    """Hold everything that `thinkrank train rank` can be told."""

    data: DataSettings
    model: R2RankConfig
    traces: TraceSettings = TraceSettings()
    cold_start: ColdStartOptions = ColdStartOptions()
    reinforce: ReinforceOptions = ReinforceOptions()
    candidates: CandidateSettings = CandidateSettings()
    ranker: StageClass | None = Field(None, description="a ranker of your own in the place of R2Rank")

    @property
    def stage_class(self) -> StageClass | None:
        """Return the class that takes R2Rank's place."""
        return self.ranker

    def with_traces(self, lists: int) -> "RankSettings":
        """Return the settings with traces of at most so many lists."""
        traces = self.traces.model_copy(update={"lists": min(lists, self.traces.lists)})
        return self.model_copy(update={"traces": traces})


def rank_settings(layers: Layers) -> RankSettings:
    """Lay settings over the defaults; see `Layers.over`."""

    def defaults(source: str | None) -> dict[str, Any]:
        kind = origin(source)
        shown = PairPromptOptions(noun=NOUNS.get(kind, "item"), line=LINES.get(kind, "{title}"))
        model = R2RankConfig(prompt=shown).model_dump()
        for name in ("item_fields", *(() if kind in NOUNS else ("line",))):
            del model["prompt"][name]  # fitted to the catalogue where nobody sets it
        return defaults_of(RankSettings) | {"model": model}

    return layers.over(RankSettings, defaults)


class RankingRecipe:
    """Train and judge a ranker."""

    stage: ClassVar[str] = "rank"
    settings: ClassVar[type[RankSettings]] = RankSettings
    references: ClassVar[tuple[str, ...]] = REFERENCES

    def samples(self, settings: Any) -> int | None:
        """Judge on so many lists: a language model reads every pair."""
        return THINKING_SAMPLES

    def seed(self, settings: RankSettings) -> int:
        """Return the seed of the cold start."""
        return settings.cold_start.seed

    def sized(self, settings: RankSettings, split: Split) -> RankSettings:
        """Let prompts show what the teacher of rules reasons about, where nobody said what they show."""
        return settings if settings.ranker is not None else shown_as_reasoned(settings, split.dataset.catalogue)

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

    def create(self, settings: RankSettings, split: Split, *, device: str, progress: Progress = no_progress) -> R2Rank:
        """Build an untrained R2Rank."""
        return R2Rank.create(
            settings.model,
            with_popularity(split),
            crowd=Crowd.of(split) if settings.model.prompt.evidence else None,
            seed=settings.cold_start.seed,
            device=device,
        )

    def load(self, folder: Path, *, device: str) -> R2Rank:
        """Load an R2Rank."""
        return R2Rank.from_pretrained(folder, device=device)

    def phases(self, settings: RankSettings, split: Split) -> Sequence[Phase]:
        """Return cold start and reinforcement, those of them that have steps."""

        def cold_start(model: R2Rank, run: Run, progress: Progress) -> None:
            few = isinstance(run, Rehearsal)  # of whom a first update is made
            chosen = settings.with_traces(4 * settings.cold_start.users) if few else settings
            traces = run.folder / "traces.jsonl"
            lists = run.world.ahead(lambda: cold_start_lists(chosen, model, split, traces, progress=progress))
            sets = validation_sets(settings, split, settings.cold_start.validation_samples)
            train_cold_start(model, lists, sets, settings.cold_start, run, progress=progress)

        def reinforce(model: R2Rank, run: Run, progress: Progress) -> None:
            options = settings.reinforce
            lists = training_groups(settings, split.train, options)
            sets = validation_sets(settings, split, options.validation_samples)
            train_reinforce(model, lists, sets, options, run, progress=progress)

        phases = [Phase("Cold start", settings.cold_start, cold_start)] if settings.cold_start.steps else []
        if settings.reinforce.steps:
            phases.append(
                Phase(reporting.REINFORCEMENT, settings.reinforce, reinforce, folder="reinforce", start="cold-start")
            )
        return phases

    def validations(self, settings: RankSettings, logs: Mapping[str, list[dict[str, Any]]]) -> list[Validation]:
        """Tell the kept one of both trainings."""
        keep = (settings.reinforce if settings.reinforce.steps else settings.cold_start).keep
        rows, key = [row for log in logs.values() for row in log], "valid_ndcg@10"
        return [Validation(key, kept_value(rows, key, keep), f"{keep} validation NDCG@10")]

    def questions(self, settings: RankSettings, split: Split, options: EvaluationOptions) -> CandidateSets:
        """Draw samples of a part and the candidates of each."""
        refuse_retrieval_options(options)
        chosen, file = settings.candidates, options.candidates or settings.candidates.file
        if file is None:
            return drawn_sets(chosen, drawn_samples(split, options), split)
        part = drawn_samples(split, options.model_copy(update={"samples": None}))
        return read_candidate_lists(file).sets(part, most=options.samples, seed=options.seed)

    def systems(
        self, settings: RankSettings, split: Split, model: Any, options: EvaluationOptions, progress: Progress
    ) -> dict[str, Ranker]:
        """Return baselines and the model."""
        chosen = settings.ranker
        device = "auto" if chosen else str(model.backbone.device)
        names = (*REFERENCES, SASREC) if options.sasrec else REFERENCES
        systems: dict[str, Ranker] = dict(
            fitted_baselines(split, names, seed=self.seed(settings), device=device, progress=progress)
        )
        if chosen is not None:
            return {**systems, chosen.title: model}
        if model.config.thinks and (options.thoughts > 1 or options.controls):
            return {**systems, **thinking_systems("R2Rank", model, options)}
        return {**systems, "R2Rank" if model.config.thinks else "R2Rank, no thought": model}

    def judge(
        self, systems: Mapping[str, Ranker], questions: CandidateSets, options: EvaluationOptions, progress: Progress
    ) -> Evaluation:
        """Find the true items' places among their candidates, beside a random order."""
        ranked: dict[str, Ranker | np.ndarray] = {RANDOM: random_scores(questions, options.seed)}
        if questions.scores_BN is not None:
            ranked[questions.stage] = questions.scores_BN
        return evaluate_ranking({**ranked, **systems}, questions, batch_size=_BATCH, progress=progress)

    def verdict(self, settings: RankSettings, evaluation: Evaluation) -> str:
        """Say in words how the last of the systems, which is the run's, compares with the others, then in figures."""
        *others, own = evaluation.systems
        drawn = (evaluation.candidates or "").startswith(f"{settings.candidates.size}:")
        lists = f"lists of {settings.candidates.size} candidates" if drawn else "the first stage's lists"
        told = in_words(evaluation, own, others, does=f"sorts {lists}")
        return f"{told}\n{verdict(evaluation, own, others)}"

    def rows(
        self,
        evaluation: Evaluation,
        questions: CandidateSets,
        split: Split,
        part: str,
        seeds: Mapping[str, Sequence[int]],
    ) -> list[ResultRow]:
        """Return hits and NDCG of all samples, and by the length of histories and the popularity of targets."""
        counts_I, name = split.train_counts, split.dataset.name
        buckets = history_buckets(questions.histories) | popularity_buckets(questions.samples.targets, counts_I)
        return [
            *evaluation.rows(dataset=name, split=part, seeds=seeds, counts_I=counts_I),
            *bucket_rows(evaluation, buckets, dataset=name, split=part, seeds=seeds),
        ]

    def report(self, opened: OpenRun, judged: Judged | None) -> Report:
        """Collect curves and thoughts and, where it was judged, figures and what answers cost."""
        return reporting.ranking_report(opened, judged)


def shown_as_reasoned(settings: RankSettings, catalogue: Catalogue) -> RankSettings:
    """Fill in what prompts show: the columns that the teacher of rules reasons about are among it.

    A thought can only be right about what is shown, so what a setting leaves out is warned about.

    Raises:
        ThinkrankError: if a setting names a column that the catalogue has not.
    """
    prompt, reasoned = settings.model.prompt, reasoned_columns(catalogue)
    fitted: dict[str, Any] = {}
    if "item_fields" not in prompt.model_fields_set:
        fitted["item_fields"] = tuple(dict.fromkeys((*prompt.item_fields, *reasoned)))
    if "line" not in prompt.model_fields_set and reasoned:
        fitted["line"] = "{title}{attributes}"
    prompt = prompt.model_copy(update=fitted)
    check_fields(prompt, catalogue)
    for where, shown in (("item_fields", prompt.item_fields), ("line", line_columns(prompt, catalogue))):
        hidden = [name for name in reasoned if name not in shown]
        if hidden and settings.model.thinks and settings.traces.path is None:
            logger.warning(
                "the teacher reasons about %s, which model.prompt.%s does not show: such reasons cannot be learnt",
                ", ".join(hidden),
                where,
            )
    return settings.model_copy(update={"model": settings.model.model_copy(update={"prompt": prompt})})


def validation_sets(settings: RankSettings, split: Split, samples: int) -> CandidateSets | None:
    """Draw the lists that choose weights; None if nothing is held out."""
    chosen, valid = settings.candidates, split.valid
    if not len(valid):
        return None
    if chosen.file is not None:
        lists = read_candidate_lists(chosen.file)
        if (lists.serving(valid) >= 0).any():
            return lists.sets(valid, most=samples, seed=chosen.seed)
        logger.warning("%s: no list is of a validation sample; weights are chosen by drawn candidates", lists.name)
    return drawn_sets(chosen, valid.subset(samples, chosen.seed), split)


def training_groups(settings: RankSettings, samples: Samples, options: Any) -> TrainingGroups:
    """Make what is trained on: negatives come from the lists of a file, where one serves the sample, or are drawn."""
    file = settings.candidates.file
    lists = None if file is None else read_candidate_lists(file)
    return TrainingGroups(samples, negatives=options.negatives, seed=options.seed, lists=lists)


def drawn_sets(chosen: CandidateSettings, samples: Samples, split: Split) -> CandidateSets:
    """Draw the lists of some samples; popular negatives go by the train part."""
    return candidate_sets(
        samples, chosen.size, negatives=chosen.negatives, seed=chosen.seed, counts_I=split.train_counts
    )


def cold_start_lists(
    settings: RankSettings, model: R2Rank, split: Split, traces: Path, *, progress: Progress = no_progress
) -> Sequence[TrainingGroup]:
    """Make what the cold start trains on; if the model thinks, with reasonings that a teacher wrote to a file."""
    options = settings.cold_start
    if not settings.model.thinks:
        return training_groups(settings, split.train, options)
    drawn = split.train.subset(settings.traces.lists, options.seed)
    return taught(training_groups(settings, drawn, options)[:], settings, model, split, traces, progress=progress)


def taught(
    lists: Sequence[TrainingGroup],
    settings: RankSettings,
    model: R2Rank,
    split: Split,
    traces: Path,
    *,
    progress: Progress = no_progress,
) -> list[TrainingGroup]:
    """Give lists the reasonings that a teacher wrote to a file about their pairs; lists without any are left out.

    Raises:
        ThinkrankError: if no list is left.
    """
    prompt = settings.model.prompt
    pairs = [Pair(one.position, one.history, row, label=row == one.rows[0]) for one in lists for row in one.rows]
    catalogue, path = split.dataset.catalogue, settings.traces.path
    teacher = RuleTeacher(split, RuleOptions(noun=prompt.noun)) if path is None else JsonlTeacher(path, catalogue)
    counts = write_traces(
        pairs,
        teacher,
        catalogue,
        traces,
        ReflectOptions(
            reflect=settings.traces.reflect,
            history_window=prompt.history_window,
            max_tokens=settings.model.thought.max_new_tokens - 1,
        ),
        progress=progress,
        num_tokens=lambda text: len(encode_text(model.backbone.tokenizer, text)),
    )
    dropped = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in counts.dropped.items() if count)
    kept = f"{counts.kept:,} of {len(pairs):,}"
    logger.info("traces: %s kept; dropped %s", kept, dropped or "none")
    reasonings = {(trace.position, trace.item): trace.reasoning for trace in read_traces(traces, catalogue)}
    left = with_traces(lists, reasonings, model.prompts)
    if not len(left):
        raise ThinkrankError(f"no list is left to train on: {_way_out(counts, len(pairs), settings)}")
    return left


def _way_out(counts: TraceCounts, asked: int, settings: RankSettings) -> str:
    """Say why most example thoughts were dropped, and which setting to change."""
    reason, count = max(counts.dropped.items(), key=lambda pair: pair[1])
    told = {
        "too_long": f"raise model.thought.max_new_tokens, which is {settings.model.thought.max_new_tokens}",
        "inconsistent": "set traces.reflect=false, which keeps first answers whatever the label",
        "no_answer": "set traces.reflect=false, which asks once, or name a file of more verdicts with traces.path",
        "leak": "they give the label away: name a file of other verdicts with traces.path",
        "foreign_title": "they name titles that are not shown: name a file of other verdicts with traces.path",
    }
    if not count:
        return "raise traces.lists"
    return f"of {asked:,} example thoughts {count:,} were dropped as {reason.replace('_', ' ')}; {told[reason]}"


RECIPE = RankingRecipe()
