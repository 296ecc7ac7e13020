"""Processes, servers and the connections between them: what is sent comes late, or the connection breaks.

A request that was sent is delivered though its sender has died; an answer to a dead process is lost. On one connection
the order is kept, across connections it is not.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.loop import PROCESS, SimulatedLoop

TIMEOUT_S = 5.0  # of one call, as engine.bounds.STORE_TIMEOUT_S


class Broken(ConnectionError):
    """The connection ended before the answer came."""


@dataclass
class Weather:
    """How the network is: `delay_s` is the usual delay at most; the others are chances of one call."""

    delay_s: float = 0.002
    slow: float = 0.0  # of a delay up to 0.4 s
    broken: float = 0.0  # of the connection breaking, before or after the request has arrived
    immediate: float = 0.6  # of no delay at all, so that a run is quick


class Process:
    """Something that can be killed: nothing that it would have done from then on happens."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_alive = True
        self._tasks: dict[asyncio.Task[Any], None] = {}

    def adopt(self, task: "asyncio.Task[Any]") -> None:
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    def spawn(self, coro: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        context = copy_context()
        context.run(PROCESS.set, self)
        return context.run(asyncio.get_running_loop().create_task, coro)

    def kill(self) -> None:
        """Its tasks unwind, but can reach nobody any more: as if they had never been resumed."""
        self.is_alive = False
        for task in list(self._tasks):
            task.cancel()


class Server:
    """A store or a ledger as the network sees it: up or down, with the connections that lead to it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_up = True
        self.life = 1  # counts its starts
        self.lines: dict[Line, None] = {}

    def ready_s(self, now_s: float) -> float:
        """When the answer to what was just done may be sent."""
        return now_s

    def break_lines(self) -> None:
        for line in list(self.lines):
            line.breaks()


@dataclass
class Network:
    loop: SimulatedLoop
    chance: random.Random
    weather: Weather = field(default_factory=Weather)
    sent: int = 0

    def delay_s(self) -> float:
        draw = self.chance.random
        if draw() < self.weather.slow:
            return draw() * 0.4
        return 0.0 if draw() < self.weather.immediate else draw() * self.weather.delay_s

    def line(self, process: Process, server: Server) -> "Line":
        """A new connection; raises `Broken` when the server is down."""
        if not process.is_alive:
            raise asyncio.CancelledError
        if not server.is_up:
            raise Broken(f"{server.name} refuses connections")
        return Line(self, process, server)

    async def call(self, process: Process, server: Server, do: Callable[[], Any]) -> Any:
        """One call on a connection of its own."""
        line = self.line(process, server)
        try:
            return await line.call(do)
        finally:
            line.close()


class Line:
    """A connection: calls on it arrive in order, and so do their answers."""

    def __init__(self, network: Network, process: Process, server: Server) -> None:
        self._network = network
        self.process = process
        self._server = server
        self._waiting: dict[asyncio.Future[Any], None] = {}
        self._there_s = self._back_s = 0.0
        self.is_open = True
        self._life = server.life
        self._is_lost = False  # what is still on its way does not arrive
        server.lines[self] = None

    async def call(self, do: Callable[[], Any]) -> Any:
        """What `do` returns or raises, done at the server in one step. Raises `Broken` when nobody can know."""
        if not self.process.is_alive:
            raise asyncio.CancelledError
        if not self.is_open:
            raise Broken("the connection has ended")
        network, loop = self._network, self._network.loop
        network.sent += 1
        fate = network.chance.random()
        delay_s = network.delay_s()
        now_s = loop.time()
        if fate > network.weather.broken and delay_s == 0.0 and self._is_idle(now_s):
            return await self._at_once(do)
        answer: asyncio.Future[Any] = loop.create_future()
        self._waiting[answer] = None
        self._there_s = max(self._there_s, now_s + delay_s)
        if fate < network.weather.broken / 2:
            self._is_lost = fate < network.weather.broken / 4
            loop.call_at(self._there_s, self.breaks)
        loop.call_at(self._there_s, self._deliver, do, answer)
        if 0 < network.weather.broken / 2 <= fate < network.weather.broken:
            loop.call_at(self._there_s + 1e-6, self.breaks)
        hang_up = loop.call_later(TIMEOUT_S, self.breaks)
        try:
            return await answer
        finally:
            hang_up.cancel()
            self._waiting.pop(answer, None)

    def _is_idle(self, now_s: float) -> bool:
        return not self._waiting and self._there_s <= now_s and self._back_s <= now_s and self._server.is_up

    async def _at_once(self, do: Callable[[], Any]) -> Any:
        """The quick way of most calls: no timer but the server's own."""
        loop = self._network.loop
        result = do()
        wait_s = self._server.ready_s(loop.time()) - loop.time()
        if wait_s <= 0:
            return result
        answer: asyncio.Future[Any] = loop.create_future()
        self._waiting[answer] = None
        self._back_s = loop.time() + wait_s
        loop.call_at(self._back_s, _tell, answer, result, None)
        try:
            return await answer
        finally:
            self._waiting.pop(answer, None)

    def _deliver(self, do: Callable[[], Any], answer: "asyncio.Future[Any]") -> None:
        is_lost = self._is_lost and not self.is_open
        if not self._server.is_up or self._server.life != self._life or is_lost:
            self.breaks()
            return
        result, error = None, None
        try:
            result = do()
        except Exception as raised:  # noqa: BLE001 (whatever the server says, the caller is told)
            error = raised
        loop = self._network.loop
        ready_s = self._server.ready_s(loop.time()) + self._network.delay_s()
        self._back_s = max(self._back_s, ready_s)
        loop.call_at(self._back_s, _tell, answer, result, error)

    def breaks(self) -> None:
        """Whoever waits for an answer never hears it."""
        self.close()
        for answer in list(self._waiting):
            if not answer.done():
                answer.set_exception(Broken("the connection ended"))

    def close(self) -> None:
        self.is_open = False
        self._server.lines.pop(self, None)


def _tell(answer: "asyncio.Future[Any]", result: Any, error: Exception | None) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)
