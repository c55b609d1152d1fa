"""Does thinking pay on this data? Ways of thinking and their controls, trained from shared starts and judged alike.

    found = probe(probe_settings(Layers(source="movielens-100k", assignments=["probe.minutes=10"])), "runs/probe")
    print(found.sentence)

The folder holds `config.toml`, `manifest.json` and `plan.txt`, a folder for each arm and training, `answers/` with a
file for each (see `thinkrank.evaluate.studies.read_study`), `results.json`, `comparisons.json`, `probe.json` and
`report.html`. A start there goes on with what is not done, and a second process takes the trainings that the first has
not begun.
"""

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from thinkrank._code import code_version
from thinkrank._files import atomic_write, folder_digest
from thinkrank._lock import HeldError, locked
from thinkrank.data import Split
from thinkrank.options import spelt
from thinkrank.pretrained import MODEL, is_saved
from thinkrank.recipes.base import notices_of
from thinkrank.recipes.comparing import judged_on
from thinkrank.recipes.kept import kept_step, kept_value
from thinkrank.recipes.layers import resumed, run_config, validated
from thinkrank.recipes.plan import counts_of
from thinkrank.recipes.probe_arms import START, Arm
from thinkrank.recipes.probe_judging import gate_features, joined, judged
from thinkrank.recipes.probe_options import ProbeSettings
from thinkrank.recipes.probe_pilot import counted, counting_arms
from thinkrank.recipes.probe_plan import CALIBRATED, COLD, JUDGING, PlannedProbe
from thinkrank.recipes.probe_verdict import Probed, per_sample, read_probe, write_probe
from thinkrank.retrieve import R2ec
from thinkrank.retrieve.r2ec.further import with_latents
from thinkrank.retrieve.r2ec.weights import set_weights, weights
from thinkrank.training import Progress, Run, no_progress
from thinkrank.training.progress import estimated, retitled
from thinkrank.training.rehearsal import Measured
from thinkrank.training.run import is_begun, read_manifest, without_none

_CENTRING = 64
"""Histories on which the mean states of latent positions are taken."""
PLAN = "plan.txt"
_SPARE = 10
"""Times the steps that a control is likely to make in its time: a bound that it should not meet."""
LEAST_SECONDS = 0.1
"""Of the processor, that a control of equal time gets at least, as no time at all is no bound for a training."""

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

    Processes of one machine that are given the same folder share its trainings, and each returns what all found.

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
    with _waited_for(folder, progress):
        work = _Probe(settings, folder, split, device, progress)
        work.open()
        work.count()
    with estimated(work.pieces()):
        elsewhere = []
        for seed in range(work.options.trainings):
            try:
                with locked(work.training_folder(seed)):
                    work.answer_all(seed)
            except HeldError:
                elsewhere.append(seed)
        for seed in elsewhere:  # nothing is left to do there, unless that process was killed
            with _waited_for(work.training_folder(seed), progress):
                work.answer_all(seed)
    with _waited_for(folder, progress):
        found = read_probe(folder, work.arms, dataset=work.split.dataset.name, about=work.about())
        write_probe(folder, found)
        per_sample(folder, work.arms, found.declared, work.judged_on()).save(folder)
    return found


@contextmanager
def _waited_for(folder: Path, progress: Progress) -> Iterator[None]:
    """Hold a folder, once no other process does."""
    with ExitStack() as held:
        try:
            held.enter_context(locked(folder))
        except HeldError:
            with progress("waiting for another process", 0):
                held.enter_context(locked(folder, waits=True))
        yield


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
    work = PlannedProbe(settings, None, split, device, progress)
    work.measure()
    return work.settings, work.plan()


class _Probe(PlannedProbe):
    """A probe in progress."""

    def open(self) -> None:
        """Open the folder: measure and decide what the minutes allow, or take over what was decided before."""
        was_begun = is_begun(self.root)
        if was_begun:
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
        Run(self.root, run_config(self.root) if was_begun else _spelt(self.settings), made_from)
        kept = read_manifest(self.root)
        self.num_samples, self.seconds, self.budgets = kept["samples"], kept["seconds"], kept["budgets"]
        self.measured = {title: Measured(**values) for title, values in kept["measured"].items()}
        if not was_begun:
            with atomic_write(self.root / PLAN) as out:  # from now on nobody measures and decides anew
                out.write(f"{self.plan()}\n".encode())
        logger.info("%s", self.plan())

    def further(self, model: R2ec, settings: ProbeSettings, seed: int) -> R2ec:
        """Return the model that an arm's training begins with, made from the start's."""
        model.reconfigure(settings.model.for_layers(int(model.backbone.model.config.num_hidden_layers)))
        if not settings.model.latent.steps:
            return model
        centring = self.split.train.subset(_CENTRING, seed).histories()
        return with_latents(model, settings.model.latent, centring, seed=seed)

    def count(self) -> None:
        """Answer by counting, unless that was done before."""
        for arm in counting_arms(self.split):
            if not self.is_answered(arm, 0):
                about = {"study": "probe", "arm": arm.name, "seed": 0, "about": arm.about, "seconds": 0.0}
                self.write(arm, 0, about | counted(arm, self.split, self.samples))

    def answer_all(self, seed: int) -> None:
        """Train all arms with this seed and judge them, unless that was done before."""
        for arm in self.arms:
            self.answer(arm, seed)

    def answer(self, arm: Arm, seed: int) -> None:
        """Train an arm and judge it, unless that was done before."""
        if self.is_answered(arm, seed):
            return
        model, run, settings = self.train(arm, seed)
        rows = run.metrics()
        options: Any = self.phase(arm, settings).options
        key = "valid_ndcg@10" if arm.asked[0] == "no thought" else "valid_thinking_ndcg@10"
        found = {
            "study": "probe",
            "arm": arm.name,
            "seed": seed,
            "about": arm.about,
            "seconds": rows[-1]["seconds"] if rows else 0.0,
            "cpu_seconds": self.cpu_seconds(arm, seed),
            "steps": rows[-1]["step"] if rows else 0,
            "unread": arm.phase == "recpo" and rows[-1]["step"] == 0 < options.steps and options.gate is not None,
            "validation": kept_value(rows, key, options.keep),
            "kept_step": kept_step(rows, key, options.keep),
            **self.judged(model, arm, seed),
        }
        self.write(arm, seed, found)

    def write(self, arm: Arm, seed: int, found: dict[str, Any]) -> None:
        """Keep an arm's answers."""
        users = np.unique(np.asarray(self.samples.users), return_inverse=True)[1]
        found |= {"users": users.tolist(), "code": code_version()}
        file = self.answers_file(arm, seed)
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as out:
            out.write((json.dumps(found, separators=(",", ":")) + "\n").encode())

    def judged(self, model: R2ec, arm: Arm, seed: int) -> dict[str, Any]:
        """Ask an arm's model; what the same model was asked for another arm is taken over from there.

        Ways that ask the same models, thoughts that were not reinforced, and trainings that kept their start save so
        most of the time that judging takes.
        """
        digest = folder_digest(self.kept(arm, seed))
        files = [self.answers_file(one, seed) for one in self.arms if self.is_answered(one, seed)]
        known = [found for found in (json.loads(file.read_bytes()) for file in files) if found.get("model") == digest]
        title = f"{JUDGING}, {self.title(arm, seed)}"
        found = joined(known, arm)
        left = replace(arm, asked=tuple(how for how in arm.asked if how not in found["ranks"]))
        if left.asked:
            found = joined([found, judged(model, self.samples, left, title=title, progress=self.progress)], arm)
        if seed == 0:
            found |= self.gated(model, arm, known)
        return {"model": digest, **found}

    def gated(self, model: R2ec, arm: Arm, known: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Ask a way that answers behind thoughts what its gates are calibrated on and judged by; nothing of others.

        What gates reach is told of the first training, and not asked again where the model's answers are known.
        """
        if arm.asked[:2] != ("thought", "no thought") or not len(self.split.valid):
            return {}
        for one in known:
            if "features" in one:
                return {"valid": one["valid"], "features": one["features"]}
        valid = self.split.valid.subset(min(self.num_samples, CALIBRATED), seed=0)
        asked = replace(arm, asked=("thought", "no thought"))
        ranks = judged(model, valid, asked, title=f"{JUDGING}, validation", progress=self.progress)["ranks"]
        features = {"valid": gate_features(model, valid), "test": gate_features(model, self.samples)}
        return {"valid": {"ranks": ranks}, "features": features}

    def train(self, arm: Arm, seed: int) -> tuple[R2ec, Run, ProbeSettings]:
        """Train an arm from its start, unless its model is there."""
        settings = self.control_settings(arm, seed) if arm.control_of else self.arm_settings(arm, seed)
        run = self.opened(self.root / f"{arm.folder}-{seed}", settings, seed)
        kept = self.kept(arm, seed)
        if is_saved(kept):
            return self.load(kept), run, settings
        twin = self.twin(arm, run, seed)
        if twin is not None:
            return self.taken_over(twin, kept, run, seed), run, settings
        if self.is_cold_started(arm):
            model = self.cold_started(arm, settings, seed)
        else:
            model = self.further(self.begun(arm, seed), settings, seed)
        self.phase(arm, settings).train(model, run, retitled(self.progress, self.title(arm, seed)))
        model.save_pretrained(kept)
        if arm.name == START:
            self._trained = seed, _copied(model)
        return model, run, settings

    def twin(self, arm: Arm, run: Run, seed: int) -> Arm | None:
        """Return an arm whose training was this one: the same settings from the same start, such as of two controls."""
        trained = (one for one in self.arms if one.folder != arm.folder and self.is_made(one.folder, seed))
        alike = (one for one in trained if one.phase == arm.phase)
        configs = ((one, run_config(self.root / f"{one.folder}-{seed}")) for one in alike)
        return next((one for one, config in configs if without_none(config) == run.config), None)

    def taken_over(self, twin: Arm, kept: Path, run: Run, seed: int) -> R2ec:
        """Keep what another arm's training logged and made as this arm's own."""
        run.rewind(-1)
        for row in Run.open(self.root / f"{twin.folder}-{seed}", self.split.manifest()).metrics():
            run.log(row)
        run.flush()
        model = self.load(self.kept(twin, seed))
        model.save_pretrained(kept)
        return model

    def cold_started(self, arm: Arm, settings: ProbeSettings, seed: int) -> R2ec:
        """Teach a trained start thoughts in words by examples, once for all ways in words."""
        folder = self.root / f"{COLD}-{seed}"
        is_taught = is_saved(folder / MODEL)
        kept_seed, taught = self._taught
        if is_taught and kept_seed != seed:
            return self.load(folder / MODEL)
        model = self.further(self.begun(arm, seed), settings, seed)
        if is_taught:
            set_weights(model, taught)
            return model
        settings = self.cold_settings(settings)
        progress = retitled(self.progress, self.cold_title(arm, seed))
        self.contrastive(arm, settings).train(model, self.opened(folder, settings, seed), progress)
        model.save_pretrained(folder / MODEL)
        self._taught = seed, _copied(model)
        return model

    def kept(self, arm: Arm, seed: int) -> Path:
        """Return the folder of an arm's trained model."""
        return self.start(seed) if arm.name == START else self.root / f"{arm.folder}-{seed}" / MODEL

    def logs(self, arm: Arm, seed: int) -> list[Path]:
        """Return the folders of an arm's trainings: the cold start where it has one, then its own."""
        own, cold = self.root / f"{arm.folder}-{seed}", self.root / f"{COLD}-{seed}"
        return [cold, own] if arm.phase == "recpo" and is_begun(cold) else [own]

    def opened(self, folder: Path, settings: ProbeSettings, seed: int) -> Run:
        """Open the folder of one training; a setting that it was made before has the default's meaning there."""
        config = _spelt(settings)
        if is_begun(folder) and _spelt(validated(ProbeSettings, kept := run_config(folder))) == config:
            config = kept
        return Run(folder, config, {"split": self.split.manifest(), "seed": seed})

    def cpu_seconds(self, arm: Arm, seed: int) -> float | None:
        """Sum the processor's time of an arm's training, its cold start included; None where its log does not tell."""
        folders = (folder for folder in self.logs(arm, seed) if is_begun(folder))
        logs = [Run.open(folder, self.split.manifest()).metrics() for folder in folders]
        lasts = [rows[-1] for rows in logs if rows]
        return (
            sum(row["cpu_seconds"] for row in lasts) if lasts and all("cpu_seconds" in row for row in lasts) else None
        )

    def begun(self, arm: Arm, seed: int) -> R2ec:
        """Return what an arm begins with, by weights that are at hand or from the start's folder."""
        kept_seed, trained = self._trained
        if arm.name == START:
            is_new = kept_seed < 0 and not seed  # what was measured with and not trained yet
            self._model = self._model if self._model is not None and is_new else self.create(seed)
        elif self._model is not None and kept_seed == seed:
            set_weights(self._model, trained)
            self._model.writer, self._model.crowd = {}, None
        else:
            self._model = self.load(self.start(seed))
            self._trained = seed, _copied(self._model)
        return self._model

    def control_settings(self, arm: Arm, seed: int) -> ProbeSettings:
        """Lay over a control's settings what makes it as long as its way; one that has begun keeps the time it got."""
        settings, folder = self.as_long(self.arm_settings(arm, seed), arm, seed), self.root / f"{arm.folder}-{seed}"
        if not is_begun(folder):
            return settings
        kept = {"max_cpu_minutes": run_config(folder)["training"].get("max_cpu_minutes")}
        return settings.model_copy(update={"training": settings.training.model_copy(update=kept)})

    def as_long(self, settings: ProbeSettings, arm: Arm, seed: int) -> ProbeSettings:
        """Give a control the processor's time that its way's steps took, or as many steps where these cost alike.

        A control of equal time encodes all items at most as often as its way: oftener, its time would go there and not
        into updates. Where a way was not trained at all, such as by a gate, the control keeps its start, too.
        """
        way = next(one for one in self.arms if one.name == arm.control_of)
        likely = steps = self.steps(self.root / f"{way.folder}-{seed}")
        update: dict[str, Any] = {"steps": steps, "max_minutes": None, "max_cpu_minutes": None}
        start = self.measured.get(self.own_arms[0].about)
        if way.phase == "recpo" and not any(map(self.steps, self.logs(way, seed))):
            update["steps"] = likely = 0  # nothing was learnt, and nothing is here
        elif arm.as_long == "steps":
            taken = self.arm_settings(way, seed).training
            update |= {name: getattr(taken, name) for name in ("validate_every", "refresh_every")}
        elif start is None:
            update |= {"steps": _SPARE, "max_cpu_minutes": max(self.cpu_seconds(way, seed) or 0.0, LEAST_SECONDS) / 60}
            likely = 1
        else:
            seconds, count = max(self.cpu_seconds(way, seed) or 0.0, LEAST_SECONDS), self.encodings(way, seed)
            encoding = min(start.encoding_cpu, seconds / (2 * count))
            likely = max(1, math.ceil((seconds - count * encoding) / max(start.cpu, 1e-4)))
            every = math.ceil(likely / count)
            update |= {"steps": _SPARE * likely, "validate_every": every, "refresh_every": every}
            known = encoding if count == 1 else 0.0  # else its own encodings tell it what the last one will take
            update["max_cpu_minutes"] = (seconds - known) / 60
        update["warmup_steps"] = min(settings.training.warmup_steps, likely)
        return settings.model_copy(update={"training": settings.training.model_copy(update=update)})

    def encodings(self, way: Arm, seed: int) -> int:
        """Count how often a way's training, its cold start included, encoded all items behind a step; at least once."""
        settings = self.arm_settings(way, seed)
        own: Any = self.phase(way, settings).options
        count = 0
        for log, options in zip(reversed(self.logs(way, seed)), (own, settings.training), strict=False):
            last = self.steps(log)
            behind = {*range(options.refresh_every, last, options.refresh_every)}
            count += len(behind.union(range(options.validate_every, last, options.validate_every))) + (last > 0)
        return max(1, count)

    def steps(self, folder: Path) -> int:
        """Return how many steps a training made."""
        return int(Run.open(folder, self.split.manifest()).metrics()[-1]["step"])

    def judged_on(self) -> dict[str, Any]:
        """Say what a run must be judged on to be compared."""
        candidates = f"whole catalogue ({len(self.split.dataset.catalogue)} items)"
        unseen = not self.split.dataset.repeats
        return judged_on(self.split, self.samples, self.num_samples, candidates, unseen=unseen, part="test")

    def about(self) -> dict[str, Any]:
        """Tell what the verdict is of."""
        settings = self.settings
        return {
            "minutes": self.options.minutes,
            "trainings": self.options.trainings,
            "samples": self.num_samples,
            "test samples": len(self.split.test),
            "trained before": bool(self.options.starts),
            "updates of a start": self.updates_of_a_start(),
            "learnt from": counts_of(settings, self.split),
            "language model": settings.model.backbone,
            "noun": settings.model.prompt.noun,
            "histories": "as text" if settings.model.reading == "text" else "a state for each item",
            "fingerprint": self.split.manifest()["fingerprint"][:16],
            "code": code_version(),
        }


def _spelt(settings: ProbeSettings) -> dict[str, Any]:
    return spelt(settings) | {"report_to": None}


def _copied(model: R2ec) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in weights(model).items()}
