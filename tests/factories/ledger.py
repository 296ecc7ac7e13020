"""Lets a worker write what is in the outbox, in this process."""

import asyncio

from engine.ledger.audit import wait_until_recorded
from engine.ledger.ingest import writer_of
from engine.ledger.persist import Persister
from engine.runtime.connections import Stores


async def record_all(stores: Stores, partitions: int = 1, name: str = "test") -> None:
    """Run one worker until the ledger has acknowledged everything that is in the outboxes now."""
    stop = asyncio.Event()
    working = asyncio.create_task(Persister(stores.redis, writer_of(stores.ledger), partitions, name).run(stop))
    try:
        assert await wait_until_recorded(stores.redis, partitions, 20)
    finally:
        stop.set()
        await working
