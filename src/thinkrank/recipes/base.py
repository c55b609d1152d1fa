"""What every run has, whatever it trains: a recipe, phases, a folder that is opened when the training has ended.

    opened = open_run("runs/mine")

The folder of a run holds `config.toml`, `manifest.json` and the log of its first training, a folder for each further
training, the models that these begin with, and the trained one in `model/`.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from pydantic import BaseModel, Field

from thinkrank.data import Samples, Split
from thinkrank.errors import ThinkrankError
from thinkrank.evaluate import Comparison, ResultRow
from thinkrank.options import Options
from thinkrank.pretrained import MODEL, imported, is_saved
from thinkrank.recipes import own
from thinkrank.recipes.data import moved
from thinkrank.recipes.kinds import TABLES
from thinkrank.recipes.layers import run_config
from thinkrank.report import Report
from thinkrank.training import Progress, Run, no_progress
from thinkrank.training.progress import Expected

logger = logging.getLogger(__name__)

THINKING_SAMPLES = 1000
"""Samples on which answers that write or read much are judged by default."""

RECIPES = {
    "cascade": "thinkrank.recipes.cascade:RECIPE",
    "rank": "thinkrank.recipes.ranking:RECIPE",
    "rerank": "thinkrank.recipes.reranking:RECIPE",
    "retrieve": "thinkrank.recipes.retrieval:RECIPE",
}
"""The recipe of each stage."""


@dataclass(frozen=True)
class Phase:
    """Describe one training of a run.

    Attributes:
        title: what reports call it.
        options: how it trains.
        train: trains a model in place.
        folder: of its log and checkpoints, inside the run's; empty for the run's own.
        start: folder inside the run's in which the model it begins with is kept; empty keeps none.
    """

    title: str
    options: BaseModel
    train: Callable[[Any, Run, Progress], object]
    folder: str = ""
    start: str = ""


class EvaluationOptions(Options):
    """Say what an evaluation compares, and on what."""

    part: Literal["valid", "test"] = Field("test", description="part of the split that is judged on")
    samples: int | None = Field(1000, ge=1, description="samples or lists, drawn by the seed; none for all")
    think: bool = Field(False, description="also measure a retriever's answers that think first")
    thoughts: int = Field(1, ge=1, description="thoughts of which each answer that thinks takes the mean")
    controls: bool = Field(
        False,
        description="also measure, at the cost of thinking, answers after as many tokens that say nothing, and after "
        "the thoughts about others, in the place of each thought",
    )
    untrained: bool = Field(False, description="also measure a retriever as it was before training")
    sasrec: bool = Field(False, description="also train SASRec, by the run's seed, and measure it")
    parts: bool = Field(False, description="also measure a fused retriever without each of its parts")
    seen: bool = Field(False, description="leave items of the history in a retriever's ranking")
    best_of: int = Field(8, ge=1, description="lists of which a re-ranker's evaluator picks one; 1 leaves that out")
    candidates: str | None = Field(
        None, description="table of a first stage's lists, which a ranker sorts in the place of its run's"
    )
    seed: int = Field(0, ge=0, description="seed of the drawn samples")


@dataclass(frozen=True)
class Validation:
    """Tell how good the weights that were kept are.

    Attributes:
        key: of the log.
        value: of that validation; 0 without any.
        label: for people.
        how: the model answered; empty where it answers in one way only.
    """

    key: str
    value: float
    label: str
    how: str = ""


@dataclass(frozen=True, eq=False)
class OpenRun:
    """Hold a finished run.

    Attributes:
        recipe: of its stage.
        settings: it was made with.
        split: the data, as it was cut.
        run: its folder.
        model: what it trained.
    """

    recipe: "Recipe"
    settings: Any
    split: Any
    run: Run
    model: Any


@dataclass(frozen=True, eq=False)
class Judged:
    """Hold what an evaluation found.

    Attributes:
        evaluation: of all systems, one of `thinkrank.evaluate`.
        questions: what they were asked: samples, candidate sets or lists.
        rows: every figure.
        comparisons: paired tests against the references.
        verdict: how what was trained compares with others: a line in words, then figures; empty where nothing is told.
        faithfulness: whether what the model writes is true and decides; nothing where it writes nothing.
    """

    evaluation: Any
    questions: Any
    rows: Sequence[ResultRow]
    comparisons: Sequence[Comparison]
    verdict: str = ""
    faithfulness: Sequence[ResultRow] = ()


def refuse_retrieval_options(options: EvaluationOptions) -> None:
    """Refuse what only retrievers can be asked.

    Raises:
        ThinkrankError: naming them.
    """
    if options.think or options.untrained or options.seen or options.parts:
        raise ThinkrankError(
            "think, untrained, parts and seen belong to retrievers; rankers and re-rankers think as their run says"
        )


@runtime_checkable
class Recipe(Protocol):
    """Know what a run of one stage is made of.

    Attributes:
        stage: retrieve, rank or rerank: what its commands are called and its model is asked by.
        settings: of its runs; they have `data` with `load_split`, and `stage_class`.
        references: names of the systems that the others are tested against.
    """

    stage: ClassVar[str]
    settings: ClassVar[type[Any]]
    references: ClassVar[tuple[str, ...]]

    def samples(self, settings: Any) -> int | None:
        """Return on how many samples runs are judged by default; None for all."""

    def seed(self, settings: Any) -> int:
        """Return the seed of the whole training."""

    def sized(self, settings: Any, split: Any) -> Any:
        """Fit to the data's size what was not set; the same settings and data give the same."""

    def create(self, settings: Any, split: Any, *, device: str, progress: Progress = no_progress) -> Any:
        """Build an untrained model."""

    def completed(self, settings: Any, split: Any, model: Any, progress: Progress, folder: Path) -> Any:
        """Return what is saved and answers when the trainings have ended: the model, or what is made of it.

        Args:
            settings: of the run.
            split: the data.
            model: trained.
            progress: how to show the work.
            folder: of the run; what of your own learns now has a folder inside.
        """

    def finishing(self, settings: Any, split: Any) -> Mapping[str, Expected]:
        """Estimate what `completed` takes here, by the titles that its progress has; nothing if it does nothing."""

    def ending(
        self, settings: Any, split: Any, model: Any, judging: EvaluationOptions | None, seconds: float
    ) -> Mapping[str, Expected]:
        """Rehearse `completed` and, if options are given, the judging, and tell what they take by their titles.

        Args:
            settings: of the run.
            split: the data.
            model: untrained; it is left as it is.
            judging: how the run will be judged; None if it will not.
            seconds: that each rehearsal may take, about.
        """

    def load(self, folder: Path, *, device: str) -> Any:
        """Load a saved model."""

    def phases(self, settings: Any, split: Any) -> Sequence[Phase]:
        """Return the trainings that the settings ask for, in order."""

    def validations(self, settings: Any, logs: Mapping[str, list[dict[str, Any]]]) -> list[Validation]:
        """Tell what validations say of the weights that were kept, from the logs by the titles of phases."""

    def questions(self, settings: Any, split: Any, options: EvaluationOptions) -> Any:
        """Draw what systems are asked.

        Raises:
            ThinkrankError: if there is nothing to draw from, or an option belongs to another stage.
        """

    def systems(
        self, settings: Any, split: Any, model: Any, options: EvaluationOptions, progress: Progress
    ) -> Mapping[str, Any]:
        """Return what a table compares, baselines fitted on the train part first."""

    def judge(self, systems: Mapping[str, Any], questions: Any, options: EvaluationOptions, progress: Progress) -> Any:
        """Ask every system."""

    def verdict(self, settings: Any, evaluation: Any) -> str:
        """Say how what was trained compares with others: a line in words, then figures; empty to say nothing."""

    def rows(
        self, evaluation: Any, questions: Any, split: Any, part: str, seeds: Mapping[str, Sequence[int]]
    ) -> list[ResultRow]:
        """Return every figure as a result row."""

    def report(self, opened: OpenRun, judged: Judged | None) -> Report:
        """Collect what the training has to tell, and what was found if the model was judged."""


def notices_of(split: Any) -> tuple[str, ...]:
    """Return what was dropped or repaired when the data was read."""
    dataset = getattr(split, "dataset", None) or getattr(split, "train", None)
    return tuple(getattr(dataset, "notices", ()))


def open_run(folder: str | Path, *, path: str | Path | None = None, device: str = "auto") -> OpenRun:
    """Open a finished run of any stage.

    Args:
        folder: of the run.
        path: where its data is now; None for where it was.
        device: auto, cpu, cuda, cuda:1 or mps.

    Raises:
        ThinkrankError: if the folder is no run, its training has not finished, or its data is not what it was.
    """
    folder = Path(folder)
    recipe = recipe_of(folder)
    if not is_trained(folder):
        raise ThinkrankError(
            f"{folder}: its training has not finished; start `thinkrank train {recipe.stage}` again to resume it"
        )
    settings = recipe.settings.from_run(folder)
    settings = settings.model_copy(update={"data": moved(settings.data, path)})
    split = settings.data.load_split()
    run = Run.open(folder, split.manifest())
    return OpenRun(recipe, settings, split, run, load_model(recipe, settings, folder / MODEL, device=device))


def recipe_of(folder: str | Path) -> Recipe:
    """Find the recipe that a run's folder was made by.

    Raises:
        ThinkrankError: if the folder is no run, or one of no known stage.
    """
    config = run_config(folder)
    for stage, recipe in RECIPES.items():
        if TABLES[stage] in config:
            found: Recipe = imported(recipe)
            return found
    raise ThinkrankError(f"{folder}: its config.toml is of none of the stages {', '.join(RECIPES)}")


def drawn_samples(split: Split, options: EvaluationOptions) -> Samples:
    """Draw samples of a part.

    Raises:
        ThinkrankError: if it holds none.
    """
    part = split.test if options.part == "test" else split.valid
    if not len(part):
        raise ThinkrankError(f"{split.dataset.name}: the {options.part} part holds no sample: give more data")
    return part if options.samples is None else part.subset(options.samples, options.seed)


def is_trained(folder: Path) -> bool:
    """Tell whether a run's training has finished."""
    return is_saved(folder / MODEL)


def load_model(recipe: Recipe, settings: Any, folder: Path, *, device: str = "auto") -> Any:
    """Load a model that a run with these settings saved."""
    if settings.stage_class is None:
        return recipe.load(folder, device=device)
    return own.load(settings.stage_class, recipe.stage, folder, device)


def phases_of(recipe: Recipe, settings: Any, split: Any) -> Sequence[Phase]:
    """Return the trainings of a run; a class of your own has one."""
    chosen = settings.stage_class
    if chosen is None:
        return recipe.phases(settings, split)
    return [Phase("Training", chosen, lambda model, run, progress: own.learn(chosen, model, split, run))]


def logs_of(recipe: Recipe, settings: Any, split: Any, run: Run) -> dict[str, list[dict[str, Any]]]:
    """Read the logs of a run's trainings, by their titles."""
    logs = {}
    for phase in phases_of(recipe, settings, split):
        if not phase.folder:
            logs[phase.title] = run.metrics()
        elif (run.folder / phase.folder / "config.toml").is_file():
            logs[phase.title] = Run.open(run.folder / phase.folder, run.manifest["split"]).metrics()
    return logs


def validations_of(opened: OpenRun) -> list[Validation]:
    """Tell how good the weights are that a run kept; nothing of a class of your own."""
    recipe, settings = opened.recipe, opened.settings
    if settings.stage_class is not None:
        return []
    return recipe.validations(settings, logs_of(recipe, settings, opened.split, opened.run))
