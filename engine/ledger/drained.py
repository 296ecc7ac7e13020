"""Wait until the ledger has what the outboxes hold now, however much comes behind it."""

import asyncio
import time

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from engine.claims import keys
from engine.claims.model import NotReady
from engine.claims.outbox import GROUP, entry_order

_POLL_S = 0.05


async def drain(redis: "Redis", partitions: int, wait_s: float) -> None:
    """Wait until the ledger has what the store has decided until now; raises `NotReady` past so many seconds."""
    if not await _wait_for(redis, await _marks(redis, partitions), wait_s):
        raise NotReady("the ledger has not caught up with the store: is a worker running? Try again", retry_after_s=5)


async def _marks(redis: "Redis", partitions: int) -> list[bytes]:
    """The last entry of each outbox, also of one that was trimmed since."""
    found = []
    for partition in range(partitions):
        try:
            found.append((await redis.xinfo_stream(keys.outbox(partition)))["last-generated-id"])
        except ResponseError:
            found.append(b"0-0")  # nothing was ever decided here
    return found


async def _wait_for(redis: "Redis", until: list[bytes], wait_s: float) -> bool:
    """Wait until the ledger has acknowledged each outbox up to its mark; whether it did within so many seconds."""
    deadline = time.monotonic() + wait_s
    while True:
        done = [await _has(redis, keys.outbox(partition), mark) for partition, mark in enumerate(until)]
        if all(done):
            return True
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_POLL_S)


async def _has(redis: "Redis", stream: str, mark: bytes) -> bool:
    if mark == b"0-0":
        return True
    groups = await redis.xinfo_groups(stream)
    delivered = next((group["last-delivered-id"] for group in groups if group["name"] == GROUP.encode()), b"0-0")
    if entry_order(delivered) < entry_order(mark):
        return False
    oldest = (await redis.xpending(stream, GROUP))["min"]
    return oldest is None or entry_order(oldest) > entry_order(mark)
