"""Settings of a run: a preset, then a TOML file, then `--set a.b=c`, each over the one before."""

import difflib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError, model_validator

from thinkrank.data import (
    Dataset,
    FilterOptions,
    ImpressionSplit,
    Split,
    apply_filters,
    load_dataset,
    load_impressions,
    split_dataset,
)
from thinkrank.data.synthetic import relay_split
from thinkrank.errors import ThinkrankError
from thinkrank.options import Options
from thinkrank.prompts.options import PairPromptOptions
from thinkrank.rank.r2rank.config import ColdStartOptions, R2RankConfig, ReinforceOptions
from thinkrank.recipes.presets import Preset, preset
from thinkrank.rerank.eglr.config import EGLRConfig, EvaluatorTrainerOptions, GrpoOptions, WarmStartOptions
from thinkrank.retrieve.r2ec.config import ContrastiveOptions, R2ecConfig, RecpoOptions

SettingsT = TypeVar("SettingsT", bound=BaseModel)

NOUNS = {"movielens-100k": "movie", "movielens": "movie", "amazon-2018": "product", "amazon-2023": "product"}
LINES = {"movielens-100k": "{title} ({categories})", "movielens": "{title} ({categories})"}
"""How R2Rank shows a history by default where categories are known and short."""
LIST_DEFAULTS: dict[str, dict[str, Any]] = {
    "synthetic": {
        "model": {
            "lists": {"user_ids": True},
            "evaluator": {"lists": {"user_ids": True, "leave_out": ["score"]}},
        },
        "evaluator": {"steps": 1500, "learning_rate": 3e-3},
        "warm_start": {"steps": 300, "keep": "last"},
        "grpo": {"steps": 150, "reward": "sum", "learning_rate": 1e-3, "keep": "last"},
    },
}
"""What of `RerankSettings` is different by default for a source of lists. In the made world there are few users; the
score made the displayed order, so an evaluator would take it for the place; and NDCG of logged clicks, by which weights
are kept elsewhere, does not know that another order would be clicked otherwise."""


class DataSettings(Options):
    """Where the data comes from and how it is cut."""

    source: str = Field("movielens-100k", description="format of the data, or a folder that `data prepare` wrote")
    path: str | None = Field(
        None, description="file or folder; without one the source is downloaded or found installed"
    )
    options: dict[str, Any] = Field(default_factory=dict, description="options of the source")
    filters: FilterOptions = FilterOptions()
    split: Literal["temporal", "leave-last-out"] = Field("temporal", description="how train, valid and test are cut")

    def load(self) -> Dataset:
        """Read and filter the data set."""
        folder = Path(self.source)
        if (folder / "dataset.json").is_file():
            if self.path is not None or self.options:
                raise ThinkrankError(f"{folder} is a prepared data set: it takes no path and no options")
            return apply_filters(Dataset.load(folder), self.filters)
        return apply_filters(load_dataset(self.source, self.path, **self.options), self.filters)

    def load_split(self) -> Split:
        """Read, filter and split the data set; of a relay only each user's last event can be told."""
        if self.source == "synthetic-relay":
            return relay_split(self.load())
        return split_dataset(self.load(), self.split)


class TraceSettings(Options):
    """Where the traces of a cold start come from."""

    lists: int = Field(800, ge=0, description="training lists whose pairs the teacher reasons about")
    path: str | None = Field(
        None, description="JSONL file of verdicts by another teacher; rules write them without one"
    )
    reflect: bool = Field(
        True, description="keep only verdicts that agree with the label, after reflection; without, every first answer"
    )


class CandidateSettings(Options):
    """The lists that validations and evaluations sort: one positive, the rest negatives."""

    size: int = Field(20, ge=2, description="items in a list, the positive included")
    negatives: Literal["uniform", "popularity"] = Field("uniform", description="how negatives are drawn")
    seed: int = Field(0, ge=0, description="of the draw")


class ListDataSettings(Options):
    """Where displayed lists come from and how they are cut in time."""

    source: str = Field("synthetic", description="format of the lists")
    path: str | None = Field(None, description="folder or zip archive; synthetic lists have none")
    options: dict[str, Any] = Field(default_factory=dict, description="options of the source")
    valid_share: float = Field(0.1, gt=0, lt=1, description="of the lists, the newest but for the test part")
    test_share: float = Field(0.1, gt=0, lt=1, description="of the lists, the newest")

    def load_split(self) -> ImpressionSplit:
        """Read the lists and cut them in time."""
        return load_impressions(self.source, self.path, **self.options).split(self.valid_share, self.test_share)


class _RunSettings(Options):
    """Settings that a run's folder keeps."""

    @classmethod
    def from_run(cls: type[SettingsT], folder: str | Path) -> SettingsT:
        """Read the settings a run was made with.

        Raises:
            ThinkrankError: if the folder is no run, or one of another stage.
        """
        return validated(cls, run_config(folder))


class RetrieveSettings(_RunSettings):
    """Everything `thinkrank train retrieve` can be told."""

    data: DataSettings
    model: R2ecConfig
    training: ContrastiveOptions
    recpo: RecpoOptions = RecpoOptions()


class RankSettings(_RunSettings):
    """Everything `thinkrank train rank` can be told."""

    data: DataSettings
    model: R2RankConfig
    traces: TraceSettings = TraceSettings()
    cold_start: ColdStartOptions = ColdStartOptions()
    reinforce: ReinforceOptions = ReinforceOptions()
    candidates: CandidateSettings = CandidateSettings()


class RerankSettings(_RunSettings):
    """Everything `thinkrank train rerank` can be told."""

    data: ListDataSettings
    model: EGLRConfig = EGLRConfig()
    evaluator: EvaluatorTrainerOptions = EvaluatorTrainerOptions()
    warm_start: WarmStartOptions = WarmStartOptions()
    grpo: GrpoOptions = GrpoOptions()

    @model_validator(mode="after")
    def _has_a_threshold(self) -> "RerankSettings":
        reasoning = self.model.reasoning
        if reasoning.mode == "entropy" and reasoning.max_steps and reasoning.threshold is None and not self.grpo.steps:
            raise ValueError(
                "grpo.steps is 0, and without reinforcement nothing sets the threshold of the gate: give "
                "model.reasoning.threshold, or set model.reasoning.mode to none"
            )
        return self


@dataclass(frozen=True)
class Layers:
    """What was said of a run's settings beside its defaults, each field laid over the one before.

    Attributes:
        config: a TOML file.
        source: of the data.
        path: of the data.
        split: of the data.
        options: of the source, each `key=value`.
        filters: of the data, each `key=value`.
        tables: further settings.
        assignments: single settings, each `a.b=value`.
    """

    config: Path | None = None
    source: str | None = None
    path: str | None = None
    split: str | None = None
    options: Sequence[str] = ()
    filters: Sequence[str] = ()
    tables: Sequence[Mapping[str, Any]] = ()
    assignments: Sequence[str] = ()

    def over(self, settings: type[SettingsT], defaults: Callable[[str | None], Mapping[str, Any]]) -> SettingsT:
        """Put everything together.

        Args:
            settings: of which stage.
            defaults: the lowest layer, made for the source that was named, if one was.

        Raises:
            ThinkrankError: on a missing file, an unknown key (with the nearest one) or a value that does not fit.
        """
        read = {} if self.config is None else _read_toml(self.config)
        given = {"source": self.source, "path": self.path, "split": self.split}
        data: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        if self.options:
            data["options"] = dict(map(parse_assignment, self.options))
        if self.filters:
            data["filters"] = dict(map(parse_assignment, self.filters))
        said: dict[str, Any] = {}
        for layer in [read, {"data": data}, *self.tables]:
            _merge(said, layer)
        for assignment in self.assignments:
            key, value = parse_assignment(assignment)
            for part in reversed(key.split(".")):
                value = {part: value}
            _merge(said, value, whole=())
        source = said["data"].get("source") if isinstance(said["data"], dict) else None
        layers: dict[str, Any] = {"data": {}, **defaults(source if source is None else str(source))}
        _merge(layers, said)
        return validated(settings, layers)


def retrieve_settings(which: Preset, layers: Layers) -> RetrieveSettings:
    """Lay what was said over a preset; see `Layers.over`."""

    def defaults(source: str | None) -> dict[str, Any]:
        noun = NOUNS.get(_origin(source), "item")
        stages = zip(("model", "training", "recpo"), preset(which, noun=noun), strict=True)
        return {name: stage.model_dump() for name, stage in stages}

    return layers.over(RetrieveSettings, defaults)


def rank_settings(layers: Layers) -> RankSettings:
    """Lay what was said over the defaults; see `Layers.over`."""

    def defaults(source: str | None) -> dict[str, Any]:
        origin = _origin(source)
        told = {"noun": NOUNS.get(origin, "item"), "line": LINES.get(origin, "{title}")}
        return _defaults(RankSettings) | {"model": R2RankConfig(prompt=PairPromptOptions(**told)).model_dump()}

    return layers.over(RankSettings, defaults)


def rerank_settings(layers: Layers) -> RerankSettings:
    """Lay what was said over the defaults; see `Layers.over`."""

    def defaults(source: str | None) -> dict[str, Any]:
        tables = _defaults(RerankSettings)
        _merge(tables, LIST_DEFAULTS.get(source or ListDataSettings().source, {}))
        return tables

    return layers.over(RerankSettings, defaults)


def _defaults(settings: type[BaseModel]) -> dict[str, Any]:
    """Every part that has a default, whole, so that a single setting can be laid over it."""
    parts = {name: field.get_default() for name, field in settings.model_fields.items()}
    return {name: part.model_dump() for name, part in parts.items() if isinstance(part, BaseModel)}


def run_config(folder: str | Path) -> dict[str, Any]:
    """The settings that a run's folder holds.

    Raises:
        ThinkrankError: if the folder is no run.
    """
    path = Path(folder) / "config.toml"
    if not path.is_file():
        raise ThinkrankError(f"{folder}: no run here (no config.toml). Give the --out folder of a training run.")
    return _read_toml(path)


def _origin(source: str | None) -> str:
    """The format of the data; a prepared folder is asked for the source it was made from."""
    source = source or DataSettings().source
    if (Path(source) / "dataset.json").is_file():
        return str(Dataset.load(source).source.get("source"))
    return source


def parse_assignment(text: str) -> tuple[str, Any]:
    """Split `key=value`; the value is read as TOML, and as plain text where it is none."""
    key, equals, raw = text.partition("=")
    if not equals or not key.strip():
        raise ThinkrankError(f"{text!r} is not of the form key=value")
    try:
        return key.strip(), tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), raw


def validated(model: type[SettingsT], values: Mapping[str, Any]) -> SettingsT:
    """Check values against a model and put the first fault into one line, with the nearest key for an unknown one."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in fault["loc"])
        if fault["type"] != "extra_forbidden":
            why = fault["msg"].removeprefix("Value error, ")
            raise ThinkrankError(f"setting {key}: {why}, got {fault['input']!r}") from error
        known = _keys(model)
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(sorted(known))}"
        raise ThinkrankError(f"unknown setting {key}{hint}") from error


def _keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, info in model.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            keys += _keys(inner, f"{prefix}{name}.")
        else:
            keys.append(f"{prefix}{name}")
    return keys


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ThinkrankError(f"{path}: no such settings file") from error
    except OSError as error:
        raise ThinkrankError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ThinkrankError(f"{path}: not valid TOML: {error}") from error


def _merge(base: dict[str, Any], over: Mapping[str, Any], whole: Sequence[str] = ("options",)) -> None:
    """Lay one table over another; those named `whole` replace what was there, as options of another source must."""
    for key, value in over.items():
        if not isinstance(value, Mapping):
            base[key] = value
            continue
        if key in whole or not isinstance(base.get(key), dict):
            base[key] = {}
        _merge(base[key], value, whole)
