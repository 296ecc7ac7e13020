"""One connection to the store on which calls follow each other without waiting for replies.

redis-py makes the connection: address, TLS, password, database. From then on its transport is ours: a call is one
write, a reply is one callback. Through redis-py's own streams and pool the same call took three turns of the event loop
more and about 100 µs of a busy process, for each batch (docs/performance.md).
"""

import asyncio
from collections import deque
from typing import Any, cast

import hiredis
from redis.asyncio.connection import AbstractConnection

from engine.bounds import STORE_TIMEOUT_S


class PipeBroken(ConnectionError):
    """The connection ended, or hung, before the reply came."""


class Pipe(asyncio.Protocol):
    """Sends commands and matches their replies, which come in the same order."""

    def __init__(self, connection: AbstractConnection) -> None:
        """Take over a connection that redis-py has just made."""
        self._reader = hiredis.Reader()
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._loop = asyncio.get_running_loop()
        # There is no public way to the transport; whoever holds the writer last closes it.
        self._writer = cast("asyncio.StreamWriter", connection._writer)
        connection._reader = connection._writer = None
        self._transport = self._writer.transport
        self._transport.set_protocol(self)

    @property
    def is_open(self) -> bool:
        return not self._transport.is_closing()

    def call(self, *command: bytes | str | int) -> asyncio.Future[Any]:
        """Send a command; its reply, or `hiredis.ReplyError`, or `PipeBroken` when none came in time.

        The caller may go away: the reply is taken from the line all the same.
        """
        reply: asyncio.Future[Any] = self._loop.create_future()
        if self._transport.is_closing():
            reply.set_exception(PipeBroken("the connection has ended"))
            return reply
        if not self._waiting:
            self._deadline = self._loop.call_later(STORE_TIMEOUT_S, self._hang_up)
        self._waiting.append(reply)
        self._transport.write(hiredis.pack_command(command))  # type: ignore[arg-type]  # its stub says one word
        return reply

    def close(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            if isinstance(reply, hiredis.PushNotification):
                continue
            waiting = self._waiting.popleft()
            self._deadline.cancel()
            if self._waiting:
                self._deadline = self._loop.call_later(STORE_TIMEOUT_S, self._hang_up)
            if waiting.done():
                continue
            if isinstance(reply, hiredis.ReplyError):
                waiting.set_exception(reply)
            else:
                waiting.set_result(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        waiting, self._waiting = self._waiting, deque()
        if waiting:
            self._deadline.cancel()
        for reply in waiting:
            if not reply.done():
                reply.set_exception(PipeBroken(f"the connection ended: {exc or 'closed by the store'}"))

    def _hang_up(self) -> None:
        self._transport.abort()
