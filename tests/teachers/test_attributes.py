import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkrank.data import Catalogue
from thinkrank.teachers.attributes import (
    RECENCY,
    attribute_columns,
    implied_values,
    joined,
    recency_weights,
    short_title,
)


@given(values=st.lists(st.lists(st.sampled_from("abc"), unique=True), max_size=8))
def test_a_value_weighs_the_sum_over_its_occurrences(values):
    expected = {}
    for position, present in enumerate(values):
        for value in present:
            expected[value] = expected.get(value, 0) + RECENCY ** (len(values) - 1 - position)
    assert recency_weights(values) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("Toy Story (1995)", "Toy Story"),
        ("2001: A Space Odyssey", "2001: A Space Odyssey"),
        ("(1999)", "(1999)"),
        ("Dr. Strangelove or: How I Learned to Stop Worrying", "Dr. Strangelove or: How I Learned"),
        ("The Snows and Winds of the North and South", "The Snows and Winds"),
        ("Homeward Bound II: Lost in San Francisco", "Homeward Bound II: Lost"),
        ("Avery 47986 Two-Pocket Folder, 40-Sheet Capacity, Light Blue (Box of 25)", "Avery 47986 Two-Pocket Folder"),
        (
            "Panasonic Cordless Phone System (Expandable Digital Handsets) with Answering",
            "Panasonic Cordless Phone System",
        ),
        ("one\ntwo\x00three\u2028four \u202efive", "one two three four five"),
        ("x" * 200, "x" * 60),
        ("", ""),
    ],
)
def test_titles_are_cut_to_a_few_words(title, shown):
    assert short_title(title) == shown


def test_columns_keep_their_names_and_values_that_say_nothing_are_left_out():
    frame = pl.DataFrame(
        {
            "item": list("abcdef"),
            "title": list("abcdef"),
            "categories": [["Office", "Gel Pens"], ["Office", "Gel Pens"], ["Office"], ["Office", "Ink"], None, []],
            "brand": ["3M", "3M", "BIC", None, "", None],
            "color": ["red", "red", "blue", "blue", None, "green"],
            "link": [f"https://shop/{row}" for row in range(6)],
        }
    )
    columns = attribute_columns(Catalogue(frame))
    assert columns == {
        "categories": [("gel pens",), ("gel pens",), (), (), (), ()],
        "brand": [("3M",), ("3M",), (), (), (), ()],
        "color": [("red",), ("red",), ("blue",), ("blue",), (), ()],
    }
    assert joined(columns.values(), 6) == [("gel pens", "3M", "red")] * 2 + [("blue",)] * 2 + [()] * 2


def test_titles_stand_in_for_columns_that_are_not_there():
    titles = [f"Pilot G{i} Gel Pens, Fine" for i in range(5)] + [f"Expo {i} Spray" for i in range(6)]
    frame = pl.DataFrame({"item": titles, "title": titles})
    columns = attribute_columns(Catalogue(frame))
    assert list(columns) == ["brand", "categories"]
    assert joined(columns.values(), 11)[:2] == [("Pilot", "pens", "gel pens")] * 2


def test_a_value_implies_what_all_its_items_have():
    values = [("writing", "gel pens"), ("writing", "gel pens"), ("writing", "pencils")]
    assert implied_values(values) == {
        "writing": {"writing"},
        "gel pens": {"writing", "gel pens"},
        "pencils": {"writing", "pencils"},
    }
