"""The page of a cascade says what each stage finds, gains and costs; figures are checked against counting by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest

from thinkrank.evaluate import ResultRow
from thinkrank.report import CascadeStory, Journey, Report, StageStory, Variant, render_report
from thinkrank.report.cascade import gain, recall, stage_summary

NUM = 40
USERS = np.arange(NUM) // 2
FOUND = np.array([3, 1, 12, 0] * 10)
RANKED = np.array([1, 1, 2, 0] * 10)


def stage(name: str, ranks: np.ndarray, candidates: int, *, seconds: float = 0.01, tokens: float = 0.0) -> StageStory:
    return StageStory(
        name=name,
        method=name.upper(),
        ranks_S=ranks,
        seconds_S=np.full(NUM, seconds),
        tokens_S=np.full(NUM, tokens),
        candidates=candidates,
        coverage=0.25,
    )


def story(**changes) -> CascadeStory:
    stages = [stage("retrieve", FOUND, 50), stage("rank", RANKED, 20, seconds=0.2, tokens=30.0)]
    return CascadeStory(**{"stages": stages, "users_S": USERS} | changes)


def shown(told: CascadeStory) -> str:
    return render_report(Report("t", cascade=told))


def test_recall_and_gain_are_those_counted_by_hand():
    first, second = story().stages
    assert [recall(first, k) for k in (1, 3, 10, 50)] == [0.25, 0.5, 0.5, 0.75]
    assert recall(second, 20) == 0.75
    before, after = (1 / math.log2(4) + 1) / 4, (1 + 1 + 1 / math.log2(3)) / 4
    found = gain(first, second, USERS)
    assert found.value == pytest.approx(after - before)
    assert found.low <= found.value <= found.high


def test_the_summary_says_which_stage_helps_and_at_what_cost():
    told = stage_summary(story())
    assert told.startswith("RETRIEVE finds the true item of 75 % of the samples among 50 candidates.")
    assert "RANK (rank) adds" in told
    assert told.endswith("for 200 ms and 30 tokens.")
    worse = story(stages=[*reversed(story().stages)])
    assert "RETRIEVE (retrieve) takes" in stage_summary(worse)
    same = story(stages=[story().stages[0], replace(story().stages[0], name="rank")])
    assert "makes no sure difference" in stage_summary(same)
    few = story(users_S=np.zeros(NUM, dtype=np.int64))
    assert "too few users to be sure" in stage_summary(few)


def test_ceilings_costs_buckets_and_variants_stand_in_tables():
    short = np.arange(NUM) < 8
    ways = [Variant("never think", 0.3, 0.05), Variant("always think", 0.35, 0.4, 40.0)]
    markup = shown(story(buckets={"history 1-3": short, "none": np.zeros(NUM, dtype=bool)}, variants=ways))
    assert "in the first 50" in markup
    assert "75 %" in markup
    assert "25 %" in markup
    assert "history 1-3" in markup
    assert "8 samples" in markup
    assert ">none<" not in markup
    assert "always think .3500 for 400 ms" in markup
    assert 'id="stages"' in markup


def test_a_user_can_be_followed_from_history_to_slate():
    journey = Journey(
        "u1<b>",
        ["Alpha", "Beta"],
        "Gamma",
        [("retrieve", ["Delta", "Gamma"], 2), ("rank", ["Delta"], 0)],
        [("reason for Delta", "Likes war.")],
    )
    markup = shown(story(journeys=[journey]))
    assert "u1&lt;b&gt;" in markup
    assert "true item at place 2" in markup
    assert "the true item is lost" in markup
    assert markup.count('class="target"') == 1
    assert "Likes war." in markup


def test_no_cascade_is_no_section():
    assert 'id="stages"' not in render_report(Report("t"))
    assert 'id="stages"' not in shown(story(stages=[]))


def faithful(metric: str, value: float) -> ResultRow:
    return ResultRow(
        dataset="d", split="test", system="R²ec", metric=metric, value=value, low=0.1, high=0.9, n=7, seeds=()
    )


def test_what_is_claimed_and_what_the_answer_owes_to_it_stand_in_two_tables():
    rows = [
        faithful("removed: rank correlation", 0.75),
        faithful("removed: overlap@10", 0.5),
        faithful("another user's: rank correlation", 0.25),
        faithful("claims that hold", 0.8),
        faithful("named attributes: agree", 0.6),
    ]
    markup = render_report(Report("t", faithfulness=rows))
    assert markup.index("claims that hold") < markup.index("What the answer owes to the text")
    changes = markup[markup.index("What the answer owes to the text") :]
    assert "another user&#x27;s text instead" in changes
    assert ".7500" in changes
    assert "named attributes" not in changes[: changes.index("</table>")]
    assert 'id="reasons"' not in render_report(Report("t"))
