"""A request on the gate and its answer, and what the connections of a process share."""

import asyncio
import re
from collections.abc import Callable, Mapping
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import structlog
from starlette.middleware.cors import CORSMiddleware
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from api import claim as claim_path
from api import problems
from api.claim import Told
from api.deps import Services
from api.edge import HEADERS, Answers, log_answer, request_id_of
from engine.claims.model import Claim
from engine.drops.model import Drop
from engine.errors import FlashclaimError
from engine.members.model import Session
from engine.members.session import SessionInvalid
from engine.rates.model import SlowDown

if TYPE_CHECKING:
    from api.gate import ClaimProtocol

_PATH = re.compile(rb"/v1/drops/([a-z0-9][a-z0-9-]{0,63})/(claims|ticket)")
CLAIM_ROUTE, TICKET_ROUTE = "/v1/drops/{drop_id}/claims", "/v1/drops/{drop_id}/ticket"
_PLACES_KEPT_S = 0.25  # how long a URL's drop is taken without a look at how old it is
_log = structlog.get_logger(__name__)


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
        """Where a URL leads; None when that is not the gate's: its drop is not in memory, or asks the ledger."""
        known = self._places.get(url)
        if known is not None:
            return known
        found = _PATH.fullmatch(url.removeprefix(self._root_path))
        drop = self.use.drops.known(found[1].decode()) if found else None
        if found is None or drop is None:
            return None
        if found[2] == b"ticket" and drop.spec.eligibility.asks_ledger:
            return None  # the app asks it, and whoever is waited for there waits for nothing here
        if not self._places:
            asyncio.get_running_loop().call_later(_PLACES_KEPT_S, self._places.clear)
        place = self._places[url] = Place(drop, CLAIM_ROUTE if found[2] == b"claims" else TICKET_ROUTE)
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
        self._do(self._claim if self._session is None else partial(self._ticket, self._session))

    def _do(self, act: Callable[[], None]) -> None:
        """Act for the client, who gets an answer also when it breaks."""
        try:
            act()
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
        wanted = use.control.claims.wanted(self._protocol.address(), given.get(b"x-client-key"), ticket.member)
        submit = partial(use.claims.submit, self._drop, ticket, wish.item, wish.quantity, self.tell)
        use.control.shared.ask(wanted, partial(self._go_on, submit))

    def _ticket(self, session: Session) -> None:
        control, address = self._gate.use.control, self._protocol.address()
        client_key, member = self._given.get(b"x-client-key"), session.member_id.encode()
        control.check_asker(address, client_key, member)
        if control.shared is None:
            self._issue(session)
            return
        control.shared.ask(
            control.tickets.wanted(address, client_key, member), partial(self._go_on, partial(self._issue, session))
        )

    def _issue(self, session: Session) -> None:
        self.write(claim_path.ticketed(self._gate.use.claims, self._given, self.body, session, self._drop))

    def _go_on(self, act: Callable[[], None], refused: SlowDown | None) -> None:
        """The shared buckets have spoken."""
        if refused is None:
            self._do(act)
        else:
            self._gate.use.control.tell_late(self.write, problems.told(refused))


def _lines(headers: Mapping[str, str]) -> bytes:
    return "".join([f"{name.lower()}: {value}\r\n" for name, value in headers.items()]).encode("latin-1")
