"""What a way of thinking came to in a probe, and how it is told."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from thinkrank.evaluate.power import effect_words
from thinkrank.evaluate.results import format_value
from thinkrank.evaluate.significance import PairedTest
from thinkrank.evaluate.verdict import SURE, begun, listed, metric_name, p_words, signed
from thinkrank.recipes.probe_gates import gates_words

METRIC = "ndcg@10"
"""What the declared comparison is in."""


@dataclass(frozen=True)
class Tried:
    """Hold what a way of thinking came to against its control.

    Attributes:
        name: of the way.
        about: the way, for people.
        control: what it must beat, for people.
        value: mean NDCG@10 of the way.
        reference: mean NDCG@10 of the control.
        test: of the difference.
        p_value: corrected for the ways tried; None with too few users.
        scope: what the test speaks of: "trainings" or these "models".
        validation: what the ways are chosen by.
        tokens: that are written for an answer.
        milliseconds: that thinking adds to an answer.
        content: difference from what else was put in the thought's place, or from further controls, and the p-value
            corrected for all such tests of the probe.
        gates: what gates reach; see `gates_of`.
        kept_start: whether no training of it was better on validation than what it began with.
        begins_with: what that is, for people.
        trainings: how many there were.
        unread: those of them in which thoughts were not reinforced, as another person's were not surely worse.
        same_as: the way whose answers these are, too, as are its control's; empty where they are its own.
        mark: what counting alone reaches, of a way that quotes counts, and the p-value of the difference.
    """

    name: str
    about: str
    control: str
    value: float
    reference: float
    test: PairedTest
    p_value: float | None
    scope: str
    validation: float
    tokens: float
    milliseconds: float
    content: Mapping[str, tuple[float, float | None]]
    gates: Mapping[str, Any]
    kept_start: bool
    begins_with: str
    trainings: int
    unread: int
    same_as: str = ""
    mark: tuple[float, float | None] | None = None

    @property
    def pays(self) -> bool | None:
        """Tell whether it is surely above (True) or below (False) its control; None where nothing is shown."""
        if self.p_value is None or self.p_value >= SURE:
            return None
        return self.test.difference.value > 0

    @property
    def is_above_mark(self) -> bool:
        """Tell whether it is surely above what it quotes."""
        value, p_value = self.mark or (0.0, None)
        return p_value is not None and p_value < SURE and self.value > value


def told(way: Tried, samples: int, users: int, *, tried: int = 1, noun: str = "item", is_known: bool = True) -> str:
    """Answer in one sentence whether thinking pays, how sure that is, what could have been seen, and what it costs.

    Args:
        way: that the answer is about.
        samples: test samples that were judged on.
        users: whose.
        tried: ways that were tried; p-values are corrected for them.
        noun: what is recommended, in the singular.
        is_known: whether the models have learnt enough to be asked; else only their figures are told.
    """
    difference, name = way.test.difference, metric_name(METRIC)
    share = f"{100 * difference.value / way.reference:+.1f} %, " if way.reference else ""
    interval = f"{share}{signed(difference.value)} [{signed(difference.low)}, {signed(difference.high)}]"
    p_value = "" if way.p_value is None else f", {p_words(way.p_value)}"
    p_value += f" corrected for {tried} ways tried" if p_value and tried > 1 else ""
    figures = f"{name} {format_value(way.value)} against {format_value(way.reference)}, {interval}{p_value}"
    taken = max(0.0, way.milliseconds)
    cost = f"{way.tokens:.3g} tokens and {taken:{'.2g' if taken < 10 else ',.0f'}} milliseconds more for each answer"
    seen = effect_words(way.test.visible, way.reference, samples, users)
    power = f"{seen} with 80 % power" if way.test.visible is not None else seen
    power += f" at the level that {tried} ways leave each" if tried > 1 and way.test.visible is not None else ""
    if not is_known:
        begin = f"What was measured: {way.about}, and a model {way.control}"
    elif way.pays:
        begin = f"Yes, thinking pays here: {way.about} find the next {noun} better than a model {way.control}"
    elif way.pays is False:
        begin = f"No, thinking does harm here: {way.about} find the next {noun} worse than a model {way.control}"
    else:
        begin = f"No, thinking is not shown to pay here: {way.about} make no sure difference from a model {way.control}"
    alone = ""
    if is_known and way.pays and way.mark is not None and not way.is_above_mark:
        alone = f"; item-kNN alone, which these thoughts quote, has {format_value(way.mark[0])}"
    return f"{begin} ({figures}), at the cost of {cost}{alone}; {power}."


def too_little(mark: str, value: float, reached: float, p_value: float, *, noun: str, out: str) -> str:
    """Say that models have learnt too little to be asked whether thinking pays.

    Args:
        mark: what surely finds more by counting.
        value: of the better of way and control.
        reached: by the mark.
        p_value: of the difference.
        noun: what is recommended, in the singular.
        out: the way out.
    """
    figures = f"{metric_name(METRIC)} {format_value(value)} against {format_value(reached)}, {p_words(p_value)}"
    return (
        f"Not known: these models have learnt too little to be asked. They find the next {noun} worse than {mark} "
        f"({figures}). {out}"
    )


def details_of(way: Tried, *, is_best: bool) -> list[str]:
    """Return further sentences about a way: figures where the answer is about another, what a gain rests on, gates."""
    if way.same_as:
        return [begun(f"{way.about}: the same answers as {way.same_as}, and the same control.")]
    lines = []
    if not is_best:
        difference = way.test.difference
        p_value = "" if way.p_value is None else f", {p_words(way.p_value)}"
        lines.append(
            f"{way.about}: {format_value(way.value)} against {format_value(way.reference)} of a model {way.control} "
            f"({signed(difference.value)} [{signed(difference.low)}, {signed(difference.high)}]{p_value})."
        )
    above = [name for name, (gain, p) in way.content.items() if p is not None and p < SURE and gain > 0]
    alike = [name for name in way.content if name not in above]
    better = f"{way.about} do better than {listed(above, 'or')}" if above else ""
    unsure = f"{'they' if above else way.about} are not shown to do better than {listed(alike, 'or')}" if alike else ""
    if way.content:
        lines.append(begun(f"Put in their place: {'; '.join(filter(None, (better, unsure)))}."))
    if way.kept_start:
        lines.append(
            begun(f"{way.about}: nothing learnt was better on validation than {way.begins_with}, which was kept.")
        )
    if way.unread:
        often = "" if way.unread == way.trainings else f" in {way.unread} of {way.trainings} trainings"
        why = "another person's thought did not do surely worse (recpo.gate)"
        lines.append(begun(f"{way.about}: they were not reinforced{often}, as {why}."))
    lines += filter(None, [begun(gates_words(way.gates, way.about))])
    if way.scope == "models":
        lines.append(
            "Tested over users, for these trained models: with three trainings the chance of training counts too."
        )
    return lines
