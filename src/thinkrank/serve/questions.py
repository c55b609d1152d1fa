"""From a request to a question that is understood, into the queue, and to its answer; or to a refusal that says why."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from fastapi import Request
from starlette.exceptions import HTTPException

from thinkrank.cascade.asking import can_think, check_samples
from thinkrank.data import Candidates, History
from thinkrank.errors import ThinkrankError
from thinkrank.language.engines.joining import CancelledError
from thinkrank.serve import schemas
from thinkrank.serve.answering import Ask, RankAsk, RankBy, slate_candidates
from thinkrank.serve.batcher import ClosedError, FullError, Job
from thinkrank.serve.options import ServeOptions
from thinkrank.serve.served import Served
from thinkrank.serve.state import State


def _who(served: Served, options: ServeOptions, asked: schemas.Who) -> tuple[History, str | None]:
    """Find the history that a request speaks of, in rows of the run that it is put to."""
    if asked.history is not None:
        if len(asked.history) > options.max_history:
            raise ThinkrankError(f"history: holds {len(asked.history)} items; {options.max_history} may be given")
        return served.history(asked.history), asked.user
    if asked.user is None:
        return History.of([]), None
    try:
        return served.known_history(asked.user), asked.user
    except ThinkrankError as error:
        raise HTTPException(404, " ".join(str(error).split())) from error


def recommend_ask(state: State, asked: schemas.RecommendRequest) -> Ask:
    """Understand a request."""
    served = state.served
    if served.cascade is None:
        raise HTTPException(409, f"{served.name} holds no retriever: ask /v1/rerank or /v1/slates")
    if asked.k > state.options.max_k:
        raise ThinkrankError(f"k: {asked.k} is more than the {state.options.max_k} that may be asked for")
    if (asked.max_tokens or 0) > state.options.max_new_tokens:
        raise ThinkrankError(f"max_tokens: more than the {state.options.max_new_tokens} that may be asked for")
    history, user = _who(served, state.options, asked)
    changes = {"temperature": asked.temperature, "max_new_tokens": asked.max_tokens, "seed": asked.seed}
    excluded = dict.fromkeys([*(served.catalogue.find(one) for one in asked.exclude)])
    excluded |= dict.fromkeys(served.catalogue.row(item) for item in tuple(served.withdrawn))
    given = {name: value for name, value in changes.items() if value is not None}
    if given and not served.writing_stages:
        raise ThinkrankError(f"{', '.join(given)}: no stage of {served.name} writes thoughts")
    _check_think(served, asked.think, served.can_think)
    if asked.thought is not None and "retrieve" not in served.writing_stages:
        raise ThinkrankError(f"thought: the retriever of {served.name} answers from no thought")
    if asked.thought is not None and (asked.think is False or asked.samples > 1):
        against = "think is false" if asked.think is False else f"samples is {asked.samples}"
        raise ThinkrankError(f"thought: it is answered from one thought that is given, and {against}; leave one out")
    return Ask(served, history, user, asked, tuple(excluded), given)


def _check_think(served: Served, think: bool | str | None, able: bool) -> None:
    """Refuse to think where nobody can."""
    if think and not able:
        raise ThinkrankError(f"think: no stage of {served.name} can think; leave it out")


def submitted(
    state: State,
    request: Request,
    ask: Ask | RankAsk,
    timeout_ms: float | None,
    wrote: Callable[[int, str], None] | None = None,
) -> Job:
    """Put a question into the queue, or refuse it at once."""
    seconds = state.options.deadline_seconds
    seconds = seconds if timeout_ms is None else min(seconds, timeout_ms / 1000)
    job = Job(ask, ask.kind, time.monotonic() + seconds)
    job.wrote = wrote
    facts = request.state.facts
    if isinstance(ask, Ask):
        facts |= {"k": ask.request.k, "events": len(ask.history), "think": ask.request.think}
    if state.options.log_histories:
        facts |= {"user": ask.user, "history": [ask.served.catalogue.ids[row] for row in ask.history.items]}
    try:
        state.batcher.submit(job)
    except FullError as error:
        state.metrics.refused.labels("full").inc()
        raise HTTPException(429, str(error), {"Retry-After": str(error.seconds)}) from error
    except ClosedError as error:
        raise HTTPException(503, "the server is stopping", {"Retry-After": "5"}) from error
    return job


async def _gone(request: Request) -> None:
    """Return when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def answered(state: State, request: Request, job: Job) -> Any:
    """Wait for an answer; give the question up when nobody waits or the time is over."""
    future, gone = asyncio.wrap_future(job.future), asyncio.ensure_future(_gone(request))
    try:
        left = max(0.0, job.deadline - time.monotonic())
        await asyncio.wait({future, gone}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if future.done() and not future.cancelled():
            return result_of(state, job, future)
        state.metrics.cancelled.inc()
        if gone.done():
            raise HTTPException(499, "the client has closed the connection")
        raise HTTPException(504, job.overdue)
    finally:
        job.gone.set()
        gone.cancel()
        future.cancel()


def result_of(state: State, job: Job, future: "asyncio.Future[Any]") -> Any:
    """Return the answer, and count what it cost."""
    try:
        answer = future.result()
    except CancelledError as error:
        state.metrics.cancelled.inc()
        raise HTTPException(504, job.overdue) from error
    state.metrics.waited.observe(job.began - job.asked)
    if isinstance(answer, schemas.RecommendResponse):
        for stage in answer.stages:
            state.metrics.stage_seconds.labels(stage.stage).inc(stage.milliseconds / 1000)
            state.metrics.stage_tokens.labels(stage.stage).inc(stage.tokens)
        state.metrics.degraded.inc(answer.degraded)
    return answer


def rerank_ask(state: State, asked: schemas.RerankRequest) -> tuple[RankAsk, dict[int, list[int]]]:
    """Understand a request in the shape of rerankers; also the places of each catalogue row among the documents."""
    served = state.served
    whole = served.cascade is not None and len(served.stages) > 1
    by: RankBy = "cascade" if whole else "rank" if "rank" in served.stages else "retrieve"
    stage = served.cascade if whole else served.stages.get(by)
    if not whole and not hasattr(stage, "rank") and not hasattr(stage, "scores"):
        raise HTTPException(409, f"{served.name} holds nothing that ranks candidates")
    if len(asked.documents) > state.options.max_documents:
        raise ThinkrankError(f"documents: more than the {state.options.max_documents} that one request may have ranked")
    if asked.history is None and asked.user is None and asked.query.strip():
        lines = [line.strip() for line in asked.query.splitlines() if line.strip()]
        asked = asked.model_copy(update={"history": lines})
    history, user = _who(served, state.options, asked)
    places: dict[int, list[int]] = {}
    for index, document in enumerate(asked.documents):
        row = served.catalogue.found(document if isinstance(document, str) else document.text)
        if row is not None and served.catalogue.ids[row] not in served.withdrawn:  # anything else comes last
            places.setdefault(row, []).append(index)
    able = served.can_think if whole else hasattr(stage, "rank") and can_think(stage, "rank")
    _check_think(served, asked.think, able)
    options = {"think": asked.think} if asked.think is not None and able else {}
    offered = Candidates(np.array([list(places)], dtype=np.int32).reshape(1, -1), served.catalogue, name="documents")
    return RankAsk(served, history, user, by, offered, len(places), options), places


def slate_ask(state: State, asked: schemas.SlateRequest) -> RankAsk:
    """Understand a request for a list."""
    served = state.served
    if "rerank" not in served.stages:
        raise HTTPException(409, f"{served.name} holds no re-ranker")
    if len(asked.candidates) > state.options.max_documents or asked.k > state.options.max_k:
        raise ThinkrankError(
            f"at most {state.options.max_documents} candidates and {state.options.max_k} places may be asked for"
        )
    stage = served.stages["rerank"]
    check_samples(stage, asked.samples, "samples")
    for name in getattr(getattr(stage, "schema", None), "context_names", ()):
        if name not in asked.context:
            raise ThinkrankError(f"context: no {name!r}, which the re-ranker reads")
    history, user = _who(served, state.options, asked)
    options: dict[str, Any] = {"samples": asked.samples} if asked.samples > 1 else {}
    if asked.think is False and hasattr(getattr(stage, "config", None), "reasoning"):
        options["reasoning"] = stage.config.reasoning.model_copy(update={"mode": "none"})
    return RankAsk(
        served, history, user, "rerank", slate_candidates(served, asked.candidates), asked.k, options, asked.context
    )
