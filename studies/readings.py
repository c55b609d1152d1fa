"""Judge systems that know ids only with histories that hold the target's own day, and with strictly earlier ones.

    python studies/readings.py movielens-100k --out docs/results/readings-films.json
    python studies/readings.py amazon-2018 --path FOLDER --sasrec --out docs/results/readings-office.json

Both readings have the same train, valid and test targets; settings are chosen on each reading's own validation. The
file is a results.json: all test targets, those that have the time of the event before them (``tied``), and the others
(``later``). What was chosen for each system is printed.
"""

import argparse
import logging
import sys
from pathlib import Path
from typing import Literal

from thinkrank.data import load_dataset, split_dataset
from thinkrank.errors import ThinkrankError
from thinkrank.evaluate import ResultRow, evaluate_retrieval, write_results
from thinkrank.recipes.baselines import EASE_R, ITEM_KNN, POPULARITY, SASREC, chosen_settings, fitted_baselines
from thinkrank.training import console_progress

READINGS: dict[Literal["before", "strict"], str] = {"before": "file order", "strict": "strictly earlier"}

logger = logging.getLogger("thinkrank")


def readings(source: str, path: str | None, name: str, systems: list[str]) -> list[ResultRow]:
    """Fit and judge the systems by both rules, on all test samples."""
    dataset, rows = load_dataset(source, path), []
    for ties, reading in READINGS.items():
        split = split_dataset(dataset, ties=ties)
        tied_S = dataset.tied_E[split.test.positions] > 0
        fitted = fitted_baselines(split, systems, progress=console_progress)
        logger.info("%s, %s: %s", name, reading, chosen_settings(fitted))
        judged = evaluate_retrieval(
            {f"{system}, {reading}": model for system, model in fitted.items()}, split.test, progress=console_progress
        )
        seeds = {f"{SASREC}, {reading}": (0,)}
        for part, chosen_S in (("test", tied_S | True), ("test, tied", tied_S), ("test, later", ~tied_S)):
            if chosen_S.any():
                rows += judged.where(chosen_S).rows(dataset=name, split=part, seeds=seeds)
    return sorted(rows, key=lambda row: ("test", "test, tied", "test, later").index(row.split))


def main() -> None:
    """Write the file that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="source of the data, such as movielens-100k")
    parser.add_argument("--path", help="file or folder of the data, where the source has none of its own")
    parser.add_argument("--name", help="of the data set in the rows; the source's by default")
    parser.add_argument("--sasrec", action="store_true", help="train SASRec as well (minutes)")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    arguments = parser.parse_args()
    logger.addHandler(logging.StreamHandler(sys.stdout))
    logger.setLevel(logging.INFO)
    systems = [POPULARITY, ITEM_KNN, EASE_R, *([SASREC] if arguments.sasrec else [])]
    try:
        rows = readings(arguments.source, arguments.path, arguments.name or arguments.source, systems)
    except ThinkrankError as error:
        sys.exit(str(error))
    write_results(arguments.out, rows)


if __name__ == "__main__":
    main()
