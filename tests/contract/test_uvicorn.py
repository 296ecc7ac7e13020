"""The promise: an upgrade of uvicorn that breaks what the gate relies on fails here, and says where to look."""

import asyncio
import inspect
import re
from typing import Any

import httptools
import pytest
import uvicorn
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from api.exchange import Exchange
from api.gate import ClaimProtocol
from tests.contract.conftest import Start, Store
from tests.contract.front import Front, claim_request
from tests.contract.line import request
from tests.contract.test_slow_readers import PADDING, TIMES, slow_line, until_no_more_is_answered

CHANGED = "uvicorn changed: see api/gate.py"
OVERRIDDEN = {name for name in vars(ClaimProtocol) if hasattr(HttpToolsProtocol, name) and not name.startswith("__")}


def source(of: Any) -> str:
    return re.sub(r"\s+", " ", inspect.getsource(of))


def test_it_is_the_version_that_the_gate_was_read_against() -> None:
    assert uvicorn.__version__.startswith("0.54."), CHANGED


@pytest.mark.parametrize("name", sorted(OVERRIDDEN))
def test_what_the_gate_overrides_takes_what_it_took(name: str) -> None:
    ours, theirs = getattr(ClaimProtocol, name), getattr(HttpToolsProtocol, name)
    assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters), CHANGED


def test_what_the_gate_overrides_and_calls_is_there() -> None:
    wanted = {
        "data_received", "connection_lost", "_unset_keepalive_if_required", "timeout_keep_alive_handler",
        "on_response_complete", "on_message_begin", "on_url", "on_header", "on_headers_complete", "on_body",
        "on_message_complete", "eof_received", "shutdown", "send_400_response",
    }  # fmt: skip
    assert {name for name in wanted if not callable(getattr(HttpToolsProtocol, name, None))} == set(), CHANGED


@pytest.mark.parametrize(
    ("caller", "call"),
    [
        (HttpToolsProtocol.__init__, "self.parser = httptools.HttpRequestParser(self)"),
        (HttpToolsProtocol.__init__, "self.loop = _loop or"),
        (HttpToolsProtocol.__init__, "self.app_state = app_state"),
        (HttpToolsProtocol.__init__, "self.timeout_keep_alive = config.timeout_keep_alive"),
        (HttpToolsProtocol.data_received, "self._unset_keepalive_if_required()"),
        (HttpToolsProtocol.data_received, "self.parser.feed_data(data)"),
        (HttpToolsProtocol.connection_made, "self.flow = FlowControl(transport)"),
        (HttpToolsProtocol.connection_lost, "self.cycle.disconnected = True"),
        (HttpToolsProtocol.connection_lost, "self.cycle.message_event.set()"),
        (HttpToolsProtocol.on_message_begin, 'self.url = b""'),
        (HttpToolsProtocol.on_message_begin, "self.headers = []"),
        (HttpToolsProtocol.on_message_begin, '"headers": self.headers'),
        (HttpToolsProtocol.on_url, "self.url += url"),
        (HttpToolsProtocol.on_header, "self.headers.append((name, value))"),
        (HttpToolsProtocol.on_headers_complete, "existing_cycle is None or existing_cycle.response_complete"),
        (HttpToolsProtocol.on_headers_complete, "self.flow.pause_reading() self.pipeline.appendleft("),
        (HttpToolsProtocol.on_headers_complete, 'keep_alive=http_version != "1.0" and self.parser.should_keep_alive()'),
        (HttpToolsProtocol.on_headers_complete, "on_response=self.on_response_complete"),
        (HttpToolsProtocol.on_response_complete, "self.server_state.total_requests += 1"),
        (HttpToolsProtocol.on_response_complete, "self.flow.resume_reading()"),
        (HttpToolsProtocol.on_response_complete, "if self.pipeline: cycle, app = self.pipeline.pop()"),
        (HttpToolsProtocol.on_response_complete, "self.timeout_keep_alive_task = self.loop.call_later("),
        (HttpToolsProtocol.shutdown, "self.cycle is None or self.cycle.response_complete"),
        (HttpToolsProtocol.shutdown, "self.cycle.keep_alive = False"),
        (uvicorn.Server.on_tick, "self.server_state.default_headers = date_header + self.config.encoded_headers"),
        (uvicorn.Server.shutdown, "connection.shutdown()"),
    ],
)  # fmt: skip
def test_the_lines_that_the_gate_stands_on_are_there(caller: Any, call: str) -> None:
    """These read uvicorn's source: what they say has no outside that a test could watch on its own."""
    assert call in source(caller), f"{CHANGED}: {caller.__qualname__} no longer has {call!r}"


def test_the_parser_tells_of_a_request_in_the_order_that_the_gate_knows() -> None:
    seen: list[str] = []

    class Told:
        def __getattr__(self, name: str) -> Any:
            if not name.startswith("on_"):
                raise AttributeError(name)
            return lambda *_: seen.append(name)

    parser = httptools.HttpRequestParser(Told())
    for byte in request("POST", "/a", [("X-A", "b")], b"cd") * 2:  # split anywhere: a header comes whole
        parser.feed_data(bytes((byte,)))
    once = ["begin", "url", "header", "header", "header", "headers_complete", "body", "message_complete"]
    kept = [name for at, name in enumerate(seen) if name not in {"on_url", "on_body"} or seen[at - 1] != name]
    assert [name.removeprefix("on_").replace("message_begin", "begin") for name in kept] == once * 2, CHANGED
    assert parser.get_method() == b"POST", CHANGED
    assert parser.get_http_version() == "1.1", CHANGED
    assert parser.should_keep_alive(), CHANGED


def test_a_status_line_is_bytes_with_its_end() -> None:
    assert STATUS_LINE[201] == b"HTTP/1.1 201 Created\r\n", CHANGED
    assert STATUS_LINE[431] == b"HTTP/1.1 431 Request Header Fields Too Large\r\n", CHANGED


def test_an_exchange_has_what_uvicorn_asks_of_a_cycle() -> None:
    """Whatever the protocol reads or sets on `self.cycle` outside what the gate hands to it."""
    text = "".join(source(getattr(HttpToolsProtocol, name)) for name in ("connection_lost", "shutdown"))
    asked = set(re.findall(r"self\.cycle\.(\w+)", text))
    assert asked == {"response_complete", "disconnected", "message_event", "keep_alive"}, CHANGED
    made = source(RequestResponseCycle.__init__)
    for name in (*asked, "more_body", "body"):
        assert f"self.{name} = " in made, f"{CHANGED}: a cycle has no {name}"
        assert hasattr(Exchange, name) or name in "".join(Exchange.begin.__code__.co_names), name


async def test_a_connection_has_what_the_gate_reads(front: Front, store: Store) -> None:
    await front.launched()
    ticket = await front.ticket()
    line = await front.line()
    store.hold()
    await line.send(claim_request(ticket) + request("GET", "/v1/drops/trial"))
    await store.until_asked()
    protocol = front.protocol(line)
    assert isinstance(protocol.flow, FlowControl), CHANGED
    assert (protocol.flow.read_paused, protocol.flow.write_paused) == (front.is_gate, False), CHANGED
    assert len(protocol.pipeline) == 1, CHANGED
    assert protocol.cycle is protocol.pipeline[0][0], f"{CHANGED}: the newest request is `cycle`"
    assert not protocol.cycle.response_complete, CHANGED
    assert isinstance(protocol.parser, httptools.HttpRequestParser), CHANGED
    assert (protocol.timeout_keep_alive_task is None) is not front.is_gate, CHANGED
    assert protocol.client == ("127.0.0.1", line.port), CHANGED
    assert protocol.app_state["gate"] is front.gate, CHANGED
    assert protocol.config is front.config, CHANGED
    store.release()
    await line.read()
    await line.read()
    after = front.protocol(line)  # the same one, of which the type checker has not heard anything yet
    assert isinstance(after.timeout_keep_alive_task, asyncio.TimerHandle), CHANGED
    assert after.cycle.response_complete, CHANGED
    assert protocol in front.server.server_state.connections, CHANGED


async def test_the_headers_of_every_answer_are_a_new_list_each_second(start: Start) -> None:
    """The gate keeps finished heads for as long as the list is the same one."""
    front = await start()
    state = front.server.server_state
    first = state.default_headers
    assert [name for name, _ in first] == [b"date"], CHANGED
    await front.server.on_tick(1)
    assert state.default_headers is first, CHANGED
    await front.server.on_tick(10)
    assert state.default_headers is not first, CHANGED
    assert front.server.server_state is state, CHANGED


async def test_the_trusted_proxies_are_where_the_gate_looks_for_them(front: Front) -> None:
    loaded = front.config.loaded_app
    assert isinstance(loaded, ProxyHeadersMiddleware), CHANGED
    assert "127.0.0.1" in loaded.trusted_hosts, CHANGED
    assert "10.0.0.1" not in loaded.trusted_hosts, CHANGED
    assert loaded.trusted_hosts.get_trusted_client_address("6.6.6.6, 1.1.1.1:80") == ("1.1.1.1", 80), CHANGED
    assert loaded.trusted_hosts.get_trusted_client_address("") == ("", 0), CHANGED


@pytest.mark.parametrize("start", ["gate"], indirect=True)
async def test_uvicorn_calls_what_the_gate_overrides(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    called: set[str] = set()

    def noting(name: str, own: Any) -> Any:
        def noted(protocol: ClaimProtocol, *args: Any) -> Any:
            called.add(name)
            return own(protocol, *args)

        return noted

    for name in OVERRIDDEN:
        monkeypatch.setattr(ClaimProtocol, name, noting(name, getattr(ClaimProtocol, name)))
    front = await start(config={"timeout_keep_alive": 0.05})
    await front.launched()
    line = await front.line()
    await line.ask(claim_request("nonsense", b"{}"))
    assert await line.is_closed(within_s=1)
    other = await front.line()
    await other.ask(b"nonsense\r\n\r\n")
    ending = await front.line()
    ending.end_writing()
    assert await ending.is_closed(within_s=1)
    slow = await slow_line(front)
    slow.send_unread(claim_request("nonsense", headers=[PADDING]) * TIMES)
    await until_no_more_is_answered(front, slow)
    for _ in range(TIMES):
        await slow.read()
    front.server.config.timeout_keep_alive = 5  # a connection that is there at the end
    await front.line()
    front.server.should_exit = True
    async with asyncio.timeout(5):
        await front.serving
    assert OVERRIDDEN - called == set(), CHANGED


def test_nothing_else_of_uvicorn_is_imported() -> None:
    import api.exchange
    import api.gate

    text = inspect.getsource(api.gate) + inspect.getsource(api.exchange)
    names = set(re.findall(r"from (uvicorn[\w.]*) import", text))
    assert names == {httptools_impl.__name__}
