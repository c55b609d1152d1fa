"""Open what a run trained to ask it: which stage it is of, its catalogue, its data, how it answers best.

Nothing here imports torch, nor loads a model, before `Opened.load` is called.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from thinkrank.data.catalogue import Catalogue
from thinkrank.data.dataset import Dataset
from thinkrank.data.requests import Requests
from thinkrank.errors import ThinkrankError
from thinkrank.pretrained import (
    CATALOGUE_FILE,
    CONFIG_FILE,
    imported,
    is_saved,
    kind_of,
    load,
    read_config,
    saved_in,
)
from thinkrank.recipes.kept import FIGURES, kept_row
from thinkrank.recipes.kinds import stage_of
from thinkrank.recipes.layers import run_config, validated
from thinkrank.stages.answers import Ranking

_NUM_REASONS = 2
_NOUNS = {"retrieve": "retriever", "rank": "ranker", "rerank": "re-ranker", "cascade": "cascade"}
_COMMANDS = {"retrieve": "recommend", "rank": "rank", "rerank": "rerank", "cascade": "recommend"}
_OWN = ("retriever", "ranker", "reranker")
"""The tables of settings that name a class of the user's in a stage's place."""


@dataclass(frozen=True)
class Mode:
    """Tell whether a model answers after a thought.

    Attributes:
        think: whether it does; None where it cannot think.
        why: it does or does not, in words; empty where it cannot.
    """

    think: bool | None = None
    why: str = ""

    @property
    def told(self) -> str:
        """Say it in words, to stand behind "answered"."""
        if self.think is None:
            return "without a thought"
        return f"{'after' if self.think else 'without'} a thought: {self.why}"


@dataclass(frozen=True, eq=False)
class Opened:
    """Hold a run, or the folder of a saved stage, that is about to be asked.

    Attributes:
        folder: as it was named.
        saved: where the trained stage is.
        verb: what it is asked by.
        kind: of the saved stage.
        config: settings of the run; empty for a saved stage alone.
    """

    folder: Path
    saved: Path
    verb: str
    kind: str
    config: dict[str, Any]

    def dataset(self, path: str | None = None) -> Dataset:
        """Read the run's data, from where it is now if a path is given.

        Raises:
            ThinkrankError: if there is no run, or the data cannot be read.
        """
        if "data" not in self.config:
            raise ThinkrankError(f"{self.folder} is a saved stage without a run, so it has no data: type the history")
        from thinkrank.recipes.data import DataSettings, moved

        read: Dataset = self._kept(
            f"dataset {path}", lambda: moved(validated(DataSettings, self.config["data"]), path).load_and_tell()
        )
        return read

    def catalogue(self, path: str | None = None) -> Catalogue:
        """Return the items that the model knows; of a class that saves none, those of the data."""
        if (self.saved / CATALOGUE_FILE).is_file():
            known: Catalogue = self._kept("catalogue", lambda: Catalogue.load(self.saved / CATALOGUE_FILE))
            return known
        return self.dataset(path).catalogue

    def filters(self, asked: bool | None, path: str | None = None) -> bool:
        """Tell whether items of the history are left out: as asked, else unless people take things again here.

        Args:
            asked: what was asked for; None for what the data says, which may be a prepared folder that says so, too.
            path: where the data is now; None for where it was.
        """
        if asked is not None:
            return asked
        data = self.config.get("data", {})
        where = path or data.get("source")
        prepared = None if where is None else Path(where).expanduser() / "dataset.json"
        told = prepared is not None and prepared.is_file() and json.loads(prepared.read_bytes()).get("repeats") is True
        return not (data.get("repeats", False) or told)

    @cached_property
    def window(self) -> int | None:
        """Return how many of the newest items of a history are read; None for all."""
        prompt = self._stage_config.get("prompt", {}) if self.kind == "r2ec" else {}
        window: int | None = prompt.get("history_window")
        return window

    def mode(self, think: bool | None) -> Mode:
        """Choose whether to think first: as told, or the way that validation found better.

        Raises:
            ThinkrankError: if thinking is asked for, and the model writes no thoughts.
        """
        if self.kind not in ("r2ec", "cascade"):
            if think:
                raise ThinkrankError(
                    f"{self.folder}: a stage of kind {self.kind!r} writes no thoughts, so it can't think first"
                )
            return Mode()
        if think is not None:
            return Mode(think, "as asked for")
        if self.kind == "cascade":
            return Mode()
        found = self._validated()
        if found is None and not self.config:
            from thinkrank.retrieve.r2ec.config import R2ecConfig

            thinks = read_config(self.saved, self.kind, R2ecConfig).thinks
            return Mode(thinks, "nothing here says which validation found better; --think or --no-think chooses")
        if found is None:
            return Mode(think=False, why="no validation measured answers after a thought; --think asks for one")
        after, without = found
        better = after > without
        return Mode(better, f"validation NDCG@10 {after:.4f} with a thought, {without:.4f} without")

    def load(self, device: str = "auto", *, for_one: bool = False) -> Any:
        """Load the model.

        Args:
            device: auto, cpu, cuda, cuda:1 or mps.
            for_one: it answers one question without a thought: a late reader is then loaded without transformers.

        Raises:
            ThinkrankError: if it cannot be asked so.
        """
        if self.kind == "cascade" and self.config:  # its stages may be of classes that the run's settings name
            stages, first = self.config.get("stages", {}), self.saved / "retrieve"
            named = [self.config.get("retriever"), stages.get("ranker"), stages.get("reranker")]
            light = self._light(first, device) if for_one and named == [None] * 3 and kind_of(first) == "fused" else {}
            if light:
                return load(self.saved, device=device, stages={"retrieve": load(first, device=device, **light)})
            from thinkrank.recipes.cascade import RECIPE

            return RECIPE.load(self.saved, device=device)
        chosen = next((self.config[table] for table in _OWN if table in self.config), None)
        if chosen is not None:
            from thinkrank.recipes import own

            return own.load(validated(own.StageClass, chosen), self.verb, self.saved, device)
        model = load(
            self.saved, device=device, **(self._light(self.saved, device) if for_one and self.kind == "fused" else {})
        )
        if not hasattr(model, self.verb):
            raise ThinkrankError(f"{self.folder} holds no {_NOUNS[self.verb]}, but a {type(model).__name__}")
        return model

    @staticmethod
    def _light(folder: Path, device: str) -> dict[str, Any]:
        """Return what a saved fused retriever is loaded with, where its late reader needs no transformers."""
        from thinkrank.devices import named_device
        from thinkrank.retrieve.r2ec.late import late_parts

        return {"parts": late_parts(folder)} if named_device(device).type == "cpu" else {}

    def counted_reasons(self, path: str | None, catalogue: Catalogue) -> Callable[[Ranking, Requests], pl.DataFrame]:
        """Count the run's train part, to say beside each item what speaks for it.

        Args:
            path: where the data is now; None for where it was.
            catalogue: in whose rows answers and histories are.

        Returns:
            What makes the columns ``reason``, ``reason_claims_checked`` and ``reason_claims_true`` of an answer to some
            requests; a reason whose claims did not hold would not be given.

        Raises:
            ThinkrankError: if nothing can be counted.
        """
        from thinkrank.evidence import Reasons, TextChecker
        from thinkrank.recipes.data import NOUNS, DataSettings, moved, origin

        if "data" not in self.config:
            raise ThinkrankError(f"{self.folder} is a saved stage without a run: there is no data to count reasons in")
        data = moved(validated(DataSettings, self.config["data"]), path)
        split = data.load_split()
        if not split.train_counts.any():
            raise ThinkrankError(f"{split.dataset.name}: its train part holds nothing to count reasons in")
        counted, theirs = Reasons.of(split, NOUNS.get(origin(data.source), "item")), split.dataset.catalogue
        row_of, users = {item: row for row, item in enumerate(theirs.ids)}, split.dataset.users
        number_of = {user: number for number, user in enumerate(users)}
        checker = TextChecker(counted)

        def why(ranking: Ranking, requests: Requests) -> pl.DataFrame:
            past, told = requests.within(theirs).histories, []
            for row, place in np.argwhere(ranking.items_BK >= 0).tolist():
                item = row_of.get(catalogue.ids[ranking.items_BK[row, place]])
                user = None if requests.users is None else number_of.get(requests.users[row])
                found = [] if item is None else counted.reasons(past[row], item, user, most=_NUM_REASONS)
                checks = [checker.check(reason.text, past[row], item, user) for reason in found]
                texts = [reason.text for reason, check in zip(found, checks, strict=True) if check.may_be_shown]
                told.append(("; ".join(texts), sum(one.checked for one in checks), sum(one.true for one in checks)))
            names = ("reason", "reason_claims_checked", "reason_claims_true")
            return pl.DataFrame(
                told, schema=dict(zip(names, (pl.String, pl.Int64, pl.Int64), strict=True)), orient="row"
            )

        return why

    @property
    def _stage_config(self) -> dict[str, Any]:
        record = json.loads((self.saved / CONFIG_FILE).read_bytes())
        config: dict[str, Any] = record.get("config", record)
        return config

    def _validated(self) -> tuple[float, float] | None:
        """Return validation NDCG@10 after a thought and without, of the weights that were kept; None if unknown."""
        with_thought, without = FIGURES
        for table, log in (
            ("recpo", self.folder / "recpo" / "metrics.jsonl"),
            ("training", self.folder / "metrics.jsonl"),
        ):
            both = [row for row in _rows(log) if with_thought in row and without in row]
            if both:
                kept = kept_row(both, self.config.get(table, {}).get("keep", "best"))
                return float(kept[with_thought]), float(kept[without])
        return None

    def _kept(self, name: str, make: Callable[[], Any]) -> Any:
        kept = self.__dict__.setdefault("_made", {})
        if name not in kept:
            kept[name] = make()
        return kept[name]


def opened(folder: Path, verb: str | None = None) -> Opened:
    """Find what a folder holds, and refuse it where it cannot be asked so.

    Args:
        folder: of a run, or of a saved stage.
        verb: retrieve, rank or rerank; None for the first of these that it can be asked.

    Raises:
        ThinkrankError: if it holds no trained stage, or one that another command asks; names that command.
    """
    folder = Path(folder).expanduser()
    saved = saved_in(folder)
    config = run_config(folder) if (folder / "config.toml").is_file() else {}
    stage = stage_of(folder)
    kind = kind_of(saved) if is_saved(saved) else ""
    if ":" in kind and not any(table in config for table in _OWN):
        raise ThinkrankError(
            f"{saved} holds a stage of a class of your own, {kind}, and a folder alone never says what code is run: "
            "name the run's folder, whose settings name the class"
        )
    if verb is None:
        asked = (one for one in _VERBS if _asked_by(kind or "cascade", one))
        verb = stage if stage in ("rank", "rerank") else next(asked, "retrieve")
    if not kind:
        if stage is not None:
            raise ThinkrankError(
                f"{folder}: its training has not finished; start `thinkrank train {stage}` again to go on with it"
            )
        first = "`thinkrank demo` or `thinkrank train retrieve`" if verb == "retrieve" else f"`thinkrank train {verb}`"
        raise ThinkrankError(f"{folder}: no trained {_NOUNS[verb]} here; run {first} first")
    if stage != verb and not _asked_by(kind, verb):
        stage = stage or ("cascade" if kind == "cascade" else next((o for o in _NOUNS if _asked_by(kind, o)), verb))
        raise ThinkrankError(
            f"{folder} holds a {_NOUNS[stage]}, no {_NOUNS[verb]}: ask it with `thinkrank {_COMMANDS[stage]}`"
        )
    return Opened(folder, saved, verb, kind, config)


_VERBS = ("retrieve", "rank", "rerank")
_RANKERS = ("r2rank", "evidence")
_RERANKERS = ("eglr", "pointwise", "dlcm", "prm", "setrank", "seq2slate")


def _asked_by(kind: str, verb: str) -> bool:
    """Tell what a stage of the package is asked by; what scores the whole catalogue can rank, too."""
    if ":" in kind:
        return callable(getattr(imported(kind), verb, None))
    if kind == "cascade":
        return verb == "retrieve"
    if kind in _RERANKERS:
        return verb == "rerank"
    if kind in _RANKERS:
        return verb == "rank"
    return verb != "rerank"


def _rows(log: Path) -> list[dict[str, Any]]:
    """Read a log; a last line that a kill cut short is left out."""
    if not log.is_file():
        return []
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]
