"""What every request meets before it is understood: a limit of its size, names of hosts, headers, a line in the log."""

import json
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from starlette.exceptions import HTTPException

from thinkrank.serve.metrics import Metrics

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

logger = logging.getLogger("thinkrank.serve.requests")

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
UNEXPECTED = "something went wrong that is not the request's fault; the log tells what"
_UNKNOWN_HOST = "this server does not answer to that host name (thinkrank serve --allow-host NAME adds one)"
_REQUEST_ID = re.compile(r"[\w.:-]{1,64}")


class Gatekeeper:
    """Refuse what is too large or asks for another host, name every request, and log it without what it holds.

    Args:
        app: that answers.
        metrics: that count.
        max_body_bytes: of a body.
        hosts: names that the server answers to; `*` is any.
    """

    def __init__(self, app: App, metrics: Metrics, max_body_bytes: int, hosts: Sequence[str]) -> None:
        self.app, self.metrics, self.max_body_bytes, self.hosts = (
            app,
            metrics,
            max_body_bytes,
            frozenset(map(str.lower, hosts)),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass; see the class."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        facts: dict[str, Any] = {}
        scope.setdefault("state", {}).update(request_id=request_id, facts=facts)
        began, status = time.perf_counter(), 0

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                more = {**HEADERS, "x-request-id": request_id}
                if scope["path"].startswith("/v1/"):
                    more["cache-control"] = "no-store"
                message = {
                    **message,
                    "headers": [*message["headers"], *((k.encode(), v.encode()) for k, v in more.items())],
                }
            await send(message)

        try:
            if not self._knows(headers.get("host", "")):
                await _refuse(sent, 421, _UNKNOWN_HOST, request_id)
            elif not headers.get("content-length", "0").isdigit():
                await _refuse(sent, 400, "content-length is no number", request_id)
            elif int(headers.get("content-length", "0")) > self.max_body_bytes:
                self.metrics.refused.labels("size").inc()
                await _refuse(sent, 413, self._why_too_large, request_id)
            else:
                await self.app(scope, self._counted(receive), sent)
        except Exception:
            if not status:
                await _refuse(sent, 500, UNEXPECTED, request_id)
            raise  # the server logs it
        finally:
            self._log(scope, status, time.perf_counter() - began, request_id, facts)

    def _knows(self, host: str) -> bool:
        if "*" in self.hosts:
            return True
        name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
        return name.strip("[]").lower() in self.hosts

    def _counted(self, receive: Receive) -> Receive:
        total = 0

        async def counted() -> Message:
            nonlocal total
            message = await receive()
            total += len(message.get("body", b""))
            if total > self.max_body_bytes:
                self.metrics.refused.labels("size").inc()
                raise HTTPException(413, self._why_too_large)  # what is read no further is answered so
            return message

        return counted

    @property
    def _why_too_large(self) -> str:
        return f"the body is larger than {self.max_body_bytes:,} bytes"

    def _log(self, scope: Scope, status: int, seconds: float, request_id: str, facts: dict[str, Any]) -> None:
        route = getattr(scope.get("route"), "path", "other")
        self.metrics.requests.labels(route, str(status or 499)).inc()
        self.metrics.seconds.labels(route).observe(seconds)
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "request": request_id,
            "method": scope["method"],
            "route": route,
            "status": status or 499,
            "ms": round(1000 * seconds, 1),
            **facts,
        }
        logger.info("%s", json.dumps(line, ensure_ascii=False))


async def _refuse(send: Send, status: int, why: str, request_id: str) -> None:
    body = json.dumps({"error": why, "request_id": request_id}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
