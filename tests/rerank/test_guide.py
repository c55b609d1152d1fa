"""The guide's code runs, block after block, as it is written."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thinkrank.data import ListWorld, ListWorldOptions, load_impressions
from thinkrank.rerank import EGLR, EGLRConfig, EvaluatorTrainerOptions, GrpoOptions, ReasoningOptions, WarmStartOptions

TEXT = (Path(__file__).parents[2] / "docs" / "guide" / "rerank.md").read_text(encoding="utf-8")
BLOCKS = [part.split("```")[0] for part in TEXT.split("```python\n")[1:]]


@pytest.fixture(scope="module")
def small():
    return ListWorld(ListWorldOptions(lists=120)).lists


def test_the_blocks_run_one_after_the_other(small, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("thinkrank.data.load_impressions", lambda source: {"synthetic": small}[source])
    for options in (EvaluatorTrainerOptions, WarmStartOptions, GrpoOptions):  # few steps, and no need to learn much
        quick = {"steps": 3, **({"failed_check": "warn", "batch_size": 4} if options is GrpoOptions else {})}
        monkeypatch.setattr(
            f"thinkrank.rerank.{options.__name__}", lambda of=options, quick=quick, **given: of(**{**given, **quick})
        )
    made = EGLR.create(EGLRConfig(reasoning=ReasoningOptions(threshold=0.5)), small, device="cpu")
    made.save_pretrained("runs/rerank/model")
    names: dict[str, Any] = {"__name__": __name__}
    for block in BLOCKS:
        exec(compile(block, "docs/guide/rerank.md", "exec"), names)
    shown = capsys.readouterr().out
    assert "entropy_before" in shown
    assert "past_last_seen" in shown
    assert "upper bound: oracle of 8" in shown
    loaded = EGLR.from_pretrained("runs/mine/model", device="cpu")
    assert loaded.report is not None
    split = names["split"]
    reasoning = names["config"].reasoning.model_copy(update={"threshold": 0.5})
    ranking = names["model"].rerank(split.test.requests, split.test.candidates, 3, reasoning=reasoning)
    assert isinstance(names["model"].writer.generator, names["MeanOfThePast"])
    assert ranking.items_BK.shape == (len(split.test), 3)
    assert ranking.latent.steps_BK.sum() > 0


def test_the_synthetic_lists_of_the_guide_exist():
    lists = load_impressions("synthetic", lists=20)
    assert len(lists) == 20
    assert np.isfinite(lists.numeric_LNF).all()
