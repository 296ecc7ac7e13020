"""The promise: what a fault test says of a line is what happened on it."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from tests.faults.proxy import GOOD, STALLED, Line, Proxies, Proxy, Trap

WAIT_S = 5.0


class Echo:
    """A server that answers each piece with its name and the piece, and keeps what it heard."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.heard = b""

    async def __aenter__(self) -> "Echo":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                self.heard += data
                writer.write(self.name + data)
                await writer.drain()
        except OSError:
            pass  # the proxy reset the line: that is what is tested
        finally:
            writer.transport.abort()


@pytest.fixture
def proxies() -> Iterator[Proxies]:
    made = Proxies()
    yield made
    made.close()


async def ask(proxy: Proxy, said: bytes = b"hello") -> bytes:
    """What comes back to one piece on a new connection; nothing when it is closed without a word."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        writer.write(said)
        return await asyncio.wait_for(reader.read(65_536), WAIT_S)
    finally:
        writer.transport.abort()


async def test_a_good_line_passes_everything(proxies: Proxies) -> None:
    async with Echo(b"a ") as server:
        assert await ask(proxies.open(server.port)) == b"a hello"


async def test_a_slow_line_takes_its_time_for_each_piece(proxies: Proxies) -> None:
    async with Echo(b"") as server:
        proxy = proxies.open(server.port)
        proxy.carry(Line(latency_s=0.05, piece_bytes=2))
        started_s = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"abcdef")
        assert await asyncio.wait_for(reader.readexactly(6), WAIT_S) == b"abcdef"
        assert time.monotonic() - started_s >= 4 * 0.05  # three pieces there, and the last one back
        writer.transport.abort()


async def test_a_stalled_line_accepts_and_delivers_only_when_it_heals(proxies: Proxies) -> None:
    async with Echo(b"a ") as server:
        proxy = proxies.open(server.port)
        proxy.carry(STALLED)
        asking = asyncio.create_task(ask(proxy))
        await asyncio.sleep(0.2)
        assert server.heard == b""
        assert not asking.done()
        proxy.carry(GOOD)
        assert await asking == b"a hello"


async def test_a_reset_reaches_both_ends_and_new_connections_are_good(proxies: Proxies) -> None:
    async with Echo(b"a ") as server:
        proxy = proxies.open(server.port)
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"x")
        assert await reader.read(10) == b"a x"
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(10), WAIT_S)
        writer.transport.abort()
        assert await ask(proxy) == b"a hello"


async def test_a_refused_line_refuses_until_it_listens_again(proxies: Proxies) -> None:
    async with Echo(b"a ") as server:
        proxy = proxies.open(server.port)
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            await ask(proxy)
        proxy.listen()
        assert await ask(proxy) == b"a hello"


@pytest.mark.parametrize(("at_reply", "heard"), [(False, b""), (True, b"do it")])
async def test_a_trap_springs_once_before_the_request_or_at_its_reply(
    proxies: Proxies, at_reply: bool, heard: bytes
) -> None:
    async with Echo(b"a ") as server:
        proxy = proxies.open(server.port)
        calls: list[str] = []
        trap = Trap(b"do", at_reply, lambda: calls.append("sprung"))
        proxy.set_trap(trap)
        assert await ask(proxy, b"other") == b"a other"
        server.heard = b""
        with pytest.raises(ConnectionResetError):
            await ask(proxy, b"do it")
        assert (calls, server.heard, trap.sprung.is_set()) == (["sprung"], heard, True)
        assert await ask(proxy, b"do it") == b"a do it"


async def test_a_switched_line_leads_to_the_other_server(proxies: Proxies) -> None:
    async with Echo(b"a ") as first, Echo(b"b ") as second:
        proxy = proxies.open(first.port)
        assert await ask(proxy) == b"a hello"
        proxy.switch(second.port)
        assert await ask(proxy) == b"b hello"
