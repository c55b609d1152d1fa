"""R2Rank's study sets the evidence alone, and its sum with a model's scores, beside the model that reads it."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np

from thinkrank.evaluate.studies import read_study
from thinkrank.recipes.studies import run_study

STUDY = Path(__file__).parents[2] / "studies" / "r2rank" / "study.py"
TOML = """
[study]
chosen_on_test = []
seeds = [0]
samples = 12
candidates = 5
fuse = 10

[data]
source = "synthetic"
[data.options]
users = 30
items = 12
styles = 3
kinds = 4
events = 8

[model]
backbone = "tiny"
dtype = "float32"

[cold_start]
steps = 2
users = 2
warmup_steps = 0
validate_every = 2
validation_samples = 2
checkpoint_every = 2
keep = "last"

[arms.told]
about = "reads what the crowd did"
thinks = false
[arms.told.model.prompt]
evidence = true
"""


def test_an_arm_that_reads_evidence_is_judged_beside_the_tool_and_with_it(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(STUDY.parent))
    spec = importlib.util.spec_from_file_location("ranking_study", STUDY)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "ranking_study", module)
    spec.loader.exec_module(module)
    (tmp_path / "made.toml").write_text(TOML, encoding="utf-8")
    study = module.RankingStudy(tmp_path / "made.toml", tmp_path / "runs")
    run_study(study, tmp_path / "results", arms=["tool", "told"])
    found = {(one.arm, one.mode): one for one in read_study(tmp_path / "results" / "made")}
    assert set(found) == {("tool", "tool"), ("told", "test"), ("told", "with the tool")}
    assert found["tool", "tool"].seedless
    assert all(one.num_samples == 12 for one in found.values())
    told = json.loads((tmp_path / "results" / "made" / "told-0.json").read_text(encoding="utf-8"))
    assert set(told["weights"]) == {"tool", "model"}
    sets = study.test_sets()
    assert np.isfinite(study.tool_scores(sets)[sets.mask_BN]).all()
    assert (tmp_path / "runs" / "r2rank" / "made" / "told-0" / "model" / "crowd.safetensors").is_file()
