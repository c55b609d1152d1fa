"""The report of a retrieval run: its training alone, or with the evaluation and ten people."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thinkrank.evaluate import Comparison, ResultRow
from thinkrank.evaluate.report import Report, UserCase, thought_change, user_cases, write_report
from thinkrank.stages import Ranking, Reranker, Slate
from thinkrank.training import Run

if TYPE_CHECKING:
    from thinkrank.data import ImpressionDataset, ImpressionSplit, Samples, Split
    from thinkrank.evaluate import Evaluation
    from thinkrank.rerank import EGLR
    from thinkrank.retrieve import R2ec

NUM_USERS = 10
NUM_SHOWN = 10

WRITERS = {
    "base": "the base model wrote",
    "trained": "it wrote",
    "frozen": "it would have written when RecPO began",
}
"""Who wrote the thoughts, by the setting `model.thinker`."""


def write_training_report(run: Run, split: "Split") -> Path:
    """Write what the training itself has to tell into the run's folder; return where."""
    path = run.folder / "report.html"
    write_report(path, training_report(run, split))
    return path


def write_ranking_training_report(run: Run, split: "Split") -> Path:
    """Write what the training of a ranker has to tell into the run's folder; return where."""
    path = run.folder / "report.html"
    write_report(path, ranking_training_report(run, split))
    return path


def ranking_training_report(run: Run, split: "Split") -> Report:
    """Collect the curves of a run, and the thoughts before and after its last phase."""
    from thinkrank.cli.train_rank import open_reinforce

    reinforce = open_reinforce(run, split)
    told = [
        run.config["model"]["backbone"],
        "a thought about each pair" if run.config["model"]["thinks"] else "no thoughts",
    ]
    curves: dict[str, Sequence[Mapping[str, Any]]] = {"Cold start": run.metrics()}
    if reinforce is not None:
        told.append(f"then the reward of lists, credited by {reinforce.config['credit']}")
        curves["Reinforcement"] = reinforce.metrics()
    rows = list(curves.values())[-1]
    return Report(
        title=f"R2Rank on {split.dataset.name}",
        subtitle=", ".join(told),
        data_card=split.dataset.describe(),
        manifest=split.manifest(),
        curves=curves,
        thoughts=thought_change(
            rows,
            split.dataset,
            is_best=run.config["cold_start" if reinforce is None else "reinforce"]["keep"] == "best",
            best_by="valid_ndcg@10",
            training="the cold start" if reinforce is None else "reinforcement",
        ),
    )


def ranking_report(
    run: Run,
    split: "Split",
    evaluation: "Evaluation",
    rows: Sequence[ResultRow],
    comparisons: Sequence[Comparison],
    cost: Mapping[str, float],
) -> Report:
    """Add what was measured, and what it cost."""
    return replace(
        ranking_training_report(run, split),
        rows=rows,
        comparisons=comparisons,
        policy={**evaluation.policy, **cost},
        notes=("Samples of one user resemble each other; intervals and tests resample users.",),
    )


def write_reranking_report(run: Run, model: "EGLR", split: "ImpressionSplit") -> Path:
    """Write what the training of a re-ranker has to tell, with test lists in its order and in the displayed one."""
    from thinkrank.baselines.lists import InitialOrder
    from thinkrank.evaluate import evaluate_lists, write_comparisons, write_results

    systems: dict[str, Reranker] = {
        "displayed order": InitialOrder(),
        "EGLR, no thinking": _Unthinking(model),
        "EGLR": model,
    }
    evaluation = evaluate_lists(systems, split.test)
    name = split.test.name
    rows = evaluation.rows(dataset=name, split="test")
    comparisons = evaluation.comparisons("displayed order", dataset=name, split="test")
    write_results(run.folder / "results.json", rows)
    write_comparisons(run.folder / "comparisons.json", comparisons)
    phases = {"Evaluator": "evaluator", "Warm start": "warm-start", "Reinforcement": "grpo"}
    opened = {phase: run.folder / folder for phase, folder in phases.items()}
    report = Report(
        title=f"EGLR on {name}",
        subtitle=f"{model.config.generator.kind} generator, {model.config.reasoning.mode} reasoning",
        data_card=split.train.describe(),
        manifest=split.manifest(),
        rows=rows,
        comparisons=comparisons,
        policy=evaluation.policy,
        curves={
            phase: _numbers(Run.open(folder, split.manifest()))
            for phase, folder in opened.items()
            if (folder / "config.toml").is_file()
        },
        notes=_trust(model),
    )
    path = run.folder / "report.html"
    write_report(path, report)
    return path


class _Unthinking:
    """A re-ranker that is kept from thinking."""

    def __init__(self, model: "EGLR") -> None:
        self.model, self.reasoning = model, model.config.reasoning.model_copy(update={"mode": "none"})

    def rerank(self, lists: "ImpressionDataset", k: int) -> Slate:
        return self.model.rerank(lists, k, reasoning=self.reasoning)


def _numbers(run: Run) -> list[dict[str, Any]]:
    """The log without what has a value per place."""
    return [{key: value for key, value in row.items() if isinstance(value, int | float)} for row in run.metrics()]


def _trust(model: "EGLR") -> tuple[str, ...]:
    """What is known of the evaluator that rewarded the lists."""
    if model.report is None:
        return ()
    report = model.report
    worth = report.worth["mean"]
    return (
        f"The evaluator, on {report.lists:,} held-out lists: AUC {report.auc or float('nan'):.3f}, log loss "
        f"{report.log_loss:.4f} (predicting the click rate everywhere: {report.base_log_loss:.4f}), expected "
        f"calibration error {report.calibration_error:.4f}; mean reward of logged lists {worth.logged:.4f}, of "
        f"shuffled ones {worth.shuffled:.4f}, with the clicked items first {worth.clicked_first:.4f}.",
        "Feedback is what users did with the displayed order; what they would have done with another is not known.",
    )


def training_report(run: Run, split: "Split") -> Report:
    """Collect the curves of a run and, after RecPO, the thoughts before and after it."""
    backbone, training = run.config["model"]["backbone"], run.config["training"]
    supervision, negatives = training["supervision"].replace("_", " "), training["negatives"].replace("_", "-")
    recpo = open_recpo(run, split)
    told = [backbone, f"{supervision} supervision, {negatives} negatives"]
    curves: dict[str, Sequence[Mapping[str, Any]]] = {"Contrastive training": run.metrics()}
    thoughts = None
    if recpo is not None:
        rows = recpo.metrics()
        told.append(f"then RecPO with {recpo.config['group_size']} thoughts about each history")
        curves = {"Warm start": run.metrics(), "RecPO": rows}
        thoughts = thought_change(rows, split.dataset, is_best=recpo.config["keep"] == "best")
    return Report(
        title=f"R²ec on {split.dataset.name}",
        subtitle=", ".join(told),
        data_card=split.dataset.describe(),
        manifest=split.manifest(),
        curves=curves,
        thoughts=thoughts,
    )


def retrieval_report(
    run: Run,
    model: "R2ec",
    split: "Split",
    samples: "Samples",
    evaluation: "Evaluation",
    rows: Sequence[ResultRow],
    comparisons: Sequence[Comparison],
) -> Report:
    """Add what was measured, and ten people, who are asked with a thought first."""
    return replace(
        training_report(run, split),
        rows=rows,
        comparisons=comparisons,
        policy=evaluation.policy,
        users=_people(model, split, samples, filter_seen=evaluation.filter_seen),
        notes=(
            f"“No thought” reads the model directly behind the history; “thought first” reads it behind the thought "
            f"{WRITERS[model.config.thinker]}. {_rewarded(run)}",
            "Samples of one user resemble each other; intervals and tests resample users.",
        ),
    )


def open_recpo(run: Run, split: "Split") -> Run | None:
    """The RecPO training inside a run; None if there was none."""
    folder = run.folder / "recpo"
    return Run.open(folder, split.manifest()) if (folder / "config.toml").is_file() else None


def _rewarded(run: Run) -> str:
    """What a reader should know about how thoughts were trained."""
    if run.config.get("recpo", {}).get("steps"):
        return "RecPO rewarded thoughts, on training samples, for the place of the true item that they led to."
    if run.config["training"].get("thought_share"):
        return (
            "Training was contrastive and showed the model thoughts that rules had written, so nothing has rewarded "
            "one for being useful."
        )
    return "Training was contrastive and never saw a thought, so nothing has rewarded one for being useful."


def _people(model: "R2ec", split: "Split", samples: "Samples", *, filter_seen: bool) -> list[UserCase]:
    """The first sample of each of ten users, spread evenly over the users of the samples."""
    _, first = np.unique(samples.users, return_index=True)
    chosen = first[np.linspace(0, len(first) - 1, min(NUM_USERS, len(first))).astype(int)]
    people = type(samples)(samples.dataset, samples.positions[chosen])
    whole = model.retrieve(people.histories(), len(model.catalogue), think=True, filter_seen=filter_seen)
    found_BI = whole.items_BK == people.targets[:, None]
    ranks = np.where(found_BI.any(axis=1), found_BI.argmax(axis=1) + 1, len(model.catalogue) + 1)
    shown = Ranking(whole.items_BK[:, :NUM_SHOWN], whole.scores_BK[:, :NUM_SHOWN], whole.thoughts)
    return user_cases(people, shown, ranks, catalogue=model.catalogue, user_ids=split.dataset.users)
