"""The page of a cascade is filled from what its stages really answer."""

import numpy as np
import pytest

from thinkrank.cascade import Cascade, CascadeConfig
from thinkrank.data import split_dataset
from thinkrank.evaluate import evaluate_retrieval
from thinkrank.evidence import Reasons, TextChecker
from thinkrank.recipes.cascade_story import cascade_story
from thinkrank.report import Report, render_report
from thinkrank.report.cascade import recall
from thinkrank.retrieve import ItemKNN, Popularity
from thinkrank.testing import two_tribes


@pytest.fixture(scope="module")
def split():
    return split_dataset(two_tribes())


@pytest.fixture(scope="module")
def cascade(split):
    return Cascade(ItemKNN().fit(split), Popularity().fit(split), config=CascadeConfig(candidates=4))


@pytest.fixture(scope="module")
def story(split, cascade):
    return cascade_story(cascade, split.test, split.train_counts, checker=TextChecker(Reasons.of(split)))


def test_places_behind_each_stage_are_those_of_the_cascade_cut_there(split, cascade, story):
    retriever, both = story.stages
    items = ItemKNN().fit(split).retrieve(split.test.requests(), 4).items_BK
    found = [4 if target in row else 0 for row, target in zip(items.tolist(), split.test.targets, strict=True)]
    assert [bool(rank) for rank in retriever.ranks_S] == [bool(place) for place in found]
    whole = evaluate_retrieval({"c": cascade}, split.test, cutoffs=(4,))
    assert recall(both, 4) == pytest.approx(whole.values("c", "hit@4").mean())
    assert (retriever.name, both.name, both.method) == ("retrieve", "rank", "Popularity")
    assert (retriever.seconds_S > 0).all()


def test_everything_that_the_page_shows_is_there(split, story):
    assert {"history 1-3", "target head"} <= {*story.buckets}
    assert [way.name for way in story.variants] == ["up to retrieve", "up to rank"]
    assert story.variants[1].seconds > story.variants[0].seconds
    assert 0 < len(story.journeys) <= 8
    first = story.journeys[0]
    assert [name for name, _, _ in first.stages] == ["retrieve", "rank"]
    assert all(len(titles) <= 10 for _, titles, _ in first.stages)
    markup = render_report(Report("t", cascade=story))
    assert "From history to slate" in markup
    assert np.isfinite(story.stages[0].coverage)
