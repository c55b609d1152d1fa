"""Contract of a data source: inherit, say which and write its files, and the tests come with it."""

import json
import shutil
from pathlib import Path
from typing import Any, ClassVar

import pytest

from thinkrank.data import (
    LIST_SOURCES,
    SOURCES,
    Dataset,
    ImpressionDataset,
    ImpressionSplit,
    load_dataset,
    load_impressions,
)
from thinkrank.testing.checks import refused


class _Contract:
    """Tests for a registered source of either kind."""

    name: ClassVar[str]
    """Under which it is registered."""
    options: ClassVar[dict[str, Any]] = {}
    """It is loaded with."""

    def write(self, folder: Path) -> Path | None:
        """Write a small data set in the source's format and return what to load; None for a source that makes it."""
        raise NotImplementedError

    def load(self, path: Path | None, **options: Any) -> Any:
        """Load what stands at a path."""
        raise NotImplementedError

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path | None:
        """Write the files, anew for each test."""
        folder = tmp_path / "written"
        folder.mkdir()
        return self.write(folder)

    @pytest.fixture
    def data(self, path: Path | None) -> Any:
        """Load them."""
        return self.load(path, **self.options)

    def test_the_same_files_are_the_same_data_wherever_they_lie(
        self, data: Any, path: Path | None, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        assert self.load(path, **self.options).fingerprint == data.fingerprint
        if path is not None and path.is_dir():
            copied = shutil.copytree(path, tmp_path_factory.mktemp("elsewhere") / "copied")
            assert self.load(copied, **self.options).fingerprint == data.fingerprint

    def test_it_tells_where_the_data_came_from(self, data: Any) -> None:
        assert data.source["source"] == self.name
        assert json.loads(json.dumps(dict(data.source)))["source"] == self.name

    def test_an_unknown_option_is_refused(self, path: Path | None) -> None:
        with refused(f"{self.name}: unknown option 'nonsense'"):
            self.load(path, **self.options, nonsense=1)

    def test_a_path_that_is_not_there_is_refused(self, tmp_path: Path) -> None:
        with refused("nowhere"):
            self.load(tmp_path / "nowhere", **self.options)

    def test_an_empty_folder_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        with refused("empty"):
            self.load(tmp_path / "empty", **self.options)


class SourceContract(_Contract):
    """Tests for a source that gives a `Dataset`. Subclasses set `name` and override `write`."""

    def load(self, path: Path | None, **options: Any) -> Dataset:
        """Load what stands at a path."""
        return load_dataset(self.name, path, **options)

    def test_it_is_known(self) -> None:
        assert self.name in SOURCES

    def test_it_gives_a_data_set_that_can_be_kept(self, data: Dataset, tmp_path: Path) -> None:
        assert isinstance(data, Dataset)
        assert len(data.items_E) > 0
        assert all(title.strip() for title in data.catalogue.titles)
        data.save(tmp_path / "kept")
        assert Dataset.load(tmp_path / "kept").fingerprint == data.fingerprint


class ListSourceContract(_Contract):
    """Tests for a source that gives an `ImpressionDataset`. Subclasses set `name` and override `write`."""

    def load(self, path: Path | None, **options: Any) -> ImpressionDataset:
        """Load what stands at a path."""
        return load_impressions(self.name, path, **options)

    def test_it_is_known(self) -> None:
        assert self.name in LIST_SOURCES

    def test_it_gives_lists_in_the_order_of_time(self, data: ImpressionDataset) -> None:
        assert isinstance(data, ImpressionDataset)
        assert len(data) > 0
        assert (data.times_L[1:] >= data.times_L[:-1]).all()
        assert (data.lengths_L >= 2).all()

    def test_it_can_be_split(self, data: ImpressionDataset) -> None:
        split = data.split(0.0, 0.0)
        assert isinstance(split, ImpressionSplit)
        assert len(split.train) == len(data)
