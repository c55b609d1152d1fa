"""The command line that studies share: arms and seeds, each run once, and what came out as one JSON file."""

import argparse
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from pydantic import BaseModel, ValidationError

from thinkrank._files import atomic_write

RUNS = Path(__file__).parents[1] / "runs" / "studies"


class AnyStudy(Protocol):
    """A study's file.

    Attributes:
        name: of the file.
        options: the table `[study]`, in which `seeds` stands.
        arms: those with settings.
        always: names of arms that have none.
    """

    name: str
    options: dict[str, Any]
    arms: dict[str, dict[str, Any]]
    always: Sequence[str]

    def settings(self, over: dict[str, Any]) -> Any:
        """The common settings with others laid over them."""

    def arm(self, name: str, seed: int) -> Any:
        """An arm's settings with a seed; their `data` has a `path`."""


StudyT = TypeVar("StudyT", bound=AnyStudy)


def main(
    description: str | None,
    results: Path,
    open_study: Callable[[Path, Path, str | None], StudyT],
    run_arm: Callable[[StudyT, str, int], dict[str, Any]],
) -> None:
    """Run what the command line asks for and is not there yet."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--arm", action="append", help="repeatable; all by default")
    parser.add_argument("--seed", action="append", type=int, help="repeatable; those of the study by default")
    parser.add_argument("--path", help="file or folder of the data, where the source has none of its own")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where trainings are kept")
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    study = open_study(arguments.study, arguments.runs, arguments.path)
    known, asked = (*study.always, *study.arms), arguments.arm or (*study.always, *study.arms)
    for arm in asked:
        if arm not in known:
            raise SystemExit(f"{arguments.study} has no arm {arm}; it has {', '.join(known)}")
    options = {key: value for key, value in study.options.items() if key not in ("seeds", "arms")}
    for seed in arguments.seed or study.options["seeds"]:
        for arm in asked:
            file = results / study.name / f"{arm}-{seed}.json"
            settings = _without_path(study.settings({}) if arm in study.always else study.arm(arm, seed))
            if file.exists():
                if not _made_with(settings, options, file):
                    raise SystemExit(f"{file} was made with other settings: delete it, or restore them")
                print(f"{file} is there already")
                continue
            result = {"study": study.name, "arm": arm, "seed": seed, "threads": torch.get_num_threads()}
            result |= run_arm(study, arm, seed)
            result |= {"options": options, "settings": settings.model_dump(mode="json")}
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(file) as out:
                out.write((json.dumps(result, separators=(",", ":")) + "\n").encode())
            print(f"wrote {file}")


def _without_path(settings: Any) -> Any:
    """Settings as a result keeps them: not where on this machine the data lay."""
    return settings.model_copy(update={"data": settings.data.model_copy(update={"path": None})})


def _made_with(settings: BaseModel, options: dict[str, Any], file: Path) -> bool:
    """Whether a result has these settings, and the defaults of those that came later; what it does not tell may be."""
    result = json.loads(file.read_text(encoding="utf-8"))
    try:
        stored = type(settings).model_validate(result["settings"]) if "settings" in result else settings
        return stored == settings and result.get("options", options) == options
    except ValidationError:
        return False
