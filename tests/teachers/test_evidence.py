"""Weights against sums written out by hand."""

import math

import numpy as np
import polars as pl
import pytest

from thinkrank.data import Catalogue
from thinkrank.teachers import Pair, RuleTeacher
from thinkrank.teachers.attributes import RECENCY
from thinkrank.teachers.evidence import PRIOR, WEIGHTS, Facts


@pytest.fixture(scope="module")
def counts(catalogue, split):
    return np.array([(split.dataset.items_E == row).sum() for row in range(len(catalogue))])


@pytest.fixture(scope="module")
def facts(catalogue, counts):
    return Facts(catalogue, counts)


@pytest.fixture(scope="module")
def weights(catalogue, facts):
    """The evidence about a film after others, by kind; what speaks against apart."""

    def weigh(history, title):
        profile = facts.profile([catalogue.titles.index(seen) for seen in history])
        evidence = facts.evidence(profile, catalogue.titles.index(title))
        return {(piece.kind, piece.weight > 0): piece for piece in evidence}

    return weigh


def share(catalogue, counts, has):
    """Of all train interactions, one more for each item: those with items that have it."""
    return sum(c + 1 for c, row in zip(counts, catalogue.frame.rows(named=True), strict=True) if has(row)) / sum(
        counts + 1
    )


def lift(weight, total, expected):
    return math.log((weight + PRIOR * expected) / ((total + PRIOR) * expected))


def test_popularity_is_the_log_of_the_count_against_the_mean(weights, counts):
    assert weights([], "Clueless")["popularity", True].weight == pytest.approx(math.log(4 / (counts + 1).mean()))
    assert weights([], "Nobody Came")["popularity", False].weight == pytest.approx(math.log(1 / (counts + 1).mean()))


def test_the_event_that_is_asked_about_counts_nowhere_in_its_own_evidence(catalogue, counts, facts, split):
    history = [catalogue.titles.index(title) for title in ("Heat", "Casino", "Alien")]
    for own in np.flatnonzero(counts).tolist():
        refitted = Facts(catalogue, counts - (np.arange(len(counts)) == own))
        for item in (own, catalogue.titles.index("Fargo"), catalogue.titles.index("Nobody Came")):
            found = facts.evidence(facts.profile(history), item, own)
            wanted = refitted.evidence(refitted.profile(history), item)
            assert [(piece.kind, piece.values, piece.rows) for piece in found] == [
                (piece.kind, piece.values, piece.rows) for piece in wanted
            ]
            assert [piece.weight for piece in found] == pytest.approx([piece.weight for piece in wanted])
    sample = split.train[0]
    (score,) = RuleTeacher(split).scores([Pair(int(split.train.positions[0]), sample.history, sample.target, True)])
    refitted = Facts(catalogue, counts - (np.arange(len(counts)) == sample.target))
    evidence = refitted.evidence(refitted.profile(sample.history.items.tolist()), sample.target)
    assert score == pytest.approx(sum(piece.weight for piece in evidence))


def test_a_taste_is_the_mean_lift_of_the_items_values(weights, catalogue, counts):
    # after Heat, Casino, Clueless: crime .9 + .81, drama .9; in all 1 + .9 + .81
    total = 1 + RECENCY + RECENCY**2
    crime = lift(RECENCY + RECENCY**2, total, share(catalogue, counts, lambda row: "Crime" in row["categories"]))
    drama = lift(RECENCY, total, share(catalogue, counts, lambda row: "Drama" in row["categories"]))
    assert crime > drama > 0
    piece = weights(["Heat", "Casino", "Clueless"], "Fargo")["taste", True]
    assert piece.weight == pytest.approx(WEIGHTS["taste"] * (crime + drama) / 2)
    assert piece.values == ("crime", "drama")
    assert [catalogue.titles[row] for row in piece.rows] == ["Casino", "Heat"]


def test_what_is_met_and_what_is_missed_are_told_apart(weights, catalogue, counts):
    pieces = weights(["Halloween", "Psycho"], "Alien")
    total = 1 + RECENCY
    horror = lift(total, total, share(catalogue, counts, lambda row: "Horror" in row["categories"]))
    scifi = lift(0, total, share(catalogue, counts, lambda row: "Sci-Fi" in row["categories"]))
    assert pieces["taste", True].values == ("horror",)
    assert pieces["taste", True].weight == pytest.approx(WEIGHTS["taste"] * horror / 2)
    assert pieces["taste", False].values == ("sci-fi",)
    assert pieces["taste", False].weight == pytest.approx(WEIGHTS["taste"] * scifi / 2)
    assert pieces["taste", False].rows == ()


def test_an_era_is_the_lift_of_the_decade(weights, catalogue, counts):
    expected = lift(RECENCY, 1 + RECENCY, share(catalogue, counts, lambda row: 1990 <= row["year"] <= 1999))
    piece = weights(["Clueless", "Psycho"], "Rambo")["era", False]
    assert piece.values == ("1980s",)
    assert piece.rows == ()
    era = next(piece for (kind, _), piece in weights(["Clueless", "Psycho"], "Heat").items() if kind == "era")
    assert era.weight == pytest.approx(WEIGHTS["era"] * expected)
    assert [catalogue.titles[row] for row in era.rows] == ["Clueless"]


def test_titles_count_by_the_rarity_of_the_words_they_share(weights, catalogue):
    piece = weights(["Star Trek: Generations", "Heat"], "Star Trek: First Contact")["title", True]
    assert piece.values == ("star", "trek")
    assert [catalogue.titles[row] for row in piece.rows] == ["Star Trek: Generations"]
    assert piece.weight == pytest.approx(WEIGHTS["title"] * 2 * math.log(16 / 2))


def test_one_word_counts_if_it_is_all_that_a_title_has(weights):
    # "alien" occurs twice; "resurrection" occurs once and so is not distinctive
    assert weights(["Alien"], "Alien Resurrection")["title", True].values == ("alien",)
    titles = ["First Knight", "First Wives", "Knight Wives"]
    things = Catalogue(pl.DataFrame({"item": titles, "title": titles}))
    facts = Facts(things, np.zeros(3, dtype=np.int64))
    assert all(piece.kind != "title" for piece in facts.evidence(facts.profile([0]), 1))


def test_an_item_of_the_history_is_a_repeat_and_not_its_own_likeness(weights):
    pieces = weights(["Heat", "Star Trek: Generations", "Heat"], "Star Trek: Generations")
    assert pieces["repeat", True].weight == WEIGHTS["repeat"]
    assert ("title", True) not in pieces


def test_an_empty_history_leaves_popularity_alone(weights):
    assert [kind for kind, _ in weights([], "Fargo")] == ["popularity"]


def test_the_weightiest_comes_first(facts):
    for row in range(16):
        evidence = [abs(piece.weight) for piece in facts.evidence(facts.profile([1, 4, 10]), row)]
        assert evidence == sorted(evidence, reverse=True)


def test_of_values_that_imply_each_other_the_most_special_are_named():
    kinds = [["Pens", "Gel Pens"]] * 2 + [["Pens"]] + [["Ink", "Bottles"]] * 2 + [[]] * 5
    things = Catalogue(pl.DataFrame({"item": list("abcdefghij"), "title": list("abcdefghij"), "categories": kinds}))
    facts = Facts(things, np.zeros(10, dtype=np.int64))
    assert facts.specific(["pens", "gel pens"]) == facts.specific(["gel pens", "pens"]) == ("gel pens",)
    assert facts.specific(["pens"]) == ("pens",)
    assert facts.specific(["ink", "bottles"]) == ("ink",)


def test_years_and_categories_may_be_missing():
    things = Catalogue(pl.DataFrame({"item": ["a", "b"], "title": ["", "x"], "year": [None, 7]}))
    facts = Facts(things, np.array([1, 3]))
    assert [piece.kind for piece in facts.evidence(facts.profile([0]), 1)] == ["popularity"]
    assert Facts(Catalogue(things.frame.head(0)), np.zeros(0, dtype=np.int64)).titles == []


@pytest.mark.parametrize(
    "seen", [[], ["Heat"], ["Heat", "Casino", "Alien", "Heat"], ["Nobody Came", "Star Trek: Generations", "Alien"]]
)
def test_what_is_shared_with_every_item_at_once_is_the_sum_of_its_pieces(catalogue, facts, seen):
    rows, items_N = [catalogue.titles.index(title) for title in seen], np.arange(len(catalogue))[::-1]
    profile = facts.profile(rows)
    sums = [
        sum(piece.weight for piece in facts.evidence(profile, item) if piece.kind in ("taste", "era", "title"))
        for item in items_N.tolist()
    ]
    np.testing.assert_allclose(facts.shared(rows, items_N), sums, atol=1e-12)
