"""What surrounds every answer: request id, security headers, the bound on bodies, the access log, metrics.

Pure ASGI, one layer: per request it costs a few microseconds, where a middleware class per concern costs tens each.
"""

import asyncio
import itertools
import re
import secrets
import time
from typing import Any

import structlog
from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import problems
from engine.bounds import REQUEST_BODY_BYTES_MAX

REQUESTS = Counter("flashclaim_http_answers", "Answers by route and status", ["route", "status"])
SECONDS = Histogram(
    "flashclaim_http_seconds",
    "Time to answer",
    ["route"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5),
)
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}", re.ASCII)
_QUIET = {"/healthz", "/readyz", "/metrics"}
_START = secrets.token_hex(4).encode()  # with a count, an id that no other process makes
_counter = itertools.count()
_log = structlog.get_logger("access")


def request_id_of(given: bytes | None) -> bytes:
    """The id that the client or a proxy gave the request, when it is one that can be logged; else a new one."""
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given
    return b"%b-%x" % (_START, next(_counter))


def log_answer(method: str, route: str, path: str, status: int, took_s: float, request_id: bytes) -> None:
    """One line of the access log."""
    if route not in _QUIET:
        _log.info(
            "answered",
            method=method,
            route=route,
            path=path[:200],
            status=status,
            ms=round(took_s * 1000, 1),
            request_id=request_id.decode(),
        )


class Answers:
    """Counts answers at the cost of a dictionary; the metric hears of them once a second."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, int], int] = {}

    def count(self, route: str, status: int) -> None:
        """Count one answer. Called within the event loop."""
        if not self._counts:
            asyncio.get_running_loop().call_later(1, self._flush)
        key = (route, status)
        self._counts[key] = self._counts.get(key, 0) + 1

    def _flush(self) -> None:
        counts, self._counts = self._counts, {}
        for (route, status), count in counts.items():
            REQUESTS.labels(route, status).inc(count)


class _BodyTooLarge(Exception):
    """More body than the bound came in."""


class Edge:
    """The outermost layer of the app."""

    def __init__(self, app: ASGIApp, logs_access: bool) -> None:
        self._app = app
        self._logs_access = logs_access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"])
        request_id = request_id_of(given.get(b"x-request-id"))
        exchange = _Exchange(send, request_id)
        bounded = _bounded(receive)
        started_s = time.perf_counter()
        try:
            if int(given.get(b"content-length", b"0") or b"0") > REQUEST_BODY_BYTES_MAX:
                raise _BodyTooLarge
            await self._app(scope, bounded, exchange.send)
        except _BodyTooLarge:
            body = problems.body("too-large", f"the body has more than {REQUEST_BODY_BYTES_MAX} bytes")
            await exchange.refuse(413, body)
        except Exception:
            if exchange.status:
                raise  # the answer has begun: the server breaks the line
            _log.exception("request failed")
            await exchange.refuse(500, problems.broken().body)
        finally:
            self._note(scope, exchange, time.perf_counter() - started_s)

    def _note(self, scope: Scope, exchange: "_Exchange", took_s: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        REQUESTS.labels(route, exchange.status).inc()
        SECONDS.labels(route).observe(took_s)
        if self._logs_access:
            log_answer(scope["method"], route, scope["path"], exchange.status, took_s, exchange.request_id)


class _Exchange:
    def __init__(self, send: Send, request_id: bytes) -> None:
        self._send = send
        self.request_id = request_id
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = message.get("headers", [])
            named = {name for name, _ in own}  # the docs page has a policy of its own
            more = [header for header in HEADERS if header[0] not in named]
            message["headers"] = [*own, (b"x-request-id", self.request_id), *more]
        await self._send(message)

    async def refuse(self, status: int, body: bytes) -> None:
        if self.status:
            return  # the answer has begun: all that is left is to end it
        headers = [
            (b"content-type", problems.MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


def _bounded(receive: Receive) -> Receive:
    """Count the body while it comes: a chunked one has no length to check beforehand."""
    seen = 0

    async def bounded() -> Any:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > REQUEST_BODY_BYTES_MAX:
            raise _BodyTooLarge
        return message

    return bounded
