"""Systems without a trained language model, as tables and studies set them beside one, chosen on validation.

`fitted_baselines` looks once over the settings of those that are fitted in seconds and trains networks as they are by
default; `tuned_baselines` searches the settings of all of them within a budget of time.

Shape legend: S validation samples.
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import Field

from thinkrank.data import Split
from thinkrank.errors import ThinkrankError
from thinkrank.metrics import ndcg, relevance_from_ranks
from thinkrank.options import Options
from thinkrank.retrieve import ALS, EASE, GRU4Rec, ItemKNN, Popularity, SASRec, TextCosine, train_sequential
from thinkrank.retrieve.base import DenseRetriever
from thinkrank.retrieve.item_item import ItemItem
from thinkrank.training import Progress, UnsavedRun, no_progress

logger = logging.getLogger(__name__)

POPULARITY, ITEM_KNN, EASE_R, SASREC = "popularity", "item-kNN", "EASE", "SASRec"
IALS, TEXT, GRU4REC = "ALS", "text", "GRU4Rec"
REFERENCES = (POPULARITY, ITEM_KNN)
"""What every other system of a table is tested against."""

PAIRED = (ITEM_KNN, EASE_R)
"""Those that hold a number for each pair of items."""
MOST_PAIRED_ITEMS = 15_000
"""Of a catalogue for which that is done: 0.9 GB, and thrice that while EASE is solved."""

VALIDATION_SAMPLES = 2000
_TRAININGS = 3
"""How many trainings a network's share of the budget is meant for at least: each may take that part of it."""
_ANSWERS = {"window", "decay", "centred"}
"""Settings that count in answers only: what was learnt serves all their values."""
_OF_HISTORIES = {"decay": (1.0, 0.9, 0.8, 0.7, 0.6, 0.5), "window": (20, 5, 10, 50)}
_OF_NETWORKS: dict[str, tuple[Any, ...]] = {
    "train_in_file_order": (False, True),
    "max_length": (20, 50, 100),
    "dropout": (0.3, 0.5, 0.2),
    "learning_rate": (1e-3, 3e-3, 5e-4),
    "width": (256, 128, 64),
}


@dataclass(frozen=True)
class System:
    """Describe a system of a table.

    Attributes:
        name: in tables.
        kind: its class.
        tried: values of its settings that are tried, one setting after the other; what the class has by default is
            tried first of all, and stays where nothing is better.
    """

    name: str
    kind: type[DenseRetriever[Any]]
    tried: Mapping[str, tuple[Any, ...]]

    @property
    def is_network(self) -> bool:
        """Tell whether it is trained for minutes and chosen by a seed."""
        return issubclass(self.kind, SASRec | GRU4Rec)

    @property
    def slug(self) -> str:
        """Return its name for folders and command lines."""
        return self.kind.kind

    def config(self, **changes: Any) -> Options:
        """Return its default options, with changes."""
        config: Options = self.kind.config_class(**changes)
        return config


SYSTEMS = {
    system.name: system
    for system in (
        System(POPULARITY, Popularity, {"half_life_days": (None, 7.0, 30.0, 90.0, 365.0)}),
        System(
            ITEM_KNN, ItemKNN, {"shrinkage": (10.0, 0.0, 50.0, 200.0, 1000.0), "neighbours": (200, 50), **_OF_HISTORIES}
        ),
        System(EASE_R, EASE, {"ridge": (500.0, 100.0, 2000.0, 10_000.0, 50_000.0), **_OF_HISTORIES}),
        System(TEXT, TextCosine, {"centred": (True, False), **_OF_HISTORIES}),
        System(
            IALS,
            ALS,
            {
                **_OF_HISTORIES,
                "ridge": (50.0, 10.0, 200.0, 1000.0),
                "confidence": (10.0, 3.0, 30.0),
                "width": (64, 32, 128),
            },
        ),
        System(GRU4REC, GRU4Rec, _OF_NETWORKS),
        System(SASREC, SASRec, {**_OF_NETWORKS, "layers": ("transformer", "ligr")}),
    )
}
"""Every system, those that need the least time first."""


def crowd_bytes(names: Sequence[str], num_items: int) -> int:
    """Return about what fitted systems take on the disk: weights between all items, or at most 384 numbers of each."""
    pairs = [issubclass(SYSTEMS[name].kind, ItemItem) for name in names]
    return sum(4 * num_items * (num_items if of_pairs else 384) for of_pairs in pairs)


class Trial(Options):
    """Hold one thing that was tried.

    Attributes:
        settings: those that are tried, with their values.
        ndcg: NDCG@10 on the validation samples.
        seconds: it took.
        stopped: why a training ended early; empty if it did not.
    """

    settings: dict[str, Any]
    ndcg: float
    seconds: float
    stopped: str = ""


class Tuning(Options):
    """Tell how a system's settings were chosen."""

    system: str = Field(description="name in tables")
    minutes: float | None = Field(description="share of the budget that it could use; none without a budget")
    seconds: float = Field(description="time spent")
    samples: int = Field(description="validation samples")
    chosen: dict[str, Any] = Field(description="settings that were chosen, of those that were tried")
    ndcg: float | None = Field(description="their NDCG@10 on the validation samples; none without samples")
    trials: tuple[Trial, ...] = Field(description="everything that was tried, in order")


class Search:
    """Search the settings of one system, one after the other, by NDCG@10 on validation samples.

    Args:
        system: what is fitted.
        split: of it, train and valid are used.
        minutes: what may be spent; None for one look at every value. With a budget the search goes on until no change
            of one setting is better. The default settings are fitted whatever they take.
        samples: validation samples, drawn once.
        seed: of networks.
        device: where networks train, and texts are read.
    """

    def __init__(
        self,
        system: System,
        split: Split,
        *,
        minutes: float | None = None,
        samples: int = VALIDATION_SAMPLES,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        self.system, self.split, self.minutes, self.device = system, split, minutes, device
        self._started, self._slowest = time.perf_counter(), 0.0
        self._fixed: dict[str, Any] = {}
        if system.is_network:
            limit = None if minutes is None else minutes / _TRAININGS
            self._fixed = {"seed": seed, "validation_samples": samples, "max_minutes": limit}
        self._valid = split.valid.subset(samples, seed=0)
        self.trials: list[Trial] = []
        self.best: DenseRetriever[Any] = system.kind()
        self._highest = float("-inf")

    @cached_property
    def tried(self) -> dict[str, tuple[Any, ...]]:
        """Return the settings that can make a difference to this data."""
        without = set()
        if not self.split.dataset.has_times:
            without.add("half_life_days")
        if not any(history.tied is not None for history in self.split.train_histories()[:1]):
            without.add("train_in_file_order")
        return {name: values for name, values in self.system.tried.items() if name not in without}

    @property
    def seconds(self) -> float:
        """Return the time spent so far."""
        return time.perf_counter() - self._started

    def run(self, progress: Progress = no_progress) -> tuple[DenseRetriever[Any], Tuning]:
        """Search, and return the best and how it was found."""
        self._try({}, progress)
        while self.trials and self._improves(progress) and self.minutes is not None:
            pass
        record = Tuning(
            system=self.system.name,
            minutes=self.minutes,
            seconds=round(self.seconds, 1),
            samples=len(self._valid),
            chosen={name: getattr(self.best.config, name) for name in self.system.tried},
            ndcg=self._highest if self.trials else None,
            trials=tuple(self.trials),
        )
        return self.best, record

    def _improves(self, progress: Progress) -> bool:
        """Look once over every setting, and tell whether any change was better.

        The width comes first if the default network was stopped by the clock: a narrower one gets further.
        """
        names = sorted(self.tried, key=lambda name: bool(self.trials[0].stopped) and name != "width")
        before, changes = self._highest, [(name, value) for name in names for value in self.tried[name]]
        with progress(f"settings of {self.system.name}", len(changes)) as advance:
            for setting, value in changes:
                settings = {name: getattr(self.best.config, name) for name in self.tried} | {setting: value}
                is_known = any(trial.settings == settings for trial in self.trials)
                if not is_known and not self._is_over(setting):
                    self._try({setting: value}, no_progress)
                advance(note=f"best NDCG@10 {self._highest:.4f}")
        return self._highest > before

    def _is_over(self, setting: str) -> bool:
        """Tell whether a change of this setting would, by what others took, exceed the budget."""
        if self.minutes is None or setting in _ANSWERS:  # they take moments
            return False
        return self.seconds + self._slowest > 60 * self.minutes

    def _try(self, changes: dict[str, Any], progress: Progress) -> None:
        """Fit the best so far with changes, and keep it if it is better."""
        started, stopped = time.perf_counter(), ""
        model = self.system.kind(self._changed(changes), **({"device": self.device} if self.system.is_network else {}))
        if changes and changes.keys() <= _ANSWERS:
            model.learn(self.best.catalogue, self.best.arrays)
        else:
            stopped = self._fit(model, progress)
        if not len(self._valid):
            self.best = model
            return
        ranks_S = model.target_ranks(self._valid.requests(), self._valid.targets)
        value = float(ndcg(relevance_from_ranks(ranks_S, 10), 10).mean())
        seconds = time.perf_counter() - started
        settings = {name: getattr(model.config, name) for name in self.tried}
        self.trials.append(Trial(settings=settings, ndcg=value, seconds=round(seconds, 2), stopped=stopped))
        if not changes.keys() or not changes.keys() <= _ANSWERS:
            self._slowest = max(self._slowest, seconds)
        if value > self._highest:
            self.best, self._highest = model, value

    def _changed(self, changes: dict[str, Any]) -> Options:
        if not changes:
            return self.system.config(**self._fixed)
        return self.system.kind.config_class(**{**self.best.config.model_dump(), **changes})

    def _fit(self, model: Any, progress: Progress) -> str:
        """Fit or train, and tell why a training ended early."""
        if self.system.is_network:
            run = UnsavedRun()
            train_sequential(model, self.split, run=run, progress=progress)
            limit, spent = model.config.max_minutes, run.metrics()[-1]["seconds"]
            return "" if limit is None or spent < 60 * limit else f"{limit:.2g} minutes were over"
        if isinstance(model, TextCosine):
            model.fit(self.split, device=self.device, progress=progress)
        else:
            model.fit(self.split)
        return ""


def affordable(names: Sequence[str], num_items: int) -> tuple[str, ...]:
    """Leave out systems that a large catalogue has no room for, and say so."""
    left_out = [name for name in names if name in PAIRED and num_items > MOST_PAIRED_ITEMS]
    if left_out:
        logger.warning("%s items: %s would hold a number for each pair, left out", num_items, " and ".join(left_out))
    return tuple(name for name in names if name not in left_out)


def fitted_baselines(
    split: Split, names: Sequence[str], *, seed: int = 0, device: str = "auto", progress: Progress = no_progress
) -> dict[str, DenseRetriever[Any]]:
    """Fit systems on the train part with settings chosen on the valid part; networks only stop early on that.

    What a large catalogue has no room for is left out; see `affordable`.

    Args:
        split: the data.
        names: of the systems, in the order of the table.
        seed: of networks.
        device: where networks train and answer.
        progress: how to show the choice of settings and the training.

    Raises:
        ThinkrankError: if a name is unknown.
    """
    systems: dict[str, DenseRetriever[Any]] = {}
    known = list(dict.fromkeys(system_named(name).name for name in names))
    for name in affordable(known, len(split.dataset.catalogue)):
        system = SYSTEMS[name]
        if system.is_network:
            network: Any = system.kind
            systems[name] = model = network(system.config(seed=seed), device=device)
            train_sequential(model, split, progress=progress)
        else:
            systems[name], _ = Search(system, split, device=device).run(progress)
    return systems


def tuned_baselines(
    split: Split,
    names: Sequence[str],
    *,
    minutes: float,
    samples: int = VALIDATION_SAMPLES,
    seed: int = 0,
    device: str = "auto",
    done: Mapping[str, Tuning] | None = None,
    progress: Progress = no_progress,
) -> Iterator[tuple[DenseRetriever[Any], Tuning]]:
    """Search the settings of systems within a budget, and yield each with how it was found, when it is.

    What is left of the budget is shared equally by the systems that are left; those that need little time come first,
    whatever the order of the names.

    Args:
        split: the data.
        names: of the systems.
        minutes: for all of them; a system is fitted once whatever that takes.
        samples: validation samples.
        seed: of networks.
        device: where networks train and answer.
        done: systems that were tuned earlier, with what they spent of the same budget; they are left out.
        progress: how to show the work.

    Raises:
        ThinkrankError: if a name is unknown, or there is no validation sample.
    """
    if not len(split.valid):
        raise ThinkrankError(f"{split.dataset.name}: the valid part holds no sample to choose settings by")
    done = done or {}
    wanted = affordable([system_named(name).name for name in names], len(split.dataset.catalogue))
    left = [system for system in SYSTEMS.values() if system.name in wanted and system.name not in done]
    budget = 60 * minutes - sum(record.seconds for record in done.values())
    for number, system in enumerate(left):
        share = max(budget / (len(left) - number), 0.6 * minutes) / 60  # a hundredth, where all is spent
        search = Search(system, split, minutes=share, samples=samples, seed=seed, device=device)
        model, record = search.run(progress)
        budget -= record.seconds
        yield model, record


def chosen_settings(systems: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what was chosen for each system of which settings were tried, ready for JSON."""
    return {
        name: {setting: getattr(systems[name].config, setting) for setting in system.tried}
        for name, system in SYSTEMS.items()
        if name in systems and not system.is_network
    }


def system_named(name: str) -> System:
    """Find a system by its name in tables or its slug.

    Raises:
        ThinkrankError: if there is none.
    """
    for system in SYSTEMS.values():
        if name in (system.name, system.slug):
            return system
    known = ", ".join(system.slug for system in SYSTEMS.values())
    raise ThinkrankError(f"no system is called {name!r}; there are {known}")
