"""Every number of a sentence is counted again from the histories; what is too little to tell is not told."""

import itertools
import re

import polars as pl
import pytest

from thinkrank.data import Catalogue, History
from thinkrank.evidence import ClaimChecker, Crowd, Reasons
from thinkrank.evidence.reasons import FEWEST_PEOPLE
from thinkrank.evidence.wording import times

ASKED = (([0, 3], 1), ([0, 2], 1), ([1, 0], 2), ([3, 5, 8], 4), ([2, 2, 1, 0], 5), ([], 5), ([7], 0))


def numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"(?<!\d)\d+(?!\d|s)", text.split("(")[0])]


def recounted(histories, without, item, row):
    """People, of all and of those who chose a row: how many there are, and how many of them chose the item."""
    sets = [set(h.items.tolist()) for number, h in enumerate(histories) if number != without and len(h)]
    choosers = [chosen for chosen in sets if row in chosen]
    return (sum(item in chosen for chosen in sets), len(sets)), (sum(item in c for c in choosers), len(choosers))


@pytest.mark.parametrize("without", [None, 0, 4])
def test_the_counts_in_a_sentence_are_true(cinema, reasons, without):
    histories, _ = cinema
    kinds = set()
    for items, item in ASKED:
        for reason in reasons.reasons(History.of(items), item, without, most=9):
            kinds.add(reason.kind)
            everyone, choosers = recounted(histories, without, item, reason.item)
            if reason.kind == "together":
                assert numbers(reason.text)[:2] == list(choosers)
                assert times(choosers[0] / choosers[1] / (everyone[0] / everyone[1])) in reason.text
                assert choosers[0] >= FEWEST_PEOPLE
    assert {"together", "next"} <= kinds


def test_the_best_reason_comes_first_and_each_kind_once(reasons):
    found = reasons.reasons(History.of([0, 2]), 1, most=9)
    assert len({reason.kind for reason in found}) == len(found)
    assert found[0].text.startswith(("Chosen by", "The next choice"))
    assert reasons.reasons(History.of([0, 2]), 1, most=1) == found[:1]


def test_what_is_shared_is_counted_in_the_last_items(reasons):
    texts = [reason.text for reason in reasons.reasons(History.of([3, 4, 4, 5, 3]), 4, most=9)]
    assert "Drama, like 4 of the last 5 films." in texts
    assert "From the 1980s, like 4 of the last 5 films." in texts


def test_popularity_is_told_of_few_items_by_all_people(cinema):
    _, catalogue = cinema
    most = Reasons(Crowd([History.of([0])] * 30 + [History.of([1])], len(catalogue)), catalogue)
    assert [reason.text for reason in most.reasons(History.of([]), 0, 3)] == ["Chosen by 29 of all 30 people."]
    assert most.reasons(History.of([]), 1) == []


def test_nothing_is_said_where_counts_are_too_small_to_tell(cinema):
    histories, catalogue = cinema
    few = Reasons(Crowd(histories[:5], len(catalogue)), catalogue)
    assert few.reasons(History.of([0]), 1) == []
    assert few.reasons(History.of([]), 7) == []


def test_a_ratio_is_told_in_whole_times_and_no_finer_than_few_people_can():
    told = {
        1.3: "one and a half times",
        1.8: "twice",
        2.6: "three times",
        10.4: "ten times",
        19.6: "20 times",
        321.0: "more than 20 times",
    }
    assert {ratio: times(ratio) for ratio in told} == told


def test_whatever_a_title_says_its_sentences_hold(cinema):
    histories, catalogue = cinema
    titles = [".*", "(?P<x>", "people who chose", "Chosen by 3 of all 4 people", "A\u202e<b>", "twice", "9", "\\1", "$"]
    frame = catalogue.frame.with_columns(title=pl.Series(titles))
    reasons = Reasons(Crowd(histories, len(titles)), Catalogue(frame))
    checker = ClaimChecker(reasons)
    for items, item in ASKED:
        history = History.of(items)
        for reason in reasons.reasons(history, item, most=9):
            claims = checker.claims(reason.text, history, item)
            assert claims
            assert any(claim.is_true for claim in claims), reason.text


def test_a_next_choice_that_is_hardly_commoner_than_any_is_not_told():
    """1,200 of 3,000 people took B behind A, a share of .40; of all choices B is .35: sure, and not worth a word."""
    walks = [[0, 1]] * 1200 + [[0, 2]] * 1800 + [[1]] * 1385
    catalogue = Catalogue(pl.DataFrame({"item": [*"abc"], "title": [*"ABC"]}))
    reasons = Reasons(Crowd([History.of(walk) for walk in walks], 3), catalogue)
    checker, texts = ClaimChecker(reasons), []
    for row, item in itertools.product(range(3), repeat=2):
        for reason in reasons.reasons(History.of([row]), item, most=9):
            texts.append(reason.text)
            assert all(claim.is_true for claim in checker.claims(reason.text, History.of([row]), item)), reason.text
    assert texts
    assert not [reason for reason in reasons.reasons(History.of([0]), 1, most=9) if reason.kind == "next"]
