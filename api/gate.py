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
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple, cast

import structlog
from starlette.middleware.cors import CORSMiddleware
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from api import claim as claim_path
from api import problems
from api.claim import Told, Wish
from api.deps import Services
from api.edge import HEADERS, Answers, log_answer, request_id_of
from engine.bounds import CLAIM_BODY_BYTES_MAX, HEAD_BYTES_MAX, REQUEST_S_MAX
from engine.claims.model import Claim
from engine.claims.ticket import Ticket
from engine.drops.model import Drop
from engine.errors import FlashclaimError
from engine.members.model import Session
from engine.members.session import SessionInvalid
from engine.rates.model import SlowDown

_PATH = re.compile(rb"/v1/drops/([a-z0-9][a-z0-9-]{0,63})/(claims|ticket)")
_NOT_PLAIN = {b"expect", b"transfer-encoding", b"upgrade"}
_CLAIM_ROUTE, _TICKET_ROUTE = "/v1/drops/{drop_id}/claims", "/v1/drops/{drop_id}/ticket"
_PLACES_KEPT_S = 0.25  # how long a URL's drop is taken without a look at how old it is
_log = structlog.get_logger(__name__)
_APPS, _OURS, _NOBODYS = "the app's", "the exchange's", "nobody's"  # whose a request is


class _NobodyWaits:
    """Stands for the event that uvicorn's own cycles wait for; nobody waits for an exchange's."""

    def set(self) -> None: ...


class Place(NamedTuple):
    """What a URL of the gate's leads to."""

    drop: Drop
    route: str


class Gate:
    """What the connections of one process share: the services, and what is the same from answer to answer."""

    def __init__(self, services: Services, cors: CORSMiddleware | None) -> None:
        self.use = services
        self.answers = Answers()
        self.logs_access = services.settings.access_log
        self._root_path = services.settings.root_path.encode()
        self._places: dict[bytes, Place] = {}
        self.has_cors = cors is not None
        self._cors = cors
        self._dated: object = None
        self._heads: dict[int, bytes] = {}

    def place(self, url: bytes) -> Place | None:
        """Where a URL leads; None when that is not the gate's, or is a drop that is not in memory."""
        known = self._places.get(url)
        if known is not None:
            return known
        found = _PATH.fullmatch(url.removeprefix(self._root_path))
        drop = self.use.drops.known(found[1].decode()) if found else None
        if found is None or drop is None:
            return None
        if not self._places:
            asyncio.get_running_loop().call_later(_PLACES_KEPT_S, self._places.clear)
        place = self._places[url] = Place(drop, _CLAIM_ROUTE if found[2] == b"claims" else _TICKET_ROUTE)
        return place

    def head(self, told: Told, server_headers: list[tuple[bytes, bytes]]) -> bytes:
        """The answer's head up to its length; uvicorn makes new headers each second."""
        if server_headers is not self._dated:
            self._dated, self._heads = server_headers, {}
        found = self._heads.get(told.status)
        if found is None:
            headers = [*server_headers, *HEADERS, (b"content-type", told.media_type.encode())]
            lines = b"".join([b"%b: %b\r\n" % header for header in headers])
            found = self._heads[told.status] = STATUS_LINE[told.status] + lines + b"content-length: "
        return found

    def session(self, authorization: bytes) -> Session | None:
        """Who asks for a ticket; None when the app must find out, or must refuse."""
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        try:
            found = self.use.sessions.verify_now(token.strip().decode("latin-1"))
        except SessionInvalid:
            return None
        # A member without attributes is completed from the ledger, which also knows whose other accounts count as one.
        return found if found is not None and (found.attributes or found.role == "operator") else None

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
        return _lines({**headers, "Vary": "Origin"})


class Exchange:
    """A request on the gate and its answer; to uvicorn it looks like a `RequestResponseCycle` of its own.

    Each connection has one for all its requests, for they follow each other: the next is recognised when this one is
    answered. Thousands wait at the same time while a batch is at the store: each keeps as little as it can.
    """

    message_event = _NobodyWaits()
    disconnected = False

    def __init__(self, protocol: "ClaimProtocol") -> None:
        self._protocol = protocol
        self._gate = protocol.gate
        self.response_complete = True
        self.more_body = False

    def begin(self, place: Place, given: dict[bytes, bytes], session: Session | None, *, keep_alive: bool) -> None:
        """A request's head is here; `given` holds its headers. Without a session it is a claim."""
        self._drop, self._route = place
        self._given = given
        self._session = session
        self.keep_alive = keep_alive
        self.body = b""
        self.more_body = True
        self.response_complete = False
        if self._gate.logs_access:
            self._path = self._protocol.url.decode("ascii")
            self._started_s = perf_counter()

    def run(self) -> None:
        """Do what the request asks, now that it is here as a whole."""
        self.more_body = False
        try:
            if self._session is None:
                self._claim()
            else:
                self._ticket(self._session)
        except SlowDown as error:
            self._gate.use.control.tell_late(self.write, problems.told(error))
        except FlashclaimError as error:
            self.write(problems.told(error))
        except Exception:  # noqa: BLE001 (whatever broke, the client gets an answer)
            _log.exception("request failed")
            self.write(problems.broken())

    def tell(self, answer: Claim | FlashclaimError) -> None:
        """Write what became of the claim; the batcher calls it."""
        try:
            told = claim_path.rendered(answer) if isinstance(answer, Claim) else problems.told(answer)
        except Exception:  # noqa: BLE001 (whatever broke, the client gets an answer)
            _log.exception("answer failed")
            told = problems.broken()
        self.write(told)

    def write(self, told: Told) -> None:
        """Write the answer, unless the client has gone; then let the connection go on."""
        protocol, gate = self._protocol, self._gate
        self.response_complete = True
        gate.answers.count(self._route, told.status)
        transport = protocol.transport
        request_id = request_id_of(self._given.get(b"x-request-id"))
        if gate.logs_access:
            took_s = perf_counter() - self._started_s
            log_answer("POST", self._route, self._path, told.status, took_s, request_id)
        if self.disconnected or transport.is_closing():
            return
        more = gate.cors(self._given.get(b"origin")) if gate.has_cors else b""
        if told.headers:
            more += _lines(told.headers)
        if not self.keep_alive:
            more += b"connection: close\r\n"
        transport.write(
            b"%b%d\r\nx-request-id: %b\r\n%b\r\n%b"
            % (gate.head(told, protocol.server_state.default_headers), len(told.body), request_id, more, told.body)
        )
        if not self.keep_alive:
            transport.close()
        protocol.on_response_complete()

    def _claim(self) -> None:
        use, given = self._gate.use, self._given
        ticket, wish = claim_path.admitted(use.claims, use.control, self._protocol.address, given, self.body)
        if use.control.shared is None:
            use.claims.submit(self._drop, ticket, wish.item, wish.quantity, self.tell)
            return
        wanted = use.control.wanted(self._protocol.address(), given.get(b"x-client-key"), ticket.member)
        use.control.shared.ask(wanted, partial(self._go_on, ticket, wish))

    def _go_on(self, ticket: Ticket, wish: Wish, refused: SlowDown | None) -> None:
        """The shared buckets have spoken."""
        if refused is not None:
            self._gate.use.control.tell_late(self.write, problems.told(refused))
            return
        try:
            self._gate.use.claims.submit(self._drop, ticket, wish.item, wish.quantity, self.tell)
        except FlashclaimError as error:
            self.tell(error)

    def _ticket(self, session: Session) -> None:
        use, address = self._gate.use, self._protocol.address
        self.write(claim_path.ticketed(use.claims, use.control, address, self._given, self.body, session, self._drop))


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
        if place.route is _TICKET_ROUTE:
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


def _lines(headers: Mapping[str, str]) -> bytes:
    return "".join([f"{name.lower()}: {value}\r\n" for name, value in headers.items()]).encode("latin-1")
