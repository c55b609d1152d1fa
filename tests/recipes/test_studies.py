"""Studies run each arm and seed once, keep what came out, and notice when settings are others."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from thinkrank._code import code_version
from thinkrank.errors import ThinkrankError
from thinkrank.evaluate.studies import read_study
from thinkrank.evaluate.study_tables import study_notes
from thinkrank.recipes.kept import kept_step
from thinkrank.recipes.layers import Layers
from thinkrank.recipes.presets import Preset
from thinkrank.recipes.retrieval import retrieve_settings
from thinkrank.recipes.studies import Study, kept_of, logged, run_study, shown_thoughts, tied_groups
from thinkrank.recipes.writers import kept_weights

STUDIES = Path(__file__).parents[2] / "studies"
TOML = """
[study]
chosen_on_test = []
seeds = [0, 1]
samples = 9

[data]
source = "synthetic"

[data.options]
users = 20
items = 12
styles = 3
kinds = 4
events = 6

[arms.plain]
about = "as it is"

[arms.longer]
about = "more steps"

[arms.longer.training]
steps = 50
"""


class Counting(Study):
    """A study whose arms say how often they were run."""

    runs = 0

    def settings(self, over):
        return retrieve_settings(Preset.thoughts, Layers(tables=[self.tables, over]))

    def arm(self, name, seed):
        over = {key: value for key, value in self.arms[name].items() if key == "training"}
        return self.settings({"training": {**over.get("training", {}), "seed": seed}})

    def users(self):
        return [30, 4]

    def shared(self, name):
        return "start" if name == "longer" else ""

    def run_arm(self, name, seed):
        type(self).runs += 1
        return {"about": self.arms.get(name, {}).get("about", name), "seconds": 1.0, "ranks": {"test": [1, 2 + seed]}}


@pytest.fixture
def opened(tmp_path):
    (tmp_path / "made.toml").write_text(TOML, encoding="utf-8")
    Counting.runs = 0
    return Counting(tmp_path / "made.toml", tmp_path / "runs")


def test_every_arm_and_seed_has_a_result_that_is_made_once(opened, tmp_path, caplog):
    run_study(opened, tmp_path / "results")
    files = sorted(path.name for path in (tmp_path / "results" / "made").iterdir())
    assert files == [f"{arm}-{seed}.json" for arm in ("baselines", "longer", "plain") for seed in (0, 1)]
    run_study(opened, tmp_path / "results")
    assert opened.runs == 6
    arms = {answers.arm: answers for answers in read_study(tmp_path / "results" / "made")}
    assert arms["longer"].seeds == (0, 1)
    assert arms["longer"].about == "more steps"
    result = json.loads((tmp_path / "results" / "made" / "longer-1.json").read_text(encoding="utf-8"))
    assert (result["study"], result["arm"], result["seed"]) == ("made", "longer", 1)
    assert result["options"] == {"samples": 9}
    assert (result["users"], result["shared"], result["code"]) == ([1, 0], "start", code_version())
    assert (result["settings"]["training"]["steps"], result["settings"]["training"]["seed"]) == (50, 1)
    assert result["settings"]["data"]["path"] is None


def test_a_result_of_other_settings_is_not_taken_for_one_of_these(opened, tmp_path):
    run_study(opened, tmp_path / "results", arms=["plain"], seeds=[0])
    (tmp_path / "made.toml").write_text(TOML.replace("events = 6", "events = 7"), encoding="utf-8")
    changed = Counting(tmp_path / "made.toml", tmp_path / "runs")
    with pytest.raises(ThinkrankError, match="made with other settings"):
        run_study(changed, tmp_path / "results", arms=["plain"], seeds=[0])
    with pytest.raises(ThinkrankError, match="no arm longest; it has baselines, plain, longer"):
        run_study(opened, tmp_path / "results", arms=["longest"])


def test_a_result_outlives_settings_that_it_does_not_depend_on(opened, tmp_path, monkeypatch):
    run_study(opened, tmp_path / "results", arms=["baselines"], seeds=[0])
    (tmp_path / "made.toml").write_text(TOML + "\n[training]\nlearning_rate = 1e-4\n", encoding="utf-8")
    changed = Counting(tmp_path / "made.toml", tmp_path / "runs")
    with pytest.raises(ThinkrankError, match="made with other settings"):
        run_study(changed, tmp_path / "results", arms=["baselines"], seeds=[0])
    monkeypatch.setattr(Counting, "decisive", lambda self, name, settings: settings.data)
    run_study(changed, tmp_path / "results", arms=["baselines"], seeds=[0])
    assert opened.runs == 1


def test_a_study_says_what_was_chosen_on_its_test_samples(tmp_path):
    (tmp_path / "made.toml").write_text(TOML.replace("chosen_on_test = []\n", ""), encoding="utf-8")
    with pytest.raises(ThinkrankError, match=r"made.toml: \[study\] lacks chosen_on_test"):
        Counting(tmp_path / "made.toml", tmp_path / "runs")
    told = {"chosen_on_test": ["the rates", "the window"], "notes": ["One."], "superseded": "by another."}
    assert study_notes(told, tmp_path) == [
        "Superseded: by another.",
        "Chosen after figures of these test samples: the rates, the window. So no arm is held out.",
        "One.",
    ]
    assert study_notes({"chosen_on_test": []}, tmp_path) == []
    (untried,) = study_notes({"chosen_on_test": [], "control": "open"}, tmp_path)
    assert "not tried in the relay world" in untried


def test_what_only_the_table_says_makes_no_result_another(opened, tmp_path):
    run_study(opened, tmp_path / "results", arms=["plain"], seeds=[0])
    told = TOML.replace("samples = 9", 'samples = 9\nprimary = "plain"\nsuperseded = "by another"\nnotes = ["one"]')
    told = told.replace("chosen_on_test = []", 'chosen_on_test = ["the rates"]')
    (tmp_path / "made.toml").write_text(told, encoding="utf-8")
    run_study(Counting(tmp_path / "made.toml", tmp_path / "runs"), tmp_path / "results", arms=["plain"], seeds=[0])
    assert opened.runs == 1


def test_a_log_is_told_in_part():
    rows = [
        {"step": 1, "reward": 0.5, "tokens": 3},
        {"step": 2, "valid_a": 1, "valid_b": 2},
        {"step": 2, "thoughts": 1},
    ]
    assert logged(rows, "reward", ("step", "reward")) == [{"step": 1, "reward": 0.5}]
    assert logged(rows, "valid", ("step",), prefix="valid") == [{"step": 2, "valid_a": 1, "valid_b": 2}]
    assert shown_thoughts(rows) == {}
    curve = [{"step": step, "valid_a": value, "valid_b": -value} for step, value in ((0, 0.3), (5, 0.4), (9, 0.2))]
    assert (kept_of(curve, "best"), kept_of(curve, "last"), kept_of(rows[:1], "last")) == (5, 9, None)
    assert shown_thoughts([*rows, {"step": 9, "thoughts": 5}]) == {"before": 1, "after": 5}


def test_groups_of_equal_scores_that_hold_something_relevant_are_written_down():
    relevant = np.array([[0, 1, 0, 0, 1], [1, 0, 0, 0, 0], [0, 0, 0, 1, 0]], dtype=bool)
    tied = np.array([[0, 0, 1, 0, 0], [0, 0, 1, 1, 1], [0, 1, 1, 1, 1]], dtype=bool)
    assert tied_groups(relevant, tied) == {"0": [(2, 3)], "2": [(1, 5)]}
    assert tied_groups(relevant, None) == {}


def study_of(method: str, monkeypatch):
    """The class of a study in the repository."""
    folders = [str(STUDIES), str(STUDIES / method)]
    monkeypatch.setattr(sys, "path", [*sys.path, *folders])
    spec = importlib.util.spec_from_file_location(f"{method}_study", STUDIES / method / "study.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return next(kind for kind in vars(module).values() if isinstance(kind, type) and kind.__module__ == spec.name)


FOLLOWING = """
import numpy as np
from thinkrank.stages.order import order_candidates, top_k

class Even:
    def fit(self, split): pass
    def save_pretrained(self, folder): pass
    @classmethod
    def from_pretrained(cls, folder): return cls()
    def retrieve(self, requests, k, *, filter_seen=True):
        scores = np.zeros((len(requests), 12), dtype=np.float32)
        return top_k(scores, requests.histories, k, filter_seen=filter_seen)
    def rank(self, requests, candidates):
        return order_candidates(candidates, np.zeros(candidates.items_BN.shape, dtype=np.float32))
    def rerank(self, requests, candidates, k):
        return order_candidates(candidates, np.zeros(candidates.items_BN.shape, dtype=np.float32), k)
"""


@pytest.mark.parametrize(
    ("method", "text", "mode"),
    [
        ("r2ec", TOML.replace('about = "as it is"', 'about = "mine"\nretriever = { class = "mine:Even" }'), "answer"),
        (
            "r2rank",
            TOML.replace("samples = 9", "samples = 9\ncandidates = 4").replace(
                'about = "as it is"', 'about = "mine"\nranker = { class = "mine:Even" }'
            ),
            "test",
        ),
        (
            "eglr",
            "[study]\nchosen_on_test = []\nseeds = [0]\n"
            '[data]\nsource = "synthetic"\n[data.options]\nlists = 200\nusers = 9\n'
            '[arms.plain]\nabout = "mine"\nreranker = { class = "mine:Even" }\n',
            "answer",
        ),
    ],
)
def test_a_class_of_one_s_own_is_an_arm_of_a_study(method, text, mode, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(FOLLOWING, encoding="utf-8")
    (tmp_path / "made.toml").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    study = study_of(method, monkeypatch)(tmp_path / "made.toml", tmp_path / "runs")
    run_study(study, tmp_path / "results", arms=["plain"], seeds=[0])
    (answers,) = read_study(tmp_path / "results" / "made")
    assert (answers.arm, answers.mode, answers.about) == ("plain", mode, "mine")
    assert 0 <= answers.values("mrr").mean() <= 1
    assert answers.users_S.shape == (answers.num_samples,)
    if method != "r2ec":
        # A stage that scores all alike is worth what a random order is; a retriever's places are pessimistic.
        assert answers.tie_rule == "expected"
        assert 0 < answers.values("hit@1").mean() < 1


EGLR_STUDY = """
[study]
chosen_on_test = []
seeds = [0]
[data]
source = "synthetic"
[data.options]
lists = 60
users = 9
items = 12
styles = 3
kinds = 4
events = 3
candidates = 5
[model.reasoning]
step_codes = true
[evaluator]
steps = 1
[warm_start]
steps = 1
target = "evaluator"
thought_share = 0.5
[grpo]
steps = 1
batch_size = 2
group_size = 2
length = 4
[arms.gated]
about = "gated"
[arms.random]
about = "as often"
match = "gated"
[arms.random.model.reasoning]
mode = "random"
"""


def test_a_list_writer_s_result_tells_users_kept_step_and_state_and_an_arm_is_matched_by_validation_lists(
    tmp_path, monkeypatch
):
    (tmp_path / "made.toml").write_text(EGLR_STUDY, encoding="utf-8")
    kind = study_of("eglr", monkeypatch)
    monkeypatch.setitem(kind.arm.__globals__, "RESULTS", tmp_path / "results")
    study = kind(tmp_path / "made.toml", tmp_path / "runs")
    run_study(study, tmp_path / "results", arms=["gated"])
    file = tmp_path / "results" / "made" / "gated-0.json"
    result = json.loads(file.read_text(encoding="utf-8"))
    users = study.split.test.users_L
    assert len(study.users()) == len(result["ranks"]["greedy"]) == len(users)
    assert (np.equal.outer(result["users"], result["users"]) == np.equal.outer(users, users)).all()
    assert (result["kept_step"], result["kept"]) == (1, "weights of step 1")
    assert "auc_within_place" in result["evaluator"]
    for when in ("before", "after"):
        assert 0 <= result[when]["state"]["unchanged_lists"] <= 1
        assert "state" in result[when]["state"]["sentence"]
        assert result[when]["headroom"]["gain"] >= 0
    file.write_text(json.dumps({**result, "trigger_rate": 0.9, "valid_trigger_rate": 0.25}), encoding="utf-8")
    assert study.arm("random", 0).model.reasoning.random_rate == 0.25


def test_weights_kept_from_before_the_first_step_are_called_those_of_the_warm_start():
    rows = [{"step": 0, "ndcg": 0.5}, {"step": 1, "loss": 2.0}, {"step": 2, "ndcg": 0.5}, {"step": 4, "ndcg": 0.25}]
    assert (kept_step(rows, "ndcg", "best"), kept_step(rows, "ndcg", "last"), kept_step([], "ndcg", "last")) == (
        0,
        4,
        None,
    )
    assert "those of the warm start" in kept_weights(0)
    assert kept_weights(4) == "weights of step 4"
