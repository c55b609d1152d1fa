"""What the contracts of all stages look at: refusals of one line, and answers of the right form."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thinkrank.errors import ThinkrankError
from thinkrank.pretrained import CONFIG_FILE, KINDS, load
from thinkrank.stages import Ranking


@contextmanager
def refused(match: str = "") -> Iterator[None]:
    """Expect a `ThinkrankError` of one line.

    Args:
        match: a regular expression that its text holds.
    """
    with pytest.raises(ThinkrankError, match=match or None) as caught:
        yield
    assert "\n" not in str(caught.value).strip(), f"not one line: {caught.value}"


def assert_well_formed(ranking: Ranking, num_requests: int, k: int) -> None:
    """Compare the shapes, types and fills of an answer with what `Ranking` promises."""
    items_BK, scores_BK = ranking.items_BK, ranking.scores_BK
    assert items_BK.shape == scores_BK.shape == (num_requests, k)
    assert items_BK.dtype == np.int32
    assert scores_BK.dtype == np.float32
    there_BK = items_BK >= 0
    assert not np.isnan(scores_BK).any()
    assert np.isfinite(scores_BK[there_BK]).all()
    assert np.isneginf(scores_BK[~there_BK]).all(), "beside each -1 stands a score of -inf"
    assert not (there_BK[:, 1:] > there_BK[:, :-1]).any(), "nothing is answered behind a place that is empty"
    for items_K, there_K in zip(items_BK, there_BK, strict=True):
        assert len(np.unique(items_K[there_K])) == np.count_nonzero(there_K), "an item is answered twice"


def assert_same_answer(one: Ranking, other: Ranking, *, rtol: float = 0.0, atol: float = 0.0) -> None:
    """Compare items and columns exactly, and scores within tolerances."""
    np.testing.assert_array_equal(one.items_BK, other.items_BK)
    np.testing.assert_allclose(one.scores_BK, other.scores_BK, rtol=rtol, atol=atol)
    assert (one.columns_BK is None) == (other.columns_BK is None)
    if one.columns_BK is not None and other.columns_BK is not None:
        np.testing.assert_array_equal(one.columns_BK, other.columns_BK)


class SavedContract:
    """Tests for a stage that goes to disk and back, for the contracts of stages to inherit from.

    They give the fixture `stage` and override `answer`.
    """

    def answer(self, stage: Any) -> Ranking:
        """Ask the stage something, always the same."""
        raise NotImplementedError

    def test_saved_and_loaded_alone_it_answers_the_same(self, stage: Any, tmp_path: Path) -> None:
        stage.save_pretrained(tmp_path / "made here")
        (tmp_path / "made here").rename(tmp_path / "moved")
        loaded = type(stage).from_pretrained(tmp_path / "moved")
        assert_same_answer(self.answer(loaded), self.answer(stage))
        assert loaded.catalogue.ids == stage.catalogue.ids
        assert loaded.catalogue.titles == stage.catalogue.titles

    def test_a_saved_folder_says_what_it_is(self, stage: Any, tmp_path: Path) -> None:
        stage.save_pretrained(tmp_path)
        if KINDS.get(stage.kind, "").endswith(f":{type(stage).__name__}"):
            assert type(load(tmp_path)) is type(stage)
        else:
            with refused(f"kind {stage.kind!r}, which thinkrank does not know"):
                load(tmp_path)

    def test_a_folder_without_a_model_is_refused(self, stage: Any, tmp_path: Path) -> None:
        with refused(tmp_path.name):
            type(stage).from_pretrained(tmp_path)

    def test_a_stage_of_another_kind_is_refused(self, stage: Any, tmp_path: Path) -> None:
        stage.save_pretrained(tmp_path)
        config = tmp_path / CONFIG_FILE
        config.write_text(config.read_text(encoding="utf-8").replace(f'"{stage.kind}"', '"another"'), encoding="utf-8")
        with refused("kind 'another'"):
            type(stage).from_pretrained(tmp_path)

    def test_a_damaged_file_is_refused(self, stage: Any, tmp_path: Path) -> None:
        stage.save_pretrained(tmp_path / "whole")
        for file in sorted((tmp_path / "whole").rglob("*")):
            if file.is_dir() or file.suffix == ".md":
                continue
            content = file.read_bytes()
            file.write_bytes(b"not what it was")
            with refused():
                type(stage).from_pretrained(tmp_path / "whole")
            file.write_bytes(content)
