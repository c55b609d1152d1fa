"""Studies: arms of settings and seeds over the same data, each trained once, and what came out as one JSON file.

A study is a settings file of one of the stages with a table more: `[study]` says which seeds. Arms, tables of settings
that are laid over the common ones, stand in `[arms.NAME]`, or for several studies in `arms.toml` beside them, of which
`[study]` may choose some by `arms`. `[study]` must say which settings were chosen after figures of its own test samples
(`chosen_on_test`, an empty list for none). For its table it may name the one comparison that counts (`primary`), what a
reader must know (`notes`), and why the results no longer stand (`superseded`).
"""

import itertools
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from jaxtyping import Bool
from pydantic import BaseModel, ValidationError

from thinkrank._code import code_version
from thinkrank._files import atomic_write
from thinkrank.errors import ThinkrankError
from thinkrank.evaluate.study_tables import study_notes
from thinkrank.pretrained import MODEL, is_saved
from thinkrank.recipes.kept import kept_step
from thinkrank.recipes.layers import merge, parse_assignment, read_toml
from thinkrank.training import Progress, Run, no_progress

logger = logging.getLogger(__name__)

ModelT = TypeVar("ModelT")

TOLD_ONLY = ("seeds", "arms", "primary", "superseded", "notes", "chosen_on_test")
"""Options of a study that alter no result: what is run, and what its table says."""


class Study(ABC):
    """Hold a study's file, its data, and where its runs are.

    Args:
        file: the study.
        runs: where trainings are kept; each study has a folder in it.
        path: of the data, where the source has none of its own; None as the file says.
        changes: single settings that are laid over the file's, each `a.b=value`.
        progress: how to show the work.

    Attributes:
        name: of the file.
        folder: of its trainings.
        options: the table `[study]`.
        arms: those with settings.
        tables: the common settings.
        split: the data, as it is cut.
    """

    group: ClassVar[str] = ""
    """Folder inside `runs` of all studies like this one."""

    def __init__(
        self,
        file: Path,
        runs: Path,
        *,
        path: str | None = None,
        changes: Iterable[str] = (),
        progress: Progress = no_progress,
    ) -> None:
        tables = read_toml(file)
        for dotted, value in map(parse_assignment, changes):
            over = value
            for key in reversed(dotted.split(".")):
                over = {key: over}
            merge(tables, over)
        if path is not None:
            tables["data"]["path"] = path
        self.name, self.folder, self.progress = file.stem, runs / self.group / file.stem, progress
        self.options: dict[str, Any] = tables.pop("study")
        study_notes(self.options, file)
        arms: dict[str, dict[str, Any]] = tables.pop("arms", None) or read_toml(file.parent / "arms.toml")
        self.arms = {name: arms[name] for name in self.options.get("arms", arms)}
        self.tables = tables
        self.split = self.load_split()

    @property
    def always(self) -> tuple[str, ...]:
        """Name the arms that have no settings: what is compared with."""
        return ("baselines",)

    @property
    def known(self) -> tuple[str, ...]:
        """Name all arms."""
        return (*self.always, *self.arms)

    def load_split(self) -> Any:
        """Load the data of the common settings."""
        return self.settings({}).data.load_split()

    @abstractmethod
    def settings(self, over: dict[str, Any]) -> Any:
        """Lay others over the common settings; they have `data` with a `path`."""

    @abstractmethod
    def arm(self, name: str, seed: int) -> Any:
        """Return an arm's settings with a seed."""

    def decisive(self, name: str, settings: Any) -> Any:
        """Return what of an arm's settings its result depends on."""
        return settings

    @abstractmethod
    def run_arm(self, name: str, seed: int) -> dict[str, Any]:
        """Train and judge an arm.

        The result has `about`, `seconds`, `ranks` by mode and, if trained, `kept_step`. Where equal scores are to be
        judged by their expected value it has `ties` by mode; in `seedless` stand modes that no seed has a part in. See
        `read_study`.
        """

    @abstractmethod
    def users(self) -> Sequence[int]:
        """Tell whose each sample is that `run_arm` judges on."""

    def shared(self, name: str) -> str:
        """Name what the trainings of an arm begin with in common under all seeds; empty if nothing."""
        return ""

    def run(self, folder: str, settings: BaseModel, **manifest: Any) -> Run:
        """Open the run of a folder of this study."""
        made_from = {"split": self.split.manifest(), **manifest}
        return Run(self.folder / folder, settings.model_dump(mode="json"), made_from)

    def trained(
        self,
        folder: str,
        settings: BaseModel,
        *,
        create: Callable[[], ModelT],
        learn: Callable[[ModelT, Run], object],
        load: Callable[[Path], ModelT],
        **manifest: Any,
    ) -> tuple[ModelT, Run]:
        """Load what a folder's training left, after training it if it is not there.

        Args:
            folder: of this study.
            settings: that are kept with it.
            create: builds the model that the training begins with.
            learn: trains it in place.
            load: reads a saved one.
            manifest: what else the run is made from.
        """
        run = self.run(folder, settings, **manifest)
        saved = run.folder / MODEL
        if not is_saved(saved):
            model: Any = create()
            learn(model, run)
            model.save_pretrained(saved)
        return load(saved), run


def run_study(
    study: Study, results: Path, *, arms: Iterable[str] | None = None, seeds: Iterable[int] | None = None
) -> None:
    """Run what is asked for and is not there yet; a result file that is there is kept.

    Args:
        study: what to run.
        results: folder of all studies' result files, one per arm and seed.
        arms: names; None for all.
        seeds: None for those of the study.

    Raises:
        ThinkrankError: for an unknown arm, or if a result was made with other settings.
    """
    chosen = list(arms or study.known)
    for arm in chosen:
        if arm not in study.known:
            raise ThinkrankError(f"{study.name} has no arm {arm}; it has {', '.join(study.known)}")
    options = {key: value for key, value in study.options.items() if key not in TOLD_ONLY}
    for seed in seeds or study.options["seeds"]:
        for arm in chosen:
            file = results / study.name / f"{arm}-{seed}.json"
            settings = _without_path(study.settings({}) if arm in study.always else study.arm(arm, seed))
            if file.exists():
                if not _made_with(study, arm, settings, options, file):
                    raise ThinkrankError(f"{file} was made with other settings: delete it, or restore them")
                logger.info("%s is there already", file)
                continue
            result = {"study": study.name, "arm": arm, "seed": seed, "threads": torch.get_num_threads()}
            result |= study.run_arm(arm, seed)
            result |= {"users": _as_index(study.users()), "shared": study.shared(arm), "code": code_version()}
            result |= {"options": options, "settings": settings.model_dump(mode="json")}
            with atomic_write(file) as out:
                out.write((json.dumps(result, separators=(",", ":")) + "\n").encode())
            logger.info("wrote %s", file)


def kept_of(rows: Sequence[dict[str, Any]], keep: str) -> int | None:
    """Return the step whose weights a training left; None if it did not validate.

    A training chooses by the first figure of its validations.
    """
    keys = (key for row in rows for key in row if key.startswith("valid"))
    return kept_step(rows, next(keys, ""), keep)


def _as_index(users: Sequence[int]) -> list[int]:
    """Return users as numbers from 0: files tell which samples are of one user, and nobody's row."""
    return np.unique(np.asarray(users, dtype=np.int64), return_inverse=True)[1].tolist()


def tied_groups(
    relevant_SN: Bool[np.ndarray, "S N"], tied_SN: Bool[np.ndarray, "S N"] | None
) -> dict[str, list[tuple[int, int]]]:
    """List, by sample, first and last place, from 1, of each group of equal scores that holds something relevant.

    Args:
        relevant_SN: what stands on each place.
        tied_SN: which places have the score of the one before; None for none.
    """
    found: dict[str, list[tuple[int, int]]] = {}
    if tied_SN is None:
        return found
    for sample in np.flatnonzero(tied_SN.any(axis=1)).tolist():
        begins = np.append(np.flatnonzero(np.append(True, ~tied_SN[sample, 1:])), tied_SN.shape[1]).tolist()
        groups = [
            (first + 1, last)
            for first, last in itertools.pairwise(begins)
            if last - first > 1 and relevant_SN[sample, first:last].any()
        ]
        if groups:
            found[str(sample)] = groups
    return found


def logged(rows: Iterable[dict[str, Any]], has: str, keys: Sequence[str], prefix: str = "") -> list[dict[str, Any]]:
    """Pick columns of a training's log.

    Args:
        rows: of the log.
        has: rows without a key that begins so are left out.
        keys: to keep.
        prefix: keep every key that begins so, too; empty for none.
    """
    return [
        {key: row[key] for key in row if key in keys or (prefix and key.startswith(prefix))}
        for row in rows
        if any(key.startswith(has) for key in row)
    ]


def shown_thoughts(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Pick the thoughts that a training's first and last validation logged; nothing unless there were two."""
    shown = [row["thoughts"] for row in rows if "thoughts" in row]
    return {"before": shown[0], "after": shown[-1]} if len(shown) > 1 else {}


def _without_path(settings: Any) -> Any:
    """Return settings as a result keeps them: not where on this machine the data lay."""
    return settings.model_copy(update={"data": settings.data.model_copy(update={"path": None})})


def _made_with(study: Study, arm: str, settings: BaseModel, options: dict[str, Any], file: Path) -> bool:
    """Tell whether a result has these settings, and the defaults of later ones; what it does not tell may be."""
    result = json.loads(file.read_text(encoding="utf-8"))
    try:
        stored = type(settings).model_validate(result["settings"]) if "settings" in result else settings
    except ValidationError:
        return False
    is_same: bool = study.decisive(arm, stored) == study.decisive(arm, settings)
    return is_same and result.get("options", options) == options
