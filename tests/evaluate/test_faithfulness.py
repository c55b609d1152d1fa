"""In synthetic worlds where it is known what a text does to the answer, the figures say so."""

import math

import numpy as np
import pytest

from thinkrank.evaluate.faithfulness import attribute_agreement, in_words, measure_faithfulness, sentences
from thinkrank.stages import Check

NUM = 6
TEXTS = [(f"Item {row}.",) for row in range(4)]
USERS = np.array([0, 1, 2, 3])


def deciding(rows, texts):
    """A stage that recommends the item that its text names, and knows nothing without one."""
    scores = np.zeros((len(rows), NUM))
    for line, text in zip(scores, texts, strict=True):
        if text is not None:
            for word in text[0].replace(".", "").split():
                if word.isdigit():
                    line[int(word)] = 2.0
    return scores


def ignoring(rows, texts):
    """A stage that answers each request in its own way, whatever was written."""
    return np.array([np.roll(np.arange(NUM, dtype=float), row) for row in rows])


def test_a_thought_that_decides_the_list_loses_the_target_when_it_is_removed():
    found = measure_faithfulness(deciding, TEXTS, np.arange(4), USERS, k=1)
    with_it = math.log(math.exp(2) / (math.exp(2) + NUM - 1))
    assert found.mean("removed: target's log-probability, change") == pytest.approx(math.log(1 / NUM) - with_it)
    without = math.log(1 / (math.exp(2) + NUM - 1))
    assert found.mean("another user's: target's log-probability, change") == pytest.approx(without - with_it)
    assert found.mean("another user's: overlap@1") == 0
    assert found.mean("another user's: rank correlation") == pytest.approx(-0.2)  # one of six moves past all others
    assert found.mean("removed: rank correlation") == 0


def test_a_thought_that_is_ignored_changes_nothing():
    texts = [("One. Two. Three.",)] * 4
    found = measure_faithfulness(ignoring, texts, np.arange(4), USERS, k=3)
    ways = {name.split(":")[0] for name in found.values}
    assert {"removed", "cut after sentence 1", "cut after sentence 2", "another user's"} <= ways
    for name, values in found.values.items():
        assert values == pytest.approx(0.0 if name.endswith("change") else 1.0), name


def test_a_cut_shows_which_sentence_decides():
    texts = [(f"Sees much. Item {row}. And so on.",) for row in range(4)]
    found = measure_faithfulness(deciding, texts, np.arange(4), USERS, k=1)
    change = "cut after sentence {}: target's log-probability, change"
    assert found.mean(change.format(1)) == found.mean("removed: target's log-probability, change") < 0
    assert found.mean(change.format(2)) == 0


def test_only_another_users_text_replaces_one():
    found = measure_faithfulness(deciding, TEXTS, np.arange(4), np.zeros(4, dtype=int))
    assert not any(name.startswith("another") for name in found.values)


def test_claims_are_counted_one_by_one_and_intervals_draw_users():
    checks = [[Check(3, 3)], [Check(1, 0, ("not true",))], [Check(0, 0, ("loops",))], [Check(4, 4)]]
    found = measure_faithfulness(ignoring, TEXTS, np.arange(4), USERS, checks=checks)
    assert found.mean("claims that hold") == 7 / 8
    assert found.mean("texts that may be shown") == 2 / 4
    rows = {row.metric: row for row in found.rows(dataset="d", split="test", system="s", seeds=[1])}
    assert rows["claims that hold"].n == 8
    assert rows["claims that hold"].low < 7 / 8 < rows["claims that hold"].high
    assert (rows["removed: rank correlation"].low, rows["removed: rank correlation"].high) == (1, 1)


def test_the_figures_are_told_in_one_sentence():
    found = measure_faithfulness(deciding, TEXTS, np.arange(4), USERS, checks=[[Check(2, 1)]] * 4)
    told = in_words(found.rows(dataset="d", split="test", system="s"))
    assert told.startswith(
        "50.0% of 8 claims in its texts hold [50.0%, 50.0%]; 100.0% of 4 texts may be shown, in which no claim fails;"
    )
    assert told.endswith("of the first 10 stay.")
    assert in_words([]) == ""


def test_named_attributes_are_compared_with_shuffled_pairs():
    values = [("a",), ("a", "b"), ("c",), ("c",)]
    items = np.array([[0, 1], [2, 3], [0, -1]])
    found = attribute_agreement([{"a"}, {"c", "b"}, set()], items, values)
    own, shuffled, above = (found[f"named attributes: {name}"] for name in ("agree", "shuffled", "above shuffled"))
    assert own[:2].tolist() == [1.0, 0.5]
    assert shuffled[:2].tolist() == [0.0, 0.0]
    assert above[:2].tolist() == [1.0, 0.5]
    assert np.isnan(own[2])


def test_what_cannot_be_recommended_is_left_out():
    def read(rows, texts):
        scores = deciding(rows, texts)
        scores[:, 5] = -np.inf
        return scores

    found = measure_faithfulness(read, TEXTS, np.array([0, 1, 2, 5]), USERS)
    assert len(found.values["removed: target's log-probability, change"]) == 3
    assert all(np.isfinite(values).all() for values in found.values.values())


def test_a_text_is_cut_at_its_sentences():
    assert sentences("One. Two! Three?") == ["One.", "Two!", "Three?"]
    assert sentences("") == []


def test_texts_targets_and_users_must_match():
    with pytest.raises(ValueError, match="4 texts, 3 targets"):
        measure_faithfulness(ignoring, TEXTS, np.arange(3), USERS[:3])
