import re

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import thinkrank
from thinkrank.data import Catalogue, History, split_dataset
from thinkrank.errors import ThinkrankError
from thinkrank.teachers.history_rules import ALL_FORMS, NOTHING, RuleWriter


def catalogue_of(titles, **columns):
    return Catalogue(pl.DataFrame({"item": [str(row) for row in range(len(titles))], "title": titles, **columns}))


FARGO, HEAT, CLUELESS, ALIEN, HALLOWEEN, BRAZIL, CASABLANCA, RAMBO = range(8)
FILMS = catalogue_of(
    ["Fargo (1996)", "Heat", "Clueless", "Alien", "Halloween", "Brazil", "Casablanca", "Rambo"],
    categories=[
        ["Crime", "Drama"],
        ["Crime", "Action"],
        ["Comedy"],
        ["Horror", "Sci-Fi"],
        ["Horror"],
        ["Comedy", "Sci-Fi"],
        ["Drama"],
        ["Action"],
    ],
    year=[1996, 1995, 1995, 1979, 1978, 1985, 1942, 1985],
)
STYLES, KINDS = ("amber", "jade", "onyx"), ("lamp", "bowl", "vase")
WORLD = catalogue_of(
    [f"{style} {kind}" for style in STYLES for kind in KINDS],
    style=[style for style in STYLES for _ in KINDS],
    kind=[kind for _ in STYLES for kind in KINDS],
)
AMBER_LAMP, AMBER_BOWL, JADE_LAMP, JADE_BOWL = 0, 1, 3, 4
PAPER = 7


def written(catalogue, rows, *forms, seeds=60, noun="movie"):
    """Everything a writer says about a history."""
    writer = RuleWriter(catalogue, forms=forms or ALL_FORMS, noun=noun)
    return {writer.write(History.of(rows), np.random.default_rng(seed)) for seed in range(seeds)}


def test_recent_names_one_to_three_titles_newest_first():
    assert written(FILMS, [ALIEN, CASABLANCA, HEAT, FARGO], "recent") == {
        f"{lately} {titles}."
        for lately in ("Lately", "Recently")
        for titles in ("Fargo", "Fargo and Heat", "Fargo, Heat and Casablanca")
    }


def test_an_item_met_again_is_named_once():
    assert "Lately Fargo and Heat." in written(FILMS, [FARGO, HEAT, FARGO], "recent")
    assert not any(text.count("Fargo") > 1 for text in written(FILMS, [FARGO, HEAT, FARGO]))


def test_taste_weighs_what_is_newer_more():
    # crime 1 + .9, drama .9 + .81, action 1, comedy .729
    assert written(FILMS, [CLUELESS, CASABLANCA, FARGO, HEAT], "taste") == {
        "Mostly crime and drama, next action.",
        "Likes crime and drama, next action.",
    }
    assert written(FILMS, [CLUELESS], "taste") == {"Mostly comedy.", "Likes comedy."}
    assert "Mostly comedy and drama." in written(FILMS, [CASABLANCA, CLUELESS], "taste")


def test_shift_compares_the_older_half_with_the_newer():
    assert written(FILMS, [CASABLANCA, FARGO, ALIEN, HALLOWEEN], "shift") == {
        "Earlier drama, lately horror and sci-fi.",
        "Before drama, now horror and sci-fi.",
    }


def test_an_oracle_tells_what_an_item_is():
    assert RuleWriter(FILMS).about(ALIEN) == "Next horror and sci-fi."
    assert RuleWriter(catalogue_of(["Fargo", "Heat"])).about(0) == NOTHING


def test_a_history_that_did_not_shift_is_told_as_a_taste():
    assert written(FILMS, [CASABLANCA, FARGO, CASABLANCA, FARGO], "shift") == written(
        FILMS, [CASABLANCA, FARGO, CASABLANCA, FARGO], "taste"
    )


def test_era_names_the_decade_and_its_main_value_with_the_noun():
    assert written(FILMS, [CASABLANCA, ALIEN, HALLOWEEN], "era") == {
        "Movies of the 1970s, mostly horror.",
        "1970s movies, mostly horror.",
    }
    assert written(FILMS, [HALLOWEEN, FARGO], "era", noun="film") == {
        "Films of the 1990s and 1970s, mostly crime.",
        "1990s and 1970s films, mostly crime.",
    }


def test_what_is_said_of_an_era_is_true_of_its_items_and_not_of_others():
    kinds = ["war", "war", "noir", "farce", "saga", "opera", "noir", "farce", "saga", "opera"]
    films = catalogue_of(list("abcdefghij"), categories=[[kind] for kind in kinds], year=[1942] * 2 + [1991] * 8)
    assert "Likes war and opera, next saga." in written(films, [0, 1, 2, 3, 4, 5], "taste")
    assert "Movies of the 1990s, mostly opera." in written(films, [0, 1, 2, 3, 4, 5], "era")


@pytest.mark.parametrize("years", [{}, {"year": [None] * 8}])
def test_without_years_an_era_gives_way_to_a_taste(years):
    films = catalogue_of(FILMS.titles, categories=FILMS.frame["categories"], **years)
    assert written(films, [FARGO, HEAT], "era") == written(films, [FARGO, HEAT], "taste")


def test_links_follow_the_first_attribute_and_then_the_second_from_one_of_the_newest_three():
    assert written(WORLD, [JADE_LAMP, AMBER_LAMP, JADE_BOWL, AMBER_BOWL], "links") == {
        "amber lamp, amber bowl, jade bowl",
        "amber bowl, amber lamp, jade lamp",
        "jade bowl, jade lamp, amber lamp",
    }


def test_a_chain_does_not_return_to_its_start():
    twins = catalogue_of(
        ["a", "b", "c", "d"], style=["amber", "amber", "jade", "jade"], kind=["lamp", "lamp", "bowl", "bowl"]
    )
    assert all(", both" in text or "Both " in text for text in written(twins, [0, 1], "links"))


def test_a_chain_that_breaks_off_is_told_as_a_pair():
    assert written(WORLD, [AMBER_LAMP, AMBER_BOWL], "links") == {
        "amber lamp and amber bowl, both amber.",
        "amber bowl and amber lamp, both amber.",
        "Both amber: amber lamp and amber bowl.",
        "Both amber: amber bowl and amber lamp.",
    }


def test_other_links_name_what_two_items_share():
    pairs = {"Fargo and Heat, both crime.", "Heat and Fargo, both crime."}
    assert written(FILMS, [FARGO, HEAT, CLUELESS], "links") == pairs | {
        "Both crime: Fargo and Heat.",
        "Both crime: Heat and Fargo.",
    }


def test_a_link_goes_by_the_rarest_value_to_the_newest_item():
    films = catalogue_of(list("abcdefgh"), categories=[["x", "y"]] * 2 + [["x"]] * 2 + [["z"]] * 4)
    texts = written(films, [0, 2, 1], "links")
    assert {"a and b, both y.", "b and a, both y.", "c and b, both x."} <= texts
    assert not any("a and b, both x" in text or "c and a" in text for text in texts)


def test_without_links_the_newest_titles_are_named():
    assert written(FILMS, [FARGO, HALLOWEEN], "links") == written(FILMS, [FARGO, HALLOWEEN], "recent")


def test_without_attributes_the_newest_titles_are_named():
    bare = catalogue_of(["Heat", "Alien"])
    assert written(bare, [0, 1]) == written(bare, [0, 1], "recent")


@pytest.mark.parametrize("catalogue", [FILMS, WORLD, catalogue_of([])])
def test_nothing_is_said_of_an_empty_history(catalogue):
    assert written(catalogue, []) == {NOTHING}


def test_nothing_is_said_of_items_that_show_nothing():
    assert written(catalogue_of(["", "\n"]), [0, 1]) == {NOTHING}


def test_unknown_values_are_passed_over():
    things = catalogue_of(
        ["a", "b", "c", "d", "e"],
        categories=[["Pens", None], None, [], ["Pens"], [""]],
        brand=[None, "Pilot", "Pilot", "", None],
        year=[0, None, None, None, 1999],
    )
    assert written(things, [0, 1, 2], "taste") == {"Mostly Pilot and pens.", "Likes Pilot and pens."}
    assert written(things, [0], "era") == {"Mostly pens.", "Likes pens."}
    assert "Items of the 1990s." in written(things, [4], "era", noun="item")


def test_what_nearly_all_items_have_and_what_only_one_has_is_left_out():
    things = catalogue_of(
        list("abcdef"),
        categories=[["Office", "Pens"], ["Office", "Pens"], ["Office"], ["Office"], ["Ink"], []],
        asin=[f"B00{row}" for row in range(6)],
    )
    assert written(things, [4, 2, 0], "taste") == {"Mostly pens.", "Likes pens."}


def test_a_category_and_its_parent_are_not_both_named():
    paths = [["Writing", "Gel Pens"]] * 2 + [["Writing", "Pencils"]] * 2 + [["Paper"]] * 4 + [[]]
    things = catalogue_of(list("abcdefghi"), categories=paths)
    assert "Mostly gel pens and paper." in written(things, [4, 0, 1], "taste")
    assert "Mostly writing and paper." in written(things, [4, 0, 2], "taste")


def test_long_values_are_cut():
    long = "Writing & Correction Supplies and All That Belongs to Them"
    things = catalogue_of(
        ["a", "b", "c", "d"], categories=[[long], [long], [], []], brand=["3M of Saint Paul"] * 2 + [None] * 2
    )
    assert "Mostly 3M of Saint Paul." in written(things, [0], "taste")
    things = catalogue_of(["a", "b", "c", "d"], categories=[[long], [long], [], []])
    assert written(things, [0], "taste") == {
        "Mostly writing & correction supplies.",
        "Likes writing & correction supplies.",
    }


def test_titles_alone_show_makers_and_kinds():
    titles = [
        *(f"Pilot G{i} Gel Pens, Fine" for i in range(5)),
        *(f"Pilot F{i} Highlighter" for i in range(2)),
        *(f"Paper Mate P{i} Gel Pen (Pack of 12)" for i in range(5)),
        *(f"Paper Mate M{i} Eraser" for i in range(2)),
        *(f"Expo E{i} Dry Erase Marker with Cap" for i in range(5)),
        *(f"Expo Spray {i}" for i in range(5)),
    ]
    things = catalogue_of(titles)
    assert "Mostly Pilot and gel pens." in written(things, [0], "taste")
    assert "Mostly Paper Mate and gel pens." in written(things, [PAPER], "taste")
    assert "Mostly dry erase marker." in written(things, [14], "taste")
    assert "Both gel pens: Pilot G0 Gel Pens, Fine and Paper Mate P0 Gel Pen." in written(things, [0, PAPER], "links")


texts = st.text(max_size=80)


@given(
    rows=st.lists(st.tuples(texts, st.lists(texts, max_size=3), st.none() | texts, st.none() | texts), max_size=6),
    copies=st.integers(1, 2),
    noun=texts,
    seed=st.integers(0, 99),
)
def test_a_thought_is_one_short_line_whatever_the_catalogue_says(rows, copies, noun, seed):
    rows = rows * copies
    titles, categories, brands, labels = zip(*rows, strict=True) if rows else ((), (), (), ())
    columns = {
        "categories": pl.Series(categories, dtype=pl.List(pl.String)),
        "brand": pl.Series(brands, dtype=pl.String),
        "label": pl.Series(labels, dtype=pl.String),
    }
    writer = RuleWriter(catalogue_of(pl.Series(titles, dtype=pl.String), **columns), noun=" ".join(noun.split()[:2]))
    text = writer.write(History.of(range(len(rows))), np.random.default_rng(seed))
    assert text.isprintable()
    assert 1 <= len(text.split()) <= 30


@given(
    values=st.lists(st.lists(st.sampled_from("abcd"), unique=True), min_size=1, max_size=12),
    history=st.lists(st.integers(0, 11), max_size=12),
    seed=st.integers(0, 99),
)
def test_no_item_outside_the_history_is_mentioned(values, history, seed):
    catalogue = catalogue_of([f"Item{row}!" for row in range(len(values))], categories=values)
    history = [row % len(values) for row in history]
    text = RuleWriter(catalogue).write(History.of(history), np.random.default_rng(seed))
    assert set(re.findall(r"Item\d+!", text)) <= {catalogue.titles[row] for row in history}


def test_equal_generators_give_equal_texts():
    history = History.of([CASABLANCA, CLUELESS, FARGO, HEAT])
    first, second = (
        [RuleWriter(FILMS).write(history, random) for _ in range(50)]
        for random in (np.random.default_rng(3), np.random.default_rng(3))
    )
    assert first == second


def test_all_forms_are_drawn():
    rows = [CASABLANCA, CLUELESS, FARGO, HEAT]
    by_form = {form: written(FILMS, rows, form) for form in ALL_FORMS}
    assert written(FILMS, rows, seeds=300) == set().union(*by_form.values())
    assert sum(map(len, by_form.values())) == len(set().union(*by_form.values()))


def test_only_the_forms_asked_for_are_drawn():
    rows = [CASABLANCA, CLUELESS, FARGO, HEAT]
    assert written(FILMS, rows, "recent", "links") == written(FILMS, rows, "recent") | written(FILMS, rows, "links")
    with pytest.raises(ThinkrankError, match="recent, taste"):
        RuleWriter(FILMS, forms=())


@pytest.mark.movielens
def test_movielens_histories_are_told_in_many_ways():
    check_real(thinkrank.load_dataset("movielens-100k"))


@pytest.mark.shared_data
def test_office_histories_are_told_in_many_ways(shared_data):
    check_real(thinkrank.load_dataset("amazon-2018", shared_data / "amazon18-office-products"))


def check_real(dataset):
    writer, random = RuleWriter(dataset.catalogue), np.random.default_rng(0)
    histories = [history.last(20) for history in split_dataset(dataset).train.subset(500, 0).histories()]
    texts = [writer.write(history, random) for history in histories]
    assert all(text.isprintable() and len(text.split()) <= 30 for text in texts)
    assert len(set(texts)) > 250
    assert len({text.split()[0] for text in texts} & {"Lately", "Mostly", "Before", "Both"}) == 4
