"""What a probe found: figures and tests of every arm, and one sentence that answers the question.

    found = read_probe("runs/probe", ARMS, dataset="films", about={})

Shape legend: K trainings, S samples.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thinkrank._files import atomic_write
from thinkrank.evaluate import Comparison, ResultRow, write_comparisons, write_results
from thinkrank.evaluate.per_sample import PerSample
from thinkrank.evaluate.significance import PairedTest, holm
from thinkrank.evaluate.studies import ArmAnswers, read_study, study_test
from thinkrank.evaluate.study_tables import compared
from thinkrank.evaluate.trainings import trainings_intervals
from thinkrank.evaluate.verdict import SURE, metric_name
from thinkrank.recipes.probe_arms import COUNTING, ENOUGH, START, Arm, Asked, control_of, controls_of, shown
from thinkrank.recipes.probe_gates import gates_of
from thinkrank.recipes.probe_tried import METRIC, Tried, details_of, told, too_little
from thinkrank.report import Report, write_report

ANSWERS, FILE = "answers", "probe.json"
_TAUGHT = (
    "Thoughts in words: the start had learnt from example thoughts, too; the control went on from it without them."
)
_METRICS = (METRIC, "hit@1", "hit@10", "hit@100", "mrr")


@dataclass(frozen=True)
class Probed:
    """Hold the outcome of a probe.

    Attributes:
        sentence: the answer.
        details: further sentences: what the gain rests on, every other way.
        best: the way that the sentence is about: the best on validation of those that surely pay, whose p-values are
            corrected for all; of all where none does.
        declared: the way that is compared with everything else: the best on validation of all.
        ways: all that were tried.
        rows: every figure.
        comparisons: every arm against the control of the declared way.
        about: how it was found.
        is_known: whether the models have learnt enough to be asked.
    """

    sentence: str
    details: tuple[str, ...]
    best: Tried
    declared: Tried
    ways: tuple[Tried, ...]
    rows: tuple[ResultRow, ...]
    comparisons: tuple[Comparison, ...]
    about: Mapping[str, Any]
    is_known: bool = True


def read_probe(
    folder: Path, arms: Sequence[Arm], *, dataset: str, about: Mapping[str, Any], tables: bool = True
) -> Probed:
    """Read the answers of a probe and judge them.

    Args:
        folder: of the probe.
        arms: that were tried.
        dataset: name for rows.
        about: how it was found, for the files.
        tables: whether to make the rows and comparisons too, whose intervals take most of the time.
    """
    of = {arm.name: arm for arm in (*arms, *COUNTING)}
    order = {name: place for place, name in enumerate(of)}
    told_in_order = sorted(read_study(folder / ANSWERS), key=lambda one: order[one.arm])
    answers = {(one.arm, one.mode): one for one in told_in_order}
    results = [json.loads(file.read_text(encoding="utf-8")) for file in sorted((folder / ANSWERS).glob("*.json"))]
    ways = _tried([arm for arm in arms if arm.is_way], arms, answers, results)
    declared = max(ways, key=lambda way: way.validation)
    best = max(ways, key=lambda way: (way.pays is True, way.validation))
    rows: list[ResultRow] = []
    for (name, mode), one in answers.items() if tables else ():
        rows += _rows(one, shown(of[name], mode), dataset, results)
    against = control_of(of[declared.name], arms)
    reference = _first(against, answers)
    primary = f"{declared.name}/{of[declared.name].asked[0]}"
    trained = [one for one in answers.values() if of[one.arm] not in COUNTING]  # others are marks, and not tested
    comparisons = [
        Comparison(
            dataset=dataset,
            split="test",
            system=shown(of[row.answers.arm], row.answers.mode),
            reference=against.about,
            metric=METRIC,
            difference=row.found.test.difference.value,
            low=row.found.test.difference.low,
            high=row.found.test.difference.high,
            p_value=row.found.test.p_value,
            corrected=row.p_value,
            visible=row.found.test.visible,
            num_clusters=row.found.test.num_clusters,
        )
        for row in (compared(trained, reference, METRIC, primary=primary, declared=declared.p_value) if tables else ())
        if row.found.test is not None
    ]
    samples, users = reference.num_samples, best.test.num_clusters
    noun = str(about.get("noun", "item"))
    doubt = _doubt(best, of, answers, about, is_short=_is_short(results, about))
    sentence = told(best, samples, users, tried=sum(not way.same_as for way in ways), noun=noun, is_known=not doubt)
    details = [line for way in ways for line in details_of(way, is_best=way is best)]
    if not about.get("trained before") and any(of[way.name].phase == "recpo" for way in ways):
        details.append(_TAUGHT)
    lines = (*filter(None, [doubt]), *dict.fromkeys([sentence, *details]))
    return Probed(
        lines[0], lines[1:], best, declared, tuple(ways), tuple(rows), tuple(comparisons), dict(about), not doubt
    )


def _doubt(
    best: Tried,
    of: Mapping[str, Arm],
    answers: Mapping[tuple[str, str], ArmAnswers],
    about: Mapping[str, Any],
    *,
    is_short: bool,
) -> str:
    """Say that the models have learnt too little, if what counts is surely above the better of way and control.

    Popularity must not be; item-kNN may well be above a model of texts that is trained, so it counts where the minutes
    cut the start short.
    """
    way = of[best.name]
    models = [_first(arm, answers) for arm in (way, control_of(way, list(of.values())))]
    better = max(models, key=_mean_value)
    for arm in COUNTING if is_short else COUNTING[:1]:
        mark = answers.get((arm.name, arm.asked[0]))
        test = None if mark is None else study_test(better, mark, METRIC).test
        if mark is None or test is None or test.p_value is None:
            continue
        if test.p_value < SURE and test.difference.value < 0:
            figures = _mean_value(better), _mean_value(mark), test.p_value
            return too_little(arm.about, *figures, noun=str(about.get("noun", "item")), out=_way_out(about))
    return ""


def _way_out(about: Mapping[str, Any]) -> str:
    if about.get("trained before"):
        return "Train the models of probe.starts longer."
    if about.get("minutes") is None:
        return "Train longer (training.steps)."
    return "Give more minutes, or models that are trained already (probe.starts)."


def _is_short(results: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> bool:
    """Tell whether the minutes cut a warm start short of the updates that it was to make."""
    made = [one["steps"] for one in results if one["arm"] == START and "steps" in one]
    return bool(made) and min(made) < ENOUGH * int(about.get("updates of a start", 0))


def _mean_value(one: ArmAnswers) -> float:
    return float(one.values(METRIC).mean())


def write_probe(folder: Path, found: Probed) -> None:
    """Write results.json, comparisons.json, probe.json and report.html."""
    protocol = {
        "primary": f"{found.declared.about} against {found.declared.control}, {metric_name(METRIC)}",
        "chosen": "the way that is best on validation",
        "corrected": "the primary one by Holm for the ways tried; all others among themselves, none below it",
        **found.about,
    }
    write_results(folder / "results.json", found.rows)
    write_comparisons(folder / "comparisons.json", found.comparisons, protocol)
    kept = {
        "sentence": found.sentence,
        "known": found.is_known,
        "details": list(found.details),
        "best": found.best.name,
        "ways": [_plain(way) for way in found.ways],
        "about": dict(found.about),
    }
    with atomic_write(folder / FILE) as out:
        out.write((json.dumps(kept, indent=1) + "\n").encode())
    page = Report(
        title=f"Does thinking pay on {found.rows[0].dataset}?",
        rows=found.rows,
        comparisons=found.comparisons,
        policy=protocol,
        verdict="\n".join([found.sentence, *found.details]),
    )
    write_report(folder / "report.html", page)


def per_sample(folder: Path, arms: Sequence[Arm], best: Tried, about: Mapping[str, Any]) -> PerSample:
    """Collect the figures of every sample, means over trainings, for `thinkrank compare`.

    Args:
        folder: of the probe.
        arms: that were tried.
        best: the way that is meant where no answer is named.
        about: what must be the same in what it is compared with.
    """
    of, answers = {arm.name: arm for arm in (*arms, *COUNTING)}, read_study(folder / ANSWERS)
    columns = [(shown(of[one.arm], one.mode), metric) for one in answers for metric in _METRICS]
    values = [one.values(metric).mean(axis=0) for one in answers for metric in _METRICS]
    users_S = answers[0].users_S
    return PerSample(dict(about), best.about, columns, np.asarray(users_S), np.stack(values, axis=1))


def _tried(
    ways: Sequence[Arm],
    arms: Sequence[Arm],
    answers: Mapping[tuple[str, str], ArmAnswers],
    results: Sequence[Mapping[str, Any]],
) -> list[Tried]:
    """Test every way against its control, and what it rests on, each corrected for all that are different.

    A way that answers as an earlier one does, and whose control does so too, is no further hypothesis.
    """
    against = {way.name: control_of(way, arms) for way in ways}
    pairs = {way.name: (answers[way.name, way.asked[0]], _first(against[way.name], answers)) for way in ways}
    alike = {way.name: next(one for one in ways if _answer_alike(pairs[one.name], pairs[way.name])) for way in ways}
    different = [way for way in ways if alike[way.name] is way]
    level = SURE / len(different)  # Holm's first: what a way must meet where no other pays
    studies = {way.name: study_test(*pairs[way.name], METRIC, level=level) for way in different}
    tests = {
        name: study.test for name, study in studies.items() if study.test is not None
    }  # a probe always tells users
    p_values = dict(zip(tests, holm([test.p_value for test in tests.values()]), strict=True))
    content = _content(different, arms, answers, p_values)
    marks = {
        way.name: _mark(pairs[way.name][0], answers) for way in ways if way.is_counted and way.asked[0] == "thought"
    }
    of = {way.name: [one for one in results if one["arm"] == way.name] for way in ways}
    unread = {way.name: sum(one.get("unread", False) for one in of[way.name]) for way in ways}
    return [
        Tried(
            name=way.name,
            about=way.about,
            control=against[way.name].about,
            value=_mean_value(pairs[way.name][0]),
            reference=_mean_value(pairs[way.name][1]),
            test=tests[alike[way.name].name],
            p_value=p_values[alike[way.name].name],
            scope=studies[alike[way.name].name].scope,
            validation=_mean(results, way.name, "validation"),
            tokens=_mean(results, way.name, "tokens", way.asked[0]),
            milliseconds=1000
            * (
                _mean(results, way.name, "answer_seconds", way.asked[0])
                - _mean(results, against[way.name].name, "answer_seconds", against[way.name].asked[0])
            ),
            content=content[alike[way.name].name],
            gates=gates_of(results, way.name, against[way.name].name),
            kept_start=not unread[way.name] and all(one.get("kept_step") == 0 for one in of[way.name]),
            begins_with=way.begins_with,
            trainings=len(of[way.name]),
            unread=unread[way.name],
            same_as="" if alike[way.name] is way else alike[way.name].about,
            mark=marks.get(way.name),
        )
        for way in ways
    ]


def _first(arm: Arm, answers: Mapping[tuple[str, str], ArmAnswers]) -> ArmAnswers:
    return answers[arm.name, arm.asked[0]]


def _answer_alike(one: tuple[ArmAnswers, ArmAnswers], other: tuple[ArmAnswers, ArmAnswers]) -> bool:
    """Tell whether two ways put every target on the same place, and so do their controls."""
    return all(mine.places == theirs.places for mine, theirs in zip(one, other, strict=True))


def _content(
    ways: Sequence[Arm],
    arms: Sequence[Arm],
    answers: Mapping[tuple[str, str], ArmAnswers],
    p_values: Mapping[str, float | None],
) -> dict[str, dict[str, tuple[float, float | None]]]:
    """Test ways against what was put in the place of their thoughts, and against their further controls.

    A way that answers at once is not tested against its thoughts. P-values are corrected for all such tests of a probe,
    and none is below that of its way, which is the declared comparison.

    Returns:
        by way, and by what it is compared with, for people, the difference and its p-value.
    """
    tests: dict[tuple[str, str], PairedTest | None] = {}
    for way in ways:
        instead = way.asked[1:] if way.asked[0] != "no thought" else ()
        others = {_INSTEAD[how]: answers[way.name, how] for how in instead}
        others |= {arm.about: _first(arm, answers) for arm in controls_of(way, arms)[1:]}
        own = _first(way, answers)
        tests |= {(way.name, name): study_test(own, other, METRIC).test for name, other in others.items()}
    corrected = holm([test.p_value if test else None for test in tests.values()])
    found: dict[str, dict[str, tuple[float, float | None]]] = {way.name: {} for way in ways}
    for ((way_name, name), test), p_value in zip(tests.items(), corrected, strict=True):
        least = p_values[way_name]
        p_value = None if p_value is None else max(p_value, 1.0 if least is None else least)
        found[way_name][name] = test.difference.value if test else 0.0, p_value
    return found


def _mark(own: ArmAnswers, answers: Mapping[tuple[str, str], ArmAnswers]) -> tuple[float, float | None] | None:
    """Return what item-kNN, whose counts a counted thought quotes, reaches alone, and the p-value of the difference."""
    mark = next((one for (arm, _), one in answers.items() if arm == COUNTING[1].name), None)
    test = None if mark is None else study_test(own, mark, METRIC).test
    return None if mark is None else (_mean_value(mark), test.p_value if test else None)


_INSTEAD: Mapping[Asked, str] = {
    "no thought": "no thought",
    "thought": "one thought alone",
    "several": "a mean over several thoughts",
    "other": "another person's thought",
    "filler": "as many empty words",
}


def _rows(one: ArmAnswers, system: str, dataset: str, results: Sequence[Mapping[str, Any]]) -> list[ResultRow]:
    """Return accuracy with intervals, and the cost of an answer."""
    values_MKS = np.stack([one.values(metric) for metric in _METRICS])
    common: dict[str, Any] = {"dataset": dataset, "split": "test", "system": system, "n": one.num_samples}
    common["seeds"] = one.seeds
    rows = [
        ResultRow(metric=metric, **vars(interval), ties="pessimistic", **common)
        for metric, interval in zip(_METRICS, trainings_intervals(values_MKS, one.users_S), strict=True)
    ]
    for metric, key, unit in (("tokens per answer", "tokens", 1.0), ("milliseconds per answer", "answer_seconds", 1e3)):
        value = unit * _mean(results, one.arm, key, one.mode)
        rows.append(ResultRow(metric=metric, value=value, low=None, high=None, **common))
    if any(result.get("cpu_seconds") is None for result in results if result["arm"] == one.arm):
        return rows
    minutes = _mean(results, one.arm, "cpu_seconds") / 60
    return [*rows, ResultRow(metric="CPU minutes of training", value=minutes, low=None, high=None, **common)]


def _mean(results: Sequence[Mapping[str, Any]], arm: str, key: str, mode: str | None = None) -> float:
    values = [result[key] if mode is None else result[key][mode] for result in results if result["arm"] == arm]
    return float(np.mean(values))


def _plain(way: Tried) -> dict[str, Any]:
    test = way.test
    return {
        "name": way.name,
        "about": way.about,
        "control": way.control,
        "metric": METRIC,
        "value": way.value,
        "reference": way.reference,
        "difference": test.difference.value,
        "low": test.difference.low,
        "high": test.difference.high,
        "p": test.p_value,
        "p corrected": way.p_value,
        "visible with 80 % power": test.visible,
        "users": test.num_clusters,
        "test over": way.scope,
        "pays": way.pays,
        "tokens": way.tokens,
        "milliseconds": way.milliseconds,
        "same as": way.same_as,
        "item-kNN alone": None if way.mark is None else {"value": way.mark[0], "p": way.mark[1]},
        "against": {name: {"difference": gain, "p": p} for name, (gain, p) in way.content.items()},
        "gates": dict(way.gates),
        "kept the start": way.kept_start,
        "not reinforced": way.unread,
    }
