"""What the report of a run tells: its trainings, what was found if it was judged, and the runs inside its folder."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thinkrank.evidence import TextChecker
from thinkrank.recipes.base import Judged, OpenRun, is_trained, logs_of, open_run, recipe_of
from thinkrank.recipes.kept import kept_step
from thinkrank.recipes.own import with_places
from thinkrank.recipes.provenance import about
from thinkrank.recipes.reader import reader_of, thinks_first
from thinkrank.recipes.reasons import counted_reasons
from thinkrank.recipes.synthetic_world import CLICKS, told_clicks
from thinkrank.recipes.writers import kept_weights, state_facts
from thinkrank.report import (
    ListWriting,
    Report,
    UserCase,
    thought_change,
    user_cases,
    write_report,
    written_lists,
)
from thinkrank.stages.protocols import Configured, answer_with_ranks

if TYPE_CHECKING:
    from jaxtyping import Int64, Integer

    from thinkrank.data import Samples
    from thinkrank.data.candidates import CandidateSets

NUM_USERS = 10
NUM_RANKED = 5
NUM_SHOWN = 10
NUM_LISTS = 5
RECPO = "RecPO"
REINFORCEMENT = "Reinforcement"
LOGGED = "NDCG and the like read clicks on the displayed order; another order would have been clicked otherwise."
USERS_RESEMBLE = "Samples of one user resemble each other; intervals and tests resample users."

WRITERS = {
    "base": "the base model wrote",
    "trained": "it wrote",
    "frozen": "it would have written when RecPO began",
    "apart": "its writing adapter wrote",
    "crowd": "a tool counted",
}
"""Who wrote the thoughts, by the setting `model.thinker`."""

READS = {
    "text": "reads the titles of a history as one text and may write a thought before it answers",
    "late": "reads each title once and joins them in its upper layers",
}
"""How R²ec reads, by the setting `model.reading`."""

LEARNS = {
    "every_prefix": "trained to find the next {noun} after every event of a history",
    "last": "trained to find the newest {noun} of each history",
}
AGAINST = {"catalogue": "against the whole catalogue", "in_batch": "against the other targets of a batch"}
"""What contrastive training asks for, by its settings `supervision` and `negatives`."""

NETWORKS = {
    "gru": "a recurrent network",
    "transformer": "a transformer",
    "mlp": "a recurrent network with a deeper choice",
    "prefix_sum": "a network that sums up the items before",
}
"""What writes lists, by the setting `model.generator.kind`."""

PAUSES = {
    "none": "never pauses to think",
    "entropy": "pauses to think where the entropy of the next choice is high",
    "gain": "pauses to think where a predictor expects the choice to improve",
    "fixed": "thinks before every item",
    "prefix": "thinks before the first item",
    "random": "thinks before some items",
}
"""When a re-ranker thinks, by the setting `model.reasoning.mode`."""

CREDITS = {
    "plgrad": "each item by its part in the expected NDCG",
    "counterfactual": "each item by what the list is worth without it",
    "list": "all items of a list alike",
    "rank_return": "each item by what stands from its place on",
    "pointwise": "each item by its own label",
}
"""Who is rewarded for a list, by the setting `reinforce.credit`."""

Rows = Sequence[Mapping[str, Any]]


def write_run_report(opened: OpenRun, judged: Judged | None = None, *, folder: Path | None = None) -> Path:
    """Write report.html into a run's folder, or into another; return where.

    A finished re-ranker's run in a folder of the run is part of it.

    Args:
        opened: the run.
        judged: what an evaluation found; None tells of the training alone.
        folder: where to write; None for the run's own.
    """
    report = opened.recipe.report(opened, judged)
    if report.writing is None:
        report = replace(report, writing=_writing_inside(opened))
    path = (folder or opened.run.folder) / "report.html"
    write_report(path, report)
    return path


def _writing_inside(opened: OpenRun) -> ListWriting | None:
    """Collect what the first re-ranker's run in a run's folder tells; None without one."""
    device = getattr(getattr(reader_of(opened.model), "backbone", None), "device", "auto")
    for folder in sorted(path.parent for path in opened.run.folder.glob("*/config.toml")):
        if is_trained(folder) and recipe_of(folder).stage == "rerank":
            inside = open_run(folder, device=str(device))
            return inside.recipe.report(inside, None).writing
    return None


def retrieval_report(opened: OpenRun, judged: Judged | None) -> Report:
    """Tell a retriever's curves, its thoughts before and after RecPO and, if it was judged, ten people."""
    if opened.settings.stage_class is not None:
        return _own_report(opened, judged, users=[] if judged is None else _people(opened, judged))
    settings, rows = opened.settings, _logs(opened).get(RECPO)
    model, training = settings.model, settings.training
    subtitle = [
        f"A language model {READS[model.reading]}",
        f"{LEARNS[training.supervision].format(noun=model.prompt.noun)}, {AGAINST[training.negatives]}",
    ]
    thoughts = None
    if rows is not None:
        recpo = settings.recpo
        subtitle.append(f"then rewarded for {recpo.group_size} thoughts about each history (RecPO)")
        thoughts = thought_change(
            rows,
            opened.split.dataset,
            is_best=recpo.keep == "best",
            num_past=model.prompt.history_window,
            checker=_checker(opened),
        )
    if settings.crowd:
        subtitle.append(f"joined with what the crowd did: {', '.join(settings.crowd)}")
    report = _report(opened, judged, method="R²ec", subtitle=f"{'; '.join(subtitle)}.", thoughts=thoughts)
    if judged is None:
        return report
    thinks = thinks_first(opened.model)
    about = "Each part of the fused retriever stands in the table alone, too."
    if thinks:
        about = (
            f"“No thought” reads the model directly behind the history; “thought first” reads it behind the thought "
            f"{WRITERS[reader_of(opened.model).config.thinker]}. {_rewarded(settings)}"
        )
    return replace(
        report,
        users=_people(opened, judged, thinks=thinks),
        notes=(about, USERS_RESEMBLE),
    )


def ranking_report(opened: OpenRun, judged: Judged | None) -> Report:
    """Tell the curves of a ranker's training, its last phase's thoughts before and after, and what its answers cost."""
    if opened.settings.stage_class is not None:
        report = _own_report(opened, judged)
    else:
        settings, logs = opened.settings, _logs(opened)
        reinforced = REINFORCEMENT in logs
        last = settings.reinforce if reinforced else settings.cold_start
        how = "writes a reason for or against each candidate before it scores it"
        subtitle = [f"A language model {how if settings.model.thinks else 'scores each candidate without a thought'}"]
        subtitle += [f"then rewarded for whole lists, {CREDITS[last.credit]}"] if reinforced else []
        thoughts = thought_change(
            next(reversed(logs.values()), []),
            opened.split.dataset,
            is_best=last.keep == "best",
            best_by="valid_ndcg@10",
            training="reinforcement" if reinforced else "the cold start",
            num_past=settings.model.prompt.history_window,
            checker=_checker(opened),
        )
        report = _report(opened, judged, method="R2Rank", subtitle=f"{'; '.join(subtitle)}.", thoughts=thoughts)
    if judged is None:
        return report
    spent = list(judged.evaluation.cost.values())[-1]
    pairs = int(judged.questions.mask_BN.sum())
    cost = {
        "pairs": pairs,
        "pairs per second": round(pairs / spent.seconds, 1),
        "thought tokens per pair": round(spent.tokens / pairs, 1),
    }
    users = _ranked_people(opened, judged)
    return replace(report, policy={**report.policy, **cost}, users=users, notes=(USERS_RESEMBLE,))


def reranking_report(opened: OpenRun, judged: Judged | None) -> Report:
    """Tell the curves of a re-ranker's trainings, what its evaluator is worth, and some lists of the test part."""
    feedback = "Feedback is what users did with the displayed order; what they would do with another is not known."
    notes = () if judged is None else (feedback,)
    if opened.settings.stage_class is not None:
        return _own_report(opened, judged, notes=notes)
    config = opened.model.config
    network, pauses = NETWORKS.get(config.generator.kind, config.generator.kind), PAUSES[config.reasoning.mode]
    subtitle = f"Writes the final list item by item ({network}) and {pauses}."
    curves = {phase: _numbers(rows) for phase, rows in _logs(opened).items()}
    writing = list_writing(opened)
    report = _report(opened, judged, method="EGLR", subtitle=subtitle, curves=curves, writing=writing, notes=notes)
    clicks = "" if judged is None else told_clicks(judged.evaluation, judged.questions, "EGLR", "displayed order")
    if not clicks:
        return report
    headline = next(row.metric for row in report.rows if row.metric.startswith(CLICKS))
    return replace(report, verdict=f"{clicks}\n{report.verdict}", headline=headline, notes=(*notes, LOGGED))


def _own_report(opened: OpenRun, judged: Judged | None, **parts: Any) -> Report:
    """Collect what there is to tell of a class of your own."""
    chosen = opened.settings.stage_class
    options = ", ".join([chosen.name, *(f"{name} {value}" for name, value in chosen.options.items())])
    curves = {title: _numbers(rows) for title, rows in _logs(opened).items() if rows}
    return _report(opened, judged, method=chosen.title, subtitle=options, curves=curves, **parts)


def _report(opened: OpenRun, judged: Judged | None, *, method: str, subtitle: str, **parts: Any) -> Report:
    """Collect what the reports of all stages share."""
    split = opened.split
    dataset = split.train if opened.recipe.stage == "rerank" else split.dataset
    found: dict[str, Any] = {}
    if judged is not None:
        systems = judged.evaluation.systems
        hardest = [name for name in opened.recipe.references if name in systems][-1]
        comparisons = [row for row in judged.comparisons if row.reference == hardest]
        found = {"rows": judged.rows, "comparisons": comparisons, "policy": judged.evaluation.policy}
        found["verdict"], found["faithfulness"] = judged.verdict, judged.faithfulness
    return Report(
        title=f"{method} on {dataset.name}",
        subtitle=subtitle,
        data_card=dataset.describe(),
        manifest=split.manifest(),
        about=about(opened),
        **{"curves": _logs(opened), **found, **parts},
    )


def _logs(opened: OpenRun) -> dict[str, list[dict[str, Any]]]:
    return logs_of(opened.recipe, opened.settings, opened.split, opened.run)


def _numbers(rows: Rows) -> list[dict[str, Any]]:
    """Copy a log without what has a value per place."""
    return [{key: value for key, value in row.items() if isinstance(value, int | float)} for row in rows]


def _rewarded(settings: Any) -> str:
    """Say what a reader should know about how thoughts were trained."""
    if settings.recpo.steps:
        return "RecPO rewarded thoughts, on training samples, for the place of the true item that they led to."
    if settings.training.thought_share:
        return (
            "Training was contrastive and showed the model thoughts that rules had written, so nothing has rewarded "
            "one for being useful."
        )
    return "Training was contrastive and never saw a thought, so nothing has rewarded one for being useful."


def _people(opened: OpenRun, judged: Judged, *, thinks: bool = False) -> list[UserCase]:
    """Ask about one sample of each of ten users; a model that thinks also without its thought."""
    samples: Samples = judged.questions
    people = samples.take(spread(samples.users, NUM_USERS))
    retriever = with_places(opened.model, len(samples.dataset.catalogue))

    def ask(**options: Any) -> Any:
        return answer_with_ranks(
            Configured(retriever, **options),
            people.requests(),
            NUM_SHOWN,
            people.targets,
            filter_seen=judged.evaluation.filter_seen,
        )

    ranking, ranks = ask(**({"think": True} if thinks else {}))
    prompt = getattr(getattr(reader_of(opened.model), "config", None), "prompt", None)
    return user_cases(
        people,
        ranking,
        ranks,
        num_past=None if prompt is None else prompt.history_window,
        checker=_checker(opened),
        unthought=ask(think=False) if thinks else None,
    )


def _ranked_people(opened: OpenRun, judged: Judged) -> list[UserCase]:
    """Rank the whole list of some users, with the reasons of a model that writes some."""
    sets = some_sets(judged.questions, NUM_RANKED)
    ranking = opened.model.rank(sets.requests, sets.candidates)
    at_B = (ranking.columns_BK == sets.positive_B[:, None]).argmax(axis=1)
    missed_B = sets.positive_B < 0
    ranks_B = np.where(missed_B, len(sets.samples.dataset.catalogue) + 1, at_B + 1)
    prompt = getattr(getattr(opened.model, "config", None), "prompt", None)
    window = getattr(prompt, "history_window", None)
    checker = _checker(opened)
    return user_cases(sets.samples, ranking, ranks_B, num_past=window, checker=checker, among=sets.items_BN.shape[1])


def _checker(opened: OpenRun) -> TextChecker | None:
    """Make what tells and checks reasons; None if nothing may be counted."""
    reasons = counted_reasons(opened.settings, opened.split)
    return None if reasons is None else TextChecker(reasons)


def spread(users_S: "Integer[np.ndarray, 'S']", most: int) -> "Int64[np.ndarray, 'n']":
    """Choose some samples, spread evenly over users: one of each, and further ones where users are few."""
    _, first = np.unique(users_S, return_index=True)
    if len(first) >= most:
        return np.sort(first[np.linspace(0, len(first) - 1, most).astype(int)])
    others = np.setdiff1d(np.arange(len(users_S)), first)
    more = others[np.linspace(0, len(others) - 1, min(most - len(first), len(others))).astype(int)]
    return np.sort(np.concatenate([first, more]))


def some_sets(sets: "CandidateSets", most: int) -> "CandidateSets":
    """Choose some candidate sets, spread evenly over users."""
    rows = spread(sets.samples.users, most)
    return replace(
        sets,
        samples=sets.samples.take(rows),
        items_BN=sets.items_BN[rows],
        positive_B=sets.positive_B[rows],
        scores_BN=None if sets.scores_BN is None else sets.scores_BN[rows],
    )


def list_writing(opened: OpenRun) -> ListWriting:
    """Tell of a re-ranker: its evaluator, where it thinks, and lists it writes."""
    model, train, test = opened.model, opened.split.train, opened.split.test
    clicked = np.flatnonzero((test.feedback() > 0).any(axis=1))  # of these some, spread evenly
    lists = test.subset(clicked[np.linspace(0, len(clicked) - 1, min(NUM_LISTS, len(clicked))).astype(int)])
    judged = model.report
    facts: dict[str, Any] = {}
    if judged is not None:
        facts = judged.model_dump(mode="json", exclude={"bins", "worth"})
        facts["worth of a list, by kind of reward"] = {
            kind: f"{worth.logged:.3f} logged, {worth.shuffled:.3f} shuffled, {worth.clicked_first:.3f} clicked first"
            for kind, worth in judged.worth.items()
        }
    grpo, rows = opened.settings.grpo, _logs(opened).get(REINFORCEMENT, [])
    found, about_state = state_facts(model, test, grpo.length, grpo.reward), ""
    state = {"kept by reinforcement": "nothing: there was none"}
    step = kept_step(rows, f"valid_ndcg@{grpo.length}", grpo.keep)
    if step is not None:
        state["kept by reinforcement"] = kept_weights(step)
    if found:
        about_state = found["state"].pop("sentence")
        state |= found["state"] | {f"reward, {name}": value for name, value in found["headroom"].items()}
    about = (
        f"EGLR with a {model.config.generator.kind} generator and {model.config.reasoning.mode} reasoning, trained on "
        f"{len(train):,} lists of {train.name}. It writes a list item by item and thinks where the entropy "
        "of the next choice is high; an evaluator, trained before it, rewarded what it wrote."
    )
    return ListWriting(
        summary=about,
        evaluator=facts,
        calibration=[] if judged is None else [{"predicted": b.predicted, "clicked": b.clicked} for b in judged.bins],
        about_state=about_state,
        state=state,
        places=_by_place(rows),
        lists=written_lists(model.rerank(lists.requests, lists.candidates, NUM_SHOWN), lists),
    )


def _by_place(reinforced: Rows) -> list[dict[str, float | int]]:
    """Return entropies and thinking of the first and the last validation."""
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
