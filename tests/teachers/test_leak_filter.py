import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkrank.data import Catalogue
from thinkrank.teachers.attributes import short_title
from thinkrank.teachers.leak_filter import LEAKS, LeakFilter

TITLES = [
    "Fargo",
    "Casino",
    "Heat",
    "Dead Man Walking",
    "Dead Man",
    "Money",
    "187",
    "M",
    "Mission: Impossible",
    "Star Trek: First Contact",
    "Avery White Shipping Labels, Permanent Adhesive, 2 x 4 Inches, 250 Count",
    "What Really Took Place",
    "Pilot G2 Retractable Premium Gel Ink Roller Ball Pens, Fine Point, Blue",
    "BookFactory Password Journal/Password Organizer/Password Book/Logbook",
]
FARGO, CASINO, HEAT, WALKING, DEAD, MONEY, N187, M, MISSION, TREK, LABELS, TOOK, PENS, LONG = range(len(TITLES))


@pytest.fixture(scope="module")
def leak_filter():
    columns = {"categories": [["Crime"]] + [[]] * 12 + [["Labelling & Indexing"]], "brand": [None] * 13 + ["Money"]}
    return LeakFilter(
        Catalogue(pl.DataFrame({"item": [str(i) for i in range(len(TITLES))], "title": TITLES, **columns}))
    )


LEAKY = [
    ("The user actually bought it.", "what really happened"),
    ("She did watch it in the end.", "what really happened"),
    ("The person did not choose this film.", "what really happened"),
    ("He didn’t pick it.", "what really happened"),
    ("They EVENTUALLY CHOSE it.", "what really happened"),
    ("In fact bought soon after.", "what really happened"),
    ("Then went on to see it.", "how it went on"),
    ("It turns out to fit.", "how it went on"),
    ("They ended up with it.", "how it went on"),
    ("By the ground truth it fits.", "the truth"),
    ("The ground-truth says yes.", "the truth"),
    ("The correct answer is yes.", "the truth"),
    ("So the label must be true.", "the label"),
    ("So the label said yes.", "what the label says"),
    ("It is labelled as a match.", "the label"),
    ("It is labeled positive.", "the label"),
    ("Two labels agree.", "the label"),
    ("Given the outcome, it fits.", "the outcome"),
    ("In hindsight a match.", "the outcome"),
    ("As the final choice it fits.", "the outcome"),
    ("It is the target item.", "the test"),
    ("Clearly a negative sample.", "the test"),
    ("The held-out film.", "the test"),
    ("My previous verdict overlooked crime.", "an earlier verdict"),
    ("On second thought it fits.", "an earlier verdict"),
    ("Re-examining the evidence, it fits.", "an earlier verdict"),
    ("My reading was wrong.", "an earlier verdict"),
    ("I was told that it fits.", "being told"),
    ("After this feedback it fits.", "being told"),
]


@pytest.mark.parametrize(("text", "leak"), LEAKY)
def test_what_gives_the_label_away_is_found(leak_filter, text, leak):
    assert leak_filter.leak(text, [FARGO]) == leak


def test_there_is_an_example_of_every_leak():
    assert {leak for _, leak in LEAKY} == set(LEAKS)


@pytest.mark.parametrize(
    "text",
    [
        "Likes crime: Fargo, Heat. This one: crime drama from 1996, popular. A match.",
        "Chose this one before. Fits well.",
        "The person watched many crime films and bought none of horror.",
        "Seems likely, since the answers of both films lie in crime.",
        "No reading of the history supports it.",
        "A relabelling of old ideas.",
        "An unlabelled box.",
    ],
)
def test_plain_reasoning_leaks_nothing(leak_filter, text):
    assert leak_filter.leak(text, [FARGO]) is None


def test_a_wording_of_the_items_shown_is_no_leak(leak_filter):
    text = "Likes shipping labels. A match."
    assert leak_filter.leak(text, [FARGO]) == "the label"
    assert leak_filter.leak(text, [FARGO, LABELS]) is None
    assert leak_filter.leak("Labelling things. A match.", [LONG]) is None
    assert leak_filter.leak("Chose What Really Took Place. A match.", [TOOK]) is None
    assert leak_filter.leak("Chose What Really Took Place. A match.", [FARGO]) == "what really happened"
    assert leak_filter.leak("Likes shipping labels; the label says yes.", [LABELS]) == "what the label says"


@pytest.mark.parametrize(
    ("text", "shown", "title"),
    [
        ("Likes Fargo and Casino.", [FARGO], "Casino"),
        ("Likes Fargo and Casino.", [FARGO, CASINO], None),
        ("Likes crime: Heat.", [FARGO], "Heat"),
        ("Heat is no Fargo.", [FARGO], None),  # one word that begins a sentence
        ("A match. Money is no object.", [FARGO], None),
        ('"Heat" is like it.', [FARGO], "Heat"),
        ("In the heat of the moment.", [FARGO], None),
        ("Such as Dead Man Walking.", [DEAD], "Dead Man Walking"),
        ("Such as Dead Man Walking.", [WALKING], None),
        ("Such as Dead Man, again.", [FARGO], "Dead Man"),
        ("Such as Dead Man, again.", [WALKING], None),  # it stands in what was shown
        ("Mission Impossible fits.", [FARGO], "Mission Impossible"),
        ("187 of 200 are M.", [FARGO], None),  # numbers and single letters name nothing
        ("Star Trek is near.", [FARGO], None),
        ("Star Trek: First Contact is near.", [FARGO], "Star Trek First Contact"),
        ("Like Pilot G2 Retractable Premium Gel Ink.", [FARGO], short_title(TITLES[PENS])),
        ("Like Pilot G2 Retractable Premium Gel Ink.", [PENS], None),
        (f"Such as {short_title(TITLES[LONG])}.", [LONG], None),
        ("It has Money on it.", [FARGO], "Money"),
        ("It has Money on it.", [LONG], None),  # a brand of what was shown
    ],
)
def test_titles_that_nobody_showed_are_found(leak_filter, text, shown, title):
    assert leak_filter.foreign_title(text, shown) == title


@given(
    named=st.lists(st.sampled_from([FARGO, CASINO, HEAT, WALKING, MISSION, TREK, LABELS]), max_size=4), data=st.data()
)
def test_a_list_of_titles_is_fine_as_long_as_all_were_shown(leak_filter, named, data):
    shown = data.draw(st.lists(st.sampled_from(range(len(TITLES))), max_size=5))
    texts = "|".join(TITLES[row] for row in shown).casefold()
    text = "Chose " + ", ".join(TITLES[row] for row in named) + " before."
    hidden = [TITLES[row] for row in named if TITLES[row].casefold() not in texts]
    assert (leak_filter.foreign_title(text, shown) is not None) == bool(hidden)
