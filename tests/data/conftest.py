"""Small data sets and the files they come in, written for each test."""

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl
import pytest

from thinkrank.data import Catalogue, Dataset

Event = tuple[str, str, int]


@pytest.fixture
def catalogue() -> Catalogue:
    return Catalogue(
        pl.DataFrame(
            {
                "item": ["i1", "i2", "i3", "i4", "i5"],
                "title": ["Heat", "Toy Story", "Toy Story", "The Thing", "Thelma"],
                "year": [1995, 1995, 2099, 1982, 2017],
            }
        )
    )


@pytest.fixture(scope="session")
def build_dataset() -> Callable[[Sequence[Event]], Dataset]:
    """A data set from (user, item, time) triples, with a catalogue of just their items."""

    def build(events: Sequence[Event]) -> Dataset:
        items = sorted({item for _, item, _ in events})
        interactions = pl.DataFrame(list(events), schema=["user", "item", "timestamp"], orient="row")
        return Dataset("small", interactions, Catalogue(pl.DataFrame({"item": items, "title": items})))

    return build


@pytest.fixture
def dataset(build_dataset: Callable[[Sequence[Event]], Dataset]) -> Dataset:
    """Ann does five things, Bob three, Cy two, Di one."""
    rows = ["ann a 10", "ann b 20", "ann c 30", "ann a 40", "ann d 90", "bob b 15", "bob c 35", "bob d 50"]
    rows += ["cy a 12", "cy d 60", "di e 70"]
    return build_dataset([(user, item, int(time)) for user, item, time in map(str.split, rows)])


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    """Write a file into the test's folder; a name that ends in .gz compresses it."""

    def write_file(name: str, content: str | bytes) -> Path:
        data = content.encode() if isinstance(content, str) else content
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return write_file


@pytest.fixture
def json_lines() -> Callable[..., str]:
    return lambda *objects: "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in objects)
