"""How many claims one worker writes into the ledger in a second.

Real Valkey and PostgreSQL in a new directory; the outbox is filled with entries of 512 claims, then one worker empties
it. The figure beside it is the same rows written by single-row INSERTs, one transaction each, as most people write it.
"""

import asyncio
import os
import random
import statistics
import time
from collections.abc import Callable

from sqlalchemy import text

from engine.claims import keys
from engine.claims.durability import Durability
from engine.claims.store import RedisStore
from engine.claims.wire import ClaimRequest, pack_request
from engine.ledger.audit import wait_until_recorded
from engine.ledger.ingest import writer_of
from engine.ledger.migrations import migrate
from engine.ledger.persist import Persister
from engine.runtime.connections import Stores, open_ledger, open_redis
from loadtests.stage import servers

ENTRY_CLAIMS, ENTRIES, SINGLE_ROWS = 512, 400, 2_000
_INSERT = text(
    "insert into claims (drop_id, partition, serial, item, quantity, member_id, subject, nonce, epoch, claimed_at)"
    " values ('single', 0, :serial, 1, 1, :member, :member, :nonce, 1, now()) on conflict do nothing"
)


async def fill(stores: Stores, drop_id: str) -> int:
    """Fill the outbox of partition 0; the number of claims."""
    serial = 1
    members = random.sample(range(10_000_000), ENTRIES * ENTRY_CLAIMS)  # they come in no order
    for _ in range(ENTRIES):
        packed = b"".join(
            pack_request(ClaimRequest(os.urandom(8), 1, 1, f"member-{members[number]}", f"member-{members[number]}"))
            for number in range(serial - 1, serial - 1 + ENTRY_CLAIMS)
        )
        at_ms = int(time.time() * 1000)
        entry = {"kind": "claim", "drop": drop_id, "epoch": 1, "at": at_ms, "serial": serial, "claims": packed}
        await stores.redis.xadd(keys.outbox(0), entry)  # type: ignore[arg-type]
        serial += ENTRY_CLAIMS
    return serial - 1


async def ingest_rate(stores: Stores, number: int) -> float:
    """Claims written in a second by one worker, from its first read to its last acknowledgement."""
    claims = await fill(stores, f"round-{number}")
    stop = asyncio.Event()
    began_s = time.perf_counter()
    working = asyncio.create_task(Persister(stores.redis, writer_of(stores.ledger), 1, "bench").run(stop))
    if not await wait_until_recorded(stores.redis, 1, 120):
        raise RuntimeError("the worker did not finish within two minutes")
    took_s = time.perf_counter() - began_s
    stop.set()
    await working
    return claims / took_s


async def single_row_rate(stores: Stores, number: int) -> float:
    """Rows written in a second, one INSERT and one transaction each."""
    began_s = time.perf_counter()
    async with stores.ledger.connect() as connection:
        for row in range(SINGLE_ROWS):
            serial = number * SINGLE_ROWS + row + 1
            await connection.execute(_INSERT, {"serial": serial, "member": f"m-{serial}", "nonce": os.urandom(8)})
            await connection.commit()
    return SINGLE_ROWS / (time.perf_counter() - began_s)


async def _measure(redis_url: str, postgres_url: str, rounds: int, say: Callable[[str], None]) -> tuple[float, float]:
    redis = open_redis(redis_url)
    stores = Stores(redis, open_ledger(postgres_url), RedisStore(redis, Durability()))
    await migrate(stores.ledger)
    ours, single = [], []
    for number in range(rounds):
        single.append(await single_row_rate(stores, number))
        ours.append(await ingest_rate(stores, number))
        say(f"ledger {number + 1}/{rounds}  worker {ours[-1]:>9,.0f} rows/s   single rows {single[-1]:>7,.0f} rows/s")
    await stores.redis.aclose()
    await stores.ledger.dispose()
    return statistics.median(ours), statistics.median(single)


def measure(rounds: int, say: Callable[[str], None]) -> tuple[float, float]:
    """Rows a second: of one worker, and of single-row inserts; medians."""
    with servers() as (_, redis_url, postgres_url):
        return asyncio.run(_measure(redis_url, postgres_url, rounds, say))
