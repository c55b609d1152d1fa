import json

import numpy as np
import pytest

from thinkrank.errors import ThinkrankError
from thinkrank.evaluate import metrics
from thinkrank.evaluate.significance import paired_test
from thinkrank.evaluate.studies import read_study, study_test
from thinkrank.evaluate.study_tables import compared, study_markdown
from thinkrank.evaluate.trainings import trainings_test

SHOWN = ("ndcg@10", "hit@1", "hit@20")
USERS = np.repeat(np.arange(15), 4).tolist()
NEARLY = pytest.approx


def write(folder, arm, seed, ranks, **more):
    modes = ranks if isinstance(ranks, dict) else {"no thought": ranks}
    result = {"arm": arm, "seed": seed, "about": "…", "seconds": 60.0, "ranks": modes, "users": USERS, **more}
    (folder / f"{arm}-{seed}.json").write_text(json.dumps(result), encoding="utf-8")


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    for seed in (0, 1, 2):
        for arm, worst in (("plain", 200), ("better", 12)):
            ranks = {"no thought": random.integers(1, worst, 60).tolist(), "thought_tokens": [3] * 60}
            write(tmp_path, arm, seed, ranks, kept_step=10 * seed, code="abc", shared="warm start")
    return tmp_path


def rewritten(folder, name, **changed):
    file = folder / f"{name}.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | changed), encoding="utf-8")


def row_of(table, arm):
    header, _, *lines = (
        [cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")
    )
    (found,) = [dict(zip(header, line, strict=True)) for line in lines if line[0] == arm]
    return found


def test_a_metric_is_the_mean_over_samples_and_seeds(folder):
    better, plain = read_study(folder)
    assert (better.arm, better.mode, better.seeds) == ("better", "no thought", (0, 1, 2))
    ranks = [
        rank
        for seed in (0, 1, 2)
        for rank in json.loads((folder / f"plain-{seed}.json").read_text())["ranks"]["no thought"]
    ]
    by_hand = sum(1 / np.log2(rank + 1) for rank in ranks if rank <= 10) / 180
    assert plain.values("ndcg@10").mean() == NEARLY(by_hand)
    low, high = plain.spread("ndcg@10")
    assert low <= by_hand <= high


def test_arms_with_enough_trainings_are_compared_over_trainings_and_users(folder):
    better, plain = read_study(folder)
    found = study_test(better, plain, "ndcg@10")
    expected = trainings_test(better.values("ndcg@10") - plain.values("ndcg@10"), np.array(USERS))
    assert (found.scope, found.test) == ("trainings", expected)
    assert found.test.num_clusters == 15
    assert study_test(plain, plain, "ndcg@10").test.p_value == 1


def test_one_training_of_an_arm_is_tested_as_that_model_alone_by_whole_users(folder):
    for seed in (1, 2):
        (folder / f"better-{seed}.json").unlink()
    better, plain = read_study(folder)
    found = study_test(better, plain, "ndcg@10")
    pair = [arm.values("ndcg@10")[0] for arm in (better, plain)]  # what the other has more of says nothing of this one
    assert (found.scope, found.test) == ("models", paired_test(*pair, np.array(USERS)))
    table = study_markdown([better, plain], ("plain", "no thought"), SHOWN)
    assert row_of(table, "better")["p"].endswith("†")
    assert "Of these trained models only" in table


def test_what_no_seed_has_a_part_in_is_the_same_beside_every_training(folder):
    for seed in (1, 2):
        (folder / f"better-{seed}.json").unlink()
    rewritten(folder, "better-0", seedless=["no thought"])
    better, plain = read_study(folder)
    found = study_test(better, plain, "ndcg@10")
    expected = trainings_test(better.values("ndcg@10") - plain.values("ndcg@10"), np.array(USERS))
    assert (found.scope, found.test) == ("trainings", expected)
    assert study_test(better, better, "ndcg@10").scope == "systems"


def test_the_table_says_what_a_reader_needs(folder):
    table = study_markdown(read_study(folder), ("plain", "no thought"), SHOWN, notes=["Superseded: by another."])
    better, plain = row_of(table, "better"), row_of(table, "plain")
    assert (plain["p"], plain["difference"], plain["visible"]) == ("–", "–", "–")
    assert better["p"] == "< .001"
    assert better["difference"].startswith("+.")
    assert 0 < float(better["visible"].split()[0]) < 0.5
    assert (better["kept step"], better["seeds"]) == ("0, 10, 20", "3")
    assert table.startswith("**Superseded: by another.**\n\n")
    for said in (
        "Ties: pessimistic",
        "60 samples of 15 users",
        "corrected by Holm over 1 comparisons",
        "80 % power",
        "warm start (better), warm start (plain)",
        "Code: abc.",
    ):
        assert said in table


@pytest.mark.parametrize("primary", [None, "better", "other/no thought"])
def test_p_values_are_corrected_for_the_comparisons_of_a_table_or_follow_a_declared_one(folder, primary):
    random = np.random.default_rng(5)
    for arm, worst in (("other", 120), ("third", 190)):
        for seed in (0, 1, 2):
            write(folder, arm, seed, random.integers(1, worst, 60).tolist())
    study = read_study(folder)
    plain = next(answers for answers in study if answers.arm == "plain")
    rows = {row.answers.arm: row for row in compared(study, plain, "ndcg@10", primary=primary)}
    raw = {arm: row.found.test.p_value for arm, row in rows.items()}
    assert set(rows) == {"better", "other", "third"}
    least, order = 0.0, sorted((arm for arm in rows if primary is None or not primary.startswith(arm)), key=raw.get)
    if primary is not None:
        (first,) = set(rows) - set(order)
        assert rows[first].p_value == raw[first]
        least = raw[first]
    for place, arm in enumerate(order):
        least = max(least, min(1.0, (len(order) - place) * raw[arm]))
        assert rows[arm].p_value == NEARLY(least)


def test_a_primary_comparison_is_one_of_the_table(folder):
    study = read_study(folder)
    for wrong in ("plain", "best"):
        with pytest.raises(ThinkrankError, match="is not one of better/no thought"):
            compared(study, study[1], "ndcg@10", primary=wrong)


def test_without_users_or_with_too_few_no_p_is_told(folder):
    for users, said in ((None, "neither intervals nor tests"), ([0, 1, 2, 3, 4] * 12, "5 users are too few")):
        for arm in ("better", "plain"):
            for seed in (0, 1, 2):
                rewritten(folder, f"{arm}-{seed}", users=users)
        table = study_markdown(read_study(folder), ("plain", "no thought"), SHOWN)
        assert said in table
        assert row_of(table, "better").get("p", "–") == "–"
        assert ("[" in table) == (users is not None)


def test_where_scores_tie_the_expected_value_is_told_and_named(folder):
    ties = {"no thought": {"0": [[2, 5]], "7": [[1, 12]]}}
    places = [5, *[1] * 6, 12, *[3] * 52]
    for arm in ("better", "plain"):
        for seed in (0, 1, 2):
            write(folder, arm, seed, places, ties=ties)
    better, plain = read_study(folder)
    discounts = 1 / np.log2(np.arange(2, 14))
    values = better.values("ndcg@10")[1]
    assert values[[0, 7, 8]] == NEARLY([discounts[1:5].mean(), discounts[:10].sum() / 12, 0.5])
    assert better.values("hit@3")[0, [0, 7]] == NEARLY([2 / 4, 3 / 12])
    assert better.values("mrr")[0, 0] == NEARLY(np.mean([1 / 2, 1 / 3, 1 / 4, 1 / 5]))
    assert "Ties: expected value over random orders" in study_markdown([better, plain], ("none", ""), SHOWN)
    relevance = metrics.relevance_from_ranks(np.array([5]), 5)
    assert metrics.ndcg(relevance, 10)[0] < values[0]


def test_a_mode_that_not_every_seed_was_judged_by_is_left_out(folder):
    once = json.loads((folder / "plain-0.json").read_text())["ranks"]
    rewritten(folder, "plain-0", ranks=once | {"filler": once["no thought"]})
    assert "filler" in {answers.mode for answers in read_study(folder)}
    assert "filler" not in study_markdown(read_study(folder), ("plain", "no thought"), SHOWN)


def test_results_that_do_not_fit_together_are_refused(folder):
    with pytest.raises(ThinkrankError, match="no results"):
        read_study(folder / "nowhere")
    with pytest.raises(ThinkrankError, match="hit@k"):
        read_study(folder)[0].values("recall@3")
    rewritten(folder, "better-0", users=USERS[::-1])
    with pytest.raises(ThinkrankError, match="different samples"):
        read_study(folder)
    for seed in (0, 1, 2):
        rewritten(folder, f"better-{seed}", users=USERS[::-1])
    better, plain = read_study(folder)
    with pytest.raises(ThinkrankError, match="different samples"):
        study_test(better, plain, "ndcg@10")
    rewritten(folder, "plain-0", ranks={"no thought": [1, 2]})
    with pytest.raises(ThinkrankError, match="different samples"):
        read_study(folder)


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
