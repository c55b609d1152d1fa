"""The tests of study tables call a difference where there is none about as often as they say."""

import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def simulation(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import null_simulation

    yield null_simulation
    for name in ("null_simulation", "_figures"):
        sys.modules.pop(name, None)


@pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="the benchmarks are not part of a distribution")
@pytest.mark.parametrize(("trainings", "spread", "studies"), [(1, 0.0, 100), (3, 1.0, 250), (5, 1.0, 250)])
def test_tables_call_few_differences_where_there_are_none(simulation, trainings, spread, studies):
    world = simulation.World(200, 40, trainings, spread=spread)
    users_S, random = simulation.users_of(world), np.random.default_rng(1)
    p_values = [
        simulation.table_p_value(simulation.differences(world, users_S, random), users_S) for _ in range(studies)
    ]
    # Four standard errors of 250 studies are .055. Samples taken for users, or trainings averaged, come out beyond it.
    assert 2 <= sum(p <= 0.05 for p in p_values) <= studies * 0.105
    assert np.mean(np.array(p_values) <= 0.5) == pytest.approx(0.5, abs=0.13)
