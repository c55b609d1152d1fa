"""A search within a time that goes on where it was, and ends with settings that training takes."""

import json
import tomllib

import pytest

from thinkrank.errors import ThinkrankError
from thinkrank.recipes import tuning
from thinkrank.recipes.layers import Layers
from thinkrank.recipes.reranking import rerank_settings
from thinkrank.recipes.running import train
from thinkrank.recipes.tuning import BEST, SPACES, TRIALS, Between, Trial, _proposed, _share, read_trials, tune
from thinkrank.training.trainer import DivergedError

SMALL = Layers(
    source="synthetic",
    options=["users=20", "lists=300"],
    assignments=[
        "model.generator.heads=2", "evaluator.steps=2", "warm_start.steps=2", "grpo.steps=2", "grpo.batch_size=4",
        "grpo.group_size=2", "grpo.failed_check=warn", "grpo.length=4", "evaluator.validation_lists=20",
        "warm_start.validation_lists=20", "grpo.validation_lists=20", "model.generator.width=8",
    ],
)  # fmt: skip


def search(folder, trials, **more):
    return tune("rerank", rerank_settings, SMALL, folder, minutes=60.0, trials=trials, device="cpu", **more)


def test_a_search_logs_every_trial_goes_on_and_ends_with_settings(tmp_path):
    pytest.importorskip("optuna")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    found = search(whole, 3)
    search(parts, 2)
    with (parts / TRIALS).open("a", encoding="utf-8") as file:
        file.write('{"number": 2, "sett')  # killed while writing
    search(parts, 3)
    tried = [[(trial.settings, trial.value) for trial in read_trials(folder)] for folder in (whole, parts)]
    assert tried[0] == tried[1]
    assert tried[0][0][0] == {}  # the defaults come first
    assert tried[0][1][0].keys() == SPACES["rerank"].keys() - {"model.generator.width"}  # given, so not searched
    assert [trial.value for trial in found] == sorted((value for _, value in tried[0]), reverse=True)
    assert not list(whole.glob("trial-*"))
    best = tomllib.loads((whole / BEST).read_text(encoding="utf-8"))
    taken = rerank_settings(Layers(config=whole / BEST))
    assert taken.grpo.learning_rate == found[0].settings.get("grpo.learning_rate", taken.grpo.learning_rate)
    assert "max_minutes" not in best["grpo"]
    with pytest.raises(ThinkrankError, match="holds another search: its seed is 0, not 1"):
        search(whole, 3, seed=1)


def diverging(monkeypatch, *trials):
    """Let these trials end as those do whose learning rate is too high."""

    def trained(recipe, settings, folder, **how):
        if folder.name not in trials:
            return train(recipe, settings, folder, **how)
        folder.mkdir()
        raise DivergedError("the gradient of step 2 is not finite")

    monkeypatch.setattr(tuning, "train", trained)


def test_a_trial_that_diverges_counts_as_the_worst_and_the_search_goes_on(tmp_path, monkeypatch, shown):
    pytest.importorskip("optuna")
    diverging(monkeypatch, "trial-001")
    found = search(tmp_path, 3, progress=shown)
    assert shown[0] == "reading the data"
    assert [trial.number for trial in found if trial.fault] == [found[-1].number] == [1]
    assert found[-1].fault == "the gradient of step 2 is not finite"
    assert found[-1].value == read_trials(tmp_path)[0].value
    assert not list(tmp_path.glob("trial-*"))


def test_a_search_of_which_every_trial_fails_says_so(tmp_path, monkeypatch):
    pytest.importorskip("optuna")
    diverging(monkeypatch, "trial-000", "trial-001")
    with pytest.raises(ThinkrankError, match="none of 2 trials could be trained; the first: the gradient of step 2"):
        search(tmp_path, 2)


def test_the_minutes_are_shared_and_what_is_beside_training_is_counted():
    assert _share([], 12.0, 4) == 3.0
    slow = Trial(0, {}, 0.1, "ndcg", seconds=240.0, minutes=3.0)  # a minute of loading and the like
    assert _share([slow], 12.0, 4) == 2.0
    assert _share([slow] * 3, 12.0, 4) is None  # nothing is left
    slowest = Trial(0, {}, 0.1, "ndcg", seconds=600.0, minutes=3.0)
    assert _share([slowest], 12.0, 4) is None


def test_proposals_are_within_bounds_and_follow_from_the_trials():
    pytest.importorskip("optuna")
    space = {"a.rate": Between(1e-4, 1e-2), "b.width": (8, 16)}
    done = [Trial(n, {"a.rate": 10.0 ** -(2 + n / 5), "b.width": 8}, 1.0 - n / 10, "ndcg", 1.0, 1.0) for n in range(8)]
    proposed = _proposed(done, space, 0)
    assert proposed == _proposed(done, space, 0)
    assert 1e-4 <= proposed["a.rate"] <= 1e-2
    assert proposed["b.width"] in (8, 16)


def test_a_damaged_log_and_nothing_to_search_are_refused(tmp_path):
    pytest.importorskip("optuna")
    (tmp_path / TRIALS).write_text(json.dumps({"number": 0}) + "\n", encoding="utf-8")
    with pytest.raises(ThinkrankError, match=r"trials.jsonl: line 1 is damaged"):
        read_trials(tmp_path)
    given = Layers(assignments=[f"{name}=8" if "width" in name else f"{name}=0.001" for name in SPACES["rerank"]])
    with pytest.raises(ThinkrankError, match="nothing is left to search"):
        tune("rerank", rerank_settings, given, tmp_path / "x", minutes=1.0)


def test_without_optuna_the_line_that_installs_it_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr("thinkrank.recipes.tuning.importlib.util.find_spec", lambda name: None)
    with pytest.raises(ThinkrankError, match=r"pip install 'thinkrank\[tune\]'"):
        search(tmp_path, 2)
