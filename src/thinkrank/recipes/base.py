"""How every run goes, whatever it trains: settings and data, trainings one after the other, a saved model.

    run, model = train(retrieval.RECIPE, settings, "runs/mine", progress=console_progress)
    opened = open_run("runs/mine")

The folder of a run holds `config.toml`, `manifest.json` and the log of its first training, a folder for each further
training, the models that these begin with, and the trained one in `model/`.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from pydantic import BaseModel, Field

from thinkrank.data import Samples, Split
from thinkrank.distributed.world import SINGLE, World
from thinkrank.errors import ThinkrankError
from thinkrank.evaluate import Comparison, ResultRow
from thinkrank.options import Options
from thinkrank.pretrained import CONFIG_FILE, imported
from thinkrank.recipes import own
from thinkrank.recipes.data import moved
from thinkrank.recipes.layers import resumed, run_config
from thinkrank.report import Report
from thinkrank.training import Progress, Run, no_progress
from thinkrank.training.lock import locked
from thinkrank.training.run import is_begun

logger = logging.getLogger(__name__)

THINKING_SAMPLES = 1000
"""Samples on which answers that write or read much are judged by default."""

MODEL = "model"
"""Folder of the trained model inside a run."""

RECIPES = {
    "rank": ("cold_start", "thinkrank.recipes.ranking:RECIPE"),
    "rerank": ("evaluator", "thinkrank.recipes.reranking:RECIPE"),
    "retrieve": ("training", "thinkrank.recipes.retrieval:RECIPE"),
}
"""Per stage, the table of settings by which a run is known to be of it, and its recipe."""


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
    """

    key: str
    value: float
    label: str


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
            "think, untrained, parts and seen belong to retrievers; rankers and list writers think as their run says"
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

    def completed(self, settings: Any, split: Any, model: Any, progress: Progress) -> Any:
        """Return what is saved and answers when the trainings have ended: the model, or what is made of it."""

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


def train(
    recipe: Recipe,
    settings: Any,
    folder: str | Path,
    *,
    split: Any = None,
    device: str = "auto",
    world: World = SINGLE,
    progress: Progress = no_progress,
) -> tuple[Run, Any]:
    """Train a stage, or go on where the folder's run was interrupted, or only load what it finished.

    Args:
        recipe: of the stage.
        settings: of the run.
        folder: of the run.
        split: the data of the settings, if it is loaded already.
        device: auto, cpu, cuda, cuda:1 or mps.
        world: the processes that train together; the first one saves.
        progress: how to show the work.

    Raises:
        ThinkrankError: if the folder holds a run with other settings or of other data.
    """
    folder, chosen, given = Path(folder), settings.stage_class, settings.given
    made = None  # a class that does not fit is refused before there is a folder
    if chosen is not None and not is_trained(folder):
        made = own.create(chosen, recipe.stage)
    split = settings.data.load_split() if split is None else split
    settings = recipe.sized(settings, split)
    if is_begun(folder):
        settings = resumed(settings, folder)
    with locked(folder) if world.is_first else nullcontext():
        return _train(recipe, settings, folder, split, made, device=device, world=world, progress=progress, given=given)


def _train(
    recipe: Recipe,
    settings: Any,
    folder: Path,
    split: Any,
    made: Any,
    *,
    device: str,
    world: World,
    progress: Progress,
    given: Iterable[str],
) -> tuple[Run, Any]:
    """Train in a folder that is held, with settings that are its own; `made` is a stage of a class of the user's."""
    chosen = settings.stage_class
    manifest = {
        "split": split.manifest(),
        "seed": recipe.seed(settings),
        "device": device,
        "given": sorted(given),
        "notices": list(notices_of(split)),
    }
    report_to = settings.report_to or () if world.is_first else ()
    config = run_config(folder) if is_begun(folder) else settings.model_dump(mode="json", exclude={"report_to"})
    run = Run(folder, config, manifest, report_to=report_to)
    if is_trained(folder):
        logger.info("%s holds the finished training of these settings: reusing it", folder)
        return run, load_model(recipe, settings, folder / MODEL, device=device)
    phases = phases_of(recipe, settings, split)
    kept = [n for n, phase in enumerate(phases) if phase.start and _is_saved(folder / phase.start)]
    first = kept[-1] if kept else 0
    if kept:
        model = load_model(recipe, settings, folder / phases[first].start, device=device)
    else:
        model = recipe.create(settings, split, device=device, progress=progress) if made is None else made
    for phase in phases[first:]:
        if phase.start and not _is_saved(folder / phase.start) and world.is_first:
            model.save_pretrained(folder / phase.start)
        log = run
        if phase.folder:
            seed = getattr(phase.options, "seed", manifest["seed"])
            made_from = {**manifest, "seed": seed}
            inside = folder / phase.folder
            config = run_config(inside) if is_begun(inside) else phase.options.model_dump(mode="json")
            log = Run(inside, config, made_from, report_to=report_to)
        phase.train(model, log, progress)
    if chosen is None:
        model = recipe.completed(settings, split, model, progress)
    if world.is_first:
        if chosen is None:
            model.save_pretrained(folder / MODEL)
        else:
            own.save(chosen, model, folder / MODEL)
    return run, model


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
    for table, recipe in RECIPES.values():
        if table in config:
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
    return _is_saved(folder / MODEL)


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


def kept_value(rows: Sequence[Mapping[str, Any]], key: str, keep: str) -> float:
    """Return what validation says of the weights that were kept: the highest value, or the last; 0 without any."""
    values = [float(row[key]) for row in rows if key in row]
    return (max(values) if keep == "best" else values[-1]) if values else 0.0


def kept_step(rows: Sequence[Mapping[str, Any]], key: str, keep: str) -> int | None:
    """Return the step after which the kept weights were validated; None without a validation."""
    found = [(int(row["step"]), float(row[key])) for row in rows if key in row]
    if not found:
        return None
    return max(found, key=lambda pair: (pair[1], -pair[0]))[0] if keep == "best" else found[-1][0]


def _is_saved(folder: Path) -> bool:
    return (folder / CONFIG_FILE).is_file()
