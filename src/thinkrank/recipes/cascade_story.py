"""Fill the page of a cascade: ask it stage by stage about some of the samples that it is judged on.

Shape legend: S samples, W items of a list.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Float64, Int32, Int64, Integer

from thinkrank.cascade import Cascade
from thinkrank.cascade.options import STAGES
from thinkrank.data import Samples
from thinkrank.evaluate import beyond, history_buckets, popularity_buckets
from thinkrank.evidence import TextChecker
from thinkrank.recipes.base import Judged, OpenRun
from thinkrank.recipes.reasons import checker_of
from thinkrank.recipes.reporting import spread
from thinkrank.report import CascadeStory, Journey, Report, StageStory, Variant
from thinkrank.stages.answers import Ranking

NUM_SAMPLES, NUM_JOURNEYS, NUM_SHOWN = 300, 8, 10
_AT_ONCE = 16
"""Requests that are answered together: what they took is shared out among them."""


def with_story(report: Report, opened: OpenRun, judged: Judged) -> Report:
    """Add to a report what each stage of the run's cascade finds, gains and costs."""
    samples: Samples = judged.questions
    some = samples.take(spread(samples.users, NUM_SAMPLES))
    story = cascade_story(
        opened.model,
        some,
        opened.split.train_counts,
        filter_seen=judged.evaluation.filter_seen,
        checker=checker_of(opened),
    )
    return replace(report, title=f"A cascade on {samples.dataset.name}", cascade=story)


def cascade_story(
    cascade: Cascade,
    samples: Samples,
    counts_I: Integer[np.ndarray, "I"],
    *,
    filter_seen: bool = True,
    checker: TextChecker | None = None,
) -> CascadeStory:
    """Ask a cascade, and it cut behind each of its stages, about some samples.

    Args:
        cascade: any; one that can think is asked as its configuration says, and with and without thinking.
        samples: histories and what came next.
        counts_I: training interactions of each item.
        filter_seen: leave items of the history out.
        checker: checks texts of single users; None shows none.
    """
    names = [name for name in STAGES if name in cascade.stages]
    width = {"retrieve": cascade.config.candidates, "rank": cascade.config.candidates, "rerank": cascade.config.slate}
    stages, lists = [], []
    for number, name in enumerate(names):
        cut = Cascade(*(cascade.stages[name] if name in names[: number + 1] else None for name in STAGES))
        cut.config = cascade.config
        ranking, seconds_S, tokens_S = _asked(cut, samples, width["retrieve"], name, filter_seen=filter_seen)
        lists.append(ranking)
        stages.append(
            StageStory(
                name=name,
                method=type(cascade.stages[name]).__name__,
                ranks_S=_places(ranking.items_BK, samples.targets),
                seconds_S=seconds_S,
                tokens_S=tokens_S,
                candidates=min(width[name], ranking.items_BK.shape[1]),
                coverage=beyond.coverage(ranking.items_BK, len(cascade.catalogue), NUM_SHOWN),
            )
        )
    buckets = history_buckets(samples.histories())
    if counts_I.any():
        buckets |= popularity_buckets(samples.targets, counts_I)
    return CascadeStory(
        stages=stages,
        users_S=np.asarray(samples.users),
        buckets=buckets,
        variants=_variants(cascade, samples, stages, filter_seen=filter_seen),
        journeys=_journeys(cascade, samples, stages, lists, checker),
    )


def _asked(
    cascade: Cascade, samples: Samples, width: int, name: str, *, filter_seen: bool, think: bool | None = None
) -> tuple[Ranking, Float64[np.ndarray, "S"], Float64[np.ndarray, "S"]]:
    """Return the answers, and what one stage of the cascade (all of them for an empty name) took for each request."""
    parts, seconds, tokens = [], [], []
    for _, part in samples.requests().batches(_AT_ONCE):
        told = cascade.recommend(part, width, filter_seen=filter_seen, think=think)
        costs = [one.cost for key, one in told.stages.items() if one.cost is not None and name in ("", key)]
        parts.append(told.ranking)
        seconds += [sum(cost.seconds for cost in costs) / len(part)] * len(part)
        tokens += [sum(cost.tokens for cost in costs) / len(part)] * len(part)
    return _stacked(parts), np.array(seconds), np.array(tokens)


def _stacked(parts: list[Ranking]) -> Ranking:
    """Join answers of one width; thoughts and reasons are kept where every part has them."""

    def joined(get: Callable[[Ranking], tuple | None]) -> tuple | None:  # type: ignore[type-arg]
        found = [get(part) for part in parts]
        return None if any(one is None for one in found) else tuple(text for one in found for text in one or ())

    return Ranking(
        np.concatenate([part.items_BK for part in parts]),
        np.concatenate([part.scores_BK for part in parts]),
        thoughts=joined(lambda part: part.thoughts),
        reasons=joined(lambda part: part.reasons),
    )


def _places(items_SW: Int32[np.ndarray, "S W"], targets_S: Integer[np.ndarray, "S"]) -> Int64[np.ndarray, "S"]:
    """Return the 1-based place of each target in its list, 0 where it is not there."""
    is_there_SW = items_SW == np.asarray(targets_S)[:, None]
    return np.where(is_there_SW.any(axis=1), is_there_SW.argmax(axis=1) + 1, 0).astype(np.int64)


def _variants(cascade: Cascade, samples: Samples, stages: list[StageStory], *, filter_seen: bool) -> list[Variant]:
    """Compare the cascade cut behind each stage and, where it can think, with and without thinking."""
    found, seconds, tokens = [], 0.0, 0.0
    for stage in stages:
        seconds, tokens = seconds + float(stage.seconds_S.mean()), tokens + float(stage.tokens_S.mean())
        found.append(Variant(f"up to {stage.name}", _quality(stage.ranks_S), seconds, tokens))
    for think in (False, True) if cascade.thinking_stages else ():
        ranking, seconds_S, tokens_S = _asked(cascade, samples, NUM_SHOWN, "", filter_seen=filter_seen, think=think)
        quality = _quality(_places(ranking.items_BK, samples.targets))
        name = "all stages, thinking" if think else "all stages, never thinking"
        found.append(Variant(name, quality, float(seconds_S.mean()), float(tokens_S.mean())))
    return found


def _quality(ranks_S: Int64[np.ndarray, "S"]) -> float:
    is_shown_S = (ranks_S >= 1) & (ranks_S <= NUM_SHOWN)
    return float(np.where(is_shown_S, 1 / np.log2(np.maximum(ranks_S, 1) + 1), 0.0).mean())


def _journeys(
    cascade: Cascade,
    samples: Samples,
    stages: list[StageStory],
    lists: list[Ranking],
    checker: TextChecker | None,
) -> list[Journey]:
    titles, histories = cascade.catalogue.titles, samples.histories()
    final = lists[-1] if checker is None else checker.marked(lists[-1].first(NUM_SHOWN), histories)
    journeys = []
    for row in spread(np.asarray(samples.users), NUM_JOURNEYS).tolist():
        sample = samples[row]
        shown = [
            (
                stage.name,
                [titles[item] for item in ranking.items_BK[row, :NUM_SHOWN].tolist() if item >= 0],
                int(stage.ranks_S[row]),
            )
            for stage, ranking in zip(stages, lists, strict=True)
        ]
        texts = [] if checker is None else _texts(final, row, titles)
        journeys.append(
            Journey(
                samples.dataset.users[sample.user],
                [titles[item] for item in histories[row].last(2 * NUM_SHOWN).items.tolist()],
                titles[sample.target],
                shown,
                texts,
            )
        )
    return journeys


def _texts(ranking: Ranking, row: int, titles: list[str]) -> list[tuple[str, str]]:
    """List the thought and the reasons that may be shown."""
    told = [("thought", ranking.thoughts[row].shown)] if ranking.thoughts is not None else []
    if ranking.reasons is not None:
        items = ranking.items_BK[row][ranking.items_BK[row] >= 0].tolist()
        told += [(titles[item], one.shown) for item, one in zip(items, ranking.reasons[row], strict=True)]
    return [(where, text) for where, text in told if text]
