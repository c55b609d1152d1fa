"""The routes for programs."""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

import numpy as np
from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import PlainTextResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.exceptions import HTTPException

from thinkrank.errors import ThinkrankError
from thinkrank.serve import auth, schemas
from thinkrank.serve.answering import catalogue_facts, facts_of, model_facts
from thinkrank.serve.batcher import Job
from thinkrank.serve.middleware import UNEXPECTED
from thinkrank.serve.questions import answered, recommend_ask, rerank_ask, result_of, slate_ask, submitted
from thinkrank.serve.state import State
from thinkrank.stages.answers import Ranking

logger = logging.getLogger(__name__)

_FAULT = {"$ref": "#/components/schemas/Fault"}  # JSON for streams, too
_FAULTS: dict[int | str, dict[str, Any]] = {
    status: {"model": schemas.Fault, "description": about, "content": {"application/json": {"schema": _FAULT}}}
    for status, about in {
        400: "The request is no HTTP or no JSON that can be read.",
        401: "No key opens this server.",
        404: "Nobody has this id.",
        409: "The run that is served cannot do this.",
        413: "The body is too large.",
        415: "The body is not sent as JSON.",
        421: "The server does not answer to this host name.",
        422: "The request says something that cannot be; the answer tells what.",
        429: "All places are taken; Retry-After tells when to ask again.",
        503: "The server is starting or stopping.",
        504: "The answer took too long.",
    }.items()
}


def state_of(request: Request) -> State:
    """Return what the app holds."""
    state: State = request.app.state.thinkrank
    return state


def admitted(request: Request) -> State:
    """Let a request in whose key opens the server."""
    state, headers = state_of(request), request.headers
    key = auth.key_of(headers.get("authorization"), headers.get("x-api-key"))
    if not auth.opens(key, state.options.key_hashes):
        state.metrics.refused.labels("key").inc()
        raise HTTPException(401, "give a key that opens this server", {"WWW-Authenticate": "Bearer"})
    return state


Admitted = Annotated[State, Depends(admitted)]
health = APIRouter(tags=["health"])
v1 = APIRouter(prefix="/v1", tags=["recommendations"], responses=_FAULTS)


@health.get("/healthz")
def healthz() -> dict[str, str]:
    """Tell that the process lives."""
    return {"status": "alive"}


@health.get("/readyz", responses={503: {"model": schemas.Fault}})
def readyz(request: Request) -> dict[str, str]:
    """Tell whether questions are answered: 503 while the server starts or stops."""
    state = state_of(request)
    if not state.is_ready:
        raise HTTPException(503, "not ready: starting or stopping")
    return {"status": "ready", "model": state.served.version, "catalogue": state.served.catalogue_version}


@health.get("/metrics", response_class=PlainTextResponse)
def metrics(request: Request) -> Response:
    """Show counts, times and hit rates in Prometheus' format."""
    return Response(state_of(request).metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _recommend_job(request: Request, asked: schemas.RecommendRequest, state: Admitted) -> Job:
    ask = await run_sync(recommend_ask, state, asked)
    return submitted(state, request, ask, asked.timeout_ms)


@v1.post("/recommend")
async def recommend(
    request: Request, state: Admitted, job: Annotated[Job, Depends(_recommend_job)]
) -> schemas.RecommendResponse:
    """Recommend items, with reasons, and tell what each stage did and cost."""
    answer: schemas.RecommendResponse = await answered(state, request, job)
    return answer.model_copy(update={"id": request.state.request_id})


async def _streamed_job(
    request: Request, asked: schemas.RecommendRequest, state: Admitted
) -> tuple[Job, "asyncio.Queue[tuple[int, str]]"]:
    """Put a question into the queue whose thoughts are heard as they are written; refusals come before any event."""
    ask = await run_sync(recommend_ask, state, asked)
    heard: asyncio.Queue[tuple[int, str]] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def hear(place: int, text: str) -> None:
        loop.call_soon_threadsafe(heard.put_nowait, (place, text))

    return submitted(state, request, ask, asked.timeout_ms, hear), heard


@v1.post("/recommend/stream", response_class=EventSourceResponse)
async def recommend_stream(
    request: Request,
    state: Admitted,
    streamed: Annotated[tuple[Job, "asyncio.Queue[tuple[int, str]]"], Depends(_streamed_job)],
) -> AsyncIterator[ServerSentEvent]:
    """Recommend items, and send thoughts while they are written.

    Events: `accepted` (request, model, catalogue), `thought` (place among the prompts of the stage that writes, text),
    `answer` (as of /v1/recommend), or `fault` (status, error).
    """
    job, heard = streamed
    number, served = 0, job.ask.served

    def event(kind: str, data: Any) -> ServerSentEvent:
        nonlocal number
        number += 1
        return ServerSentEvent(event=kind, data=data, id=str(number))

    future = asyncio.wrap_future(job.future)
    try:
        yield event(
            "accepted",
            {
                "id": request.state.request_id,
                "model": model_facts(served).model_dump(),
                "catalogue": catalogue_facts(served).model_dump(),
            },
        )
        while not future.done() or not heard.empty():
            place, text = await _next(heard, future, job.deadline)
            if text:
                yield event("thought", {"place": place, "text": text})
            elif not future.done():
                yield event("fault", {"status": 504, "error": job.overdue})
                return
        try:
            answer = result_of(state, job, future)
            yield event("answer", answer.model_copy(update={"id": request.state.request_id}))
        except HTTPException as error:
            yield event("fault", {"status": error.status_code, "error": error.detail})
        except ThinkrankError as error:
            yield event("fault", {"status": 422, "error": " ".join(str(error).split())})
        except asyncio.CancelledError:
            if not future.cancelled():
                raise  # the client has gone
            yield event("fault", {"status": 504, "error": job.overdue})
        except Exception:
            logger.exception("request %s", request.state.request_id)
            yield event("fault", {"status": 500, "error": UNEXPECTED})
    finally:
        if not future.done():
            state.metrics.cancelled.inc()
        job.gone.set()
        future.cancel()


async def _next(
    heard: "asyncio.Queue[tuple[int, str]]", future: "asyncio.Future[Any]", deadline: float
) -> tuple[int, str]:
    """Return the text that comes next; no text when the answer or the deadline comes before."""
    getting = asyncio.ensure_future(heard.get())
    try:
        left = max(0.0, deadline - time.monotonic())
        await asyncio.wait({getting, future}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        return getting.result() if getting.done() else (0, "")
    finally:
        getting.cancel()


@v1.post("/rerank", response_model_exclude_none=True)
async def rerank(request: Request, asked: schemas.RerankRequest, state: Admitted) -> schemas.RerankResponse:
    """Put candidates in order, as clients of Cohere's and Jina's rerankers ask for it.

    The query is the history, one title or item id a line; `user` or `history` may be given instead. Documents that are
    no items of the catalogue, or withdrawn ones, come last, with relevance 0.
    """
    ask, places = await run_sync(rerank_ask, state, asked)
    ranking: Ranking | None = None
    if places:
        ranking = await answered(state, request, submitted(state, request, ask, None))
    results = []
    if ranking is not None:
        there = ranking.items_BK[0] >= 0
        scores = ranking.scores_BK[0][there].astype(np.float64)
        scaled = (scores - scores.mean()) / (scores.std() or 1.0)
        rows = ranking.items_BK[0][there].tolist()
        shares = (1 / (1 + np.exp(-scaled))).tolist()
        results = [(index, share) for row, share in zip(rows, shares, strict=True) for index in places[row]]
    known = {index for index, _ in results}
    by_row = [index for index in range(len(asked.documents)) if index not in known]
    results += [(index, 0.0) for index in by_row]
    tokens = 0 if ranking is None or ranking.cost is None else ranking.cost.tokens
    return schemas.RerankResponse(
        id=request.state.request_id,
        model=ask.served.name,
        results=[
            schemas.RerankResult(
                index=index, relevance_score=score, document=_document(asked, index) if asked.return_documents else None
            )
            for index, score in results[: asked.top_n]
        ],
        usage={"total_tokens": tokens},
        meta={"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
    )


def _document(asked: schemas.RerankRequest, index: int) -> schemas.Document:
    document = asked.documents[index]
    return schemas.Document(text=document) if isinstance(document, str) else document


@v1.post("/slates")
async def slates(request: Request, asked: schemas.SlateRequest, state: Admitted) -> schemas.SlateResponse:
    """Write a list of candidates place by place, and tell where it paused to think."""
    ask = await run_sync(slate_ask, state, asked)
    began = time.monotonic()
    ranking: Ranking = await answered(state, request, submitted(state, request, ask, None))
    items = []
    for place, row in enumerate(ranking.items_BK[0].tolist()):
        if row < 0:
            break
        score = float(ranking.scores_BK[0, place])
        item = schemas.RecommendedItem(
            **facts_of(ask.served, row).model_dump(), place=place + 1, score=score if math.isfinite(score) else None
        )
        if ranking.latent is not None:
            item.entropy_before = float(ranking.latent.entropies_before_BK[0, place])
            item.entropy_after = float(ranking.latent.entropies_after_BK[0, place])
            item.steps = int(ranking.latent.steps_BK[0, place])
        items.append(item)
    return schemas.SlateResponse(
        id=request.state.request_id,
        model=model_facts(ask.served),
        items=items,
        total_ms=1000 * (time.monotonic() - began),
    )


@v1.get("/items")
async def items(
    state: Admitted,
    query: Annotated[str, Query(max_length=200, description="words that begin words of the title, or an id")] = "",
    limit: Annotated[int, Query(ge=1, le=100, description="how many at most")] = 20,
) -> schemas.ItemsFound:
    """Search the catalogue by title."""
    served = state.served
    rows, total = await run_sync(served.search, query, limit)
    return schemas.ItemsFound(items=[facts_of(served, row) for row in rows], total=total)


@v1.post("/items")
async def add_items(asked: schemas.ItemsRequest, state: Admitted) -> schemas.ItemsChanged:
    """Add items; they compete at once, without training."""
    if len(asked.items) > state.options.max_new_items:
        raise ThinkrankError(f"items: more than the {state.options.max_new_items} that one request may add")
    new = [item.model_dump(exclude_none=True) for item in asked.items]
    served = await run_sync(state.add, new)
    return schemas.ItemsChanged(added=len(new), catalogue=catalogue_facts(served))


@v1.delete("/items")
async def withdraw_items(asked: schemas.WithdrawRequest, state: Admitted) -> schemas.ItemsChanged:
    """Answer with these items no more; histories may still hold them, and their ids stay taken."""
    served = await run_sync(state.withdraw, asked.items)
    return schemas.ItemsChanged(withdrawn=len(asked.items), catalogue=catalogue_facts(served))


@v1.post("/reload")
async def reload(state: Admitted) -> schemas.ModelFacts:
    """Load the run anew beside the one that answers; no request fails meanwhile."""
    try:
        return model_facts(await run_sync(state.reload))
    except ThinkrankError as error:
        raise HTTPException(409, " ".join(str(error).split())) from error
