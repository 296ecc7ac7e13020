"""A served app, and what clients and tests do to it; what every answer must have."""

import asyncio
import json
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.app import create_app
from api.exchange import Gate
from api.gate import ClaimProtocol
from engine.drops.figures import LiveFigures
from engine.members.model import Role, Session
from engine.members.session import SessionTokens
from engine.runtime.settings import Settings
from tests.contract.line import Answer, Headers, Line, request
from tests.factories.drops import drop_json

Kind = Literal["gate", "twin"]
REQUEST_ID = "r-1.a_B"
SECURITY = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
EVERY_ANSWER = {"date", "content-type", "content-length", "x-request-id", *SECURITY}
_JSON = ("Content-Type", "application/json")


class Front:
    """A served app, and what clients and tests do to it."""

    def __init__(self, kind: Kind, settings: Settings, config: dict[str, Any]) -> None:
        self.kind = kind
        self.is_gate = kind == "gate"
        self.tokens = SessionTokens(settings)
        self.app = create_app(settings)
        self.by_gate = 0  # answers that the gate wrote, not the app
        self.config = uvicorn.Config(
            self.app,
            http=ClaimProtocol if self.is_gate else HttpToolsProtocol,
            loop="none",
            lifespan="on",
            access_log=False,
            log_level="warning",
            server_header=False,
            forwarded_allow_ips=settings.trusted_proxies,
            **{"timeout_graceful_shutdown": 10, **config},
        )
        self.server = uvicorn.Server(self.config)
        self.may_break = False  # whether the test breaks something on purpose
        self._lines: list[Line] = []

    async def begin(self) -> None:
        self.loop = asyncio.get_running_loop()
        # With its protocol named: else asyncio leaves Nagle's algorithm on, and each of the app's answers takes 40 ms.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.bind(("127.0.0.1", 0))
        self.port = int(listener.getsockname()[1])
        self.serving = asyncio.create_task(self.server.serve(sockets=[listener]))
        while not self.server.started:
            assert not self.serving.done(), "the server did not start"
            await asyncio.sleep(0.002)

    @property
    def gate(self) -> Gate:
        found: Gate = self.server.lifespan.state["gate"]
        return found

    async def end(self) -> None:
        """End at once; a test of the graceful end sets `server.should_exit` and awaits `serving` itself."""
        for line in self._lines:
            await line.close()
        if self.serving.done():
            return
        self.serving.cancel()
        with suppress(asyncio.CancelledError):
            await self.serving
        for listener in self.server.servers:
            listener.close()
        if self.server.server_state.tasks:
            await asyncio.wait(self.server.server_state.tasks, timeout=5)
        await self.server.lifespan.shutdown()
        for connection in list(self.server.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)

    async def line(self, **options: Any) -> Line:
        """A connection; `options` are asyncio's, among them a socket that is connected already."""
        place: dict[str, Any] = {} if "sock" in options else {"host": "127.0.0.1", "port": self.port}
        line = Line(*await asyncio.open_connection(**place, **options))
        self._lines.append(line)
        return line

    def protocol(self, line: Line) -> HttpToolsProtocol:
        """The server's side of a line, for a test that must choose which bytes arrive together."""
        for found in self.server.server_state.connections:
            if isinstance(found, HttpToolsProtocol) and found.client and found.client[1] == line.port:
                return found
        raise AssertionError("the server has no such connection")

    async def ask(self, data: bytes, method: str = "POST") -> Answer:
        """The answer to a request on a connection of its own."""
        line = await self.line()
        answer = await line.ask(data, method)
        await line.close()
        return answer

    def bearer(self, name: str = "m-1", role: Role = "member") -> tuple[str, str]:
        return "Authorization", f"Bearer {self.tokens.issue(Session(name, name, role, {}), 600)}"

    async def operate(self, method: str, path: str, body: Any = None) -> Answer:
        headers = [self.bearer("boss", "operator"), _JSON]
        return await self.ask(request(method, path, headers, json.dumps(body).encode() if body else b""))

    async def launched(self, drop_id: str = "trial", **more: Any) -> None:
        """A claimable drop that is in the server's memory: the gate leaves any other to the app."""
        assert (await self.operate("POST", "/v1/drops", drop_json(drop_id, **more))).status == 201
        assert (await self.operate("POST", f"/v1/drops/{drop_id}/launch")).status == 200
        await self.remember(drop_id)

    async def remember(self, drop_id: str = "trial") -> None:
        assert (await self.ask(request("GET", f"/v1/drops/{drop_id}"))).status == 200

    def ticket_request(self, member: str = "m-1", drop_id: str = "trial", body: bytes = b"") -> bytes:
        return request("POST", f"/v1/drops/{drop_id}/ticket", [self.bearer(member), ("X-Request-ID", REQUEST_ID)], body)

    async def ticket(self, member: str = "m-1", drop_id: str = "trial", body: bytes = b"") -> str:
        answer = await self.ask(self.ticket_request(member, drop_id, body))
        assert answer.status == 200, answer
        return str(answer.json()["ticket"])

    async def tickets(self, number: int) -> list[str]:
        """Tickets of as many members."""
        return [await self.ticket(f"m-{member}") for member in range(1, number + 1)]

    async def taken(self, drop_id: str = "trial") -> int:
        """Units given out, as the store has them."""
        found: LiveFigures = await self.app.state.services.drops.live(drop_id)
        return sum(item.taken for item in found.items)


def claim_request(
    ticket: str, body: bytes = b"", headers: Headers = (), target: str = "/v1/drops/trial/claims", version: str = "1.1"
) -> bytes:
    own = [("Authorization", f"Ticket {ticket}"), ("X-Request-ID", REQUEST_ID)]
    return request("POST", target, [*own, *headers], body, version)


def told(answer: Answer, status: int, code: str | None = None, more: Sequence[str] = ()) -> dict[str, Any]:
    """The members of an answer's body, after checking all that answers to a request with `REQUEST_ID` have."""
    assert answer.status == status, answer
    assert set(answer.headers) == EVERY_ANSWER | set(more), answer
    assert {name: answer.headers[name] for name in SECURITY} == SECURITY
    assert answer.headers["x-request-id"] == REQUEST_ID
    found = answer.json()
    if code is None:
        assert answer.headers["content-type"] == "application/json"
    else:
        assert answer.headers["content-type"] == "application/problem+json"
        assert (found["code"], found["status"]) == (code, status)
    return found
