"""What a run is made from: its data, how it is cut, and the candidate lists that judge it."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, field_validator, model_validator

from thinkrank.data import (
    Dataset,
    FilterOptions,
    ImpressionDataset,
    ImpressionSplit,
    Split,
    apply_filters,
    load_dataset,
    load_impressions,
    split_dataset,
)
from thinkrank.data.dataset import read_record
from thinkrank.data.describe import remarks
from thinkrank.data.reading.intake import OnBad
from thinkrank.data.synthetic import relay_split
from thinkrank.data.ties import Ties
from thinkrank.errors import ThinkrankError
from thinkrank.options import Options

logger = logging.getLogger(__name__)

_SHARE = 0.1
"""Of the data, for validation and for test, where nobody says otherwise."""
NOUNS = {"movielens-100k": "movie", "movielens": "movie", "amazon-2018": "product", "amazon-2023": "product"}
"""What the catalogue of a source holds, in the singular."""

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
"""What of `RerankSettings` is different by default for a source of lists. In the synthetic world there are few users;
the score made the displayed order, so an evaluator would take it for the place; and NDCG of logged clicks, by which
weights are kept elsewhere, does not know that another order would be clicked otherwise."""


class DataSettings(Options):
    """Say where the data comes from and how it is cut."""

    source: str = Field("movielens-100k", description="format of the data, or a folder that `data prepare` wrote")
    path: str | None = Field(
        None, description="file or folder; without one the source is downloaded or found installed"
    )
    options: dict[str, Any] = Field(default_factory=dict, description="options of the source")
    on_bad: OnBad = Field(
        "refuse", description="what becomes of rows that can't be right: the data is refused, or they are dropped"
    )
    bad_rows: str | None = Field(
        None, description="file for dropped rows, CSV or Parquet; without it bad_rows.csv in the run's folder"
    )
    filters: FilterOptions = FilterOptions()
    repeats: bool = Field(
        False,
        description="people take things again, so items of a history may be recommended: in training, evaluation and "
        "answers alike",
    )
    split: Literal["temporal", "leave-last-out"] = Field("temporal", description="how train, valid and test are cut")
    ties: Ties | None = Field(
        None,
        description="what a history holds: strict, events earlier than its target; before, also those at the target's "
        "time that stand before it in the file; without it strict where times are days, else before",
    )
    valid_share: float = Field(
        _SHARE,
        gt=0,
        lt=1,
        description="share of the samples that choose weights and settings: the newest but for the test "
        "part of a temporal split",
    )
    test_share: float = Field(
        _SHARE, gt=0, lt=1, description="share of the samples that are reported, the newest of a temporal split"
    )

    @model_validator(mode="after")
    def _cut_in_time(self) -> "DataSettings":
        if self.split != "temporal" and (self.valid_share, self.test_share) != (_SHARE, _SHARE):
            raise ValueError(f"valid_share and test_share are of a temporal split; {self.split} tests on last events")
        if self.valid_share + self.test_share >= 1:
            raise ValueError("valid_share and test_share leave nothing to learn from: together they must be below 1")
        return self

    def load(self, beside: Path | None = None) -> Dataset:
        """Read and filter the data set, and add to its notices what may surprise whoever trains on it.

        Args:
            beside: folder for dropped rows, where no file is named for them.
        """
        return self._read(beside)[0]

    def load_and_tell(self, beside: Path | None = None) -> Dataset:
        """Do the same, and say to whoever waits for it what is news."""
        dataset, news = self._read(beside)
        tell(dataset.name, news)
        return dataset

    def _read(self, beside: Path | None) -> tuple[Dataset, Sequence[str]]:
        """Return the data set and what is news: not again what reading said when a folder was prepared."""
        folder = prepared_folder(self.source)
        if folder is not None:
            if self.path is not None or self.options:
                raise ThinkrankError(f"{folder} is a prepared data set: it takes no path and no options")
            dataset = Dataset.load(folder)
            news: Sequence[str] = ()
        else:
            bad_rows = file_of_bad_rows(self, beside)
            dataset = load_dataset(self.source, self.path, on_bad=self.on_bad, bad_rows=bad_rows, **self.options)
            news = dataset.notices
        dataset = apply_filters(dataset, self.filters)
        repeats = self.repeats or dataset.repeats
        found = remarks(dataset, repeats=repeats)
        read = [notice for notice in dataset.notices if notice not in found]
        return dataset.with_notices((*read, *found), repeats=repeats), [*(n for n in news if n in read), *found]

    def load_split(self, beside: Path | None = None) -> Split:
        """Read, filter and split the data set; of a relay only each user's last event can be told."""
        learnt = round(1 - self.valid_share - self.test_share, 9)
        fractions = (learnt, self.valid_share, self.test_share)
        if self.source == "synthetic-relay":
            return relay_split(self.load(), fractions)
        return split_dataset(self.load_and_tell(beside), self.split, fractions=fractions, ties=self.ties)


class ListDataSettings(Options):
    """Say where displayed lists come from and how they are cut in time."""

    source: str = Field("synthetic", description="format of the lists")
    path: str | None = Field(None, description="folder or zip archive; synthetic lists have none")
    options: dict[str, Any] = Field(default_factory=dict, description="options of the source")
    on_bad: OnBad = Field(
        "refuse", description="what becomes of lists with a row that can't be right: refused all, or these dropped"
    )
    bad_rows: str | None = Field(
        None, description="file for dropped rows, CSV or Parquet; without it bad_rows.csv in the run's folder"
    )
    valid_share: float = Field(
        _SHARE, gt=0, lt=1, description="share of the lists that choose weights, the newest but for the test part"
    )
    test_share: float = Field(_SHARE, gt=0, lt=1, description="share of the lists that are reported, the newest")

    def load(self, beside: Path | None = None) -> ImpressionDataset:
        """Read the lists; dropped rows are written into the folder `beside`, where no file is named for them."""
        bad_rows = file_of_bad_rows(self, beside)
        return load_impressions(self.source, self.path, on_bad=self.on_bad, bad_rows=bad_rows, **self.options)

    def load_split(self, beside: Path | None = None) -> ImpressionSplit:
        """Read the lists and cut them in time."""
        lists = self.load(beside)
        tell(lists.name, lists.notices)
        return lists.split(self.valid_share, self.test_share)


def tell(name: str, notices: Sequence[str]) -> None:
    """Say what was dropped or repaired when the data of this name was read, to whoever waits for it."""
    for notice in notices:
        about = f"{name}: "
        logger.warning("%s%s", "" if notice.startswith(about) else about, notice)


DataT = TypeVar("DataT", DataSettings, ListDataSettings)


class CandidateSettings(Options):
    """Describe the lists that validations and evaluations sort: one positive, the rest negatives."""

    file: str | None = Field(
        None,
        description="table of the lists that a first stage found (user, item and perhaps score, and time or event), "
        "which are sorted in the place of drawn ones; a target that is not in its list counts as missed",
    )
    size: int = Field(20, ge=2, description="items in a drawn list, the positive included")
    negatives: Literal["uniform", "popularity"] = Field("uniform", description="how negatives are drawn")
    seed: int = Field(0, ge=0, description="seed of the drawn negatives")

    @field_validator("file")
    @classmethod
    def _found_from_anywhere(cls, file: str | None) -> str | None:
        return None if file is None else str(Path(file).expanduser().resolve())


def moved(data: DataT, path: str | Path | None) -> DataT:
    """Return settings of the same data in another place.

    Args:
        data: as it was.
        path: where it is now: files as they were, or a folder that `data prepare` wrote; None for where it was.

    Raises:
        ThinkrankError: if there is nothing, or the data was a prepared folder and this is none.
    """
    if path is None:
        return data
    place = Path(path).expanduser().resolve()
    if not place.exists():
        raise ThinkrankError(f"{path}: no such file or folder")
    if isinstance(data, DataSettings) and (place / "dataset.json").is_file():
        return data.model_copy(update={"source": str(place), "path": None, "options": {}})
    if isinstance(data, DataSettings) and Path(data.source).is_absolute():
        raise ThinkrankError(f"{path} is no prepared data set (no dataset.json), and the run was made from one")
    return data.model_copy(
        update={"path": str(place), "options": {key: _bare(value) for key, value in data.options.items()}}
    )


def _bare(value: Any) -> Any:
    """Return the value of an option; of a file that it names by its whole path, the name alone."""
    if isinstance(value, list):
        return [_bare(one) for one in value]
    is_file = isinstance(value, str) and Path(value).is_absolute() and Path(value).suffix
    return Path(value).name if is_file else value


def origin(source: str | None) -> str:
    """Return the format of the data; a prepared folder is asked for the source it was made from."""
    source = source or DataSettings().source
    folder = prepared_folder(source)
    if folder is None:
        return source
    record = read_record(folder / "dataset.json", ("source",), "a saved data set")
    return str(record["source"].get("source"))


def prepared_folder(source: str) -> Path | None:
    """Return the folder that `data prepare` wrote, if it is one; any other name means a source."""
    folder = Path(source).expanduser()
    return folder if (folder / "dataset.json").is_file() else None


def file_of_bad_rows(data: DataSettings | ListDataSettings, beside: Path | None) -> Path | None:
    """Return where dropped rows are written: the file that is named, else one in the folder, if there is one."""
    if data.bad_rows is not None:
        return Path(data.bad_rows).expanduser()
    return None if beside is None else beside / "bad_rows.csv"
