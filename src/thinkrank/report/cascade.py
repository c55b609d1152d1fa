"""The page of a cascade: what each stage finds, gains and costs, and for whom.

Everything here is plain data, so that whoever ran a cascade only has to fill it in.

Shape legend: S samples, K cut-offs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float64, Int64, Integer

from thinkrank.evaluate.results import format_value
from thinkrank.evaluate.significance import Interval, bootstrap_intervals, paired_test
from thinkrank.report.facts import share
from thinkrank.report.figures import p_words
from thinkrank.report.html import Html, item_text, join, tag
from thinkrank.report.plots import scatter
from thinkrank.report.tables import Cell, table

CUTOFFS = (10, 50, 100)
CEILING = (
    "A later stage can only order what an earlier one found: the share of samples whose true item is among the first "
    "so many is the ceiling of everything behind it. "
)
GAIN = (
    "Gain is the NDCG@10 of the answer after a stage less that before it, on the same samples; ranges are 95 % "
    "intervals that draw whole users, p is of a paired sign-flip test."
)
COST = "Seconds and tokens are means per request, of the machine that judged."


@dataclass(frozen=True, eq=False)
class StageStory:
    """Hold what one stage of a cascade did, as the answer stands behind it.

    Attributes:
        name: of the stage: retrieve, rank, rerank.
        method: of the stage's class, for people.
        ranks_S: 1-based place of the true item behind this stage; 0 where it is not in the list any more.
        seconds_S: what the stage took for each request.
        tokens_S: what it wrote for each.
        candidates: how many items it answers with.
        coverage: share of the catalogue in the first ten of somebody; None if that was not counted.
    """

    name: str
    method: str
    ranks_S: Int64[np.ndarray, "S"]
    seconds_S: Float64[np.ndarray, "S"]
    tokens_S: Float64[np.ndarray, "S"]
    candidates: int
    coverage: float | None = None


@dataclass(frozen=True)
class Variant:
    """Hold one way to ask a cascade: what it costs and how good it is.

    Attributes:
        name: in words, as in "never think" or "50 ms".
        quality: NDCG@10.
        seconds: per request.
        tokens: per request.
    """

    name: str
    quality: float
    seconds: float
    tokens: float = 0.0


@dataclass(frozen=True)
class Journey:
    """Hold one user's way from the history to the slate.

    Attributes:
        user: the user's id.
        past: titles of the history, oldest first.
        target: title of what the user took next.
        stages: per stage its name, the first titles of its answer, and the place of the true item, 0 if it is lost.
        texts: thought and reasons that may be shown, each with where it is from.
    """

    user: str
    past: Sequence[str]
    target: str
    stages: Sequence[tuple[str, Sequence[str], int]]
    texts: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, eq=False)
class CascadeStory:
    """Hold what the page of a cascade shows.

    Attributes:
        stages: in the order of the cascade; all of the same samples.
        users_S: whose sample each is.
        buckets: kinds of samples by name, such as those of short histories or rare targets.
        variants: ways to ask it, for quality against cost.
        journeys: single users.
    """

    stages: Sequence[StageStory]
    users_S: Integer[np.ndarray, "S"]
    buckets: Mapping[str, Bool[np.ndarray, "S"]] = field(default_factory=dict)
    variants: Sequence[Variant] = ()
    journeys: Sequence[Journey] = ()


def cascade_section(story: CascadeStory | None) -> Html | None:
    """Write the whole section; None without a cascade."""
    if story is None or not story.stages:
        return None
    return tag(
        "section",
        tag("h2", "Stage by stage"),
        tag("p", stage_summary(story), class_="lead", dir="auto"),
        _ceilings(story.stages),
        tag("p", CEILING, class_="facts"),
        _gains(story),
        tag("p", f"{GAIN} {COST}", class_="facts"),
        _variants(story.variants),
        _buckets(story),
        *([tag("h3", "From history to slate"), *map(_journey, story.journeys)] if story.journeys else []),
        id="stages",
    )


def stage_summary(story: CascadeStory) -> str:
    """Say in a sentence or two which stages help and what they cost."""
    told = []
    for before, after in zip(story.stages[:-1], story.stages[1:], strict=True):
        test = paired_test(_ndcg(after), _ndcg(before), story.users_S)
        shown = f"{format_value(test.difference.value)}"
        if test.p_value is None:
            way = f"changes NDCG@10 by {shown}, with too few users to be sure"
        elif test.p_value >= 0.05:
            way = "makes no sure difference"
        else:
            way = f"{'adds' if test.difference.value > 0 else 'takes'} {shown.lstrip('-')} of NDCG@10"
        cost = _milliseconds(float(after.seconds_S.mean()))
        told.append(f"{after.method} ({after.name}) {way}, for {cost} ms and {after.tokens_S.mean():,.0f} tokens")
    first = story.stages[0]
    found = float((_within(first, first.candidates)).mean())
    opening = (
        f"{first.method} finds the true item of {share(found)} of the samples among {first.candidates:,} candidates"
    )
    return ". ".join([opening, *told]) + "."


def recall(stage: StageStory, k: int) -> float:
    """Compute the share of samples whose true item stands in the first k places behind a stage."""
    return float(_within(stage, k).mean())


def gain(before: StageStory, after: StageStory, users_S: Integer[np.ndarray, "S"]) -> Interval:
    """Compute how much NDCG@10 a stage adds, with a 95 % interval that draws whole users."""
    (interval,) = bootstrap_intervals((_ndcg(after) - _ndcg(before))[:, None], users_S)
    return interval


def _within(stage: StageStory, k: int) -> Bool[np.ndarray, "S"]:
    return np.asarray((stage.ranks_S >= 1) & (stage.ranks_S <= k))


def _ndcg(stage: StageStory) -> Float64[np.ndarray, "S"]:
    return np.where(_within(stage, 10), 1 / np.log2(np.maximum(stage.ranks_S, 1) + 1), 0.0)


def _ceilings(stages: Sequence[StageStory]) -> Html:
    widths = sorted({min(k, stage.candidates) for stage in stages for k in (*CUTOFFS, stage.candidates)})
    lines: list[tuple[Cell, list[Cell]]] = [
        (
            join(tag("bdi", stage.method), tag("small", f"{stage.name}, {stage.candidates:,} items")),
            [
                *(share(recall(stage, k)) if k <= stage.candidates else "–" for k in widths),
                "–" if stage.coverage is None else share(stage.coverage),
            ],
        )
        for stage in stages
    ]
    heads = [*(f"in the first {k:,}" for k in widths), "catalogue shown"]
    return table("True item found", "behind", heads, lines)


def _gains(story: CascadeStory) -> Html:
    lines: list[tuple[Cell, list[Cell]]] = []
    for number, stage in enumerate(story.stages):
        (value,) = bootstrap_intervals(_ndcg(stage)[:, None], story.users_S)
        gained: Cell = "–"
        if number:
            test = paired_test(_ndcg(stage), _ndcg(story.stages[number - 1]), story.users_S)
            p_value = "too few users to test" if test.p_value is None else p_words(test.p_value)
            gained = join(_interval(test.difference, signed=True), tag("small", p_value))
        milliseconds = 1000 * stage.seconds_S
        lines.append(
            (
                join(tag("bdi", stage.method), tag("small", stage.name)),
                [
                    _interval(value),
                    gained,
                    join(f"{milliseconds.mean():,.1f}", tag("small", f"slowest {milliseconds.max():,.0f}")),
                    f"{stage.tokens_S.mean():,.1f}",
                ],
            )
        )
    return table("Gain and cost", "stage", ["NDCG@10", "gain", "milliseconds", "tokens"], lines)


def _variants(variants: Sequence[Variant]) -> Html | None:
    if not variants:
        return None
    lines: list[tuple[Cell, list[Cell]]] = [
        (way.name, [format_value(way.quality), _milliseconds(way.seconds), f"{way.tokens:,.0f}"]) for way in variants
    ]
    points = [(1000 * way.seconds, way.quality) for way in variants]
    names = ", ".join(f"{way.name} {format_value(way.quality)} for {_milliseconds(way.seconds)} ms" for way in variants)
    lowest, highest = (format_value(pick(way.quality for way in variants)) for pick in (min, max))
    slowest = _milliseconds(max(way.seconds for way in variants))
    plot = tag(
        "figure",
        tag("figcaption", tag("b", "NDCG@10 against milliseconds per request")),
        tag(
            "div",
            tag("span", highest, class_="tick top"),
            tag("span", lowest, class_="tick bottom") if lowest != highest else None,
            scatter(points, label=f"quality against cost: {names}"),
            tag("div", tag("span", "0 ms"), tag("span", f"{slowest} ms"), class_="ends"),
            class_="plot",
        ),
        class_="card panel cost",
    )
    return join(table("Quality against cost", "asked", ["NDCG@10", "milliseconds", "tokens"], lines), plot)


def _buckets(story: CascadeStory) -> Html | None:
    parts = {name: chosen_S for name, chosen_S in story.buckets.items() if chosen_S.any()}
    if not parts:
        return None
    lines: list[tuple[Cell, list[Cell]]] = [
        (
            join(tag("span", name), tag("small", f"{int(chosen_S.sum()):,} samples")),
            [format_value(float(_ndcg(stage)[chosen_S].mean())) for stage in story.stages],
        )
        for name, chosen_S in parts.items()
    ]
    heads = [f"after {stage.name}" for stage in story.stages]
    return table("NDCG@10 by kind of sample", "samples", heads, lines)


def _journey(journey: Journey) -> Html:
    past = [tag("li", item_text(title)) for title in journey.past]
    columns = [
        tag("div", tag("h4", "History"), tag("ol", *past, class_="plain"), class_="past"),
        *(_column(name, titles, place, journey.target) for name, titles, place in journey.stages),
    ]
    texts = [
        tag("p", tag("b", f"{where}: "), tag("bdi", text, dir="auto"), class_="reason") for where, text in journey.texts
    ]
    return tag(
        "details",
        tag("summary", "User ", tag("bdi", journey.user), ": took ", item_text(journey.target)),
        tag("div", *columns, class_="columns journey"),
        *texts,
        class_="card",
    )


def _column(name: str, titles: Sequence[str], place: int, target: str) -> Html:
    rows = [
        tag("li", item_text(title), class_="target" if title == target and number == place else None)
        for number, title in enumerate(titles, start=1)
    ]
    told = f"true item at place {place:,}" if place else "the true item is lost"
    return tag("div", tag("h4", name), tag("ol", *rows, class_="plain numbered"), tag("p", told, class_="facts"))


def _interval(interval: Interval, *, signed: bool = False) -> Html:
    value = format_value(abs(interval.value) if signed else interval.value)
    sign = "" if not signed else "−" if interval.value < 0 else "+"
    between = f"{format_value(interval.low)} to {format_value(interval.high)}"
    return join(tag("span", f"{sign}{value}", class_="number"), tag("small", between))


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:,.0f}" if seconds >= 0.01 else f"{1000 * seconds:.1f}"
