"""The table of a study: means with intervals, tests against one reference, and under it what they mean.

Shape legend: M metrics, K seeds, S samples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thinkrank.errors import ThinkrankError
from thinkrank.evaluate.results import format_share, format_value
from thinkrank.evaluate.significance import MIN_CLUSTERS, PairedTest, holm
from thinkrank.evaluate.studies import TIE_RULES, ArmAnswers, StudyTest, study_test
from thinkrank.evaluate.trainings import MIN_TRAININGS, trainings_intervals

_MODELS = "†"


@dataclass(frozen=True)
class Compared:
    """Hold a comparison of a table.

    Attributes:
        answers: what is compared with the reference.
        found: the test alone.
        p_value: corrected for the other comparisons of the table; None where there is no test.
    """

    answers: ArmAnswers
    found: StudyTest
    p_value: float | None


def compared(
    study: Sequence[ArmAnswers],
    reference: ArmAnswers,
    metric: str,
    *,
    primary: str | None = None,
    declared: float | None = None,
) -> list[Compared]:
    """Test every other answer against a reference, and correct the p-values for their number.

    Without a primary comparison Holm's correction is over all. A primary one stands as it is; the others, corrected
    among themselves, then count only as far as it does: none has a smaller p-value.

    Args:
        study: one entry per arm and mode; the reference among them is passed over.
        reference: what the others are compared with.
        metric: to compare in.
        primary: "arm", or "arm/mode" where it has several.
        declared: p-value of the primary comparison, where it is corrected already for others that stand elsewhere.

    Raises:
        ThinkrankError: if `primary` names none of them, or several.
    """
    others = [answers for answers in study if answers is not reference]
    tests = [study_test(answers, reference, metric) for answers in others]
    p_values = [found.test.p_value if found.test else None for found in tests]
    corrected = holm(p_values)
    if primary is not None:
        named = [at for at, one in enumerate(others) if primary in (one.arm, f"{one.arm}/{one.mode}")]
        if len(named) != 1:
            names = ", ".join(f"{one.arm}/{one.mode}" for one in others)
            raise ThinkrankError(f"the primary comparison {primary!r} is not one of {names}")
        (first,) = named
        corrected = holm([p for at, p in enumerate(p_values) if at != first])
        declared = p_values[first] if declared is None else declared
        least = 1.0 if declared is None else declared
        corrected = [None if p is None else max(p, least) for p in corrected]
        corrected.insert(first, declared)
    return [Compared(*row) for row in zip(others, tests, corrected, strict=True)]


def study_markdown(
    study: Sequence[ArmAnswers],
    reference: tuple[str, str],
    shown: Sequence[str],
    *,
    primary: str | None = None,
    notes: Sequence[str] = (),
) -> str:
    """Make a table of all arms and modes, with what stands behind it underneath.

    A mode that was not judged under every seed of its arm is left out.

    Args:
        study: one entry per arm and mode.
        reference: arm and mode that the others are compared with, in the first metric of `shown`.
        shown: metrics.
        primary: see `compared`.
        notes: what else a reader must know, a sentence each; stands above the table.
    """
    most = {answers.arm: 0 for answers in study}
    for answers in study:
        most[answers.arm] = max(most[answers.arm], len(answers.seeds))
    study = [answers for answers in study if len(answers.seeds) == most[answers.arm]]
    against = next((answers for answers in study if (answers.arm, answers.mode) == reference), None)
    rows = [] if against is None else compared(study, against, shown[0], primary=primary)
    of = {id(row.answers): row for row in rows}
    tested = any(row.found.test for row in rows)
    mean = 0.0 if against is None else float(against.values(shown[0]).mean())
    kept = any(step is not None for answers in study for step in answers.kept)
    header = ["arm", "mode", *shown, f"seeds' {shown[0]}", *(["difference", "p", "visible"] if tested else [])]
    header += [*(["kept step"] if kept else []), "seeds", "minutes"]
    lines = [header, ["---"] * 2 + ["---:"] * (len(header) - 2)]
    for answers in study:
        low, high = answers.spread(shown[0])
        cells = [*_means(answers, shown), f"{_figure(low)}–{_figure(high)}"]
        cells += _test_cells(of.get(id(answers)), mean) if tested else []
        cells += [_span(answers.kept)] if kept else []
        minutes = f"{np.mean(answers.seconds) / 60:.1f}"
        seeds = "–" if answers.seedless else str(len(answers.seeds))
        lines.append([answers.arm, answers.mode, *cells, seeds, minutes])
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    above = "".join(f"**{note}**\n\n" for note in notes)
    return above + table + "\n" + " ".join(_footnotes(study, against, rows, shown[0], primary)) + "\n"


def _means(answers: ArmAnswers, shown: Sequence[str]) -> list[str]:
    values_MKS = np.stack([answers.values(metric) for metric in shown])
    if answers.users_S is None:
        return [_figure(float(value)) for value in values_MKS.mean(axis=(1, 2))]
    intervals = trainings_intervals(values_MKS, answers.users_S)
    return [f"{_figure(one.value)} [{_figure(one.low)}–{_figure(one.high)}]" for one in intervals]


def _test_cells(row: Compared | None, reference: float) -> list[str]:
    """Write the difference with its interval, p and the smallest visible effect, also as a share of the reference."""
    test = row.found.test if row else None
    if row is None or test is None:
        return ["–"] * 3
    difference = _signed(test.difference.value)
    if test.p_value is None or row.p_value is None:
        return [difference, "–", "–"]
    between = f"{_signed(test.difference.low)} to {_signed(test.difference.high)}"
    mark = _MODELS if row.found.scope == "models" else ""
    return [f"{difference} [{between}]", _p(row.p_value) + mark, _visible(test, reference)]


def study_notes(options: Mapping[str, Any], file: Path) -> list[str]:
    """Return what a reader of a study's table must know first, a sentence each.

    Args:
        options: the table `[study]`.
        file: that holds it, for the message.

    Raises:
        ThinkrankError: if it does not say what was chosen on its test samples.
    """
    if "chosen_on_test" not in options:
        raise ThinkrankError(
            f"{file}: [study] lacks chosen_on_test: "
            "name the settings that were chosen after figures of its test samples, [] for none"
        )
    superseded = [f"Superseded: {options['superseded']}"] if "superseded" in options else []
    chosen = ", ".join(options["chosen_on_test"])
    seen = [f"Chosen after figures of these test samples: {chosen}. So no arm is held out."] if chosen else []
    untried = (
        ["Its budget of reinforcement was not tried in the relay world."] if options.get("control") == "open" else []
    )
    return [*superseded, *seen, *untried, *options.get("notes", ())]


def _footnotes(
    study: Sequence[ArmAnswers], against: ArmAnswers | None, rows: Sequence[Compared], metric: str, primary: str | None
) -> list[str]:
    ties = dict.fromkeys(answers.tie_rule for answers in study)
    notes = [f"Ties: {'; '.join(TIE_RULES[rule] for rule in ties)}."]
    if study[0].users_S is None:
        notes.append("These results do not tell whose each sample is: neither intervals nor tests.")
    else:
        users = len(np.unique(study[0].users_S))
        notes.append(
            f"{study[0].num_samples:,} samples of {users:,} users. Brackets: 95 %, users and, where there are several, "
            "trainings drawn."
        )
    tested = [row for row in rows if row.p_value is not None]
    few = next((row for row in rows if row.found.test and row.found.test.p_value is None), None)
    if few is not None and few.found.test is not None:
        notes.append(f"No p: {few.found.test.num_clusters} users are too few to test with, it takes {MIN_CLUSTERS}.")
    if tested and against is not None:
        notes.append(f"Difference from {against.arm}, {against.mode}, in {metric}.")
        notes.append(
            f"p: corrected by Holm over {len(tested)} comparisons."
            if primary is None
            else f"p: {primary} is the one comparison declared before; the others are corrected by Holm over "
            f"{len(tested) - 1} and none is below it."
        )
        notes.append(
            "Visible: the difference that one such test, uncorrected, sees with 80 % power; in brackets as a share of "
            "what is compared with."
        )
    if any(row.found.scope == "models" for row in tested):
        notes.append(
            f"{_MODELS} Of these trained models only: a test over trainings takes {MIN_TRAININGS} of both arms."
        )
    most = {len(answers.seeds) for answers in study if not answers.seedless}
    if tested and len(most) > 1:
        notes.append(
            "Of arms with unequal numbers of trainings the difference is that of the trainings which both have."
        )
    shared = sorted({f"{answers.shared} ({answers.arm})" for answers in study if answers.shared and _several(answers)})
    if shared:
        notes.append(f"Seeds share, and are seeds of what follows alone: {', '.join(shared)}.")
    code = dict.fromkeys(code for answers in study for code in answers.code)
    return notes + ([f"Code: {', '.join(code)}."] if code else [])


def _several(answers: ArmAnswers) -> bool:
    return len(answers.seeds) > 1


def _span(steps: Sequence[int | None]) -> str:
    """Write which steps the seeds kept, and how often it was none."""
    known = sorted(step for step in steps if step is not None)
    if not known:
        return "–"
    return str(known[0]) if known[0] == known[-1] else ", ".join(map(str, known))


def _figure(value: float) -> str:
    return f"{value:.4f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3f}"


def _signed(value: float) -> str:
    return ("−" if value < 0 else "+") + _figure(abs(value))


def _visible(test: PairedTest, reference: float) -> str:
    if test.visible is None:
        return "–"
    share = f" ({format_share(test.visible, reference)})" if reference > 0 else ""
    return format_value(test.visible) + share


def _p(value: float) -> str:
    return "< .001" if value < 0.001 else f"{value:.3f}".replace("0.", ".", 1)
