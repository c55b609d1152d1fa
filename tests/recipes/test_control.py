"""The positive control of RecPO: a budget that learns nothing where one thought helps is refused.

The relay world's model and its warm start stand in tests/recipes/relay_world, half precision; `ControlWorld` makes them
anew in some minutes if that folder is emptied. Its adapter is smaller than the study's, so budgets have a higher rate.
"""

from pathlib import Path

import pytest

from thinkrank.errors import ThinkrankError
from thinkrank.language import LoraOptions
from thinkrank.recipes.control import (
    PASSED,
    Budget,
    ControlWorld,
    Outcome,
    relay_settings,
    require_control,
    study_budgets,
)
from thinkrank.recipes.presets import Preset, preset

STUDIES = Path(__file__).parents[2] / "studies" / "r2ec"
FIXTURE = Path(__file__).parent / "relay_world"


@pytest.fixture(scope="module")
def world():
    settings = relay_settings(STUDIES / "relay.toml")
    model = settings.model.model_copy(update={"lora": LoraOptions(rank=16, alpha=16.0)})
    data = settings.data.model_copy(update={"options": {**settings.data.options, "users": 4000}})
    return ControlWorld(settings.model_copy(update={"model": model, "data": data}), FIXTURE, samples=120)


def budget(world, **recpo):
    options = world.settings.recpo.model_copy(update={"users": 8, "group_size": 4, "warmup_steps": 3, **recpo})
    return Budget.of(world.settings.training, options, window=20)


def test_a_budget_that_cannot_learn_is_refused_and_one_that_can_is_not(world, tmp_path):
    """Forty-five batches of 8 x 4 at 5e-5 were the films' and the shop's budget; they change nothing here."""
    poor = budget(world, steps=45, learning_rate=5e-5, head_learning_rate=5e-4)
    enough = budget(world, steps=100, learning_rate=3e-3, head_learning_rate=5e-3)
    with pytest.raises(ThinkrankError, match=r'45 batches of 8 x 4 at 5e-05.*control = "failed"'):
        require_control(poor, world, tmp_path)
    kept = Outcome.model_validate_json((tmp_path / f"{poor.fingerprint}.json").read_text(encoding="utf-8"))
    assert kept.after < kept.before + 0.05
    assert require_control(poor, world, tmp_path, declared="failed") == kept
    learnt = require_control(enough, world, tmp_path)
    assert learnt.before == kept.before < 0.8
    assert learnt.after >= PASSED


def test_a_budget_is_tried_once_and_known_by_what_decides_whether_it_learns(world, tmp_path, monkeypatch):
    tried = budget(world)
    outcome = Outcome(budget=tried, before=0.75, after=0.97)
    runs = []
    monkeypatch.setattr(world, "run", lambda asked: runs.append(asked) or outcome)
    assert require_control(tried, world, tmp_path) == require_control(tried, world, tmp_path) == outcome
    assert runs == [tried]
    same = budget(world, validate_every=3, validation_samples=9, checkpoint_every=1, seed=5)
    assert same.fingerprint == tried.fingerprint
    others = [
        budget(world, **one)
        for one in ({"steps": 9}, {"users": 9}, {"learning_rate": 9e-9}, {"beta": 0.9}, {"targets": 5})
    ]
    fewer = Budget.of(world.settings.training.model_copy(update={"thought_share": 0.1}), world.settings.recpo, window=2)
    assert len({one.fingerprint for one in (tried, fewer, *others)}) == 7


def budgets_in_use():
    """The budgets of every study's arm that trains thoughts, and of the preset, with what is declared of each."""
    for file in sorted(STUDIES.glob("*.toml")):
        for arm, tried in study_budgets(file).items() if file.stem not in ("relay", "dense") else ():
            yield pytest.param(*tried, id=f"{file.stem}-{arm}")
    model, training, recpo = preset(Preset.thoughts)
    yield pytest.param(Budget.of(training, recpo, window=model.prompt.history_window), "passed", id="preset")


@pytest.mark.parametrize(("budget", "declared"), list(budgets_in_use()))
def test_the_budgets_of_studies_and_of_the_preset_were_tried_and_learn(budget, declared):
    """Kept outcomes only: a study's first run tries what was not tried yet."""
    file = STUDIES / "controls" / f"{budget.fingerprint}.json"
    assert file.is_file(), f"not tried yet: python studies/r2ec/control.py tries {budget}"
    outcome = Outcome.model_validate_json(file.read_text(encoding="utf-8"))
    assert outcome.budget == budget
    assert outcome.passed == (declared == "passed")
