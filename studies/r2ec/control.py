"""Try the budgets of studies, or of the preset, in the relay world, those that were not tried yet.

    OMP_NUM_THREADS=1 python studies/r2ec/control.py studies/r2ec/movielens-100k.toml studies/r2ec/amazon-office.toml

A budget takes some minutes the first time: the relay world's model, a warm start for its readings, RecPO. Without a
study the budget of the preset is tried. Outcomes are kept in studies/r2ec/controls.
"""

import argparse
import os
from pathlib import Path

import torch

from thinkrank.recipes.control import Budget, ControlWorld, relay_settings, require_control, study_budgets
from thinkrank.recipes.presets import Preset, preset
from thinkrank.training import console_progress

HERE = Path(__file__).parent


def main() -> None:
    """Try what is named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", type=Path, nargs="*", help="settings files; none for the preset")
    parser.add_argument("--runs", type=Path, default=HERE.parents[1] / "runs" / "studies", help="where models are kept")
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    world = ControlWorld(relay_settings(HERE / "relay.toml"), arguments.runs / "control", progress=console_progress)
    model, training, recpo = preset(Preset.thoughts)
    budgets = [Budget.of(training, recpo, window=model.prompt.history_window)]
    if arguments.studies:
        budgets = [budget for file in arguments.studies for budget, _ in study_budgets(file).values()]
    for budget in budgets:
        outcome = require_control(budget, world, HERE / "controls", declared="failed")
        print(f"{budget.fingerprint}  NDCG@10 {outcome.before:.3f} -> {outcome.after:.3f}  {budget}")


if __name__ == "__main__":
    main()
