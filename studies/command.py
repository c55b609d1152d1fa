"""The command line of every study."""

import argparse
import logging
import os
import sys
from pathlib import Path

import torch

from thinkrank.errors import ThinkrankError
from thinkrank.recipes.studies import Study, run_study
from thinkrank.training import console_progress

RUNS = Path(__file__).parents[1] / "runs" / "studies"


def main(description: str | None, results: Path, study: type[Study]) -> None:
    """Run what the command line asks for and is not there yet."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="the study's settings file")
    parser.add_argument("--arm", action="append", help="arm to run; repeatable, all by default")
    parser.add_argument("--seed", action="append", type=int, help="seed to run; repeatable, the study's by default")
    parser.add_argument("--path", help="file or folder of the data, where the source has none of its own")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where trainings are kept")
    parser.add_argument("--results", type=Path, default=results, help="where result files are read and written")
    parser.add_argument(
        "--set", action="append", metavar="KEY=VALUE", help="one setting, such as model.backbone=FOLDER"
    )
    arguments = parser.parse_args()
    logger = logging.getLogger("thinkrank")
    logger.addHandler(logging.StreamHandler(sys.stdout))
    logger.setLevel(logging.INFO)
    sys.path.append(str(Path.cwd()))  # a stage of your own may lie there
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    try:
        changes = arguments.set or ()
        opened = study(arguments.study, arguments.runs, path=arguments.path, changes=changes, progress=console_progress)
        run_study(opened, arguments.results, arms=arguments.arm, seeds=arguments.seed)
    except ThinkrankError as error:
        sys.exit(str(error))
