"""Lines about candidates against the counts and the votes they tell of."""

import numpy as np
import polars as pl

from thinkrank.data import Catalogue, Dataset, History
from thinkrank.evidence import Crowd, PairLines
from thinkrank.evidence.lines import LEVELS, NEVER
from thinkrank.retrieve import ItemKNN, ItemKNNConfig


def test_counts_and_what_is_shared_are_told(cinema):
    histories, catalogue = cinema
    crowd = Crowd(histories, len(catalogue))
    ((chosen, first, second),) = (
        text.split("\n") for text in PairLines(crowd, catalogue).lines(History.of([2, 0, 6, 2]), [1])
    )
    sets = [set(history.items.tolist()) for history in histories]
    counts = [sum(item in own for own in sets) for item in range(len(catalogue))]
    fewer = 100 * sum(count < counts[1] for count in counts) // len(counts)
    assert chosen == f"chosen by {counts[1]} people, more than {fewer} of 100 items"
    choosers = [set(history.items.tolist()) for history in histories if 0 in history.items]
    both = sum(1 in chosen for chosen in choosers)
    assert first.startswith("chosen with these: ")
    assert f"; with Alpha Station {both} of {len(choosers)}" in first
    assert second == "shared with these: Sci-Fi 1, War 1".lower()


def test_words_rank_the_votes_among_all_items(cinema):
    histories, catalogue = cinema
    history, words = History.of([0, 5]), [word for _, word in LEVELS]
    lines = PairLines(Crowd(histories, len(catalogue)), catalogue).lines(history, range(len(catalogue)))
    said = [line.split("chosen with these: ")[1].split(";")[0].split("\n")[0] for line in lines]
    votes_I = ItemKNN(ItemKNNConfig(neighbours=99)).fit(dataset_of(histories, catalogue)).scores([history])[0]
    for item, word in enumerate(said):
        assert (word == NEVER) == (votes_I[item] == 0)
        if word != NEVER:
            fewer = np.mean(votes_I < votes_I[item])
            assert word == next(level for least, level in LEVELS if fewer >= least)
    assert len(set(said) & {*words, NEVER}) > 2


def test_after_an_empty_history_only_popularity_is_told(cinema):
    histories, catalogue = cinema
    (text,) = PairLines(Crowd(histories, len(catalogue)), catalogue).lines(History.of([]), [1])
    assert text.split("\n")[1:] == [f"chosen with these: {NEVER}"]


def dataset_of(histories: list[History], catalogue: Catalogue) -> Dataset:
    rows = [
        (f"u{user:02}", catalogue.ids[item], place)
        for user, history in enumerate(histories)
        for place, item in enumerate(history.items.tolist())
    ]
    return Dataset("cinema", pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row"), catalogue)
