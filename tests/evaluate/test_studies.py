import json

import numpy as np
import pytest

from thinkrank.errors import ThinkrankError
from thinkrank.evaluate.studies import read_study, study_interval, study_markdown, study_test

SHOWN = ("ndcg@10", "hit@1", "hit@20")


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    for seed in (0, 1):
        for arm, worst in (("plain", 200), ("better", 12)):
            ranks = {"no thought": random.integers(1, worst, 60).tolist(), "thought_tokens": [3] * 60}
            result = {"arm": arm, "seed": seed, "about": "…", "seconds": 60.0, "ranks": ranks}
            (tmp_path / f"{arm}-{seed}.json").write_text(json.dumps(result))
    return tmp_path


def test_a_metric_is_the_mean_over_samples_and_seeds(folder):
    better, plain = read_study(folder)
    assert (better.arm, better.mode, better.seeds) == ("better", "no thought", (0, 1))
    ranks = [
        rank
        for seed in (0, 1)
        for rank in json.loads((folder / f"plain-{seed}.json").read_text())["ranks"]["no thought"]
    ]
    assert study_interval(plain, "hit@20").value == pytest.approx(sum(rank <= 20 for rank in ranks) / 120)
    by_hand = sum(1 / np.log2(rank + 1) for rank in ranks if rank <= 10) / 120
    assert study_interval(plain, "ndcg@10").value == pytest.approx(by_hand)
    low, high = plain.spread("ndcg@10")
    assert low <= by_hand <= high
    assert (low + high) / 2 == pytest.approx(by_hand)


def test_arms_are_tested_on_the_same_samples(folder):
    better, plain = read_study(folder)
    test = study_test(better, plain, "ndcg@10")
    assert test.p_value < 0.001
    assert test.difference.low > 0
    assert study_test(plain, plain, "ndcg@10").p_value == 1


def test_the_table_has_a_line_per_arm_and_mode_and_no_test_of_the_reference_against_itself(folder):
    lines = study_markdown(read_study(folder), ("plain", "no thought"), SHOWN).splitlines()
    assert len(lines) == 4
    assert "< .001" in lines[2]
    assert lines[3].split("|")[-4].strip() == "–"


def test_a_mode_that_not_every_seed_was_judged_by_is_left_out(folder):
    once = json.loads((folder / "plain-0.json").read_text())
    once["ranks"]["filler"] = once["ranks"]["no thought"]
    (folder / "plain-0.json").write_text(json.dumps(once))
    assert "filler" in {answers.mode for answers in read_study(folder)}
    assert "filler" not in study_markdown(read_study(folder), ("plain", "no thought"), SHOWN)


def test_results_that_do_not_fit_together_are_refused(folder):
    with pytest.raises(ThinkrankError, match="no results"):
        read_study(folder / "nowhere")
    odd = json.loads((folder / "plain-0.json").read_text())
    odd["ranks"]["no thought"].pop()
    (folder / "plain-0.json").write_text(json.dumps(odd))
    with pytest.raises(ThinkrankError, match="different numbers"):
        read_study(folder)
    with pytest.raises(ThinkrankError, match="hit@k"):
        read_study_of(folder)


def read_study_of(folder):
    (folder / "plain-0.json").unlink()
    return read_study(folder)[0].values("recall@3")


def test_several_relevant_items_and_what_else_was_measured(tmp_path):
    places = [[[2, 3], [], [1]], [[11], [1, 2], [4, 20]]]
    for seed, of_seed in enumerate(places):
        result = {"arm": "writer", "seed": seed, "about": "…", "seconds": 1.0, "ranks": {"greedy": of_seed}}
        result["values"] = {"greedy": {"clicks": [0.5 + seed, 1.0, 2.0]}}
        (tmp_path / f"writer-{seed}.json").write_text(json.dumps(result))
    (writer,) = read_study(tmp_path)
    assert writer.values("clicks").tolist() == [[0.5, 1, 2], [1.5, 1, 2]]
    assert writer.values("mrr").tolist() == [[1 / 2, 0, 1], [1 / 11, 1, 1 / 4]]
    log = np.log2
    ndcg = [
        [(1 / log(3) + 1 / log(4)) / (1 + 1 / log(3)), 0, 1],
        [0, 1, 1 / log(5) / (1 + 1 / log(3))],
    ]
    np.testing.assert_allclose(writer.values("ndcg@10"), ndcg)
    np.testing.assert_allclose(writer.values("map@10"), [[(1 / 2 + 2 / 3) / 2, 0, 1], [0, 1, 1 / 4 / 2]])
    assert "| clicks |" in study_markdown([writer], ("none", "greedy"), ("clicks", "mrr"))
