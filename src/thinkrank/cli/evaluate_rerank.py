"""A trained list writer beside the displayed order, on held-out lists."""

import json
import sys
from pathlib import Path

NUM_PICKED = 8
"""Lists of which the evaluator picks one."""


def evaluate_reranker(folder: Path, part: str, samples: int, *, seed: int, device: str, json_output: bool) -> None:
    """Answer lists with and without thinking, and write results.json, comparisons.json and report.html."""
    import numpy as np

    from thinkrank.cli.evaluate import print_results
    from thinkrank.cli.rerank import open_reranker
    from thinkrank.errors import ThinkrankError
    from thinkrank.recipes.reporting import write_reranking_report

    run, model, split = open_reranker(folder, device=device)
    lists = split.test if part == "test" else split.valid
    if not len(lists):
        raise ThinkrankError(
            f"{lists.name}: the {part} part holds no list: raise data.{part}_share, or give more lists"
        )
    if len(lists) > samples:
        lists = lists.subset(np.sort(np.random.default_rng(seed).choice(len(lists), samples, replace=False)))
    report = write_reranking_report(run, model, split, part=part, lists=lists, samples=NUM_PICKED)
    if json_output:
        sys.stdout.write(json.dumps([row.model_dump(mode="json") for row in report.rows], indent=1) + "\n")
    else:
        print_results(folder, split=part)
        sys.stdout.write("; ".join(f"{key}: {value}" for key, value in report.policy.items()) + "\n")
