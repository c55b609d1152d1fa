import numpy as np
import polars as pl
import pytest

from thinkrank.data import (
    LIST_SOURCES,
    SOURCES,
    Catalogue,
    Dataset,
    ListWorld,
    ListWorldOptions,
    load_dataset,
    load_impressions,
    register_source,
)
from thinkrank.data.sources import registry
from thinkrank.errors import ThinkrankError
from thinkrank.options import Options
from thinkrank.testing import SourceContract, random_lists


@pytest.fixture(autouse=True)
def only_ours():
    """What a test registers is gone after it."""
    before = {gives: dict(known) for gives, known in registry._SOURCES.items()}
    yield
    for gives, known in registry._SOURCES.items():
        known.clear()
        known.update(before[gives])


def test_the_sources_are_these():
    events = ("movielens-100k", "movielens", "amazon-2018", "amazon-2023", "table", "synthetic", "synthetic-relay")
    assert tuple(SOURCES) == events
    assert tuple(LIST_SOURCES) == ("trivago", "mind", "kuairand", "ebnerd", "table", "synthetic")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (("trivgo", "here"), "unknown source 'trivgo'; nearest: trivago"),
        (("mind",), "mind: where are the files"),
        (("mind", "nowhere"), "nowhere: no such file or folder"),
        (("synthetic", "here"), "here: the source 'synthetic' is made, not read"),
    ],
)
def test_sources_that_lead_nowhere_are_refused(call, message):
    with pytest.raises(ThinkrankError, match=message):
        load_impressions(*call)


def test_an_unknown_option_names_the_nearest():
    with pytest.raises(ThinkrankError, match="mind: unknown option 'min_candidate'; nearest: min_candidates"):
        load_impressions("mind", "here", min_candidate=3)
    with pytest.raises(ThinkrankError, match=r"option candidates=20: .*only 12 items"):
        load_impressions("synthetic", items=12, events=5, candidates=20)


class DiaryOptions(Options):
    year: int = 2024


def read_diary(path, options):
    rows = [line.split() for line in path.read_text().splitlines()]
    events = pl.DataFrame(rows, schema=["user", "item"], orient="row").with_row_index("timestamp")
    items = events.select("item", title="item").unique().sort("item")
    return Dataset(
        "diary",
        events.select("user", "item", pl.col("timestamp").cast(pl.Int64)),
        Catalogue(items),
        source={"source": "diary", "options": options.model_dump()},
    )


class TestSourceOfYourOwn(SourceContract):
    name = "diary"

    @pytest.fixture(autouse=True)
    def registered(self, only_ours):
        register_source("diary", DiaryOptions, read_diary)

    def write(self, folder):
        (folder / "diary.txt").write_text("ann tea\nbob milk\nann milk\n")
        return folder / "diary.txt"


def test_a_registered_source_is_read_with_its_options(tmp_path):
    register_source("diary", DiaryOptions, read_diary)
    (tmp_path / "diary.txt").write_text("ann tea\nbob milk\n")
    dataset = load_dataset("diary", tmp_path / "diary.txt", year=2020)
    assert dataset.source["options"] == {"year": 2020}
    assert len(dataset.users) == 2
    with pytest.raises(ThinkrankError, match="diary: unknown option 'yaer'; nearest: year"):
        load_dataset("diary", tmp_path, yaer=2020)
    with pytest.raises(ThinkrankError, match="diary: where are the files"):
        load_dataset("diary")


def test_a_source_of_lists_may_be_made_and_have_the_name_of_one_of_events():
    register_source("diary", DiaryOptions, read_diary)
    register_source("diary", DiaryOptions, lambda path, options: random_lists(), gives="lists", path="never")
    assert len(load_impressions("diary")) == 20
    with pytest.raises(ThinkrankError, match="made, not read"):
        load_impressions("diary", "here")


def test_a_name_that_is_taken_is_refused_unless_by_the_same_reader():
    register_source("diary", DiaryOptions, read_diary)
    register_source("diary", Options, read_diary)  # a cell of a notebook that is run again
    with pytest.raises(ThinkrankError, match=r"the source 'table' is there already, read by .*load_table"):
        register_source("table", Options, read_diary)


def test_the_synthetic_source_is_the_world_of_its_options():
    options = {"users": 5, "items": 20, "events": 4, "days": 3, "lists": 7, "candidates": 4}
    lists = load_impressions("synthetic", **options)
    assert lists.fingerprint == ListWorld(ListWorldOptions(**options)).lists.fingerprint


def reciprocal_ranks(lists, scores_LN):
    order_LN = np.argsort(-np.where(lists.mask_LN, scores_LN, -np.inf), axis=1, kind="stable")
    return 1 / (1 + np.take_along_axis(lists.feedback(), order_LN, axis=1).argmax(axis=1))


@pytest.mark.shared_data
def test_trivago_comes_out_as_its_note_says(shared_data):
    lists = load_impressions("trivago", shared_data / "trivago-rsc19-100k", min_candidates=5)
    assert (len(lists), lists.items_LN.shape[1]) == (13_413, 25)
    assert lists.feedback()[:, 0].mean() == pytest.approx(0.31, abs=0.01)
    assert reciprocal_ranks(lists, np.zeros(lists.items_LN.shape)).mean() == pytest.approx(0.445, abs=0.001)
    lately_LN = lists.numeric_LNF[:, :, lists.numeric_names.index("seen_lately")]
    assert reciprocal_ranks(lists, lately_LN).mean() == pytest.approx(0.600, abs=0.001)


@pytest.mark.shared_data
def test_mind_comes_out_as_its_note_says(shared_data):
    lists = load_impressions("mind", shared_data / "mind-demo-impressions")
    assert (len(lists), len(lists.users), int(lists.lengths_L.sum())) == (4_532, 2_629, 187_758)
    assert lists.feedback().sum() == 7_377
    rate_LN = lists.numeric_LNF[:, :, lists.numeric_names.index("rate_before")]
    areas = []
    for row, clicked, there in zip(rate_LN, lists.feedback() > 0, lists.mask_LN, strict=True):
        if not (clicked | ~there).all():
            pairs = row[clicked][:, None] - row[there & ~clicked]
            areas.append(((pairs > 0) + 0.5 * (pairs == 0)).mean())
    assert np.mean(areas) == pytest.approx(0.629, abs=0.001)
