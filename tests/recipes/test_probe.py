"""A probe answers whether thinking pays: from files to the sentence, and from settings to files."""

import json
import re
import shutil
import threading
import time
import tomllib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from typer.testing import CliRunner

from thinkrank._files import folder_digest
from thinkrank._lock import locked
from thinkrank.cli.main import app
from thinkrank.data import History, load_dataset, split_dataset
from thinkrank.errors import ThinkrankError
from thinkrank.evaluate import evaluate_retrieval, read_results
from thinkrank.language import load_backbone
from thinkrank.language.options import LatentOptions
from thinkrank.recipes import Layers, probe_settings
from thinkrank.recipes.comparing import compared
from thinkrank.recipes.probe_arms import ARMS, COUNTING, START, chosen_arms, control_of
from thinkrank.recipes.probe_judging import judged
from thinkrank.recipes.probe_pilot import pilot_words
from thinkrank.recipes.probe_starts import model_of_starts
from thinkrank.recipes.probing import LEAST_SECONDS, _Probe
from thinkrank.retrieve import EASE, ItemKNN, R2ec, R2ecConfig
from thinkrank.retrieve.r2ec.further import with_latents
from thinkrank.retrieve.r2ec.weights import weights
from thinkrank.training import no_progress
from thinkrank.training.rehearsal import Measured

WORDS = chosen_arms(["words"])
TINY_WORLD = ["users=40", "items=30", "styles=8", "kinds=8", "events=8"]
TINY = ["model.backbone=tiny", "training.steps=2", "training.keep=last"]
SMALL = Path(__file__).parent / "relay_world" / "small"
WORLD = [f"--option={option}" for option in ("users=200", "styles=8", "kinds=8", "relay_length=5")]
QUICK = [
    f"--set={setting}"
    for setting in (
        "training.steps=3", "training.validation_samples=4", "recpo.steps=2", "recpo.users=2", "recpo.group_size=2",
        "recpo.validation_samples=4", "recpo.warmup_steps=1", "training.warmup_steps=1", "probe.samples=12",
    )
]  # fmt: skip


def probe(*arguments):
    return CliRunner().invoke(app, ["probe", "synthetic-relay", *WORLD, *QUICK, *arguments], env={"COLUMNS": "160"})


def test_every_arm_is_trained_and_judged_once_and_the_second_time_only_told(tmp_path):
    shutil.copytree(SMALL, tmp_path / "small")
    several = '--set=probe.ways=["words", "several"]'
    first = probe(several, "--out", str(tmp_path))
    assert first.exit_code == 0, repr(first.exception)
    sentence = first.stdout.splitlines()[0]
    assert "thoughts in words" in sentence
    assert "with your 12 test moments" in sentence
    kept = {file: file.read_bytes() for file in tmp_path.glob("answers/*.json")}
    arms = {arm.name for arm in (*chosen_arms(["words", "several"]), *COUNTING)}
    assert {file.stem for file in kept} == {f"{name}-0" for name in arms}
    averaged = json.loads(kept[tmp_path / "answers" / "several-0.json"])
    assert set(averaged["ranks"]) == {"several", "thought", "filler"}
    assert averaged["ranks"]["thought"] == json.loads(kept[tmp_path / "answers" / "words-0.json"])["ranks"]["thought"]
    assert averaged["tokens"]["several"] > 2 * averaged["tokens"]["thought"]
    assert not (tmp_path / "several-0").exists()  # it asks the models of words
    (tmp_path / "answers" / "words-0.json").unlink()  # killed before it was judged
    for file in tmp_path.rglob("config.toml"):  # by a version that had fewer settings
        file.write_text(re.sub(r"(?m)^test_share = .*\n", "", file.read_text()))
    again = probe(several, "--out", str(tmp_path), "--json")
    assert again.exit_code == 0, repr(again.exception)
    told = json.loads(again.stdout)
    assert told["about"]["samples"] == told["about"]["test samples"] - 8 == 12
    new = json.loads((tmp_path / "answers" / "words-0.json").read_text())
    old = json.loads(kept[tmp_path / "answers" / "words-0.json"])
    assert (new["ranks"], new["tokens"], new["validation"]) == (old["ranks"], old["tokens"], old["validation"])
    assert all(file.read_bytes() == text for file, text in kept.items() if file.stem != "words-0")
    lines, _ = compared([str(tmp_path), f"{tmp_path}:as long trained without thoughts"], "ndcg@10")
    ways = json.loads((tmp_path / "probe.json").read_text())["ways"]
    assert lines[1].difference == pytest.approx(-ways[0]["difference"])
    assert "Does thinking pay on synthetic-relay?" in (tmp_path / "report.html").read_text(encoding="utf-8")
    systems = {row.system for row in read_results(tmp_path / "results.json")}
    assert {"thoughts in words", "thoughts in words: another person's thought"} < systems
    assert all(row.low is not None for row in read_results(tmp_path / "results.json") if row.metric == "ndcg@10")
    other = probe(several, "--out", str(tmp_path), "--set=recpo.steps=3")
    assert "its recpo.steps is 2, not 3" in str(other.exception)


def test_a_second_process_takes_the_training_that_the_first_has_not_begun(tmp_path):
    shutil.copytree(SMALL, tmp_path / "small")
    held, done = threading.Event(), []

    def first_process():
        with locked(tmp_path / "start-0"):
            held.set()
            while not (tmp_path / "answers" / "words-without-1.json").is_file() and not done:
                time.sleep(0.05)
            done.append(sorted(file.name for file in tmp_path.glob("answers/[!ip]*-0.json")))  # but for what counts

    process = threading.Thread(target=first_process)
    process.start()
    held.wait()
    try:
        second = probe('--set=probe.ways=["words"]', "--trainings=2", "--out", str(tmp_path))
    finally:
        done.append("ended")
        process.join()
    assert second.exit_code == 0, repr(second.exception)
    assert done[0] == []  # the held training was left alone until it was given back, and then made
    counts = {"item-knn-0", "popularity-0"}
    made = {file.stem for file in tmp_path.glob("answers/*.json")} - counts
    assert made == {f"{arm.name}-{seed}" for arm in WORDS for seed in (0, 1)}
    shutil.copytree(tmp_path / "small", tmp_path / "alone" / "small")
    assert probe('--set=probe.ways=["words"]', "--out", str(tmp_path / "alone")).exit_code == 0
    start, alone = (
        json.loads((folder / "answers" / "start-0.json").read_text()) for folder in (tmp_path, tmp_path / "alone")
    )
    assert start["ranks"] == alone["ranks"]  # nothing of the other training is in it


def test_what_the_first_process_decided_holds_for_the_second_from_the_beginning(tmp_path):
    settings = probe_settings(Layers(source="synthetic", options=TINY_WORLD, assignments=TINY))
    first, second = (_Probe(settings, tmp_path, None, "cpu", no_progress) for _ in range(2))
    first.open()
    kept = (tmp_path / "manifest.json").read_bytes()
    second.measure = lambda: pytest.fail("what is decided is not measured again")
    second.open()
    assert (tmp_path / "manifest.json").read_bytes() == kept
    assert (second.num_samples, second.measured) == (first.num_samples, first.measured)


def test_a_control_has_its_ways_time_and_encodes_no_oftener(tmp_path):
    """A step takes 1 s of the processor, an encoding 5; the way made 10 steps in 30 s, encoding behind 4, 8 and 10."""
    ways = ['probe.ways=["latent"]', "training.steps=10", "training.refresh_every=4", "training.validate_every=8"]
    settings = probe_settings(Layers(source="synthetic", options=TINY_WORLD, assignments=[*TINY, *ways]))
    work = _Probe(settings, tmp_path, None, "cpu", no_progress)
    without, frozen = (next(arm for arm in work.arms if arm.name == f"latent-{name}") for name in ("without", "frozen"))
    way = next(arm for arm in work.arms if arm.name == "latent")
    run = work.opened(tmp_path / "latent-0", work.arm_settings(way, 0), 0)
    run.log({"step": 10, "cpu_seconds": 30.0})
    run.flush()
    (tmp_path / "latent-0" / "trained").touch()
    work.measured[work.own_arms[0].about] = Measured(1.0, 5.0, 0.0, 1, True, cpu=1.0, encoding_cpu=5.0)
    assert work.encodings(way, 0) == 3
    found = work.as_long(work.arm_settings(without, 0), without, 0).training
    assert found.max_cpu_minutes == pytest.approx(30 / 60)  # the last encoding included, which the training foresees
    assert (found.validate_every, found.refresh_every, found.steps) == (5, 5, 150)
    work.measured[work.own_arms[0].about] = Measured(1.0, 5.0, 0.0, 1, True, cpu=1.0, encoding_cpu=50.0)
    found = work.as_long(work.arm_settings(without, 0), without, 0).training
    assert found.refresh_every == 5  # at least half of the time is for updates
    rare = [*TINY, *ways[:2], "training.refresh_every=100", "training.validate_every=100"]
    work.settings = probe_settings(Layers(source="synthetic", options=TINY_WORLD, assignments=rare))
    assert work.encodings(way, 0) == 1
    found = work.as_long(work.arm_settings(without, 0), without, 0).training
    assert found.max_cpu_minutes == pytest.approx(15 / 60)  # its only encoding comes when the time is over
    work.settings = settings
    found = work.as_long(work.arm_settings(frozen, 0), frozen, 0).training
    assert (found.steps, found.max_cpu_minutes, found.validate_every, found.refresh_every) == (10, None, 8, 4)
    begun = tmp_path / "latent-without-0"
    settings = work.arm_settings(without, 0)
    less = work.as_long(settings, without, 0).training.model_copy(update={"max_cpu_minutes": 0.25})
    work.opened(begun, settings.model_copy(update={"training": less}), 0)  # as an earlier version counted
    (begun / "trained").touch()
    assert work.control_settings(without, 0).training.max_cpu_minutes == 0.25


def test_thoughts_that_nobody_reads_are_not_reinforced(tmp_path):
    shutil.copytree(SMALL, tmp_path / "small")
    done = probe('--set=probe.ways=["words"]', "--set=recpo.gate=1e-9", "--out", str(tmp_path))
    assert done.exit_code == 0, repr(done.exception)
    words, control = (
        json.loads((tmp_path / "answers" / f"{arm}-0.json").read_text()) for arm in ("words", "words-without")
    )
    assert words["steps"] == control["steps"] == 0  # what was not trained has a control that was not
    assert (words["unread"], control["unread"]) == (True, False)
    assert control["ranks"]["no thought"] == words["ranks"]["no thought"]
    assert "Thoughts in words: they were not reinforced, as another person's thought did not do surely" in done.stdout
    assert "was better on validation than the start" not in done.stdout


def test_ways_in_words_share_a_cold_start_and_what_is_the_same_is_made_once(tmp_path, monkeypatch):
    shutil.copytree(SMALL, tmp_path / "small")
    assert probe("--set=recpo.steps=0", "--out", str(tmp_path)).exit_code == 0
    shutil.copytree(SMALL, tmp_path / "started" / "small")
    asked = []

    def counted(model, samples, arm, **options):
        asked.append((arm.name, arm.asked))
        return judged(model, samples, arm, **options)

    monkeypatch.setattr("thinkrank.recipes.probing.judged", counted)
    ways = ['--set=probe.ways=["words", "dense", "several"]', f'--set=probe.starts=["{tmp_path / "start-0"}"]']
    done = probe(*ways, "--set=recpo.gate=1e-9", "--set=training.keep=best", "--out", str(tmp_path / "started"))
    assert done.exit_code == 0, repr(done.exception)
    answers = tmp_path / "started" / "answers"
    words, dense, several, control = (
        json.loads((answers / f"{name}-0.json").read_text()) for name in ("words", "dense", "several", "words-without")
    )
    assert words["model"] == dense["model"] == several["model"] != control["model"]
    assert words["cpu_seconds"] > 0
    without, again = (tmp_path / "started" / f"{name}-without-0" for name in ("words", "dense"))
    assert (again / "metrics.jsonl").read_text() == (without / "metrics.jsonl").read_text()  # its seconds, too
    assert folder_digest(again / "model") == folder_digest(without / "model")
    assert dense["ranks"] == words["ranks"]  # neither was reinforced
    assert dense["features"] == words["features"]
    assert several["ranks"]["filler"] == words["ranks"]["filler"]
    assert several["shown"] == words["shown"]
    in_words = {name: how for name, how in asked if name in ("words", "dense", "several")}
    assert in_words == {
        "words": ("thought", "no thought"),
        "several": ("several",),
    }  # of words: what gates are fitted on
    assert ("words", ("thought", "no thought", "other", "filler")) in asked
    cold, start = (
        R2ec.from_pretrained(folder / "model", backbone=load_backbone(str(tmp_path / "small"), dtype="float32"))
        for folder in (tmp_path / "started" / "cold-0", tmp_path / "start-0")
    )
    before = weights(start)
    assert any(not torch.equal(tensor, before[name]) for name, tensor in weights(cold).items())  # the last are kept
    split = probe_settings(Layers(source="synthetic-relay", options=[one.split("=", 1)[1] for one in WORLD])).data
    samples = split.load_split().test.subset(12, seed=0)
    assert judged(cold, samples, next(arm for arm in ARMS if arm.name == "dense"))["ranks"] == words["ranks"]


def test_silent_steps_go_on_from_the_start_and_their_controls_train_as_long(tmp_path):
    world = [f"--option={option}" for option in TINY_WORLD]
    quick = [f"--set={setting}" for setting in (*TINY, 'probe.ways=["latent"]')]
    done = CliRunner().invoke(app, ["probe", "synthetic", *world, *quick, "--minutes", "0.3", "--out", str(tmp_path)])
    assert done.exit_code == 0, repr(done.exception)
    kept = {
        arm: json.loads((tmp_path / "answers" / f"{arm}-0.json").read_text())
        for arm in ("start", "latent", "latent-frozen", "latent-without")
    }
    assert kept["start"]["tokens"] == {"no thought": 0}  # without a way in words nothing is written
    assert kept["latent"]["tokens"] == kept["latent-frozen"]["tokens"] == {"no thought": 2}
    assert kept["latent"]["steps"] == kept["latent-frozen"]["steps"]
    control = tomllib.loads((tmp_path / "latent-without-0" / "config.toml").read_text())["training"]
    assert 0 < 60 * control["max_cpu_minutes"] <= max(LEAST_SECONDS, kept["latent"]["cpu_seconds"])
    frozen, learnt = (R2ec.from_pretrained(tmp_path / f"{arm}-0" / "model") for arm in ("latent-frozen", "latent"))
    assert (frozen.latents.up_DR, frozen.latents.vectors_KD.requires_grad) == (None, False)
    assert learnt.latents.up_DR.any()
    starts = ["--set", f'probe.starts=["{tmp_path / "start-0"}"]', "--set", 'probe.ways=["evidence", "distilled"]']
    few = ["--set=training.thought_readings=8", "--set=probe.samples=20", "--out", str(tmp_path / "started")]
    done = CliRunner().invoke(app, ["probe", "synthetic", *world, *quick[1:3], *starts, *few])
    assert done.exit_code == 0, repr(done.exception)
    told = {file.stem: json.loads(file.read_text()) for file in (tmp_path / "started").glob("answers/*.json")}
    assert (told["start-0"]["steps"], told["start-0"]["cpu_seconds"]) == (0, None)  # it was trained before
    assert set(told["evidence-0"]["ranks"]) == {"thought", "no thought", "other", "filler"}
    assert told["evidence-0"]["shown"][0]["thought"].startswith("Others chose ")
    assert told["evidence-0"]["tokens"]["thought"] > 10
    assert told["distilled-0"]["tokens"]["no thought"] == 0


def test_starts_must_be_of_the_same_data_and_model(tmp_path):
    split = split_dataset(load_dataset("synthetic", users=20, items=30, styles=8, kinds=8, events=8))
    config = R2ecConfig(backbone="tiny", reading="late", head={"temperature": 0.1})
    folder, told = tmp_path / "run", R2ecConfig()
    with pytest.raises(ThinkrankError, match="holds no model: name the folder of a finished"):
        model_of_starts([str(folder)], told, split, ())
    R2ec.create(config, split.dataset.catalogue).save_pretrained(folder / "model")
    with pytest.raises(ThinkrankError, match=r"has no manifest\.json"):
        model_of_starts([str(folder)], told, split, ())
    (folder / "manifest.json").write_text(json.dumps({"split": split.manifest() | {"ties": "strict"}}))
    with pytest.raises(ThinkrankError, match="other data: ties 'strict' instead of 'before'"):
        model_of_starts([str(folder)], told, split, ())
    (folder / "manifest.json").write_text(json.dumps({"split": split.manifest()}))
    found = model_of_starts([str(folder)], told, split, ("probe.starts",))
    assert (found.head, found.reading, found.thought) == (config.head, "late", told.thought)
    with pytest.raises(ThinkrankError, match=r"setting model\.reading: it is 'late' in .*, not 'text': leave it out"):
        model_of_starts([str(folder)], told, split, ("model.reading",))
    with pytest.raises(ThinkrankError, match="set trainings = 2"):
        probe_settings(Layers(assignments=['probe.starts=["a", "b"]']))


def test_with_latents_answers_at_items_as_before_and_behind_them_anew():
    catalogue = load_dataset("synthetic", users=10, items=20, styles=8, kinds=8, events=6).catalogue
    model = R2ec.create(R2ecConfig(backbone="tiny", reading="late"), catalogue)
    histories = [History(np.arange(n, dtype=np.int32)) for n in (3, 5)]
    further = with_latents(model, LatentOptions(steps=2), histories)
    steps_BSD = further.user_steps(histories)
    assert torch.equal(steps_BSD[:, 0], model.users_after(histories, None))
    origin_KD = further.head.step_center_KD
    assert origin_KD.norm(dim=1).min() > 0
    assert not torch.equal(further.users_after(histories, None), steps_BSD[:, 0])


def test_with_latents_a_model_that_has_grown_is_saved_as_one(tmp_path):
    catalogue = load_dataset("synthetic", users=10, items=20, styles=8, kinds=8, events=6).catalogue
    model = R2ec.create(R2ecConfig(backbone="tiny", reading="late"), catalogue)
    model.add_items(pl.DataFrame({"item": ["new"], "title": ["Never read: öäü"]}))
    further = with_latents(model, LatentOptions(steps=2), [History(np.arange(3, dtype=np.int32))])
    further.save_pretrained(tmp_path)
    assert R2ec.from_pretrained(tmp_path)._first_items == len(catalogue)


def test_a_plan_counts_a_cold_start_once_and_no_training_of_arms_that_have_none(tmp_path):
    shutil.copytree(SMALL, tmp_path / "small")
    assert probe("--set=recpo.steps=0", "--out", str(tmp_path)).exit_code == 0
    assignments = [one.removeprefix("--set=") for one in QUICK]
    ways = ['probe.ways=["words", "dense", "several"]', f'probe.starts=["{tmp_path / "start-0"}"]', "probe.minutes=1"]
    options = [one.removeprefix("--option=") for one in WORLD]
    settings = probe_settings(Layers(source="synthetic-relay", options=options, assignments=[*assignments, *ways]))
    work = _Probe(settings, tmp_path / "started", None, "cpu", no_progress)
    shutil.copytree(SMALL, tmp_path / "started" / "small")
    work.measure()
    words, dense, several = (arm for arm in work.arms if arm.is_way)
    assert work.measured[dense.about] == work.measured[several.about] == work.measured[words.about]
    each = work.arm_settings(words, 0).training.max_minutes
    assert each == work.arm_settings(words, 0).recpo.max_minutes == work.arm_settings(dense, 0).recpo.max_minutes
    # the cold start, two trainings in words, and of their controls each as long as a cold start and a training
    pieces = work.pieces()
    seconds = {
        name: sum(piece.seconds() for title, piece in pieces.items() if title.startswith(name))
        for name in (f"cold start of {words.about}", words.about, "as long trained without thoughts")
    }
    first, own, control = seconds.values()
    own /= 2  # the title of the other begins alike
    assert control == pytest.approx(2 * (first + own), rel=0.01)
    alone = ['probe.ways=["several"]', *ways[1:]]
    only = probe_settings(Layers(source="synthetic-relay", options=options, assignments=[*assignments, *alone]))
    means = _Probe(only, tmp_path / "started", None, "cpu", no_progress)
    means.measured = {several.about: work.measured[words.about], "cold": work.measured["cold"]}
    assert several.about in means.pieces()
    titles = {title for title in work.pieces() if not title.startswith("judging") and not title.endswith("validating")}
    trained = {arm.about for arm in work.arms if arm.name != START and not arm.trained_as}
    assert titles == trained | {f"cold start of {words.about}"}


def test_a_dry_run_tells_the_plan_and_what_will_be_compared_and_writes_nothing(tmp_path):
    done = probe("--dry-run", "--minutes", "3", "--trainings", "2", "--out", str(tmp_path / "new"))
    assert done.exit_code == 0, repr(done.exception)
    assert "minutes = 3.0" in done.stdout
    assert "2 whole trainings of 3 arms, judged on 12 of 20 test samples" in done.stderr
    assert "Declared before anything is trained: NDCG@10, thoughts in words against as long trained" in done.stderr
    assert "as far as two counting models tell beforehand" in done.stderr
    assert not (tmp_path / "new").exists()


def test_the_pilot_foresees_about_what_the_same_two_models_show_on_test():
    options = {"users": 300, "items": 60, "styles": 8, "kinds": 8, "events": 20}
    split = split_dataset(load_dataset("synthetic", **options))
    told = float(re.search(r"effects below ([\d.e+]+) %", pilot_words(split, split.test, ways=1))[1]) / 100
    knn, ease = (kind().fit(split) for kind in (ItemKNN, EASE))
    found = evaluate_retrieval({"knn": knn, "ease": ease}, split.test, cutoffs=[10])
    seen = found.compare("ease", "knn", "ndcg@10").visible / found.values("knn", "ndcg@10").mean()
    assert told == pytest.approx(seen, rel=0.3)
    shared = re.search(
        r"effects below ([\d.e+]+) %.* the chance of training comes on top", pilot_words(split, split.test, ways=3)
    )
    assert float(shared[1]) / 100 > 1.05 * told  # a third of the level is left to each way


def test_the_relay_world_has_defaults_of_its_own_that_options_replace_one_by_one(tmp_path):
    settings = probe_settings(Layers(source="synthetic-relay", options=["shuffled=true", "users=50"]))
    assert settings.data.options == {"users": 50, "styles": 8, "kinds": 8, "relay_length": 5, "shuffled": True}
    assert settings.model.backbone == "small"
    assert probe_settings(Layers(source="movielens-100k")).model.reading == "late"
    with pytest.raises(ThinkrankError, match="no way 'latent' with reading = text; there are words"):
        probe_settings(Layers(source="synthetic-relay", assignments=['probe.ways=["latent"]']))
    with pytest.raises(
        ThinkrankError,
        match=r"probe\.ways: there is no way 'word' with reading = late; there are words, dense, several, evidence",
    ):
        probe_settings(Layers(assignments=['probe.ways=["word"]']))


def test_in_a_shuffled_relay_the_same_items_come_next_and_histories_are_of_others():
    world = {"users": 30, "styles": 8, "kinds": 8, "relay_length": 5}
    plain, shuffled = (load_dataset("synthetic-relay", **world, shuffled=on) for on in (False, True))
    events = [dataset.interactions["item"].to_numpy().reshape(30, 11) for dataset in (plain, shuffled)]
    np.testing.assert_array_equal(events[0][:, -1], events[1][:, -1])
    np.testing.assert_array_equal(events[0][:-1, :-1], events[1][1:, :-1])


def test_each_way_has_a_control_that_adds_nothing_but_compute():
    for way in (arm for arm in ARMS if arm.is_way):
        assert control_of(way, ARMS).asked[0] != "thought"
        assert {START, way.name} <= {arm.name for arm in chosen_arms([way.name])}
