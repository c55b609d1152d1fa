"""Thoughts before and after are those of the right steps, samples and people."""

import re
from dataclasses import replace

import pytest

from thinkrank.data import split_dataset
from thinkrank.report import ThoughtChange, ThoughtPair, WrittenThought, thought_change
from thinkrank.report.thoughts import thoughts_section
from thinkrank.testing import two_tribes

SPLIT = split_dataset(two_tribes())
POSITIONS = SPLIT.valid.positions[:3].tolist()


def row(step: int, *ranks: int) -> dict:
    told = [
        {"position": position, "text": f"at {step}", "tokens": 7, "finish_reason": "closed", "rank": rank}
        for position, rank in zip(POSITIONS, ranks, strict=True)
    ]
    return {"step": step, "thoughts": told}


def valid(step: int, ndcg: float) -> dict:
    return {"step": step, "valid_thinking_ndcg@10": ndcg, "valid_ndcg@10": 1 - ndcg}


LOG = [
    row(0, 5, 5, 5),
    valid(0, 0.1),
    {"step": 1, "reward": 0.3},
    row(2, 4, 4, 4),
    valid(2, 0.4),
    row(4, 3, 3, 3),
    valid(4, 0.4),
    row(6, 2, 2, 2),
    valid(6, 0.2),
]


def change(*rows: dict, is_best: bool = True) -> ThoughtChange:
    told = thought_change(rows, SPLIT.dataset, is_best=is_best)
    assert told is not None
    return told


def test_after_is_the_first_of_the_best_validations_if_the_best_weights_were_kept():
    told = change(*LOG)
    assert (told.before_step, told.after_step) == (0, 2)
    assert {pair.before.text for pair in told.pairs} == {"at 0"}
    assert {(pair.after.text, pair.after.rank, pair.after.num_tokens) for pair in told.pairs} == {("at 2", 4, 7)}


def test_after_is_the_last_validation_if_the_last_weights_were_kept():
    assert change(*LOG, is_best=False).after_step == 6


def test_a_log_without_thoughts_tells_nothing():
    assert thought_change([{"step": 1, "loss": 1.0}], SPLIT.dataset, is_best=True) is None
    assert thoughts_section(None) is None


def test_each_pair_is_told_with_its_own_person():
    told = change(*LOG)
    dataset = SPLIT.dataset
    assert len(told.pairs) == 3
    for pair, sample in zip(told.pairs, SPLIT.valid[:3], strict=True):
        assert pair.user == dataset.users[sample.user]
        assert pair.target == dataset.catalogue.titles[sample.target]
        assert pair.past_length == len(sample.history)
        assert [item.title for item in pair.past] == [dataset.catalogue.titles[i] for i in sample.history.items]


def test_the_order_of_the_log_may_be_any():
    before, after = row(0, 1, 2, 3), row(2, 4, 5, 6)
    before["thoughts"].reverse()
    told = change(before, after, valid(2, 0.5), is_best=False)
    assert [(pair.before.rank, pair.after.rank) for pair in told.pairs] == [(1, 4), (2, 5), (3, 6)]


def test_only_the_newest_of_a_long_history_are_shown():
    told = thought_change(LOG, SPLIT.dataset, is_best=True, num_past=1)
    assert told is not None
    for pair, sample in zip(told.pairs, SPLIT.valid[:3], strict=True):
        assert [item.title for item in pair.past] == [SPLIT.dataset.catalogue.titles[sample.history.items[-1]]]


def test_a_true_item_that_could_not_be_recommended_has_no_place():
    beyond = len(SPLIT.dataset.catalogue) + 1
    told = change(row(0, beyond, 2, 2), row(1, beyond, 1, 3), valid(1, 1.0))
    assert told.pairs[0].before.rank is None
    said = words(told)
    assert "took something seen before" in said
    assert "rose for 1 of them, fell for 1 and stayed for 0" in said
    assert "True item at place 12" not in said


def pair(before: int | None, after: int | None) -> ThoughtPair:
    then, now = (WrittenThought("words", 4, "length", rank) for rank in (before, after))
    return ThoughtPair("u", past=[], past_length=9, target="A wine", before=then, after=now)


def words(told: ThoughtChange) -> str:
    section = thoughts_section(told)
    assert section is not None
    return re.sub(r"<[^>]*>", "", section)


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (1_234, 56, "true item from place 1,234 to 56"),
        (2, 3, "true item from place 2 to 3"),
        (8, 8, "true item stays at place 8"),
        (None, None, "took something seen before"),
    ],
)
def test_a_card_says_where_the_thoughts_led(before, after, verdict):
    assert verdict in words(ThoughtChange(0, 5, True, [pair(before, after)]))


def test_a_card_shows_both_thoughts_with_length_end_and_place_in_order():
    then, now = WrittenThought("long words", 1_048, "length", 9), WrittenThought("", 1, "closed", 2)
    said = words(ThoughtChange(0, 50, True, [replace(pair(1, 1), before=then, after=now)]))
    parts = [
        *("Took next", "A wine", "Before, step 0", "long words", "1,048 tokens; the model was cut off", "place 9"),
        *("After, step 50", "The thought is empty.", "1 token; the model closed its own thought.", "place 2"),
    ]
    places = [said.index(part, said.index("Took next")) for part in parts]
    assert places == sorted(places)


def test_the_lead_counts_and_averages():
    ranks = [(10, 1), (20, 30), (5, 5), (40, 20)]
    said = words(ThoughtChange(0, 5, False, [pair(before, after) for before, after in ranks]))
    assert "same 4 validation samples" in said
    assert "rose for 2 of them, fell for 1 and stayed for 1" in said
    assert "median place was 15 and became 12.5" in said
    assert "4 tokens on average before, 4 after; 4 are the same word for word" in said


def test_large_numbers_are_written_out():
    long = replace(pair(20_001, 30_000), before=WrittenThought("words", 2_048, "length", 20_001))
    said = words(ThoughtChange(0, 5, False, [long, pair(20_000, 30_000)]))
    assert "median place was 20,000.5 and became 30,000" in said
    assert "1,026 tokens on average" in said


def test_the_same_words_are_said_to_be_the_same():
    same, other = pair(3, 2), replace(pair(3, 2), after=WrittenThought("others", 1, "closed", 2))
    said = words(ThoughtChange(0, 5, True, [same, other]))
    assert said.count("After, step 5, the same words") == 1
    assert "1 are the same word for word" in said
    assert "a place can change under the same words" in said


def test_the_reader_is_told_that_the_weights_were_chosen_on_these_samples():
    pairs = [pair(2, 1)]
    assert "expect less of others" in words(ThoughtChange(0, 5, True, pairs))
    assert "expect less" not in words(ThoughtChange(0, 5, False, pairs))
    assert "No later validation was better" in words(ThoughtChange(0, 0, True, pairs))


def test_markup_in_titles_and_thoughts_is_text():
    evil = "<img src=x onerror=alert(1)>"
    thought = WrittenThought(evil, 1, "end_of_turn", 1)
    section = thoughts_section(ThoughtChange(0, 1, True, [replace(pair(1, 1), user=evil, target=evil, before=thought)]))
    assert section is not None
    assert "<img" not in section
    assert section.count("&lt;img src=x onerror=alert(1)&gt;") == 3
