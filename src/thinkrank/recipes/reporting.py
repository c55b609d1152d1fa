"""The report of a retrieval run: its training alone, or with the evaluation and ten people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thinkrank.evaluate import Comparison, ResultRow
from thinkrank.report import ListWriting, Report, UserCase, WrittenItem, thought_change, user_cases, write_report
from thinkrank.stages.answers import Ranking, Slate
from thinkrank.stages.protocols import Reranker
from thinkrank.training import Run

if TYPE_CHECKING:
    from thinkrank.data import ImpressionDataset, ImpressionSplit, Samples, Split
    from thinkrank.evaluate import Evaluation
    from thinkrank.rerank import EGLR
    from thinkrank.retrieve import R2ec

NUM_USERS = 10
NUM_SHOWN = 10
NUM_LISTS = 5
_REINFORCEMENT = "Reinforcement"

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


def write_reranking_report(
    run: Run,
    model: "EGLR",
    split: "ImpressionSplit",
    *,
    part: str = "test",
    lists: "ImpressionDataset | None" = None,
    samples: int = 1,
) -> Report:
    """Write what a re-ranker's training has to tell, with lists in its order and in the displayed one.

    Args:
        run: of the whole training.
        model: what came out.
        split: what it was trained on.
        part: name of the lists that are judged.
        lists: which they are; the test part by default.
        samples: also judge the evaluator's best of so many lists, if more than one and the evaluator was trained.
    """
    from thinkrank.evaluate import write_comparisons, write_results

    report = _reranking_report(run, model, split, part, split.test if lists is None else lists, samples)
    write_results(run.folder / "results.json", report.rows)
    write_comparisons(run.folder / "comparisons.json", report.comparisons)
    write_report(run.folder / "report.html", report)
    return report


def _reranking_report(
    run: Run, model: "EGLR", split: "ImpressionSplit", part: str, lists: "ImpressionDataset", samples: int
) -> Report:
    """Judge lists and collect curves, the evaluator's report and some lists of the test part."""
    from thinkrank.evaluate import evaluate_lists
    from thinkrank.rerank import InitialOrder

    systems: dict[str, Reranker] = {"displayed order": InitialOrder()}
    reasoning, grpo = model.config.reasoning, run.config["grpo"]
    if reasoning.mode != "none":
        unthinking = reasoning.model_copy(update={"mode": "none"})
        systems["EGLR, no thinking"] = _Answering(model, {"reasoning": unthinking})
    systems["EGLR"] = model
    if samples > 1 and model.report is not None:
        judged = {"samples": samples, "reward": grpo["reward"], "places": grpo["length"]}
        systems[f"EGLR, the evaluator's best of {samples}"] = _Answering(model, judged)
    evaluation, name = evaluate_lists(systems, lists), lists.name
    seeds = {system: (int(grpo["seed"]),) for system in systems if system.startswith("EGLR")}
    return Report(
        title=f"EGLR on {name}",
        subtitle=f"{model.config.generator.kind} generator, {model.config.reasoning.mode} reasoning",
        data_card=split.train.describe(),
        manifest=split.manifest(),
        rows=evaluation.rows(dataset=name, split=part, seeds=seeds),
        comparisons=evaluation.comparisons("displayed order", dataset=name, split=part),
        policy=evaluation.policy,
        curves={phase: _numbers(rows) for phase, rows in _phases(run, split).items()},
        writing=list_writing(run, model, split),
        notes=("Feedback is what users did with the displayed order; what they would do with another is not known.",),
    )


def _phases(run: Run, split: "ImpressionSplit") -> dict[str, list[dict[str, Any]]]:
    """The logs of a re-ranker's trainings, by what the report calls them."""
    folders = {"Evaluator": "evaluator", "Warm start": "warm-start", _REINFORCEMENT: "grpo"}
    return {
        phase: Run.open(run.folder / folder, split.manifest()).metrics()
        for phase, folder in folders.items()
        if (run.folder / folder / "config.toml").is_file()
    }


def list_writing(run: Run, model: "EGLR", split: "ImpressionSplit") -> ListWriting:
    """Tell of a list writer.

    Args:
        run: of its training.
        model: which one.
        split: the lists it learnt from and is shown on.
    """
    judged = model.report
    facts: dict[str, Any] = {}
    if judged is not None:
        facts = judged.model_dump(mode="json", exclude={"bins", "worth"})
        facts["worth of a list, by kind of reward"] = {
            kind: f"{worth.logged:.3f} logged, {worth.shuffled:.3f} shuffled, {worth.clicked_first:.3f} clicked first"
            for kind, worth in judged.worth.items()
        }
    told = (
        f"EGLR with a {model.config.generator.kind} generator and {model.config.reasoning.mode} reasoning, trained on "
        f"{len(split.train):,} lists of {split.train.name}. It writes a list item by item and thinks where the entropy "
        "of the next choice is high; an evaluator, trained before it, rewarded what it wrote."
    )
    return ListWriting(
        told=told,
        evaluator=facts,
        calibration=[] if judged is None else [{"predicted": b.predicted, "clicked": b.clicked} for b in judged.bins],
        places=_by_place(_phases(run, split).get(_REINFORCEMENT, [])),
        lists=_written_lists(model, split.test),
    )


def _by_place(reinforced: Sequence[Mapping[str, Any]]) -> list[dict[str, float | int]]:
    """Entropies and thinking of the first and the last validation."""
    validations = [row for row in reinforced if "valid_entropy_before_by_place" in row]
    if not validations:
        return []
    first, last = validations[0], validations[-1]
    columns = {
        "entropy_at_start": first["valid_entropy_before_by_place"],
        "entropy_before": last["valid_entropy_before_by_place"],
        "entropy_after": last["valid_entropy_after_by_place"],
        "trigger_rate": last["valid_trigger_rate_by_place"],
    }
    places = range(len(columns["entropy_before"]))
    return [{"place": place + 1, **{name: values[place] for name, values in columns.items()}} for place in places]


def _written_lists(model: "EGLR", test: "ImpressionDataset") -> list[tuple[str, list[WrittenItem]]]:
    """What it makes of some lists with feedback, spread evenly over the test part."""
    from thinkrank.cli.rerank import slates

    clicked = np.flatnonzero((test.feedback() > 0).any(axis=1))
    lists = test.subset(clicked[np.linspace(0, len(clicked) - 1, min(NUM_LISTS, len(clicked))).astype(int)])
    feedback_LN, written = lists.feedback(), slates(model.rerank(lists, NUM_SHOWN), lists)
    return [
        (
            lists.users[lists.users_L[row]],
            [
                WrittenItem(
                    title=place["title"],
                    shown_at=place["shown_at"],
                    was_clicked=bool(feedback_LN[row, place["shown_at"] - 1] > 0),
                    entropy_before=place["entropy_before"],
                    entropy_after=place["entropy_after"],
                    thoughts=place["thoughts"],
                )
                for place in written.filter(list=row).iter_rows(named=True)
            ],
        )
        for row in range(len(lists))
    ]


@dataclass(frozen=True)
class _Answering:
    """A re-ranker that answers in another way than it is configured."""

    model: "EGLR"
    options: Mapping[str, Any]

    def rerank(self, lists: "ImpressionDataset", k: int) -> Slate:
        return self.model.rerank(lists, k, **self.options)


def _numbers(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A log without what has a value per place."""
    return [{key: value for key, value in row.items() if isinstance(value, int | float)} for row in rows]


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
