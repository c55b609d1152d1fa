"""Does thinking pay on this data? Ways of thinking and their controls, trained from shared starts and judged alike.

    found = probe(probe_settings(Layers(source="movielens-100k", assignments=["probe.minutes=10"])), "runs/probe")
    print(found.sentence)

The folder holds `config.toml` and `manifest.json`, a folder for each arm and training, `answers/` with a file for each
(see `thinkrank.evaluate.studies.read_study`), `results.json`, `comparisons.json`, `probe.json` and `report.html`. A
start there goes on with what is not done.
"""

import json
import logging
import math
import tempfile
import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from thinkrank._code import code_version
from thinkrank._files import atomic_write
from thinkrank.data import Samples, Split
from thinkrank.errors import ThinkrankError
from thinkrank.language import Backbone
from thinkrank.pretrained import CONFIG_FILE
from thinkrank.recipes.base import MODEL, Phase, kept_step, kept_value, notices_of
from thinkrank.recipes.control import SMALL, small_backbone
from thinkrank.recipes.layers import merge, resumed, validated
from thinkrank.recipes.plan import counts_of, rehearsed
from thinkrank.recipes.probe_arms import START, Arm, chosen_arms
from thinkrank.recipes.probe_judging import gate_features, judged
from thinkrank.recipes.probe_options import ProbeOptions, ProbeSettings
from thinkrank.recipes.probe_pilot import pilot_words
from thinkrank.recipes.probe_verdict import Probed, read_probe, write_probe
from thinkrank.recipes.sizing import sized
from thinkrank.retrieve import R2ec, train_contrastive, train_recpo
from thinkrank.retrieve.r2ec.further import with_latents
from thinkrank.retrieve.r2ec.trainer import sample_ranks
from thinkrank.retrieve.r2ec.weights import set_weights, weights
from thinkrank.training import Progress, Run, no_progress
from thinkrank.training.lock import locked
from thinkrank.training.progress import Expected, duration, estimated, retitled
from thinkrank.training.rehearsal import Measured, seconds_of
from thinkrank.training.run import is_begun, read_manifest

ANSWERS = "answers"
JUDGING = "judging"

_JUDGED_SHARE = 0.3
"""Of the minutes that judging may take."""
_START_SHARE = 0.35
"""Of the minutes for training that the start gets; the other arms share the rest alike."""
_FEWEST_JUDGED = 200
_CENTRING = 64
"""Histories on which the mean states of latent positions are taken."""
_SPARE = 10
"""Times the steps that a control is likely to make in its time: a bound that it should not meet."""
_MEASURED = 16
"""Samples on which the time of an answer is measured."""

logger = logging.getLogger(__name__)


def probe(
    settings: ProbeSettings,
    folder: str | Path,
    *,
    split: Split | None = None,
    device: str = "auto",
    progress: Progress = no_progress,
) -> Probed:
    """Train all arms, judge them on the same test samples, and say whether thinking pays.

    Args:
        settings: what is tried, on what, for how long.
        folder: of the run; one that was interrupted goes on.
        split: the data of the settings, if it is loaded already.
        device: auto, cpu, cuda, cuda:1 or mps.
        progress: how to show the work.

    Raises:
        ThinkrankError: if the folder holds a run with other settings or of other data, or there is nothing to judge on.
    """
    folder = Path(folder)
    with locked(folder):
        work = _Probe(settings, folder, split, device, progress)
        work.open()
        with estimated(work.pieces()):
            for seed in range(work.options.trainings):
                for arm in work.arms:
                    work.answer(arm, seed)
        found = read_probe(folder, work.arms, dataset=work.split.dataset.name, about=work.about())
        write_probe(folder, found)
    return found


def planned_probe(
    settings: ProbeSettings, split: Split, *, device: str = "auto", progress: Progress = no_progress
) -> tuple[ProbeSettings, str]:
    """Return the settings that a probe would have, complete, and its plan in words; nothing is written.

    Args:
        settings: of the probe.
        split: the data of the settings.
        device: auto, cpu, cuda, cuda:1 or mps.
        progress: how to show the work.
    """
    work = _Probe(settings, None, split, device, progress)
    work.measure()
    return work.settings, work.plan()


@dataclass
class _Probe:
    """A probe in progress; without a folder it is only planned."""

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
        self.settings = self._with(model=model, training=training)
        self.measured: dict[str, Measured] = {}
        self.seconds = {"no thought": 0.0, "thought": 0.0}
        self.budgets: dict[str, dict[str, Any]] = {}
        self._model: R2ec | None = None
        self._trained: tuple[int, dict[str, Tensor]] = -1, {}
        self.num_samples = min(len(self.split.test), self.options.samples or len(self.split.test))

    @property
    def options(self) -> ProbeOptions:
        """Return how much the probe may take."""
        return self.settings.probe

    @property
    def arms(self) -> tuple[Arm, ...]:
        """Return what is trained."""
        return chosen_arms(self.options.ways, self.settings.model.reading)

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

    def open(self) -> None:
        """Open the folder: measure and decide what the minutes allow, or take over what was decided before."""
        if is_begun(self.root):
            self.settings = resumed(self.settings, self.root)
        else:
            self.measure()
        made_from = {
            "split": self.split.manifest(),
            "device": self.device,
            "given": sorted(self.settings.given),
            "notices": list(notices_of(self.split)),
            "samples": self.num_samples,
            "seconds": self.seconds,
            "budgets": self.budgets,
            "measured": {title: value.as_dict() for title, value in self.measured.items()},
        }
        Run(self.root, self.settings.model_dump(mode="json", exclude={"report_to"}), made_from)
        kept = read_manifest(self.root)
        self.num_samples, self.seconds, self.budgets = kept["samples"], kept["seconds"], kept["budgets"]
        self.measured = {title: Measured(**values) for title, values in kept["measured"].items()}
        logger.info("%s", self.plan())

    def phase(self, arm: Arm, settings: ProbeSettings) -> Phase:
        """Return the training of an arm."""
        if arm.phase == "recpo":
            return Phase(
                arm.about,
                settings.recpo,
                lambda model, run, progress: train_recpo(model, self.split, settings.recpo, run, progress=progress),
            )
        return Phase(
            arm.about,
            settings.training,
            lambda model, run, progress: train_contrastive(
                model, self.split, settings.training, run, progress=progress
            ),
        )

    def arm_settings(self, arm: Arm, seed: int) -> ProbeSettings:
        """Lay an arm's settings and a seed over those of the probe."""
        tables = self.settings.model_dump(mode="json")
        merge(tables, arm.over)
        for table in ("training", "recpo"):
            tables[table]["seed"] = seed
        budget = self.budgets.get(START if arm.control_of else arm.name, {})
        own = {"max_minutes", "validate_every"} if arm.control_of else set()
        tables[arm.table] |= {name: value for name, value in budget.items() if name not in own}
        return validated(ProbeSettings, tables)

    def measure(self) -> None:
        """Measure what steps and answers take here, and fit trainings and samples into the minutes."""
        began = time.perf_counter()
        with self.progress("measuring what steps take here", 0):
            start, model = self.own_arms[0], self.create(0)
            self._model = model
            for arm in self.own_arms:
                settings = self.arm_settings(arm, 0)
                silent = settings.model.latent.steps
                if not silent:
                    self.measured |= rehearsed([self.phase(arm, settings)], model)
                elif start.about in self.measured:  # a position behind an item costs what an item does
                    step = (1 + silent) * self.measured[start.about].step
                    self.measured[arm.about] = replace(self.measured[start.about], step=step)
            few = self.split.test.subset(_MEASURED, seed=0)
            thoughts: list[Any] = []
            plain = seconds_of(lambda: sample_ranks(model, few))
            thinking = 0.0
            if any("thought" in arm.asked for arm in self.arms):
                thinking += seconds_of(lambda: thoughts.extend(model.think(few.requests())))
                thinking += seconds_of(lambda: sample_ranks(model, few, thoughts))
        self.seconds = {"no thought": plain / len(few), "thought": thinking / len(few)}
        self.budgets = {arm.name: {} for arm in self.own_arms}
        if self.options.minutes is not None:
            self.fit(60 * self.options.minutes, time.perf_counter() - began)
        for arm in self.own_arms:
            self.budgets[arm.name] |= self._lean(arm)

    @property
    def own_arms(self) -> list[Arm]:
        """Return the start and the ways: what controls are as long trained as."""
        return [arm for arm in self.arms if not arm.control_of]

    def further(self, model: R2ec, settings: ProbeSettings, seed: int) -> R2ec:
        """Return the model that an arm's training begins with, made from the start's."""
        model.config = settings.model.for_layers(int(model.backbone.model.config.num_hidden_layers))
        if not settings.model.latent.steps:
            return model
        centring = self.split.train.subset(_CENTRING, seed).histories()
        return with_latents(model, settings.model.latent, centring, seed=seed)

    def _lean(self, arm: Arm) -> dict[str, Any]:
        """Return what keeps an arm's validations within their share of its time, where nobody set them."""
        options: Any = self.phase(arm, self.arm_settings(arm, 0)).options
        if arm.about not in self.measured:
            return {}
        free = {name for name in type(options).model_fields if f"{arm.table}.{name}" not in self.settings.given}
        return dict(self.measured[arm.about].lean(options, free.__contains__))

    def fit(self, seconds: float, spent: float) -> None:
        """Share the seconds among measuring, judging and training, each whole training of all arms getting as many.

        The start gets no more than it needs; a way trains for as many steps as its time allows, and so do controls.
        """
        left = max(0.5 * seconds, seconds - spent) / self.options.trainings
        if self.options.samples is None:
            allowed = int(_JUDGED_SHARE * left / max(self.judging(1), 1e-6))
            self.num_samples = min(len(self.split.test), max(_FEWEST_JUDGED, allowed))
        left = max(0.3 * left, left - self.judging(self.num_samples))
        start, *ways = self.own_arms
        first = _START_SHARE * left
        self.budgets[START]["max_minutes"] = round(first / 60, 3)
        if start.about in self.measured:
            first = min(first, self.measured[start.about].expected("", self.settings.training)[""].seconds())
        each = (left - first) / (len(self.arms) - 1)
        for way in ways:
            self.budgets[way.name]["max_minutes"] = round(each / 60, 3)
            if way.about in self.measured and f"{way.table}.steps" not in self.settings.given:
                self.budgets[way.name]["steps"] = max(1, int(each / self.measured[way.about].step))

    def judging(self, samples: int) -> float:
        """Foresee the seconds of judging all arms on so many samples."""
        asked = [how for arm in self.arms for how in arm.asked]
        asked += ["thought"] * any(arm.is_way and "thought" in arm.asked for arm in self.arms)  # validation, for gates
        return samples * sum(self.seconds["thought" if how == "thought" else "no thought"] for how in asked)

    def pieces(self) -> dict[str, Expected]:
        """Return the pieces of work that the probe is, by the titles that its progress has."""
        found: dict[str, Expected] = {}
        for seed in range(self.options.trainings):
            for arm in self.arms:
                way = next((one for one in self.arms if one.name == arm.control_of), arm)
                measured = self.measured.get(way.about)
                if measured is not None and not self.is_answered(arm, seed):
                    options: Any = self.phase(way, self.arm_settings(way, seed)).options
                    found |= measured.expected(self.title(arm, seed), options)
                    per_sample = self.judging(1) / len(self.arms)
                    found[f"{JUDGING}, {self.title(arm, seed)}"] = Expected(self.num_samples, per_sample)
        return found

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
        return "\n".join(filter(None, [*lines, pilot_words(self.split, self.samples)]))

    def title(self, arm: Arm, seed: int) -> str:
        """Return what progress calls an arm's training."""
        return arm.about if self.options.trainings == 1 else f"{arm.about} ({seed + 1} of {self.options.trainings})"

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

    def load(self, folder: Path) -> R2ec:
        """Load a model that an arm saved."""
        return R2ec.from_pretrained(folder, backbone=self.backbone(), device=self.device)

    def answers_file(self, arm: Arm, seed: int) -> Path:
        """Name the file of an arm's answers."""
        return self.root / ANSWERS / f"{arm.name}-{seed}.json"

    def is_answered(self, arm: Arm, seed: int) -> bool:
        """Tell whether an arm has been judged."""
        return self.folder is not None and self.answers_file(arm, seed).is_file()

    def answer(self, arm: Arm, seed: int) -> None:
        """Train an arm and judge it, unless that was done before."""
        if self.is_answered(arm, seed):
            return
        model, run, settings = self.train(arm, seed)
        rows = run.metrics()
        options: Any = self.phase(arm, settings).options
        key = "valid_thinking_ndcg@10" if arm.asked[0] == "thought" else "valid_ndcg@10"
        found = {
            "study": "probe",
            "arm": arm.name,
            "seed": seed,
            "about": arm.about,
            "seconds": rows[-1]["seconds"] if rows else 0.0,
            "cpu_seconds": rows[-1]["cpu_seconds"] if rows else 0.0,
            "steps": rows[-1]["step"] if rows else 0,
            "validation": kept_value(rows, key, options.keep),
            "kept_step": kept_step(rows, key, options.keep),
            **judged(model, self.samples, arm, title=f"{JUDGING}, {self.title(arm, seed)}", progress=self.progress),
            **self.gated(model, arm),
            "users": np.unique(np.asarray(self.samples.users), return_inverse=True)[1].tolist(),
            "code": code_version(),
        }
        file = self.answers_file(arm, seed)
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as out:
            out.write((json.dumps(found, separators=(",", ":")) + "\n").encode())

    def gated(self, model: R2ec, arm: Arm) -> dict[str, Any]:
        """Ask a way in words what its gates are calibrated on and judged by; nothing of other arms."""
        if not {"thought", "no thought"} <= {*arm.asked} or not arm.is_way or not len(self.split.valid):
            return {}
        valid = self.split.valid.subset(self.num_samples, seed=0)
        asked = replace(arm, asked=("thought", "no thought"))
        ranks = judged(model, valid, asked, title=f"{JUDGING}, validation", progress=self.progress)["ranks"]
        features = {"valid": gate_features(model, valid), "test": gate_features(model, self.samples)}
        return {"valid": {"ranks": ranks}, "features": features}

    def train(self, arm: Arm, seed: int) -> tuple[R2ec, Run, ProbeSettings]:
        """Train an arm from its start, unless its model is there."""
        settings = self.arm_settings(arm, seed)
        if arm.control_of:
            settings = self.as_long(settings, arm, seed)
        folder = self.root / f"{arm.name}-{seed}"
        run = Run(
            folder,
            settings.model_dump(mode="json", exclude={"report_to"}),
            {"split": self.split.manifest(), "seed": seed},
        )
        if (folder / MODEL / CONFIG_FILE).is_file():
            return self.load(folder / MODEL), run, settings
        model = self.further(self.begun(arm, seed), settings, seed)
        self.phase(arm, settings).train(model, run, retitled(self.progress, self.title(arm, seed)))
        model.save_pretrained(folder / MODEL)
        if arm.name == START:
            self._trained = seed, {name: tensor.clone() for name, tensor in weights(model).items()}
        return model, run, settings

    def begun(self, arm: Arm, seed: int) -> R2ec:
        """Return what an arm begins with, by weights that are at hand or from the start's folder."""
        kept_seed, trained = self._trained
        if arm.name == START:
            self._model = self.create(seed) if self._model is None or seed else self._model
        elif self._model is not None and kept_seed == seed:
            set_weights(self._model, trained)
            self._model.writer = {}
        else:
            self._model = self.load(self.root / f"{START}-{seed}" / MODEL)
            self._trained = seed, {name: tensor.clone() for name, tensor in weights(self._model).items()}
        return self._model

    def as_long(self, settings: ProbeSettings, arm: Arm, seed: int) -> ProbeSettings:
        """Give a control the processor's time that its way's steps took, or as many steps where these cost alike."""
        way = Run.open(self.root / f"{arm.control_of}-{seed}", self.split.manifest()).metrics()[-1]
        likely, steps, minutes = way["step"], way["step"], None
        if arm.as_long == "cpu":
            seconds, start = max(way["cpu_seconds"], 0.1), self.measured.get(self.own_arms[0].about)
            likely = math.ceil(seconds / start.step) if start else 1
            steps, minutes = _SPARE * likely, seconds / 60
        update = {"steps": steps, "max_minutes": None, "max_cpu_minutes": minutes}
        update |= {"warmup_steps": min(settings.training.warmup_steps, likely)}
        update |= {"validate_every": min(settings.training.validate_every, max(1, math.ceil(likely / 3)))}
        return settings.model_copy(update={"training": settings.training.model_copy(update=update)})

    def about(self) -> dict[str, Any]:
        """Tell what the verdict is of."""
        settings = self.settings
        return {
            "minutes": self.options.minutes,
            "trainings": self.options.trainings,
            "samples": self.num_samples,
            "test samples": len(self.split.test),
            "language model": settings.model.backbone,
            "noun": settings.model.prompt.noun,
            "histories": "as text" if settings.model.reading == "text" else "a state for each item",
            "fingerprint": self.split.manifest()["fingerprint"][:16],
            "code": code_version(),
        }
