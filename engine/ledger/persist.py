"""The persistence worker: reads the outboxes as a consumer group, writes, and only then acknowledges and trims.

What one worker read and did not commit stays pending; the same worker takes it up again, or another one does after a
while. The worker never ends because a store is away: it says so, waits, and goes on where it was.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Protocol

import structlog
from prometheus_client import Counter, Gauge, Histogram
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

import lua
from engine.bounds import INGEST_ENTRIES_MAX, STORE_TIMEOUT_S, TAKE_OVER_IDLE_MS
from engine.claims import keys
from engine.claims.outbox import GROUP, StreamEntry, entry_order
from engine.errors import Unavailable
from engine.runtime.connections import LEDGER_AWAY

BLOCK_MS = 250
BACK_OFF_S_MAX = 5.0
HOUSEKEEPING_S = 2.0  # between two looks for the pending entries of the dead, and between two trims

ENTRIES = Counter("flashclaim_ledger_entries", "Outbox entries written to the ledger", ["partition"])
DEAD_LETTERS = Counter(
    "flashclaim_dead_letters", "Outbox entries that could not be written as they stand", ["partition"]
)
LAG_SECONDS = Gauge(
    "flashclaim_ledger_lag_seconds", "Age of the oldest entry of the last read at commit", ["partition"]
)
READ_SECONDS = Histogram("flashclaim_ledger_read_seconds", "Time to write one read and commit it")
_log = structlog.get_logger(__name__)


class Writer(Protocol):
    """The ledger as a worker writes it: one read of the outbox is one transaction."""

    async def write(self, partition: int, stream: str, entries: Sequence[StreamEntry]) -> int:
        """Write entries down; how many went to the dead letters. Nothing is there before `commit`."""
        ...

    async def commit(self) -> None: ...


OpenWriter = Callable[[], AbstractAsyncContextManager[Writer]]


class Persister:
    """One worker: writes the outboxes of all partitions into the ledger until it is told to stop.

    `open_writer` opens the ledger (`engine.ledger.ingest.writer_of`); `name` is the consumer's name in the group: it
    must differ from those of all other workers that live.
    """

    def __init__(self, redis: "Redis", open_writer: OpenWriter, partitions: int, name: str) -> None:
        self._redis = redis
        self._open_writer = open_writer
        self._partitions = partitions
        self._name = name

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then leave the outboxes' groups."""
        async with asyncio.TaskGroup() as group:
            for partition in range(self._partitions):
                group.create_task(self._persist(partition, stop))
        with suppress(TimeoutError):
            async with asyncio.timeout(STORE_TIMEOUT_S):
                for partition in range(self._partitions):
                    with suppress(RedisError):  # it may be away, or have no group yet: nothing depends on it
                        await Outbox(self._redis, partition, self._name).leave()

    async def _persist(self, partition: int, stop: asyncio.Event) -> None:
        back_off_s = 0.1
        while not stop.is_set():
            try:
                async with self._open_writer() as writer:
                    outbox = Outbox(self._redis, partition, self._name)
                    await outbox.open()
                    while not stop.is_set():
                        await self._step(writer, outbox)
                        back_off_s = 0.1
            except (*LEDGER_AWAY, RedisError, Unavailable) as error:
                _log.warning("store away", partition=partition, error=str(error)[:200], wait_s=back_off_s)
                await _wait(stop, back_off_s)
                back_off_s = min(BACK_OFF_S_MAX, back_off_s * 2)

    async def _step(self, writer: Writer, outbox: "Outbox") -> None:
        entries = await outbox.read()
        label = str(outbox.partition)
        if not entries:
            LAG_SECONDS.labels(label).set(0)
            return
        started_s = time.monotonic()
        buried = await writer.write(outbox.partition, outbox.stream, entries)
        await writer.commit()
        await outbox.acknowledge([entry_id for entry_id, _ in entries])
        READ_SECONDS.observe(time.monotonic() - started_s)
        LAG_SECONDS.labels(label).set(max(0.0, time.time() - entry_order(entries[0][0])[0] / 1000))
        ENTRIES.labels(label).inc(len(entries))
        if buried:
            DEAD_LETTERS.labels(label).inc(buried)
            _log.error("dead letters", partition=outbox.partition, entries=buried)


class Outbox:
    """One partition's stream, read as one consumer of the group `ledger`."""

    def __init__(self, redis: "Redis", partition: int, consumer: str) -> None:
        self.partition = partition
        self.stream = keys.outbox(partition)
        self._redis = redis
        self._consumer = consumer
        self._next = "0"  # first what this consumer left pending, then what is new
        self._clock = asyncio.get_running_loop().time
        self._tended_s = self._clock()
        self._oldest: tuple[bytes | None, float] = (None, self._tended_s)  # entry pending, since when it is the oldest

    async def open(self) -> None:
        """Make the group where it is missing; it begins with the oldest entry."""
        try:
            await self._redis.xgroup_create(self.stream, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    async def read(self) -> list[StreamEntry]:
        """The next entries in order, at most 64; none when nothing came for a while."""
        if self._clock() - self._tended_s > HOUSEKEEPING_S:
            self._tended_s = self._clock()
            await self.trim()
            taken = await self._take_over()
            if taken:
                return taken
        answer = await self._redis.xreadgroup(
            GROUP, self._consumer, {self.stream: self._next}, count=INGEST_ENTRIES_MAX, block=BLOCK_MS
        )
        entries = _entries(answer)
        if not entries and self._next == "0":
            self._next = ">"
            return await self.read()
        return entries

    async def acknowledge(self, entry_ids: Sequence[bytes]) -> None:
        await self._redis.xack(self.stream, GROUP, *entry_ids)

    async def leave(self) -> None:
        """Take this consumer out of the group. One with entries pending stays: whoever takes them over finds them."""
        await self._redis.eval(lua.load("leave").text, 1, self.stream, GROUP, self._consumer)

    async def trim(self) -> None:
        """Drop the entries that every group has acknowledged, and nothing else."""
        oldest_needed: bytes | None = None
        for group in await self._redis.xinfo_groups(self.stream):
            pending = await self._redis.xpending(self.stream, group["name"])
            needed = pending["min"] or group["last-delivered-id"]
            if oldest_needed is None or entry_order(needed) < entry_order(oldest_needed):
                oldest_needed = needed
        if oldest_needed is not None:
            await self._redis.xtrim(self.stream, minid=oldest_needed.decode(), approximate=False)

    async def _take_over(self) -> list[StreamEntry]:
        """Entries that another worker read long ago and never acknowledged: it is dead, or as good as.

        Long by this worker's clock too: the store's may have been set back.
        """
        oldest = (await self._redis.xpending(self.stream, GROUP))["min"]
        if oldest is None or oldest != self._oldest[0]:
            self._oldest = (oldest, self._tended_s)
        is_long = oldest is not None and (self._tended_s - self._oldest[1]) * 1000 > TAKE_OVER_IDLE_MS
        _, entries, _ = await self._redis.xautoclaim(
            self.stream, GROUP, self._consumer, 0 if is_long else TAKE_OVER_IDLE_MS, count=INGEST_ENTRIES_MAX
        )
        return [(entry_id, fields) for entry_id, fields in entries if fields is not None]


def _entries(answer: object) -> list[StreamEntry]:
    """The entries of an XREADGROUP answer on one stream: a list with RESP2, a mapping with RESP3."""
    if not answer:
        return []
    if isinstance(answer, dict):
        (pages,) = answer.values()
        return [(entry_id, fields) for page in pages for entry_id, fields in page]
    assert isinstance(answer, list)
    return [(entry_id, fields) for entry_id, fields in answer[0][1]]


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
