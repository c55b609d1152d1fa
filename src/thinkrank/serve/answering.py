"""Answer questions from a served run, many at once where nothing is written, and say how each answer came about."""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from thinkrank.cascade import Budget, Recommendation
from thinkrank.data import Candidates, History, Requests
from thinkrank.errors import ThinkrankError
from thinkrank.evidence import Claim
from thinkrank.language.engines.joining import Watch, watching
from thinkrank.serve import schemas
from thinkrank.serve.batcher import Job
from thinkrank.serve.served import Served
from thinkrank.stages.answers import Ranking, Thought
from thinkrank.stages.order import order_candidates

RankBy = Literal["retrieve", "rank", "rerank", "cascade"]
"""Which stage puts candidates in order; the whole cascade does where there are several."""


@dataclass(frozen=True, eq=False)
class Ask:
    """Hold one question that is understood.

    Attributes:
        served: who is asked.
        history: what the user did.
        user: id, where known.
        request: what is wanted.
        exclude: rows to leave out.
        changes: settings of thoughts that differ from the run's.
    """

    served: Served
    history: History
    user: str | None
    request: schemas.RecommendRequest
    exclude: tuple[int, ...] = ()
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_written_for(self) -> bool:
        """Tell whether a language model may write for it."""
        if not self.served.writing_stages or self.served.cascade is None:
            return False
        if self.request.think is None:
            return self.served.cascade.config.think != "never" or self.request.thought is not None
        return self.request.think is not False

    @property
    def kind(self) -> Hashable:
        """Return what questions must share to be answered in one call; None for one that has a call of its own."""
        asked = self.request
        if self.is_written_for or asked.budget_ms is not None or asked.budget_tokens is not None:
            return None
        return (id(self.served), asked.k, asked.think, asked.samples, asked.filter_seen, self.user is None)


@dataclass(frozen=True, eq=False)
class RankAsk:
    """Hold a question about candidates: who asks, which stage answers, and how."""

    served: Served
    history: History
    user: str | None
    stage: RankBy
    candidates: Candidates
    k: int
    options: Mapping[str, Any] = field(default_factory=dict)
    context: Mapping[str, float] = field(default_factory=dict)
    kind: Hashable = None


def answer(jobs: Sequence[Job]) -> list[Any]:
    """Answer jobs of one kind."""
    if isinstance(jobs[0].ask, RankAsk):
        return [_watched(job, lambda job=job: _ranked(job.ask), {}) for job in jobs]  # type: ignore[misc]
    asks: list[Ask] = [job.ask for job in jobs]
    first = asks[0]
    served, asked = first.served, first.request
    assert served.cascade is not None  # noqa: S101 - or it would not have been asked
    waited = 1000 * (jobs[0].began - jobs[0].asked)
    budget = None
    if asked.budget_ms is not None or asked.budget_tokens is not None:
        left = None if asked.budget_ms is None else max(1.0, asked.budget_ms - waited)
        budget = Budget(milliseconds=left, tokens=asked.budget_tokens)
    think = True if asked.thought is not None else asked.think
    leave_out = not served.repeats if asked.filter_seen is None else asked.filter_seen

    def recommended() -> Recommendation:
        return served.cascade.recommend(  # type: ignore[union-attr]
            Requests(
                [ask.history for ask in asks], None if first.user is None else tuple(ask.user or "" for ask in asks)
            ),
            asked.k,
            think=think,
            budget=budget,
            filter_seen=leave_out,
            exclude=[ask.exclude for ask in asks],
            samples=asked.samples,
        )

    found = _watched(jobs[0], recommended, first.changes) if first.kind is None else recommended()
    return [_told(job, found, row) for row, job in enumerate(jobs)]


def _watched(job: Job, ask: Callable[[], Any], changes: Mapping[str, Any]) -> Any:
    """Ask so that what is written can be followed, and is given up when nobody waits."""
    given = getattr(getattr(job.ask, "request", None), "thought", None)
    token = watching.set(Watch(job.wrote, lambda: job.is_gone, given, changes))
    try:
        return ask()
    finally:
        watching.reset(token)


def _ranked(ask: RankAsk) -> Ranking:
    """Ask one stage about candidates."""
    requests = _requests_of(ask)
    if ask.stage == "cascade":
        assert ask.served.cascade is not None  # noqa: S101 - or it would not have been asked
        wanted = set(ask.candidates.items_BN[0].tolist())
        others = [row for row in range(len(ask.served.catalogue)) if row not in wanted]
        return ask.served.cascade.recommend(requests, ask.k, filter_seen=False, exclude=[others], **ask.options).ranking
    stage = ask.served.stages[ask.stage]
    if ask.stage == "rerank":
        ranking: Ranking = stage.rerank(requests, ask.candidates, ask.k, **ask.options)
        return ranking
    if hasattr(stage, "rank"):
        ranked: Ranking = stage.rank(requests, ask.candidates, **ask.options)
        return ranked.first(ask.k)
    scores_BI = np.asarray(stage.scores(requests), np.float32)
    scores_BN = np.take_along_axis(scores_BI, np.maximum(ask.candidates.items_BN, 0), axis=1)
    return order_candidates(ask.candidates, scores_BN, ties="row").first(ask.k)


def _requests_of(ask: RankAsk) -> Requests:
    names = tuple(ask.context)
    values = np.array([[ask.context[name] for name in names]], dtype=np.float32) if names else None
    return Requests([ask.history], None if ask.user is None else (ask.user,), context_BX=values, context_names=names)


def _told(job: Job, found: Recommendation, row: int) -> schemas.RecommendResponse:
    """Say what was found for one of the questions."""
    ask: Ask = job.ask
    served, without = ask.served, ask.served.number_of(ask.user)
    ranking = found.ranking
    items = [int(item) for item in ranking.items_BK[row] if item >= 0]
    written = () if ranking.reasons is None else ranking.reasons[row]
    slate = set(found.stages["rerank"].items_BK[row].tolist()) if "rerank" in found.stages else set()
    told = []
    for place, item in enumerate(items):
        reasons = [_counted(ask, item, without)] if ask.request.reasons else []
        if place < len(written) and written[place].text:
            reasons.insert(0, _written(ask, written[place], item, without))
        latent = {}
        if ranking.latent is not None and item in slate:
            latent = {
                "entropy_before": _finite(ranking.latent.entropies_before_BK[row, place]),
                "entropy_after": _finite(ranking.latent.entropies_after_BK[row, place]),
                "steps": int(ranking.latent.steps_BK[row, place]),
            }
        told.append(
            schemas.RecommendedItem(
                **facts_of(served, item).model_dump(),
                place=place + 1,
                score=_finite(ranking.scores_BK[row, place]),
                reasons=[reason for some in reasons for reason in some],
                **latent,
            )
        )
    thought = None
    if ranking.thoughts is not None and (ranking.thoughts[row].text or ranking.thoughts[row].token_ids.size):
        thought = _thought(ask, ranking.thoughts[row], without)
    now, asked_together = time.monotonic(), len(ranking)
    return schemas.RecommendResponse(
        id="",
        model=model_facts(served),
        catalogue=catalogue_facts(served),
        user=ask.user,
        history=[facts_of(served, int(item)) for item in ask.history.items],
        thought=thought,
        items=told,
        stages=[_stage(name, answered, row, asked_together) for name, answered in found.stages.items()],
        degraded=bool(found.degraded),
        left_out=list(found.degraded),
        waited_ms=1000 * (job.began - job.asked),
        total_ms=1000 * (now - job.asked),
    )


def _stage(name: str, answered: Ranking, row: int, together: int) -> schemas.StageFacts:
    """Share the cost of what was answered together."""
    cost = answered.cost
    return schemas.StageFacts(
        stage=name,
        milliseconds=0.0 if cost is None else 1000 * cost.seconds / together,
        tokens=0 if cost is None else round(cost.tokens / together),
        items=int((answered.items_BK[row] >= 0).sum()),
    )


def _counted(ask: Ask, item: int, without: int | None) -> list[schemas.ReasonFacts]:
    """Say what speaks for an item by what others did."""
    if ask.served.reasons is None:
        return []
    said = ask.served.reasons.reasons(ask.history, item, without, most=ask.request.reasons)
    return [
        schemas.ReasonFacts(text=reason.text, source="counted", claims=_claims(ask, reason.text, item, without))
        for reason in said
    ]


def _written(ask: Ask, thought: Thought, item: int, without: int | None) -> list[schemas.ReasonFacts]:
    """Give a written reason if its claims hold, or whatever it says if that is wanted."""
    check = ask.served.checker.check(thought.text, ask.history, item, without, finish_reason=thought.finish_reason)
    if not (check.may_be_shown or ask.request.every_text):
        return []
    claims = _claims(ask, thought.text, item, without)
    return [schemas.ReasonFacts(text=thought.text, source="written", claims=claims)]


def _thought(ask: Ask, thought: Thought, without: int | None) -> schemas.ThoughtFacts:
    check = ask.served.checker.check(thought.text, ask.history, None, without, finish_reason=thought.finish_reason)
    return schemas.ThoughtFacts(
        text=thought.text,
        tokens=len(thought.token_ids),
        finish_reason=thought.finish_reason,
        may_be_shown=check.may_be_shown,
        faults=list(check.faults),
        claims=_claims(ask, thought.text, None, without),
    )


def _claims(ask: Ask, text: str, item: int | None, without: int | None) -> list[schemas.ClaimFacts]:
    claims: list[Claim] = ask.served.checker.claims.claims(text, ask.history, item, without)
    return [schemas.ClaimFacts(kind=claim.kind, said=claim.said, true=claim.is_true) for claim in claims]


def facts_of(served: Served, row: int) -> schemas.ItemFacts:
    """Say which item a catalogue row is."""
    catalogue = served.catalogue
    categories = catalogue.frame["categories"][row] if "categories" in catalogue.frame.columns else None
    return schemas.ItemFacts(
        item=catalogue.ids[row],
        title=catalogue.titles[row],
        year=catalogue.years[row],
        categories=[] if categories is None else list(categories),
    )


def model_facts(served: Served) -> schemas.ModelFacts:
    """Say what answers."""
    return schemas.ModelFacts(name=served.name, version=served.version, stages=served.kinds)


def catalogue_facts(served: Served) -> schemas.CatalogueFacts:
    """Say from which items is chosen."""
    return schemas.CatalogueFacts(version=served.catalogue_version, items=served.num_items)


def slate_candidates(served: Served, offered: Sequence[schemas.SlateCandidate]) -> Candidates:
    """Put offered items with their features into the columns that the re-ranker was trained with.

    Raises:
        ThinkrankError: for an unknown or withdrawn item, one that stands there twice, or a feature that is missing.
    """
    schema = getattr(served.stages["rerank"], "schema", None)
    numeric = () if schema is None else schema.numeric_names
    categorical = () if schema is None else schema.categorical_names
    rows = [served.catalogue.find(one.item) for one in offered]
    for row, one in zip(rows, offered, strict=True):
        if served.catalogue.ids[row] in served.withdrawn:
            raise ThinkrankError(f"candidate {one.item!r} was withdrawn")
    for name in numeric:
        for one in offered:
            if name not in one.numeric:
                raise ThinkrankError(f"candidate {one.item!r} has no numeric {name!r}, which the re-ranker reads")
    codes = [
        {value: code for code, value in enumerate(values, 1)} for values in getattr(schema, "categorical_values", ())
    ]
    return Candidates(
        np.array([rows], dtype=np.int32),
        served.catalogue,
        np.array([[[one.numeric[name] for name in numeric] for one in offered]], np.float32) if numeric else None,
        tuple(numeric),
        np.array(
            [[[code.get(one.categorical.get(name, ""), 0) for name, code in zip(categorical, codes, strict=True)]
              for one in offered]], np.int32,
        ) if categorical else None,
        tuple(categorical),
        tuple(getattr(schema, "categorical_values", ())),
        name="slate",
    )  # fmt: skip


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
