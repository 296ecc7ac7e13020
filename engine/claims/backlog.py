"""Watches how much lies in the outboxes: claims are shed before a ledger that is away fills the store's memory."""

import asyncio
from collections.abc import Set as AbstractSet
from contextlib import suppress

import structlog
from prometheus_client import Gauge
from redis.asyncio import Redis
from redis.exceptions import RedisError

from engine.bounds import OUTBOX_LOOK_S, OUTBOX_RELIEF, OUTBOX_SAMPLES
from engine.claims import keys

OUTBOX_BYTES = Gauge(
    "flashclaim_outbox_bytes",
    "Memory that the outbox takes in the store",
    ["partition"],
    multiprocess_mode="mostrecent",
)
_log = structlog.get_logger(__name__)


class Backlog:
    """Knows which partitions' outboxes are past their bound, as of the last look."""

    def __init__(self, redis: "Redis", partitions: int, bytes_max: int) -> None:
        self._redis = redis
        self._partitions = partitions
        self._bytes_max = bytes_max
        self.full: AbstractSet[int] = frozenset()

    async def watch(self, stop: asyncio.Event) -> None:
        """Look again and again, until `stop` is set. While the store is away the last look stands."""
        while not stop.is_set():
            try:
                await self.look()
            except (RedisError, OSError) as error:
                _log.warning("outboxes not seen", error=str(error)[:200])
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), OUTBOX_LOOK_S)

    async def look(self) -> None:
        """Weigh each outbox once."""
        full = set()
        for partition in range(self._partitions):
            size = await self._redis.memory_usage(keys.outbox(partition), samples=OUTBOX_SAMPLES) or 0
            OUTBOX_BYTES.labels(str(partition)).set(size)
            if size > self._bytes_max * (OUTBOX_RELIEF if partition in self.full else 1):
                full.add(partition)
        if full != self.full:
            _log.error("outbox past its bound" if full else "outbox within its bound", partitions=sorted(full))
        self.full = full
