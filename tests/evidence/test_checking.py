"""A thought is marked for what is wrong with it, and what is true of the data passes."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from thinkrank.data import Catalogue, History
from thinkrank.evidence import TextChecker, checks_of, summed
from thinkrank.evidence.loops import circle
from thinkrank.stages import Check, Ranking, Thought

HISTORY = History.of([3, 0, 2, 2])  # Delta Blues, Alpha Station, Gamma Ray twice


@pytest.fixture(scope="module")
def checker(reasons) -> TextChecker:
    return TextChecker(reasons)


def thought(text: str, finish_reason: str = "closed") -> Thought:
    none = np.zeros(0, dtype=np.float32)
    return Thought(text, np.zeros(0, dtype=np.int32), none, none, finish_reason, 0.0)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("Likes war, as in Gamma Ray and Delta Blues.", None),
        ("Gamma Ray is war, and Alpha Station is of 1995.", None),
        ("Likes comedy.", "not true, attribute: comedy"),
        ("They chose Eta Carinae.", "not true, title: Eta Carinae"),
        ("Likes war, as in Millefleur 2021.", "names no item of the catalogue: Millefleur 2021"),
        ('Likes war, such as "The Longest Day".', "names no item of the catalogue: The Longest Day"),
        ("Likes war: 《长城》.", "names no item of the catalogue: 长城"),
        ("Likes war, war and war.", "repeats itself: war"),
        ("Gamma Ray, Gamma Ray, Gamma Ray", "repeats itself: gamma ray"),
        ("1. 1. 2. 3. 4. 5. 6. 7.", "says nothing in words"),
        ("", "says nothing in words"),
        ("The person likes to eat a lot of food.", "says nothing that could be checked"),
    ],
)
def test_what_is_wrong_with_a_text_is_said(checker, text, fault):
    check = checker.check(text, HISTORY)
    assert fault in check.faults if fault else check.faults == ()
    assert check.may_be_shown == (fault is None)


def test_a_text_cut_off_by_its_budget_is_marked_unless_its_sentence_ended(checker):
    assert "stops" in checker.check("Likes war and the", HISTORY, finish_reason="length").faults[0]
    assert checker.check("Likes war.", HISTORY, finish_reason="length").may_be_shown
    assert checker.check("Likes war and the", HISTORY).may_be_shown


def test_claims_about_an_item_are_judged_by_the_item(checker):
    assert checker.check("This one: war from 1996.", HISTORY, 1) == Check(2, 2)
    assert checker.check("This one: war from 1996.", HISTORY, 5).true == 0


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("likes war and drama", None),
        ("no . no . no .", "no"),
        ("the latest in a genre with a focus on the latest in a genre", "the latest in a genre"),
        ("over and over again a very very long wait", None),
        ("x b c d x c b d x b d c x d", "x"),
        ("4 of the last 5 films are war like 3 of the last 5 films", None),
    ],
)
def test_a_circle_is_told_from_a_phrase_that_returns(words, found):
    told = circle(words.split())
    assert (told is None) == (found is None)
    assert found is None or found in told


def test_what_an_item_is_not_is_judged_by_the_item_and_its_bare_name_is_no_reason(checker):
    assert checker.check("It is not a drama, but war.", HISTORY, 1).may_be_shown
    assert checker.check("It's not a classic war film.", HISTORY, 1).faults == ("not true, attribute: war",)
    assert checker.check("It isn't a war film.", HISTORY, 1).true == 0
    assert checker.check("It is not only a war film.", HISTORY, 1).may_be_shown
    assert checker.check("Alpha Station is highly acclaimed.", HISTORY, 0).faults == (
        "says nothing that could be checked",
    )
    assert checker.check("As Alpha Station is.", HISTORY, 1).may_be_shown
    thrice = checker.check("Prefers Gamma Ray to that of Gamma Ray, or Gamma Ray's.", HISTORY)
    assert thrice.faults == ("repeats itself: gamma ray",)


def test_a_title_with_its_article_behind_is_known_as_people_say_it(cinema):
    _, catalogue = cinema
    titles = ["Shining, The (1980)", *catalogue.titles[1:]]
    checker = TextChecker.of_catalogue(Catalogue(catalogue.frame.with_columns(title=pl.Series(titles))))
    assert checker.check("Likes The Shining.", History.of([0])) == Check(1, 1)
    assert checker.check("Likes The Shining.", History.of([1])).faults == ("not true, title: The Shining",)


def test_titles_are_known_without_what_stands_in_parentheses_and_common_words_are_no_titles(cinema):
    _, catalogue = cinema
    titles = ["Independence Day (ID4) (1996)", "unknown", "Shadow Conspiracy", *catalogue.titles[3:]]
    checker = TextChecker.of_catalogue(Catalogue(catalogue.frame.with_columns(title=pl.Series(titles))))
    assert checker.check("Likes Independence Day.", History.of([0])) == Check(1, 1)
    assert checker.check("Likes drama and the unknown.", History.of([3])) == Check(1, 1)
    cut = checker.check('Likes drama, as in "Epsilon" and "The Shadows Conspiracy', History.of([3, 4]))
    assert cut.faults == ("names no item of the catalogue: Shadows Conspiracy",)


def test_without_counts_popularity_is_judged_by_the_catalogue_or_not_at_all(cinema):
    _, catalogue = cinema
    words = ["popular", *["rarely chosen"] * (len(catalogue) - 1)]
    columns = {name: pl.Series(words) for name in ("popularity", "popularity_without_own")}
    told = TextChecker.of_catalogue(Catalogue(catalogue.frame.with_columns(**columns)))
    assert told.check("This one: a common choice.", HISTORY, 0) == Check(1, 1)
    assert told.check("This one: a common choice.", HISTORY, 1).true == 0
    assert TextChecker.of_catalogue(catalogue).check("This one: popular.", HISTORY, 0).checked == 0


def test_an_answer_carries_its_checks_and_hides_what_should_not_be_shown(checker, cinema):
    _, catalogue = cinema
    ranking = Ranking(
        np.array([[1, 5, -1]], dtype=np.int32),
        np.array([[2.0, 1.0, -np.inf]], dtype=np.float32),
        thoughts=(thought("Likes comedy."),),
        reasons=((thought("This one: war from 1996."), thought("This one: war.")),),
    )
    assert checks_of(ranking) == []
    assert "reason_may_be_shown" not in ranking.table(catalogue).columns
    marked = checker.marked(ranking, [HISTORY])
    table = marked.table(catalogue, every_text=False)
    assert table["reason"].to_list() == ["This one: war from 1996.", None]
    assert table["reason_may_be_shown"].to_list() == [True, False]
    assert table["thought"].to_list() == [None, None]
    assert marked.table(catalogue)["thought"].to_list() == ["Likes comedy."] * 2
    assert table.select("reason_claims_checked", "reason_claims_true").rows() == [(2, 2), (1, 0)]
    assert summed(checks_of(marked)) == "1 of 3 texts may be shown; claims: checked 4, true 2"
    assert replace(marked, thoughts=None, reasons=None).table(catalogue).columns[-1] == "score"
