"""The verdict of a probe, read from answers that are made up."""

import json

import numpy as np
import pytest

from thinkrank.evaluate import read_comparisons
from thinkrank.evaluate.power import visible_effect
from thinkrank.evaluate.significance import holm, paired_test
from thinkrank.recipes.probe_arms import COUNTING, Arm, chosen_arms
from thinkrank.recipes.probe_verdict import read_probe, write_probe

WORDS = chosen_arms(["words"])


def answers(folder, arms, ranks):
    """Write answers as a probe would, every sample of a user of its own."""
    (folder / "answers").mkdir(parents=True)
    for arm in arms:
        modes = {how: ranks[arm.name, how] for how in arm.asked}
        kept = {
            "arm": arm.name, "seed": 0, "about": arm.about, "seconds": 60.0, "cpu_seconds": 54.0, "steps": 10,
            "validation": ranks.get(arm.name, 0.5),
            "ranks": modes, "tokens": dict.fromkeys(modes, 7.0), "users": list(range(len(next(iter(modes.values()))))),
            "answer_seconds": {how: 0.03 if how == "thought" else 0.01 for how in modes},
        }  # fmt: skip
        (folder / "answers" / f"{arm.name}-0.json").write_text(json.dumps(kept))


WORSE = [2 + sample % 7 for sample in range(60)]


def world(better, worse, samples=60):
    """Places of the target: always first, or on a place that changes with the sample."""
    good, bad = [1] * samples, WORSE[:samples]
    ranks = {(arm.name, how): bad for arm in WORDS for how in arm.asked}
    return ranks | dict.fromkeys(better, good) | dict.fromkeys(worse, [50] * samples)


@pytest.mark.parametrize(
    ("better", "worse", "begins"),
    [
        ([("words", "thought")], [], "Yes, thinking pays here: thoughts in words find the next wine better than"),
        ([], [], "No, thinking is not shown to pay here: thoughts in words make no sure difference from"),
        ([], [("words", "thought")], "No, thinking does harm here: thoughts in words find the next wine worse than"),
    ],
)
def test_the_sentence_says_yes_no_or_harm_with_its_figures(tmp_path, better, worse, begins):
    answers(tmp_path, WORDS, world(better, worse))
    found = read_probe(tmp_path, WORDS, dataset="wines", about={"noun": "wine"})
    assert found.sentence.startswith(begins)
    assert "at the cost of 7 tokens and 20 milliseconds more for each answer" in found.sentence
    assert found.sentence.count(".\n") == 0
    assert any("the start had learnt from example thoughts" in line for line in found.details)
    assert ("p < .001" in found.sentence) == bool(better or worse)
    assert "with your 60 test moments, effects below " in found.sentence
    write_probe(tmp_path, found)
    told = json.loads((tmp_path / "probe.json").read_text())
    assert told["ways"][0]["pays"] == (True if better else False if worse else None)
    assert (
        read_comparisons(tmp_path / "comparisons.json").comparisons[0].reference == "as long trained without thoughts"
    )


@pytest.mark.parametrize(
    ("better", "places", "updates", "told"),
    [
        ([], {"popularity": 1}, 0, "popularity without a model"),
        ([], {"popularity": 50, "item-knn": 1}, 100, "item-kNN without a model"),
        ([], {"popularity": 50, "item-knn": 1}, 10, ""),  # the start had what it needs
        ([("words", "thought")], {"popularity": 2, "item-knn": 2}, 100, ""),  # the way is above both
        ([], {"popularity": 50, "item-knn": 50}, 100, ""),
    ],
)
def test_models_that_counting_beats_are_not_asked(tmp_path, better, places, updates, told):
    """The start made 10 updates."""
    counting = [arm for arm in COUNTING if arm.name in places]
    ranks = world(better, []) | {(arm.name, "no thought"): [places[arm.name]] * 60 for arm in counting}
    answers(tmp_path, [*WORDS, *counting], ranks)
    about = {
        "noun": "wine",
        "updates of a start": updates,
        "minutes": 5 if updates else None,
        "trained before": not updates,
    }
    found = read_probe(tmp_path, WORDS, dataset="wines", about=about)
    out = "models that are trained already (probe.starts)." if updates else "Train the models of probe.starts longer."
    assert found.is_known == (not told)
    if told:
        assert found.sentence.startswith("Not known: these models have learnt too little to be asked.")
        assert f"They find the next wine worse than {told} (NDCG@10 .4" in found.sentence
        assert found.sentence.endswith(out)
        assert found.details[0].startswith("What was measured: thoughts in words, and a model as long trained without")
    else:
        assert found.sentence.startswith("Yes" if better else "No, thinking is not shown")
    assert {arm.about for arm in counting} < {row.system for row in found.rows}
    assert not {arm.about for arm in counting} & {one.system for one in found.comparisons}


def test_a_thought_that_another_persons_equals_is_told_to_be_no_better(tmp_path):
    answers(tmp_path, WORDS, world([("words", "thought"), ("words", "other")], []))
    details = read_probe(tmp_path, WORDS, dataset="wines", about={}).details
    assert details[0] == (
        "Put in their place: thoughts in words do better than no thought or as many empty words; "
        "they are not shown to do better than another person's thought."
    )


def test_gates_are_told_with_what_noise_would_offer(tmp_path):
    """A thought helps every second request, and its entropy tells which; filler changes nothing."""
    places = [1 if sample % 2 else 10 for sample in range(60)]
    answers(
        tmp_path,
        WORDS,
        world([], [])
        | {("words", "thought"): places, ("words", "no thought"): [2] * 60, ("words", "filler"): [2] * 60},
    )
    file = tmp_path / "answers" / "words-0.json"
    kept = json.loads(file.read_text())
    entropies = {"entropy": [float(sample % 2) for sample in range(60)], "lead": [0] * 60, "length": [1] * 60}
    told = {"ranks": {how: kept["ranks"][how] for how in ("thought", "no thought")}}
    file.write_text(json.dumps({**kept, "valid": told, "features": {"valid": entropies, "test": entropies}}))
    found = read_probe(tmp_path, WORDS, dataset="wines", about={})
    by_name = {gate["name"]: gate for gate in found.best.gates["gates"]}
    assert by_name["entropy"]["share of headroom"] == by_name["predicted gain"]["share of headroom"] == pytest.approx(1)
    assert by_name["entropy"]["rate"] == 0.5
    assert found.best.gates["noise headroom"] == 0
    (line,) = (line for line in found.details if "Thinking only where it helps" in line)
    assert "entropy 100 % (thinking in 50 %), predicted gain 100 % (thinking in 50 %), random " in line
    never, always, control = (f"{np.mean(1 / np.log2(1 + np.array(of))):.4f}"[1:] for of in ([2], places, WORSE))
    assert line.startswith(f"Thoughts in words: the model has {never} without them and {always} with them")
    assert f"(its control {control})" in line


def test_a_way_that_surely_pays_is_told_before_one_that_validation_likes_more(tmp_path):
    more = (
        *WORDS,
        Arm("quiet", "quiet thoughts", asked=("no thought",)),
        Arm("quiet-without", "a like model", control_of="quiet"),
    )
    same = dict.fromkeys([("quiet", "no thought"), ("quiet-without", "no thought")], [4] * 60)
    answers(tmp_path, more, {**world([("words", "thought")], []), **same, "quiet": 0.9})
    found = read_probe(tmp_path, more, dataset="wines", about={})
    assert found.sentence.startswith("Yes, thinking pays here: thoughts in words")
    assert "p < .001 corrected for 2 ways tried" in found.sentence
    assert found.declared.name == "quiet"
    assert {one.reference for one in found.comparisons} == {"a like model"}


def test_the_sentence_is_about_the_way_that_validation_likes_and_corrected_for_all(tmp_path):
    more = (
        *WORDS,
        Arm("quiet", "quiet thoughts", asked=("no thought",)),
        Arm("quiet-without", "a like model", control_of="quiet"),
    )
    ranks = world([("words", "thought")], []) | {
        ("quiet", "no thought"): [3] * 60,
        ("quiet-without", "no thought"): [4] * 60,
    }
    answers(tmp_path, more, {**ranks, "quiet": 0.9})
    found = read_probe(tmp_path, more, dataset="wines", about={})
    assert found.best.name == "quiet"
    assert "corrected for 2 ways tried" in found.sentence
    assert "with 80 % power at the level that 2 ways leave each" in found.sentence
    assert {row.value for row in found.rows if row.metric == "CPU minutes of training"} == {0.9}
    (words,) = (way for way in found.ways if way.name == "words")
    assert words.p_value == 2 * words.test.p_value
    gains_S = 1 - 1 / np.log2(
        np.array([3 + sample % 7 for sample in range(60)])
    )  # one target: NDCG is 1 / log2(1 + place)
    assert words.test.visible == pytest.approx(visible_effect(gains_S, level=0.025))
    assert words.test.visible > visible_effect(gains_S)


def test_ways_that_answer_alike_are_one_hypothesis(tmp_path):
    """Dense answers as words do, and so do their controls, as where neither was reinforced."""
    arms = chosen_arms(["words", "dense", "several"])
    ranks = world([("words", "thought")], [])
    ranks |= {(f"dense{name[5:]}", how): ranks[name, how] for name, how in [*ranks] if name.startswith("words")}
    ranks |= {("several", how): [3] * 60 for how in ("several", "thought", "filler")}
    ranks[("several-without", "no thought")] = [4] * 60
    answers(tmp_path, arms, ranks)
    found = read_probe(tmp_path, arms, dataset="wines", about={})
    words, dense, several = found.ways
    assert (words.same_as, dense.same_as, several.same_as) == ("", "thoughts in words", "")
    assert words.p_value == dense.p_value == pytest.approx(2 * words.test.p_value)
    assert "corrected for 2 ways tried" in found.sentence
    (line,) = (line for line in found.details if "by log-probability" in line)
    assert line.endswith("rewarded by log-probability: the same answers as thoughts in words, and the same control.")


QUIET = (Arm("quiet", "quiet thoughts", asked=("thought", "filler")), Arm("plain", "plain", control_of="quiet"))


def test_what_a_way_rests_on_is_corrected_for_all_such_tests_and_no_surer_than_the_way(tmp_path):
    more, rng = (*WORDS, *QUIET), np.random.default_rng(0)
    ranks = {(arm.name, how): rng.integers(1, 12, 60).tolist() for arm in more for how in arm.asked}
    ranks["words", "thought"] = np.maximum(1, np.array(ranks["words", "other"]) - rng.integers(0, 3, 60)).tolist()
    answers(tmp_path, more, ranks)
    words, quiet = read_probe(tmp_path, more, dataset="wines", about={}).ways
    gains = {name: np.where((rank := np.array(of)) <= 10, 1 / np.log2(1 + rank), 0.0) for name, of in ranks.items()}
    instead = [("words", how) for how in ("no thought", "other", "filler")] + [("quiet", "filler")]
    raw = [paired_test(gains[way, "thought"], gains[way, how], np.arange(60)).p_value for way, how in instead]
    least = [words.p_value] * 3 + [quiet.p_value]
    found = [p_value for way in (words, quiet) for _, p_value in way.content.values()]
    assert found == pytest.approx(np.maximum(np.array(holm(raw), float), np.array(least, float)).tolist())


def test_the_declared_comparison_is_corrected_in_the_table_of_comparisons_too(tmp_path):
    more = (*WORDS, Arm("quiet", "quiet thoughts", asked=("no thought",)), Arm("plain", "plain", control_of="quiet"))
    ranks = world([("words", "thought")], []) | dict.fromkeys(
        [("quiet", "no thought"), ("plain", "no thought")], [4] * 60
    )
    answers(tmp_path, more, {**ranks, "words": 0.9})
    found = read_probe(tmp_path, more, dataset="wines", about={})
    (declared,) = (one for one in found.comparisons if one.system == "thoughts in words")
    assert declared.corrected == found.declared.p_value == 2 * declared.p_value
    assert all(one.corrected >= declared.corrected for one in found.comparisons)


def test_a_yes_of_counted_thoughts_tells_what_the_counts_reach_alone(tmp_path):
    arms = (*chosen_arms(["evidence"]), COUNTING[1])
    ranks = {(arm.name, how): WORSE for arm in arms for how in arm.asked} | {("evidence", "thought"): [1] * 60}
    for place, told in ((1, True), (5, False)):
        folder = tmp_path / str(place)
        answers(folder, arms, ranks | {("item-knn", "no thought"): [place] * 60})
        found = read_probe(folder, arms[:-1], dataset="wines", about={})
        assert found.sentence.startswith("Yes, thinking pays here")
        assert ("; item-kNN alone, which these thoughts quote, has 1.000;" in found.sentence) == told


def test_a_start_with_untrained_positions_is_not_called_the_start(tmp_path):
    arms = chosen_arms(["latent"])
    answers(tmp_path, arms, {(arm.name, how): WORSE for arm in arms for how in arm.asked})
    for file in (tmp_path / "answers").glob("latent-0.json"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "kept_step": 0}))
    found = read_probe(tmp_path, arms, dataset="wines", about={})
    assert any("than the start with untrained positions, which was kept." in line for line in found.details)
