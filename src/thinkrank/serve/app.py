"""The web application; it can be mounted in any ASGI server."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from thinkrank._version import __version__
from thinkrank.errors import ThinkrankError, UnwritableError
from thinkrank.serve.api import health, v1
from thinkrank.serve.middleware import Gatekeeper
from thinkrank.serve.options import ServeOptions
from thinkrank.serve.page import page
from thinkrank.serve.served import Served
from thinkrank.serve.state import State

logger = logging.getLogger(__name__)

_ABOUT = """Recommendations with the thoughts and reasons behind them.

Thoughts can be watched as they are written: `POST /v1/recommend/stream` answers with server-sent events of the types
`accepted`, `thought`, `answer` and `fault`, each with an id, and a comment as a sign of life every 15 seconds."""


def create_app(
    served: Served, options: ServeOptions | None = None, *, opened: Callable[[], Served] | None = None
) -> FastAPI:
    """Make the application that serves a run.

    Args:
        served: the run; see `open_served`.
        options: limits, keys and what is kept.
        opened: loads the run anew when that is asked for; None refuses it.
    """
    options = options or ServeOptions()
    state = State(served, options, opened)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        state.start()
        yield
        import anyio

        await anyio.to_thread.run_sync(state.close)

    app = FastAPI(
        title="thinkrank",
        version=__version__,
        description=_ABOUT,
        lifespan=lifespan,
        docs_url=None,  # its pages load scripts of others
        redoc_url=None,
    )
    app.state.thinkrank = state
    app.include_router(health)
    app.include_router(v1)
    app.include_router(page)
    app.add_middleware(Gatekeeper, metrics=state.metrics, max_body_bytes=options.max_body_bytes, hosts=options.hosts)
    _faults(app)
    return app


def _faults(app: FastAPI) -> None:
    """Answer every fault in one form: one line that says what is wrong."""

    @app.exception_handler(ThinkrankError)
    async def refused(request: Request, error: ThinkrankError) -> JSONResponse:
        return _fault(request, 422, " ".join(str(error).split()))

    @app.exception_handler(UnwritableError)
    async def unwritable(request: Request, error: UnwritableError) -> JSONResponse:
        return _fault(request, 507, " ".join(str(error).split()))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body")
        return _fault(request, 422, f"{where or 'the body'}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        return _fault(request, error.status_code, str(error.detail), error.headers)


def _fault(request: Request, status: int, why: str, headers: Any = None) -> JSONResponse:
    request_id = getattr(request.state, "request_id", None)
    return JSONResponse({"error": why, "request_id": request_id}, status_code=status, headers=headers)
