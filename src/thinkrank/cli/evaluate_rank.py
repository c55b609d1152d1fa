"""A trained ranker beside its baselines, on the same candidate sets."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from thinkrank.data import History


def evaluate_ranker(
    folder: Path, part: str, samples: int, *, seed: int, sasrec: bool, device: str, json_output: bool
) -> None:
    """Rank candidate sets with every system, and write results.json, comparisons.json and report.html."""
    import numpy as np

    from thinkrank.cli.evaluate import REFERENCE, SASREC, _Advance, print_results
    from thinkrank.data.candidates import candidate_sets
    from thinkrank.evaluate import (
        CandidateScorer,
        bucket_rows,
        evaluate_candidates,
        from_catalogue,
        history_buckets,
        popularity_buckets,
        random_scores,
        write_comparisons,
        write_results,
    )
    from thinkrank.rank import R2Rank
    from thinkrank.recipes.reporting import ranking_report
    from thinkrank.recipes.settings import RankSettings
    from thinkrank.report import write_report
    from thinkrank.retrieve import ItemKNN, Popularity, SASRec, SasrecOptions
    from thinkrank.training import Run, console_progress

    settings = RankSettings.from_run(folder)
    split = settings.data.load_split()
    run = Run.open(folder, split.manifest())
    chosen = settings.candidates
    drawn = (split.test if part == "test" else split.valid).subset(samples, seed)
    sets = candidate_sets(drawn, chosen.size, negatives=chosen.negatives, seed=chosen.seed)
    model = R2Rank.from_pretrained(folder / "model", device=device)
    name = "R2Rank" if model.config.thinks else "R2Rank, no thought"
    systems: dict[str, CandidateScorer | np.ndarray] = {
        "random": random_scores(sets, seed),
        "popularity": from_catalogue(Popularity().fit(split).scores),
        REFERENCE: from_catalogue(ItemKNN().fit(split).scores),
    }
    if sasrec:
        trained = SASRec(SasrecOptions(seed=run.manifest["seed"]), device=str(model.backbone.device))
        systems[SASREC] = from_catalogue(trained.fit(split, progress=console_progress).scores)
    tokens = 0

    def thinking(histories: "Sequence[History]", items_BN: "np.ndarray") -> "np.ndarray":
        nonlocal tokens
        answer = model.answer(histories, items_BN)
        tokens += sum(len(thought.ids) for own in answer.thoughts or () for thought in own.values())
        return answer.scores_BN

    systems[name] = thinking
    with console_progress("evaluating", len(sets) * len(systems)) as advance:
        evaluation = evaluate_candidates(systems, sets, batch_size=16, progress=_Advance(advance))
    counts_I = split.train_counts
    seeds = dict.fromkeys((name, SASREC), (run.manifest["seed"],))
    buckets = history_buckets(sets.histories) | popularity_buckets(drawn.targets, counts_I)
    told = {"dataset": split.dataset.name, "split": part}
    rows = [
        *evaluation.rows(**told, seeds=seeds, counts_I=counts_I),
        *bucket_rows(evaluation, buckets, **told, seeds=seeds),
    ]
    write_results(folder / "results.json", rows)
    comparisons = [
        comparison
        for reference in ("popularity", REFERENCE)
        for comparison in evaluation.comparisons(reference, **told)
    ]
    write_comparisons(folder / "comparisons.json", comparisons)
    pairs = int(sets.mask_BN.sum())
    cost = {
        "pairs": pairs,
        "pairs per second": round(pairs / evaluation.answers[name].seconds, 1),
        "thought tokens per pair": round(tokens / pairs, 1),
    }
    write_report(folder / "report.html", ranking_report(run, split, evaluation, rows, comparisons, cost))
    if json_output:
        sys.stdout.write(json.dumps([row.model_dump(mode="json") for row in rows], indent=1) + "\n")
    else:
        print_results(folder, split=part)
        sys.stdout.write("; ".join(f"{key}: {value}" for key, value in evaluation.policy.items()) + "\n")
