"""A proxy on the way to a store, whose line can be made bad while connections run.

All proxies of a stack run on one event loop in a thread of its own, so that a test may block meanwhile. What a line
does is its `Line`; what happens to a connection in the middle of a certain exchange is a `Trap`.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from engine.runtime.servers import free_port

Upstream = int | str  # a port on this machine, or the path of a unix socket
_PIECE_BYTES = 65_536
_ANSWER_S_MAX = 10.0  # of the proxies' own thread
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: close sends RST


@dataclass(frozen=True, slots=True)
class Line:
    """How bytes are carried: each piece is cut to `piece_bytes` and waits `latency_s`; a stalled line carries none."""

    latency_s: float = 0.0
    piece_bytes: int = _PIECE_BYTES
    is_stalled: bool = False


GOOD = Line()
SLOW = Line(latency_s=0.05, piece_bytes=512)
STALLED = Line(is_stalled=True)  # half-open: connections are accepted and stay, nothing is passed on until it heals


@dataclass(slots=True)
class Trap:
    """Springs once, when a client sends bytes that hold `needle`: before they are passed on, or at the reply to them.

    Then `spring` is called and the connection is reset; what was held back is never passed on.
    """

    needle: bytes
    at_reply: bool
    spring: Callable[[], object]
    sprung: threading.Event = field(default_factory=threading.Event)


class Proxies:
    """The thread in which proxies run."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)
        self._thread.start()
        self._opened: list[Proxy] = []

    def open(self, upstream: Upstream) -> "Proxy":
        """A proxy that listens on a port of its own."""
        proxy = Proxy(self, upstream)
        self._opened.append(proxy)
        return proxy

    def close(self) -> None:
        for proxy in self._opened:
            proxy.refuse()
            proxy.carry(GOOD)
            proxy.reset()
        self.call(_settled())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_ANSWER_S_MAX)
        self._loop.close()

    def call(self, work: Coroutine[Any, Any, None]) -> None:
        """Have something done in the thread, and wait until it is."""
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_ANSWER_S_MAX)


class Proxy:
    """One way to one store. Its methods may be called from any thread; each is done when it returns."""

    def __init__(self, proxies: Proxies, upstream: Upstream) -> None:
        self.port = free_port()
        self._proxies = proxies
        self._upstream = upstream
        self._line = GOOD
        self._trap: Trap | None = None
        self._links: set[_Link] = set()
        self._server: asyncio.Server | None = None
        self._healed = asyncio.Event()
        self.listen()

    def carry(self, line: Line) -> None:
        """Change how bytes are carried, also on connections that are open."""
        self._proxies.call(self._carry(line))

    def reset(self) -> None:
        """Reset all connections, on both sides."""
        self._proxies.call(self._reset())

    def refuse(self) -> None:
        """Refuse new connections, as a port does on which nobody listens. Open ones stay."""
        self._proxies.call(self._refuse())

    def listen(self) -> None:
        self._proxies.call(self._listen())

    def switch(self, upstream: Upstream, *, resets: bool = True) -> None:
        """Lead to another server from now on; open connections are reset, or stay where they are."""
        self._upstream = upstream
        if resets:
            self.reset()

    def set_trap(self, trap: Trap | None) -> None:
        self._trap = trap

    async def _carry(self, line: Line) -> None:
        self._line = line
        healed, self._healed = self._healed, asyncio.Event()
        healed.set()

    async def _reset(self) -> None:
        for link in list(self._links):
            link.reset()

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", self.port, backlog=1_024)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(writer)
        self._links.add(link)
        try:
            there, back = await self._connected()
            link.writers.append(back)
            await asyncio.gather(self._ask(link, reader, back), self._answer(link, there, writer))
        except OSError:
            pass  # one end is gone: so is the other
        finally:
            self._links.discard(link)
            link.reset()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._upstream, int):
            return await asyncio.open_connection("127.0.0.1", self._upstream)
        return await asyncio.open_unix_connection(self._upstream)

    async def _ask(self, link: "_Link", reader: asyncio.StreamReader, store: asyncio.StreamWriter) -> None:
        """From the client to the store."""
        while data := await reader.read(_PIECE_BYTES):
            trap = self._trap
            if trap is not None and trap.needle in data:
                if not trap.at_reply:
                    self._spring(trap, link)
                    return
                link.trap = trap
            await self._pass_on(data, store)
        store.close()

    async def _answer(self, link: "_Link", reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        """From the store to the client."""
        while data := await reader.read(_PIECE_BYTES):
            if link.trap is not None and link.trap is self._trap:
                self._spring(link.trap, link)
                return
            await self._pass_on(data, client)
        client.close()

    async def _pass_on(self, data: bytes, to: asyncio.StreamWriter) -> None:
        at = 0
        while at < len(data):
            while self._line.is_stalled:
                await self._healed.wait()
            line = self._line
            if line.latency_s:
                await asyncio.sleep(line.latency_s)
            to.write(data[at : at + line.piece_bytes])
            at += line.piece_bytes
            await to.drain()

    def _spring(self, trap: Trap, link: "_Link") -> None:
        self._trap = None
        trap.spring()
        link.reset()
        trap.sprung.set()


class _Link:
    """A client's connection and the one to the store that belongs to it."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.writers = [client]
        self.trap: Trap | None = None

    def reset(self) -> None:
        for writer in self.writers:
            with suppress(OSError):  # a unix socket knows no RST, a closed one knows nothing
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()


async def _settled() -> None:
    """Wait until the connections that were reset are gone."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=_ANSWER_S_MAX / 2)
