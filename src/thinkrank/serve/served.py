"""A run that is served: its stages as a cascade, its users, what others did, and its catalogue as it grows."""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from thinkrank._files import folder_digest
from thinkrank.cascade import Cascade, CascadeConfig
from thinkrank.data import Catalogue, Dataset, History, Requests
from thinkrank.errors import ThinkrankError
from thinkrank.evidence import Reasons, TextChecker
from thinkrank.evidence.crowd import Crowd
from thinkrank.language.engines.joining import JoiningEngine
from thinkrank.language.kept_states import KeptStates
from thinkrank.pretrained import local_folder
from thinkrank.rank import R2Rank
from thinkrank.recipes.base import recipe_of
from thinkrank.recipes.data import moved
from thinkrank.recipes.opening import opened
from thinkrank.recipes.reasons import counted_reasons
from thinkrank.retrieve import Fused, R2ec
from thinkrank.serve.options import ServeOptions

logger = logging.getLogger(__name__)

_STAGES = ("retrieve", "rank", "rerank")


@dataclass(eq=False)
class Served:
    """Hold a loaded run.

    Attributes:
        name: of the run.
        version: changes with any file of the model.
        stages: by what each is asked: retrieve, rank, rerank.
        dataset: whose users are known; None if the data is not at hand.
        reasons: what others did; None if nothing was counted.
        withdrawn: ids that are not answered with.
        repeats: whether items of the history are answered with, where a request does not say.
    """

    name: str
    version: str
    stages: Mapping[str, Any]
    cascade: Cascade | None
    dataset: Dataset | None = None
    reasons: Reasons | None = None
    withdrawn: dict[str, None] = field(default_factory=dict)
    repeats: bool = False
    kept: list[KeptStates] = field(default_factory=list)
    engines: list[JoiningEngine] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        model: Any,
        options: ServeOptions | None = None,
        *,
        name: str = "model",
        version: str = "",
        dataset: Dataset | None = None,
        reasons: Reasons | None = None,
    ) -> "Served":
        """Serve a stage: a cascade, or one stage alone.

        Args:
            model: the stage; its language models get engines that write for all requests together.
            options: what is kept between requests.
            name: for people.
            version: for people.
            dataset: whose users are known.
            reasons: what others did.

        Raises:
            ThinkrankError: if it can be asked nothing.
        """
        options = options or ServeOptions()
        cascade = model if isinstance(model, Cascade) else Cascade(model) if hasattr(model, "retrieve") else None
        stages = dict(cascade.stages) if cascade is not None else {}
        if cascade is None:
            stages = {verb: model for verb in _STAGES if callable(getattr(model, verb, None))}
        if not stages:
            raise ThinkrankError(
                f"a {type(model).__name__} neither retrieves, ranks nor re-ranks, so it cannot be served"
            )
        served = cls(name, version, stages, cascade, dataset, reasons)
        served.repeats = dataset is not None and dataset.repeats
        for part in _parts(model):
            served._equip(part, options)
        return served

    def _equip(self, model: "R2ec | R2Rank", options: ServeOptions) -> None:
        """Let a language model write for all together, and keep what it read and wrote."""
        kept = None
        if isinstance(model, R2ec) and options.kept_tokens:
            kept = KeptStates(options.kept_tokens)
            model.backbone = replace(model.backbone, kept=kept)
            self.kept.append(kept)
        prefixes = model.prefixes if isinstance(model, R2Rank) and model.config.prefix_tokens else None
        model.engine = engine = JoiningEngine(
            model.backbone,
            prefixes,
            batch_size=options.max_writing,
            kv_gib=options.kv_gib,
            max_kept=options.kept_thoughts,
            states=kept,
        )
        self.engines.append(engine)

    @property
    def catalogue(self) -> Catalogue:
        """Return the items."""
        stage = self.cascade if self.cascade is not None else next(iter(self.stages.values()))
        catalogue: Catalogue = stage.catalogue
        return catalogue

    @property
    def catalogue_version(self) -> str:
        """Return what changes whenever an item is added or withdrawn."""
        state = f"{self.version}/{len(self.catalogue)}/{'/'.join(sorted(self.withdrawn))}"
        return hashlib.blake2b(state.encode(), digest_size=6).hexdigest()

    @property
    def num_items(self) -> int:
        """Count the items that can be answered with."""
        return len(self.catalogue) - len(self.withdrawn)

    @property
    def kinds(self) -> dict[str, str]:
        """Return the kind of each stage."""
        return {verb: str(getattr(stage, "kind", type(stage).__name__)) for verb, stage in self.stages.items()}

    @property
    def can_think(self) -> bool:
        """Tell whether some stage can think."""
        return self.cascade is not None and bool(self.cascade.thinking_stages)

    @cached_property
    def writing_stages(self) -> frozenset[str]:
        """Return the stages whose thoughts are written by a language model, token by token."""
        if self.cascade is None:
            return frozenset()
        return frozenset(name for name in self.cascade.thinking_stages if [*_parts(self.stages[name])])

    @cached_property
    def checker(self) -> TextChecker:
        """Check what texts claim, by what others did where it was counted, else by the catalogue alone."""
        return TextChecker.of_catalogue(self.catalogue) if self.reasons is None else TextChecker(self.reasons)

    def history(self, ids: Sequence[str]) -> History:
        """Find the items of a typed history, by id or title.

        Raises:
            ThinkrankError: if one is unknown, or several fit.
        """
        return History.of([self.catalogue.find(item) for item in ids])

    def known_history(self, user: str) -> History:
        """Look up what a user of the run did; items that the model does not know are left out.

        Raises:
            ThinkrankError: if there is no such user, or the run's data is not at hand.
        """
        if self.dataset is None:
            raise ThinkrankError("this server knows no users: give a history")
        (history,) = Requests([self.dataset.history(user)]).within(self.catalogue, tells=False).histories
        return history

    def number_of(self, user: str | None) -> int | None:
        """Return the number of a known user, by which he is left out of counts; None for anybody else."""
        return None if user is None else self._numbers.get(user)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {} if self.dataset is None else {user: number for number, user in enumerate(self.dataset.users)}

    def search(self, query: str, limit: int) -> tuple[list[int], int]:
        """Find items in whose titles a word begins with each word of the query; ids count as titles.

        Returns:
            catalogue rows, those that begin with the query first, then the shorter ones; and how many there are.
        """
        words = query.casefold().split()
        if len(self._folded) != len(self.catalogue):
            self.__dict__.pop("_folded", None)
        found = [
            row
            for row, title in enumerate(self._folded)
            if all(f" {word}" in title for word in words) and self.catalogue.ids[row] not in self.withdrawn
        ]
        start = " " + " ".join(words)
        found.sort(key=lambda row: (not self._folded[row].startswith(start), len(self._folded[row]), row))
        return found[:limit], len(found)

    @cached_property
    def _folded(self) -> list[str]:
        pairs = zip(self.catalogue.titles, self.catalogue.ids, strict=True)
        return [" " + " ".join(f"{title} {item}".casefold().replace("(", " ").split()) for title, item in pairs]

    def add(self, items: Sequence[Mapping[str, Any]]) -> None:
        """Add items to every stage; nothing else may be answered meanwhile.

        Raises:
            ThinkrankError: if an id is taken, a column does not fit, or the stages take no items.
        """
        stage = self.cascade if self.cascade is not None else next(iter(self.stages.values()))
        if not hasattr(stage, "add_items"):
            raise ThinkrankError(f"a {type(stage).__name__} takes no items without being fitted anew")
        try:
            frame = pl.DataFrame([dict(item) for item in items], infer_schema_length=None)
        except (pl.exceptions.PolarsError, TypeError) as error:
            raise ThinkrankError(f"the items do not fit together: {error}") from error
        stage.add_items(Catalogue(frame))
        self.__dict__.pop("_folded", None)
        self.__dict__.pop("checker", None)
        if self.reasons is not None:  # what is new was chosen by nobody
            crowd = Crowd(self.reasons.crowd.histories, len(self.catalogue))
            self.reasons = Reasons(crowd, self.catalogue, self.reasons.nouns.removesuffix("s"))

    def withdraw(self, ids: Sequence[str]) -> None:
        """Answer with these items no more.

        Raises:
            ThinkrankError: if one is unknown.
        """
        for item in ids:
            self.catalogue.row(item)
        self.withdrawn |= dict.fromkeys(ids)


def open_served(
    where: str | Path, options: ServeOptions | None = None, *, path: str | None = None, device: str = "auto"
) -> Served:
    """Load a run, or a saved stage, to be served.

    Where the run's data is at hand its users are known, and reasons are counted in its train part.

    Args:
        where: folder of a run or of a saved stage, or a hub id.
        options: what is kept between requests.
        path: where the run's data is now; None for where it was.
        device: auto, cpu, cuda, cuda:1 or mps.

    Raises:
        ThinkrankError: if there is no saved model, or no data where it is said to be.
    """
    folder, run = local_folder(where), Path(where).expanduser()
    found = opened(run if run.exists() else folder)
    model, dataset, reasons = found.load(device), None, None
    if not hasattr(model, "catalogue"):  # of a class of your own that keeps none
        model.catalogue = found.catalogue(path)
    if found.verb == "retrieve" and not isinstance(model, Cascade):  # it thinks as `thinkrank recommend` lets it
        model = Cascade(model, config=CascadeConfig(think="always" if found.mode(None).think else "never"))
    if "data" in found.config:
        try:
            settings = recipe_of(run).settings.from_run(run)
            settings = settings.model_copy(update={"data": moved(settings.data, path)})
            split = settings.data.load_split()
            dataset = getattr(split, "dataset", None)
            reasons = counted_reasons(settings, split)
        except (ThinkrankError, OSError) as error:
            if path is not None:
                raise
            logger.warning("users and counted reasons are not served: %s", " ".join(str(error).split()))
    if reasons is not None:
        reasons = reasons.within(model.catalogue)
    version = folder_digest(folder)[:12]
    served = Served.of(model, options, name=run.resolve().name, version=version, dataset=dataset, reasons=reasons)
    served.repeats = not found.filters(None, path)
    return served


def _parts(stage: Any) -> Iterator["R2ec | R2Rank"]:
    """Yield the language models inside a stage."""
    if isinstance(stage, R2ec | R2Rank):
        yield stage
    inside = stage.stages if isinstance(stage, Cascade) else stage.parts if isinstance(stage, Fused) else {}
    for part in inside.values():
        yield from _parts(part)
