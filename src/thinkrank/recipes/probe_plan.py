"""What a probe will do: its arms, their trainings and what they are judged on, fitted into the minutes it has."""

import tempfile
import time
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from torch import Tensor

from thinkrank.data import Samples, Split
from thinkrank.errors import ThinkrankError
from thinkrank.language import Backbone
from thinkrank.pretrained import MODEL, is_saved
from thinkrank.recipes.base import Phase
from thinkrank.recipes.before_recpo import before_recpo
from thinkrank.recipes.control import SMALL, small_backbone
from thinkrank.recipes.layers import merge, validated
from thinkrank.recipes.plan import counts_of, rehearsed
from thinkrank.recipes.probe_arms import ENOUGH, SEVERAL, START, Arm, chosen_arms, controls_of
from thinkrank.recipes.probe_options import ProbeOptions, ProbeSettings
from thinkrank.recipes.probe_pilot import pilot_words
from thinkrank.recipes.probe_starts import model_of_starts
from thinkrank.recipes.sizing import sized
from thinkrank.retrieve import R2ec, train_contrastive, train_recpo
from thinkrank.retrieve.r2ec.trainer import sample_ranks
from thinkrank.training import Progress, no_progress
from thinkrank.training.progress import Expected, duration
from thinkrank.training.rehearsal import Measured, seconds_of

ANSWERS = "answers"
JUDGING = "judging"
COLD = "cold"
"""Name of the cold start by example thoughts, which all ways in words share where the start is trained already."""
CALIBRATED = 2000
"""Validation samples on which gates are calibrated, at most."""

_JUDGED_SHARE = 0.3
"""Of the minutes that judging may take."""
_START_SHARE = 0.35
"""Of the minutes for training that the start gets; the other arms share the rest alike."""
_FEWEST_JUDGED = 200
_MEASURED = 16
"""Samples on which the time of an answer is measured."""


@dataclass
class PlannedProbe:
    """A probe that is planned; without a folder it is no more than that."""

    settings: ProbeSettings
    folder: Path | None
    given_split: Split | None
    device: str
    progress: Progress

    def __post_init__(self) -> None:
        self.split: Split = self.given_split or self.settings.data.load_split(self.folder)
        if not len(self.split.test):
            raise ThinkrankError(f"{self.split.dataset.name}: the test part holds no sample to judge on")
        model, training = sized(self.settings.model, self.settings.training, self.split)
        model = model_of_starts(self.options.starts, model, self.split, self.settings.given)
        self.settings = self._with(model=model, training=training)
        self.measured: dict[str, Measured] = {}
        self.seconds = {"no thought": 0.0, "thought": 0.0, "counted": 0.0}
        self.budgets: dict[str, dict[str, Any]] = {}
        self._model: R2ec | None = None
        self._trained: tuple[int, dict[str, Tensor]] = -1, {}
        self._taught = self._trained
        self.num_samples = min(len(self.split.test), self.options.samples or len(self.split.test))

    @property
    def options(self) -> ProbeOptions:
        """Return how much the probe may take."""
        return self.settings.probe

    @property
    def arms(self) -> tuple[Arm, ...]:
        """Return what is trained."""
        return chosen_arms(self.options.ways, self.settings.model.reading, is_started=bool(self.options.starts))

    @property
    def root(self) -> Path:
        """Return the folder, of a probe that is more than a plan."""
        if self.folder is None:
            raise ValueError("a probe that is only planned has no folder")
        return self.folder

    @cached_property
    def samples(self) -> Samples:
        """Return what every arm is judged on."""
        return self.split.test.subset(self.num_samples, seed=0)

    def _with(self, **changed: Any) -> ProbeSettings:
        settings = self.settings.model_copy(update=changed)
        settings.__dict__["given"] = self.settings.given
        return settings

    def phase(self, arm: Arm, settings: ProbeSettings) -> Phase:
        """Return the training of an arm."""
        if arm.phase == "recpo":
            look = partial(before_recpo, split=self.split, options=settings.recpo)
            return Phase(
                arm.about,
                settings.recpo,
                lambda model, run, progress: train_recpo(
                    model, self.split, settings.recpo, run, progress=progress, before=look
                ),
            )
        return self.contrastive(arm, settings)

    def contrastive(self, arm: Arm, settings: ProbeSettings) -> Phase:
        """Return the training of an arm by what came next."""
        return Phase(
            arm.about,
            settings.training,
            lambda model, run, progress: train_contrastive(
                model, self.split, settings.training, run, progress=progress
            ),
        )

    def is_cold_started(self, arm: Arm) -> bool:
        """Tell whether an arm learns example thoughts before its training: nobody taught its start to write any."""
        return arm.phase == "recpo" and bool(self.options.starts)

    def cold_settings(self, settings: ProbeSettings) -> ProbeSettings:
        """Return the settings of the training by example thoughts.

        It keeps its last weights: a start that is trained already often has the better quick answer, which validation
        would choose, and nothing would be learnt.
        """
        return settings.model_copy(update={"training": settings.training.model_copy(update={"keep": "last"})})

    def arm_settings(self, arm: Arm, seed: int) -> ProbeSettings:
        """Lay an arm's settings and a seed over those of the probe."""
        tables = self.settings.model_dump(mode="json")
        merge(tables, arm.over)
        for table in ("training", "recpo"):
            tables[table]["seed"] = seed
        name = START if arm.control_of else arm.name
        budget = self.budgets.get(arm.folder if arm.is_way else name) or self.budgets.get(name, {})
        own = {"max_minutes", "validate_every"} if arm.control_of else set()
        tables[arm.table] |= {name: value for name, value in budget.items() if name not in own}
        if self.is_cold_started(arm):
            tables["training"] |= self.budgets.get(COLD, {})
        return validated(ProbeSettings, tables)

    def measure(self) -> None:
        """Measure what steps and answers take here, and fit trainings and samples into the minutes."""
        began = time.perf_counter()
        with self.progress("measuring what steps take here", 0):
            start, model = self.own_arms[0], self.load(self.start(0)) if self.options.starts else self.create(0)
            self._model = model
            for arm in self.own_arms:
                settings = self.arm_settings(arm, 0)
                silent = settings.model.latent.steps
                alike = [one.about for one in self.own_arms if one.phase == arm.phase == "recpo"]
                if known := next((self.measured[about] for about in alike if about in self.measured), None):
                    self.measured[arm.about] = known  # for another reward as many thoughts are written
                elif not silent:
                    model.reconfigure(model.config.model_copy(update={"thinker": settings.model.thinker}))
                    cold = [replace(self.contrastive(arm, settings), title=COLD)] if self.is_cold_started(arm) else []
                    self.measured |= rehearsed([*cold, self.phase(arm, settings)], model)
                elif start.about in self.measured:  # a position behind an item costs what an item does
                    step = (1 + silent) * self.measured[start.about].step
                    self.measured[arm.about] = replace(self.measured[start.about], step=step)
            few = self.split.test.subset(_MEASURED, seed=0)
            thoughts: list[Any] = []
            counted = 0.0
            if model.crowd is not None:  # counted for the arm that was rehearsed last
                counted = seconds_of(lambda: sample_ranks(model, few, model.think(few.requests())))
            model.reconfigure(model.config.model_copy(update={"thinker": self.settings.model.thinker}))
            model.crowd = None
            plain = thinking = seconds_of(lambda: sample_ranks(model, few))
            if any("thought" in arm.asked for arm in self.arms if arm.phase != "contrastive"):
                thinking = 0.0
                thinking += seconds_of(lambda: thoughts.extend(model.think(few.requests())))
                thinking += seconds_of(lambda: sample_ranks(model, few, thoughts))
        took = {"no thought": plain, "thought": thinking, "counted": counted}
        self.seconds = {name: seconds / len(few) for name, seconds in took.items()}
        self.budgets = {arm.name: {} for arm in self.own_arms}
        if COLD in self.measured:
            self.budgets[COLD] = {}
        if self.options.minutes is not None:
            self.fit(60 * self.options.minutes, time.perf_counter() - began)
        for arm in self.own_arms:
            settings = self.arm_settings(arm, 0)
            self.budgets[arm.name] |= self._lean(arm.about, self.phase(arm, settings).options, arm.table)
            if self.is_cold_started(arm) and COLD in self.measured:
                self.budgets[COLD] |= self._lean(COLD, settings.training, "training")

    @property
    def own_arms(self) -> list[Arm]:
        """Return the start and the ways: what controls are as long trained as."""
        return [arm for arm in self.arms if not arm.control_of]

    def _lean(self, title: str, options: Any, table: str) -> dict[str, Any]:
        """Return what keeps a training's validations within their share of its time, where nobody set them."""
        if title not in self.measured:
            return {}
        free = {name for name in type(options).model_fields if f"{table}.{name}" not in self.settings.given}
        return dict(self.measured[title].lean(options, free.__contains__))

    def fit(self, seconds: float, spent: float) -> None:
        """Share the seconds among measuring, judging and training, each whole training of all arms getting as many.

        The start gets no more than it needs; a way trains for as many steps as its time allows, and so do controls.
        Where example thoughts have to be learnt first, that takes as much again, once for all ways in words and for
        each of their controls.
        """
        left = max(0.5 * seconds, seconds - spent) / self.options.trainings
        if self.options.samples is None:
            allowed = int(_JUDGED_SHARE * left / max(self.judging(1), 1e-6))
            self.num_samples = min(len(self.split.test), max(_FEWEST_JUDGED, allowed))
        left = max(0.3 * left, left - self.judging(self.num_samples))
        start, *ways = self.own_arms
        first = 0.0 if self.options.starts else _START_SHARE * left
        if first:
            self.budgets[START]["max_minutes"] = round(first / 60, 3)
        if first and start.about in self.measured:
            first = min(first, self.measured[start.about].expected("", self.settings.training)[""].seconds())
        cold = {way.folder for way in ways if self.is_cold_started(way)}
        controls = {arm.folder: way.folder in cold for way in ways for arm in controls_of(way, self.arms)}
        shares = bool(cold) + len({way.folder for way in ways}) + sum(1 + is_cold for is_cold in controls.values())
        each = (left - first) / shares
        if cold:
            self.budgets[COLD] = {"max_minutes": round(each / 60, 3)}
        for way in ways:
            self.budgets[way.name]["max_minutes"] = round(each / 60, 3)
            if way.about in self.measured and f"{way.table}.steps" not in self.settings.given:
                self.budgets[way.name]["steps"] = max(1, int(each / self.measured[way.about].step))

    def judging(self, samples: int) -> float:
        """Foresee the seconds of judging all arms of one training on so many samples."""
        plain, thinking, counted = (self.seconds[name] for name in ("no thought", "thought", "counted"))
        written = {"thought": thinking, "several": SEVERAL * thinking}
        whole = 0.0
        asked_before: set[tuple[str, str]] = set()  # nothing is asked of one model twice
        for arm in self.arms:
            costs = dict.fromkeys(("thought", "other", "filler"), counted) if arm.is_counted else written
            asked = {(arm.folder, how) for how in arm.asked} - asked_before
            asked_before |= asked
            whole += samples * sum(costs.get(how, plain) for _, how in asked)
            if arm.is_way and arm.asked[:2] == ("thought", "no thought"):  # gates, in the first training
                whole += min(samples, CALIBRATED) * costs["thought"] / self.options.trainings
        return whole

    def pieces(self) -> dict[str, Expected]:
        """Return the pieces of work that the probe is, by the titles that its progress has."""
        found: dict[str, Expected] = {}
        for seed in range(self.options.trainings):
            trained: set[str] = set()
            for arm in self.arms:
                way = next((one for one in self.arms if one.name == arm.control_of), arm)
                measured = self.measured.get(way.about)
                if measured is None or self.is_answered(arm, seed):
                    continue
                settings = self.arm_settings(way, seed)
                options: Any = self.phase(way, settings).options
                title, pieces = self.title(arm, seed), measured.expected(self.title(arm, seed), options)
                if COLD in self.measured and self.is_cold_started(way):
                    cold = self.measured[COLD].expected(self.cold_title(arm, seed), settings.training)
                    if arm is not way:  # a control has that time, too
                        seconds = sum(piece.seconds() for piece in (*pieces.values(), *cold.values()))
                        pieces = {title: Expected(options.steps, seconds / max(1, options.steps))}
                    elif COLD not in trained and not self.is_made(COLD, seed):
                        pieces |= cold
                    trained.add(COLD)
                is_made = (arm.name == START and self.options.starts) or self.is_made(arm.folder, seed)
                if not is_made and arm.folder not in trained:
                    found |= pieces
                    trained.add(arm.folder)
                per_sample = self.judging(self.num_samples) / self.num_samples / len(self.arms)
                found[f"{JUDGING}, {title}"] = Expected(self.num_samples, per_sample)
        return found

    def is_made(self, name: str, seed: int) -> bool:
        """Tell whether a model of this name is trained."""
        return self.folder is not None and is_saved(self.folder / f"{name}-{seed}" / MODEL)

    def plan(self) -> str:
        """Tell in words what will be trained, for how long, and what the comparison is that counts."""
        trainings, whole = self.options.trainings, sum(piece.seconds() for piece in self.pieces().values())
        test = len(self.split.test)
        judged = f"all {test:,}" if self.num_samples == test else f"{self.num_samples:,} of {test:,}"
        ways = [arm for arm in self.arms if arm.is_way]
        declared = "; ".join(
            f"{way.about} against {next(arm for arm in self.arms if arm.control_of == way.name).about}" for way in ways
        )
        times = "" if trainings == 1 else f"{trainings} whole trainings of "
        lines = [
            f"{counts_of(self.settings, self.split)} · {times}{len(self.arms)} arms, judged on {judged} test samples · "
            f"about {duration(whole)}",
            f"Declared before anything is trained: NDCG@10, {declared}"
            + (f", corrected by Holm for {len(ways)} ways." if len(ways) > 1 else "."),
        ]
        return "\n".join(filter(None, [*lines, self._short(), pilot_words(self.split, self.samples, ways=len(ways))]))

    def _short(self) -> str:
        """Say that the minutes leave the start fewer updates than it was to make."""
        start, wanted = self.own_arms[0], self.updates_of_a_start()
        if not wanted or start.about not in self.measured:
            return ""
        piece = self.measured[start.about].expected("", self.arm_settings(start, 0).training)[""]
        made = int(piece.seconds() / piece.rate)
        if made > ENOUGH * wanted:
            return ""
        return (
            f"The minutes leave the warm start about {made:,} of {wanted:,} updates: give more, or name trained models "
            "as probe.starts."
        )

    def updates_of_a_start(self) -> int:
        """Return the updates that a start is to make; 0 where no minutes bound it."""
        is_bound = self.options.minutes is not None and not self.options.starts
        return self.settings.training.steps if is_bound else 0

    def title(self, arm: Arm, seed: int) -> str:
        """Return what progress calls an arm's training."""
        return arm.about if self.options.trainings == 1 else f"{arm.about} ({seed + 1} of {self.options.trainings})"

    def cold_title(self, arm: Arm, seed: int) -> str:
        """Return what progress calls the cold start of an arm."""
        return f"cold start of {self.title(arm, seed)}"

    def create(self, seed: int) -> R2ec:
        """Build an untrained model."""
        catalogue, model = self.split.dataset.catalogue, self.settings.model
        return R2ec.create(
            model, catalogue, backbone=self.backbone(), seed=seed, device=self.device, progress=self.progress
        )

    def backbone(self) -> Backbone | None:
        """Load the language model of the relay world, trained if it is not there; None where the settings name one."""
        if self.settings.model.backbone != SMALL:
            return None
        if self.folder is not None:
            return small_backbone(self.folder / SMALL, self.split, self.settings, self.progress)
        with tempfile.TemporaryDirectory() as folder:  # to measure, an untrained one will do
            return small_backbone(Path(folder), self.split, self.settings, no_progress, steps=1)

    def start(self, seed: int) -> Path:
        """Return the folder of the model that a training begins with."""
        return (Path(self.options.starts[seed]) if self.options.starts else self.training_folder(seed)) / MODEL

    def training_folder(self, seed: int) -> Path:
        """Return the folder of a training's start, which one process holds while it trains and judges all arms."""
        return self.root / f"{START}-{seed}"

    def load(self, folder: Path) -> R2ec:
        """Load a model that an arm saved.

        Where histories are read late, the lower layers read all items here, once for all arms that begin with the
        model: the first training of them would pay for it otherwise.
        """
        model = R2ec.from_pretrained(folder, backbone=self.backbone(), device=self.device)
        if model.config.reading == "late":
            model.encode_items(range(len(model.catalogue)), fast=True)
        return model

    def answers_file(self, arm: Arm, seed: int) -> Path:
        """Name the file of an arm's answers."""
        return self.root / ANSWERS / f"{arm.name}-{seed}.json"

    def is_answered(self, arm: Arm, seed: int) -> bool:
        """Tell whether an arm has been judged."""
        return self.folder is not None and self.answers_file(arm, seed).is_file()
