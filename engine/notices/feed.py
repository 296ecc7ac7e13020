"""New messages for those who listen, in one process: one connection to the ledger hears for all of its streams.

PostgreSQL tells that something was told; what it was is asked of the ledger, for all streams in one question, five
times a second at the most. Each stream remembers the number that it is at, so that nothing comes twice and nothing is
left out, also when nobody said that there is something new: it is looked for all the same, a little later.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import structlog
from prometheus_client import Counter, Gauge
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from engine.bounds import (
    STREAM_POLL_S,
    STREAM_QUEUE_MAX,
    STREAM_ROUND_S,
    STREAM_S_MAX,
    STREAMS_ASKED_MAX,
    STREAMS_MAX,
    STREAMS_PER_MEMBER_MAX,
    UNREAD_S_MAX,
)
from engine.notices import store
from engine.notices.model import Received, TooManyStreams
from engine.runtime.connections import LEDGER_AWAY

STREAMS = Gauge("flashclaim_message_streams", "Members' live streams that are open", multiprocess_mode="livesum")
CUT_OFF = Counter("flashclaim_message_streams_cut_off", "Streams that were ended because their reader was too slow")
_AWAY_S = 1.0  # until the ledger is tried again
_NOT_YET = 2**31 - 1  # the number that a stream is at before it is known
_log = structlog.get_logger(__name__)


class Stream:
    """One reader's messages, from the one behind `number` on, until the reader is too slow or has had its time."""

    def __init__(self, member_id: str, number: int) -> None:
        self.member_id = member_id
        self.number = number  # of the newest message that lies in the queue, or was taken out of it
        self.is_over = False
        self._queue: asyncio.Queue[Received] = asyncio.Queue(STREAM_QUEUE_MAX)
        self._full_since_s: float | None = None

    def put(self, received: Received) -> bool:
        """Take a message in; false where there is no room for it now."""
        if self._queue.full():
            return False
        self._queue.put_nowait(received)
        self.number = received.number
        return True

    def has_room(self, now_s: float) -> bool:
        """Whether there is room; a stream whose reader has taken nothing for long is ended."""
        if not self._queue.full():
            self._full_since_s = None
            return True
        self._full_since_s = self._full_since_s or now_s
        if now_s - self._full_since_s > UNREAD_S_MAX and not self.is_over:
            self.is_over = True
            CUT_OFF.inc()
        return False

    async def received(self) -> AsyncIterator[Received]:
        """The messages as they come; what lay in the queue of a stream that was ended still comes."""
        ends_s = asyncio.get_running_loop().time() + STREAM_S_MAX
        while not (self.is_over and self._queue.empty()):
            with suppress(TimeoutError):
                rest_s = ends_s - asyncio.get_running_loop().time()
                if rest_s <= 0:
                    return
                yield await asyncio.wait_for(self._queue.get(), rest_s)


class Feed:
    """The streams of one process; `run` serves them until it is told to stop."""

    def __init__(self, ledger: AsyncEngine) -> None:
        self._ledger = ledger
        self._streams: list[Stream] = []
        self._told = asyncio.Event()

    @asynccontextmanager
    async def stream(self, member_id: str, seen: int | None) -> AsyncIterator[Stream]:
        """A stream of a member's messages behind the one that was seen, or of those to come.

        Raises `TooManyStreams`.
        """
        of_member = sum(stream.member_id == member_id for stream in self._streams)
        if of_member >= STREAMS_PER_MEMBER_MAX or len(self._streams) >= STREAMS_MAX:
            raise TooManyStreams(
                f"too many live streams are open, {of_member} of them yours: ask GET /v1/me/messages, or come later",
                retry_after_s=5,
            )
        found = Stream(member_id, _NOT_YET)
        self._streams.append(found)
        STREAMS.inc()
        try:
            async with self._ledger.connect() as connection:
                last = await store.last(connection, member_id)
            # A number from the future was told by a ledger that was set back since: what comes now is new.
            found.number = last if seen is None else min(seen, last)
            self._told.set()
            yield found
        finally:
            self._streams.remove(found)
            STREAMS.dec()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve the streams until `stop` is set; while the ledger is away they wait."""
        while not stop.is_set():
            try:
                async with self._listening() as connection:
                    await self._serve(connection, stop)
            except LEDGER_AWAY as error:
                _log.warning("no live messages", error=str(error)[:200], wait_s=_AWAY_S)
                await _pause(stop, _AWAY_S)

    async def _serve(self, connection: AsyncConnection, stop: asyncio.Event) -> None:
        clock, looked_s = asyncio.get_running_loop().time, float("-inf")
        while not stop.is_set():
            if self._streams and (self._told.is_set() or clock() - looked_s >= STREAM_POLL_S):
                self._told.clear()
                looked_s = clock()
                streams = [stream for stream in self._streams if stream.has_room(looked_s)]
                for first in range(0, len(streams), STREAMS_ASKED_MAX):
                    await self._look(connection, streams[first : first + STREAMS_ASKED_MAX])
            await _pause(stop, STREAM_ROUND_S)

    async def _look(self, connection: AsyncConnection, streams: list[Stream]) -> None:
        """Give each stream what is new for it, as much as it has room for."""
        places = [(stream.member_id, stream.number) for stream in streams]
        found = await store.newer(connection, places, STREAM_QUEUE_MAX + 1)
        await connection.commit()
        taken = [streams[index].put(received) for index, received in found]
        if not all(taken):
            self._told.set()  # there is more than one round takes

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[AsyncConnection]:
        async with self._ledger.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection

            def heard(*_: object) -> None:
                self._told.set()

            await driver.add_listener(store.CHANNEL, heard)
            self._told.set()  # what was told before we listened
            try:
                yield connection
            finally:
                with suppress(*LEDGER_AWAY):
                    await driver.remove_listener(store.CHANNEL, heard)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
