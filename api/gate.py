"""The claim path inside uvicorn's protocol: a claim is read, decided and told without a task, a scope or an ASGI call.

`ClaimProtocol` recognises a plain claim or ticket request when its head is complete, and answers it by the same
functions as the routes in api/routes/claims.py. Whatever is not plain (another path or method, a chunked body,
`Expect`, a request behind one that is not answered yet, a drop that is not in memory) goes the way of every other
request, to the ASGI app. So the gate needs no rule of its own for them, and cannot differ in what they mean.

What it relies on in uvicorn is written in tests/contract/test_uvicorn.py.
"""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from api import problems
from api.claim import Told
from api.edge import log_answer, request_id_of
from api.exchange import TICKET_ROUTE, Exchange, Gate
from engine.bounds import CLAIM_BODY_BYTES_MAX, HEAD_BYTES_MAX, REQUEST_S_MAX

_NOT_PLAIN = {b"expect", b"transfer-encoding", b"upgrade"}
_APPS, _OURS, _NOBODYS = "the app's", "the exchange's", "nobody's"  # whose a request is


class ClaimProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol with the gate in it, and with bounds on a request's head, which uvicorn lacks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gate: Gate = self.app_state["gate"]
        self._exchange = Exchange(self)
        self._whose = _APPS  # the newest request
        self._is_in_head = False
        self._is_new_head = False  # whether the head began in the segment that is read now
        self._head_bytes = 0
        self._segment_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._answered_s = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection that never says a word is closed like one that says no more; uvicorn waits for the first."""
        super().connection_made(transport)
        self._answered_s = self.loop.time()
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def address(self) -> str:
        """The client's address, as uvicorn's ProxyHeadersMiddleware tells it to the app."""
        client = self.client[0] if self.client else ""
        trusted = self.config.loaded_app.trusted_hosts
        forwarded = [value for name, value in self.headers if name == b"x-forwarded-for"]
        if not forwarded or client not in trusted:
            return client
        host, _ = trusted.get_trusted_client_address(b", ".join(forwarded).decode("latin-1"))
        return host or client

    def shutdown(self) -> None:
        """A stream without an end would hold up the process's own for as long as uvicorn waits."""
        self.gate.use.ending.set()
        super().shutdown()

    def data_received(self, data: bytes) -> None:
        self._segment_bytes = len(data)
        self._is_new_head = False
        super().data_received(data)
        if self._is_in_head:
            # Before the head there may have been other requests in the segment: they do not weigh on it.
            self._head_bytes += self._weight() if self._is_new_head else len(data)
            self._wait()
        elif self._whose is _OURS and self._exchange.more_body:
            self._wait()

    def eof_received(self) -> bool | None:  # type: ignore[override]  # asyncio takes True as "stay open"
        """A client that will send no more may still read: it gets the answer that it waits for."""
        if self._whose is _OURS and self._is_busy() and not self._exchange.more_body:
            self._exchange.keep_alive = False
            return True
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._clear_deadline()
        super()._unset_keepalive_if_required()
        super().connection_lost(exc)

    def _unset_keepalive_if_required(self) -> None:
        """Nothing: one timer serves many requests, for a timer a request costs more than reading the request."""

    def timeout_keep_alive_handler(self) -> None:
        self.timeout_keep_alive_task = None
        idle_s = 0.0 if self._is_busy() or self._is_in_head else self.loop.time() - self._answered_s
        if idle_s < self.timeout_keep_alive:
            rest_s = self.timeout_keep_alive - idle_s
            self.timeout_keep_alive_task = self.loop.call_later(rest_s, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    def on_response_complete(self) -> None:
        self._answered_s = self.loop.time()
        if self.pipeline or self.timeout_keep_alive_task is None:
            super().on_response_complete()
        else:
            self.server_state.total_requests += 1
            self.flow.resume_reading()

    def on_message_begin(self) -> None:
        # What the app needs is made in _hand_over, for those requests that get there.
        self.url = b""
        self.headers = []
        self._head_bytes = 0
        self._is_in_head = self._is_new_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        if self._deadline is not None:
            self._clear_deadline()
        if self._segment_bytes > HEAD_BYTES_MAX and self._weight() > HEAD_BYTES_MAX:
            self._refuse(problems.head_too_large())
            self._whose = _NOBODYS
        elif self.transport.is_closing():
            self._whose = _NOBODYS  # the line was closed by the answer to a request before it: nobody would hear
        elif self._recognise():
            self._whose = _OURS
            self.cycle = cast("RequestResponseCycle", self._exchange)
        else:
            self._whose = _APPS
            self._hand_over()

    def on_body(self, body: bytes) -> None:
        if self._whose is _OURS:
            self._exchange.body += body
        elif self._whose is _APPS:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._whose is _OURS:
            if self._deadline is not None:
                self._clear_deadline()
            self._exchange.run()
        elif self._whose is _APPS:
            super().on_message_complete()

    def _is_busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _recognise(self) -> bool:
        """Whether the gate can answer a request by itself; then the exchange begins with it."""
        place = self.gate.place(self.url)
        if place is None or self.parser.get_method() != b"POST" or self._is_busy() or self.flow.write_paused:
            return False
        given = dict(self.headers)
        if len(given) != len(self.headers) or not _NOT_PLAIN.isdisjoint(given):
            return False
        if int(given.get(b"content-length", b"0")) > CLAIM_BODY_BYTES_MAX:
            return False
        session = None
        if place.route is TICKET_ROUTE:
            session = self.gate.session(given.get(b"authorization", b""))
            if session is None:
                return False
        keep_alive = self.parser.should_keep_alive()
        if keep_alive and b"connection" in given:
            keep_alive = self.parser.get_http_version() != "1.0"  # as uvicorn does
        self._exchange.begin(place, given, session, keep_alive=keep_alive)
        return True

    def _hand_over(self) -> None:
        """Let the ASGI app answer: what `on_message_begin` left out is made up for."""
        url, headers = self.url, self.headers
        super().on_message_begin()
        super().on_url(url)
        for name, value in headers:
            super().on_header(name, value)
        super().on_headers_complete()
        # What llhttp tells as headers from now on are trailers, behind a chunked body: no proxy looked at those.
        self.headers = []

    def _weight(self) -> int:
        """Bytes of the head as far as it was read."""
        return len(self.url) + sum([len(name) + len(value) + 4 for name, value in self.headers])

    def _wait(self) -> None:
        """Bound how long a request that comes in pieces may take, and what its head may weigh."""
        if self._is_in_head and self._head_bytes > HEAD_BYTES_MAX:
            self._refuse(problems.head_too_large())
        elif self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_S_MAX, self._refuse, problems.too_slow())

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, told: Told) -> None:
        """Answer what never became a request, and close; behind one that is not answered yet, close after that one."""
        if self.transport.is_closing():
            return
        if self._is_busy() and not (self._whose is _OURS and self._exchange.more_body):
            self.cycle.keep_alive = False
            self.flow.pause_reading()
            return
        head, request_id = self.gate.head(told, self.server_state.default_headers), request_id_of(None)
        self.gate.answers.count("none", told.status)
        if self.gate.logs_access:
            log_answer("?", "none", "", told.status, 0.0, request_id)
        self.transport.write(
            b"%b%d\r\nx-request-id: %b\r\nconnection: close\r\n\r\n%b" % (head, len(told.body), request_id, told.body)
        )
        self.transport.close()
