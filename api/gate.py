"""The claim path inside uvicorn's protocol: a claim is read, decided and told without a task, a scope or an ASGI call.

`ClaimProtocol` recognises a plain claim or ticket request when its head is complete, and answers it by the same
functions as the routes in api/routes/claims.py. Whatever is not plain (another path or method, a chunked body,
`Expect`, a request behind one that is not answered yet, a drop that is not in memory) goes the way of every other
request, to the ASGI app. So the gate needs no rule of its own for them, and cannot differ in what they mean.

What it relies on in uvicorn is written in tests/contract/test_uvicorn.py.
"""

import asyncio
import re
from collections.abc import Mapping
from time import perf_counter
from typing import Any, cast

import structlog
from starlette.middleware.cors import CORSMiddleware
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from api import claim as claim_path
from api import problems
from api.claim import Told
from api.deps import Services
from api.edge import HEADERS, Answers, log_answer, request_id_of
from engine.bounds import CLAIM_BODY_BYTES_MAX, HEAD_BYTES_MAX, REQUEST_S_MAX
from engine.claims.model import Claim
from engine.drops.model import Drop
from engine.errors import FlashclaimError
from engine.members.model import Session
from engine.members.session import SessionInvalid

_PATH = re.compile(rb"/v1/drops/([a-z0-9][a-z0-9-]{0,63})/(claims|ticket)")
_NO_HEADERS: dict[bytes, bytes] = {}
_NOT_PLAIN = {b"expect", b"transfer-encoding", b"upgrade"}
_CLAIM_ROUTE, _TICKET_ROUTE = "/v1/drops/{drop_id}/claims", "/v1/drops/{drop_id}/ticket"
_log = structlog.get_logger(__name__)


class _NobodyWaits:
    """Stands for the event that uvicorn's own cycles wait for; nobody waits for an exchange's."""

    def set(self) -> None: ...


class Gate:
    """What the connections of one process share: the services, and the heads of answers, made once a second."""

    def __init__(self, services: Services, cors: CORSMiddleware | None) -> None:
        self.use = services
        self.answers = Answers()
        self.root_path = services.settings.root_path.encode()
        self.logs_access = services.settings.access_log
        self._cors = cors
        self._dated: object = None
        self._heads: dict[int, bytes] = {}

    def head(self, told: Told, server_headers: list[tuple[bytes, bytes]]) -> bytes:
        """The answer's head up to what differs from answer to answer; uvicorn makes new headers each second."""
        if server_headers is not self._dated:
            self._dated, self._heads = server_headers, {}
        found = self._heads.get(told.status)
        if found is None:
            headers = [*server_headers, *HEADERS, (b"content-type", told.media_type.encode())]
            lines = b"".join(b"%b: %b\r\n" % header for header in headers)
            found = self._heads[told.status] = STATUS_LINE[told.status] + lines
        return found

    def session(self, authorization: bytes, drop: Drop) -> Session | None:
        """Who asks for a ticket; None when the app must find out, or must refuse."""
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        try:
            found = self.use.sessions.verify_now(token.strip().decode("latin-1"))
        except SessionInvalid:
            return None
        if found is None or (drop.spec.eligibility and not found.attributes and found.role == "member"):
            return None
        return found

    def cors(self, origin: bytes | None) -> bytes:
        """The lines that Starlette's CORSMiddleware adds to an answer of the app."""
        if self._cors is None:
            return b""
        if origin is None:
            return b"vary: Origin\r\n"
        headers = dict(self._cors.simple_headers)
        text = origin.decode("latin-1")
        if self._cors.is_allowed_origin(text) and not self._cors.allow_all_origins:
            headers["Access-Control-Allow-Origin"] = text
        if not self._cors.allow_all_origins or not self._cors.is_allowed_origin(text):
            headers["Vary"] = "Origin"
        return _lines(headers)


class Exchange:
    """One request on the gate and its answer; to uvicorn it looks like a `RequestResponseCycle` of its own.

    `session` is that of a request for a ticket; None makes it a claim. Thousands wait at the same time while a batch is
    at the store: each keeps as little as it can.
    """

    keep_alive = True
    body = b""
    more_body = True
    disconnected = False
    response_complete = False
    message_event = _NobodyWaits()

    def __init__(self, protocol: "ClaimProtocol", drop: Drop, session: Session | None) -> None:
        self._protocol = protocol
        self._drop = drop
        self._session = session
        self._started_s = perf_counter()

    def run(self, given: dict[bytes, bytes]) -> None:
        """Do what the request asks, now that it is here as a whole; `given` holds its headers."""
        self.more_body = False
        self._request_id = request_id_of(given.get(b"x-request-id"))
        self._cors = self._protocol.gate.cors(given.get(b"origin"))
        try:
            if self._session is None:
                self._claim(given)
            else:
                self._ticket(self._session, given)
        except FlashclaimError as error:
            self.write(problems.told(error))
        except Exception:  # noqa: BLE001 (whatever broke, the client gets an answer)
            _log.exception("request failed")
            self.write(problems.broken())

    def tell(self, answer: Claim | FlashclaimError) -> None:
        """Write what became of the claim; the batcher calls it."""
        self.write(claim_path.rendered(answer) if isinstance(answer, Claim) else problems.told(answer))

    def write(self, told: Told) -> None:
        """Write the answer, unless the client has gone; then let the connection go on."""
        protocol = self._protocol
        gate, transport = protocol.gate, protocol.transport
        status, body, _, headers = told
        self.response_complete = True
        route = _TICKET_ROUTE if self._session else _CLAIM_ROUTE
        gate.answers.count(route, status)
        if self.disconnected or transport.is_closing():
            return
        more = self._cors
        if headers:
            more += _lines(headers)
        if not self.keep_alive:
            more += b"connection: close\r\n"
        transport.write(
            b"%bcontent-length: %d\r\nx-request-id: %b\r\n%b\r\n%b"
            % (gate.head(told, protocol.server_state.default_headers), len(body), self._request_id, more, body)
        )
        if gate.logs_access:
            path = protocol.url.decode("ascii")
            log_answer("POST", route, path, status, perf_counter() - self._started_s, self._request_id)
        if not self.keep_alive:
            transport.close()
        protocol.on_response_complete()

    def _claim(self, given: dict[bytes, bytes]) -> None:
        use = self._protocol.gate.use
        if use.address_rate.is_on:
            use.address_rate.count(self._protocol.address())
        text = claim_path.ticket_of(given.get(b"authorization"))
        wish = claim_path.wish_of(self.body, given.get(b"content-type"))
        ticket = use.claims.open_ticket(text)
        use.member_rate.count(ticket.member)
        use.claims.submit(self._drop, ticket, wish.item, wish.quantity, self.tell)

    def _ticket(self, session: Session, given: dict[bytes, bytes]) -> None:
        wish = claim_path.wish_of(self.body, given.get(b"content-type"))
        issued = self._protocol.gate.use.claims.issue_ticket(session, self._drop, wish.item, wish.quantity)
        self.write(claim_path.rendered_ticket(issued))


class ClaimProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol with the gate in it, and with bounds on a request's head, which uvicorn lacks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gate: Gate = self.app_state["gate"]
        self._head_bytes = -1  # of the request whose head is coming in; -1 between requests
        self._deadline: asyncio.TimerHandle | None = None
        self._answered_s = 0.0
        self._exchange: Exchange | None = None  # the newest request, when it is the gate's
        self._given: dict[bytes, bytes] = {}

    def address(self) -> str:
        """The client's address, as uvicorn's ProxyHeadersMiddleware tells it to the app."""
        client = self.client[0] if self.client else ""
        trusted = self.config.loaded_app.trusted_hosts
        forwarded = [value for name, value in self.headers if name == b"x-forwarded-for"]
        if not forwarded or client not in trusted:
            return client
        host, _ = trusted.get_trusted_client_address(b", ".join(forwarded).decode("latin-1"))
        return host or client

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head_bytes >= 0:
            self._wait_for_head(len(data))

    def connection_lost(self, exc: Exception | None) -> None:
        self._clear_deadline()
        super()._unset_keepalive_if_required()
        super().connection_lost(exc)

    def _unset_keepalive_if_required(self) -> None:
        """Nothing: one timer serves many requests, for a timer a request costs more than reading the request."""

    def timeout_keep_alive_handler(self) -> None:
        self.timeout_keep_alive_task = None
        is_busy = self._head_bytes >= 0 or (self.cycle is not None and not self.cycle.response_complete)
        idle_s = self.loop.time() - self._answered_s
        if is_busy or idle_s < self.timeout_keep_alive:
            rest_s = self.timeout_keep_alive - (0 if is_busy else idle_s)
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

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._head_bytes = -1
        self._exchange = exchange = self._recognise()
        if exchange is not None:
            self.cycle = cast("RequestResponseCycle", exchange)
        else:
            self._clear_deadline()
            self._hand_over()

    def on_body(self, body: bytes) -> None:
        if self._exchange is not None:
            self._exchange.body += body
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._exchange is not None:
            self._clear_deadline()
            given, self._given = self._given, _NO_HEADERS
            self._exchange.run(given)
        else:
            super().on_message_complete()

    def _recognise(self) -> Exchange | None:
        """The exchange of a request that the gate can answer by itself; None for any other."""
        found = _PATH.fullmatch(self.url.removeprefix(self.gate.root_path))
        if found is None or self.parser.get_method() != b"POST":
            return None
        before = self.cycle
        if (before is not None and not before.response_complete) or self.flow.write_paused:
            return None
        given = dict(self.headers)
        if len(given) != len(self.headers) or not _NOT_PLAIN.isdisjoint(given):
            return None
        if int(given.get(b"content-length", b"0")) > CLAIM_BODY_BYTES_MAX:
            return None
        drop_id, route = found.groups()
        drop = self.gate.use.drops.known(drop_id.decode())
        if drop is None:
            return None
        session = None
        if route == b"ticket":
            session = self.gate.session(given.get(b"authorization", b""), drop)
            if session is None:
                return None
        self._given = given
        exchange = Exchange(self, drop, session)
        if not self.parser.should_keep_alive() or self.parser.get_http_version() == "1.0":
            exchange.keep_alive = False
        return exchange

    def _hand_over(self) -> None:
        """Let the ASGI app answer: what `on_message_begin` left out is made up for."""
        url, headers = self.url, self.headers
        super().on_message_begin()
        super().on_url(url)
        for name, value in headers:
            super().on_header(name, value)
        super().on_headers_complete()

    def _wait_for_head(self, count: int) -> None:
        """Bound what a head that comes in pieces may weigh and how long it may take."""
        self._head_bytes += count
        if self._head_bytes > HEAD_BYTES_MAX:
            self._refuse(problems.head_too_large())
        elif self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_S_MAX, self._refuse, problems.too_slow())

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, told: Told) -> None:
        """Answer what never became a request, and close."""
        if not self.transport.is_closing():
            head = self.gate.head(told, self.server_state.default_headers)
            self.transport.write(
                b"%bcontent-length: %d\r\nconnection: close\r\n\r\n%b" % (head, len(told.body), told.body)
            )
            self.transport.close()


def _lines(headers: Mapping[str, str]) -> bytes:
    return "".join([f"{name.lower()}: {value}\r\n" for name, value in headers.items()]).encode("latin-1")
