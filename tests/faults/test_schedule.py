"""The promise: a job is done once, though workers are killed in its middle, several run, or PostgreSQL goes away.

On real processes: `flashclaim worker`, as an operator starts it, on servers of its own.
"""

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.drops import times
from engine.drops.model import Actor, Status
from engine.drops.service import Drops
from engine.ledger import actions
from engine.ledger.actions import _ADVISORY_LOCK
from engine.ledger.audit import audit, wait_until_recorded
from engine.ledger.schema import events, schedule
from engine.runtime.connections import LEDGER_AWAY, Stores, open_stores
from engine.schedule.model import State
from tests.factories.drops import drop_spec
from tests.faults.stack import Part, Stack

BOSS = Actor("boss")
JOBS = 40
WITHIN_S = 60.0
pytestmark = pytest.mark.timeout(150)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with tempfile.TemporaryDirectory(prefix="fc-schedule-") as name:
        Path(name).chmod(0o755)
        made = Stack(Path(name))
        made.start()
        yield made
        made.stop()
        assert made.survivors() == []


@pytest.fixture
async def stores(stack: Stack) -> AsyncIterator[Stores]:
    async with open_stores(stack.settings) as found:
        yield found


async def launched(stores: Stores, drop_id: str, opens_in_s: float, lasts_s: float) -> Drops:
    opens = datetime.now(UTC) + timedelta(seconds=opens_in_s)
    drops = Drops(stores.redis, stores.scripts, stores.ledger, 1)
    closes = (opens + timedelta(seconds=lasts_s)).isoformat()
    await drops.create(drop_spec(drop_id, opens, closes_at=closes), BOSS)
    await drops.launch(drop_id, BOSS)
    return drops


async def until(holds: Callable[[], Awaitable[bool]], what: str, within_s: float = WITHIN_S) -> None:
    deadline = time.monotonic() + within_s
    while True:
        try:
            if await holds():
                return
        except LEDGER_AWAY:
            pass  # it is started again
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.02)


async def states(stores: Stores, drop_id: str) -> dict[str, str]:
    async with stores.ledger.connect() as connection:
        query = select(schedule.c.kind, schedule.c.state).where(schedule.c.object == f"drop:{drop_id}")
        return {row.kind: row.state for row in await connection.execute(query)}


async def until_done(stores: Stores, drop_id: str) -> None:
    async def are_done() -> bool:
        return set((await states(stores, drop_id)).values()) == {State.DONE}

    await until(are_done, f"the jobs of {drop_id} are done")


async def announced(stores: Stores, drop_id: str) -> Counter[str]:
    async with stores.ledger.connect() as connection:
        return Counter(await connection.scalars(select(events.c.kind).where(events.c.object == f"drop:{drop_id}")))


async def waiters(connection: AsyncConnection) -> int:
    """Connections that wait for a lock."""
    return await connection.scalar(text("select count(*) from pg_locks where not granted")) or 0


async def until_somebody_waits(stores: Stores) -> None:
    async def waits() -> bool:
        async with stores.ledger.connect() as connection:
            return await waiters(connection) > 0

    await until(waits, "a worker is in the middle of a job")


async def acts(stores: Stores, drop_id: str) -> list[str]:
    async with stores.ledger.connect() as connection:
        return [f"{act.verb} by {act.actor}" for act in await actions.on_drop(connection, drop_id)]


async def test_a_worker_that_is_killed_in_a_job_has_done_nothing_and_the_next_does_it_once(
    stack: Stack, stores: Stores
) -> None:
    """It is held in the middle of its transaction, before its event can be written."""
    await launched(stores, "held", 1.0, 3_600)
    async with stores.ledger.begin() as holding:
        await holding.execute(text("lock table events in share mode"))
        await until_somebody_waits(stores)
        await asyncio.to_thread(stack.worker.kill)
    await asyncio.sleep(0.5)
    assert await announced(stores, "held") == Counter()
    assert (await states(stores, "held"))["drop-opens"] == State.WAITING
    await asyncio.to_thread(stack.worker.start)

    async def is_announced() -> bool:
        return (await announced(stores, "held")).total() == 2

    await until(is_announced, "the opening and the wave are announced")
    await asyncio.sleep(1)
    assert await announced(stores, "held") == Counter({"drop-opened": 1, "wave-released": 1})


async def test_a_worker_that_is_killed_between_store_and_ledger_has_closed_the_drop_once(
    stack: Stack, stores: Stores
) -> None:
    """The store has closed it, the ledger has no row of that yet: the outbox tells of it, and the job is done again."""
    drops = await launched(stores, "cut", -60, 62)
    async with stores.ledger.begin() as holding:
        await holding.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})

        async def is_closed_in_the_store() -> bool:
            return (await drops.live("cut")).status == Status.CLOSED

        await until(is_closed_in_the_store, "the store has closed the drop")
        await until_somebody_waits(stores)
        await asyncio.to_thread(stack.worker.kill)
    assert (await drops.read("cut")).status is Status.LAUNCHED
    await asyncio.to_thread(stack.worker.start)
    await until_done(stores, "cut")
    assert await acts(stores, "cut") == ["create by boss", "launch by boss", "close by schedule"]
    assert (await announced(stores, "cut"))["drop-closed"] == 1
    assert (await drops.read("cut")).status is Status.CLOSED
    assert await wait_until_recorded(stores.redis, 1, WITHIN_S)
    report = await audit(stores, 1, stack.settings.receipt_keyring, "cut")
    assert report.details == []


async def plan_many(stores: Stores, name: str, in_s: float) -> list[str]:
    """Drops that all end in the same second."""
    ids = [f"{name}-{number}" for number in range(JOBS)]
    ends = datetime.now(UTC) + timedelta(seconds=in_s)
    for drop_id in ids:
        await launched(stores, drop_id, -60, 60 + (ends - datetime.now(UTC)).total_seconds())
    return ids


async def closed_once(stores: Stores, ids: list[str]) -> None:
    for drop_id in ids:
        await until_done(stores, drop_id)
        assert await acts(stores, drop_id) == ["create by boss", "launch by boss", "close by schedule"], drop_id
        wanted = Counter({"drop-opened": 1, "wave-released": 1, "drop-closed": 1})
        assert await announced(stores, drop_id) == wanted, drop_id


async def test_two_workers_of_which_one_is_killed_do_every_job_once(stack: Stack, stores: Stores) -> None:
    second = Part("second worker", stack.worker_command("worker-2"))
    await asyncio.to_thread(second.start)
    try:
        ids = await plan_many(stores, "two", 6.0)

        async def some_are_closed() -> bool:
            async with stores.ledger.connect() as connection:
                query = text("select count(*) from drops where id like 'two-%' and status = 'closed'")
                return (await connection.scalar(query) or 0) > JOBS // 8

        await until(some_are_closed, "some drops are closed")
        await asyncio.to_thread(stack.worker.kill)
        await closed_once(stores, ids)
    finally:
        await asyncio.to_thread(second.stop)
        await asyncio.to_thread(stack.worker.start)


async def test_postgresql_that_is_killed_and_started_again_meanwhile_is_waited_for(
    stack: Stack, stores: Stores
) -> None:
    ids = await plan_many(stores, "down", 5.0)
    ends = datetime.fromisoformat(max([name for _, name in await _closings(stores, ids)]))
    await asyncio.sleep(max(0.0, (ends - datetime.now(UTC)).total_seconds()))
    for _ in range(2):
        await asyncio.sleep(0.15)
        await asyncio.to_thread(stack.postgres.kill)
        await asyncio.sleep(1)
        await asyncio.to_thread(stack.postgres.start)
    await closed_once(stores, ids)


async def _closings(stores: Stores, ids: list[str]) -> list[tuple[str, str]]:
    async with stores.ledger.connect() as connection:
        query = select(schedule.c.object, schedule.c.name).where(schedule.c.kind == times.CLOSES)
        found = await connection.execute(query.where(schedule.c.object.in_([f"drop:{drop_id}" for drop_id in ids])))
        return [(row.object, row.name) for row in found]
