"""What a text claims is found, and what is false is told from what is true."""

import pytest

from thinkrank.data import History
from thinkrank.evidence import ClaimChecker, num_true

HISTORY = History.of([3, 0, 2, 2])  # Delta Blues, Alpha Station, Gamma Ray twice; then Beta: science fiction, war


@pytest.fixture(scope="module")
def said(reasons):
    def check(text, item=1, history=HISTORY):
        return [(claim.kind, claim.is_true) for claim in ClaimChecker(reasons).claims(text, history, item)]

    return check


def test_our_own_sentences_hold_one_true_claim_each(reasons):
    checker = ClaimChecker(reasons)
    for items in ([0, 3], [0, 2], [1, 0], [3, 5, 8], [2, 2, 1, 0], [3, 0, 2, 2]):
        for item in range(len(reasons.catalogue)):
            for reason in reasons.reasons(History.of(items), item, 4, most=9):
                claims = checker.claims(reason.text, History.of(items), item, 4)
                assert (len(claims), num_true(claims)) == (1, 1), (reason.text, claims)


def test_every_number_of_our_sentences_counts(reasons):
    """A sentence with one number, or the ratio, changed is false."""
    checker, tried = ClaimChecker(reasons), 0
    for reason in reasons.reasons(History.of([0, 2]), 1, most=9):
        words = reason.text.split(" ")
        for place, word in enumerate(words):
            other = {"twice": "five times"}.get(word, str(int(word) + 1) if word.isdigit() else word)
            if other != word:
                text = " ".join([*words[:place], other, *words[place + 1 :]])
                assert [claim.is_true for claim in checker.claims(text, History.of([0, 2]), 1)] == [False], text
                tried += 1
    assert tried >= 4


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("They chose Alpha Station.", [("title", True)]),
        ("They chose Eta Carinae.", [("title", False)]),
        ("Likes war.", [("attribute", True)]),
        ("Likes comedy.", [("attribute", False)]),
        ("This one: war from 1996.", [("attribute", True), ("year", True)]),
        ("This one: drama from 1985.", [("attribute", False), ("year", False)]),
        ("Lately the 1970s, never 2001.", [("year", True), ("year", False)]),
        ("No comedy among the last 4 films.", [("attribute", True)]),
        ("No war so far.", [("attribute", False)]),
        ("Mostly war.", [("attribute", True)]),
        ("Mostly drama.", [("attribute", False)]),
        ("Only few drama.", [("attribute", True)]),
        ("2 of the last 4 films are war, such as Gamma Ray.", [("title", True), ("share", True)]),
        ("3 of the last 4 films are war.", [("share", False)]),
        ("2 of the last 9 films are war.", [("share", False)]),
        ("War, like 2 of the last 4 films.", [("share", True)]),
        ("Drama, like 1 of the last 4 films.", [("share", False)]),  # true of the history, not of the item
        ("Chosen by 1 of the 2 people who chose Something Else.", [("together", False)]),
        ("A fine thing, as ever!", []),
        ("", []),
    ],
)
def test_claims_are_found_and_judged(said, text, found):
    assert said(text) == found


def test_words_for_popularity_are_judged_by_the_count(reasons, said):
    level = {row: reasons.crowd.events()[row] for row in range(9)}
    rarest = min(level, key=level.get)
    assert said("This one: rarely chosen.", item=rarest) == [("popularity", True)]
    assert said("This one: not often chosen, popular.", item=rarest) == [("popularity", False), ("popularity", False)]


def test_a_text_about_the_history_alone_is_judged_by_the_history(said):
    assert said("Likes war and romance.", item=None) == [("attribute", True), ("attribute", False)]


def test_counts_are_judged_without_the_user_who_is_left_out(reasons):
    checker = ClaimChecker(reasons)
    (reason,) = (r for r in reasons.reasons(History.of([0]), 1, 0, most=9) if r.kind == "together")
    assert num_true(checker.claims(reason.text, History.of([0]), 1, 0)) == 1
    assert num_true(checker.claims(reason.text, History.of([0]), 1)) == 0
