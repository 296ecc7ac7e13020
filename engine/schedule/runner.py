"""Does the jobs of the schedule when they are due: one of the parts of a worker.

A job is taken by a lock on its row, done, and marked in one transaction. So what it does in the ledger is done once,
however many workers there are; whoever is killed in the middle has done nothing, and the next one does it. What one job
does to itself, and how long it takes, is nothing to the others: several are done at once, each by itself.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress

import structlog
from prometheus_client import Counter, Gauge, Histogram
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.bounds import (
    JOB_ATTEMPTS_MAX,
    JOB_S_MAX,
    JOBS_AT_ONCE,
    LEDGER_LOCK_TIMEOUT,
    SCHEDULE_LOOK_S,
)
from engine.drops.service import Drops
from engine.errors import FlashclaimError, Unavailable
from engine.ledger import migrations
from engine.runtime.connections import LEDGER_AWAY, LEDGER_CONNECTIONS_MAX, Stores
from engine.runtime.telemetry import without_secrets
from engine.schedule import store
from engine.schedule.handler import Kind, Work
from engine.schedule.kinds import KINDS
from engine.schedule.kinds.drops import plan_open
from engine.schedule.model import Job, Later, pause_s

LATE_SECONDS = Histogram(
    "flashclaim_schedule_late_seconds",
    "How late a job was begun, behind its time",
    ["kind"],
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
OVERDUE_SECONDS = Gauge("flashclaim_schedule_overdue_seconds", "How long the oldest job waits whose time is over")
FAILED = Gauge("flashclaim_schedule_failed", "Jobs that are tried no more: an operator has to look")
FAILURES = Counter("flashclaim_schedule_failures", "Attempts that failed", ["kind"])
BACK_OFF_S_MAX = 5.0
_log = structlog.get_logger(__name__)

assert 2 * JOBS_AT_ONCE + 1 <= LEDGER_CONNECTIONS_MAX, "or jobs would wait for connections that other jobs hold"


class Runner:
    """Does jobs until it is told to stop. `stores` are its own, for each job holds connections to the ledger."""

    def __init__(self, stores: Stores, partitions: int, kinds: Mapping[str, Kind] = KINDS) -> None:
        self._stores = stores
        self._partitions = partitions
        self._drops = Drops(stores.redis, stores.scripts, stores.ledger, partitions, stores.dealer)
        self._kinds = kinds
        self._at_once = {name: kind.at_once for name, kind in kinds.items()}
        self._turn = asyncio.Lock()  # of those that are free one looks for work, and the others wait

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; what is being done then is ended first. A ledger that is away is waited for."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._catch_up(stop))
            for _ in range(JOBS_AT_ONCE):
                group.create_task(self._work(stop))

    async def _catch_up(self, stop: asyncio.Event) -> None:
        is_done = False
        while not (is_done or stop.is_set()):
            try:
                await plan_open(self._stores.ledger)
                is_done = True
            except (*LEDGER_AWAY, FlashclaimError) as error:
                _log.warning("open drops not planned", error=str(error)[:200], wait_s=BACK_OFF_S_MAX)
                await _pause(stop, BACK_OFF_S_MAX)

    async def _work(self, stop: asyncio.Event) -> None:
        back_off_s = 0.1
        while not stop.is_set():
            try:
                async with AsyncExitStack() as stack:
                    async with self._turn:
                        connection = await stack.enter_async_context(self._stores.ledger.connect())
                        taken = await self._next(connection, stop)
                    if taken:
                        await self._do(connection, taken)
                back_off_s = 0.1
            except (*LEDGER_AWAY, FlashclaimError) as error:
                _log.warning("schedule waits", error=without_secrets(str(error))[:200], wait_s=back_off_s)
                await _pause(stop, back_off_s)
                back_off_s = min(BACK_OFF_S_MAX, back_off_s * 2)
            except Exception:  # noqa: BLE001 (whatever broke, the other jobs and the claims must go on)
                _log.exception("schedule waits")
                await _pause(stop, BACK_OFF_S_MAX)

    async def _next(self, connection: AsyncConnection, stop: asyncio.Event) -> list[tuple[Job, float]]:
        """Wait for the next jobs that are due, and take them; none at the end."""
        while not stop.is_set():
            await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
            taken = await store.take(connection, self._at_once)
            if taken:
                return taken
            found = await store.outlook(connection)
            await connection.commit()
            OVERDUE_SECONDS.set(found.late_s)
            FAILED.set(found.failed)
            await _pause(stop, SCHEDULE_LOOK_S if found.next_s is None else min(SCHEDULE_LOOK_S, found.next_s))
        return []

    async def _do(self, connection: AsyncConnection, taken: Sequence[tuple[Job, float]]) -> None:
        jobs = [job for job, _ in taken]
        failed = await self._attempt(connection, jobs)
        if failed and len(jobs) > 1:
            failed = await self._attempt_each(connection, jobs)
        if connection.invalidated:
            await connection.rollback()
        for job in jobs:
            if job.id in failed:
                await self._note(connection, job, failed[job.id])
        await connection.commit()
        for job, late_s in taken:
            if job.id not in failed:
                LATE_SECONDS.labels(job.kind).observe(late_s)
                _log.info("done", job=job.id, kind=job.kind, object=job.object, late_ms=round(late_s * 1000))

    async def _attempt_each(self, connection: AsyncConnection, jobs: Sequence[Job]) -> dict[int, Exception]:
        """Do each by itself, to see which of them it was."""
        failed: dict[int, Exception] = {}
        for job in jobs:
            failed |= await self._attempt(connection, [job])
            if connection.invalidated:
                raise failed[job.id]  # with the connection went what was done, and the others are nobody's any more
        return failed

    async def _attempt(self, connection: AsyncConnection, jobs: Sequence[Job]) -> dict[int, Exception]:
        """Do jobs of one kind and mark them; or undo all of it, and say why, by their ids."""
        try:
            # In a savepoint: what failed is undone, and the jobs stay ours until that is noted.
            async with asyncio.timeout(JOB_S_MAX), connection.begin_nested():
                await self._kinds[jobs[0].kind].do(jobs, Work(connection, self._stores, self._drops, self._partitions))
                await store.done(connection, jobs)
        except Exception as error:  # noqa: BLE001 (a job that fails, however it does, is tried again)
            return {job.id: error for job in jobs}
        return {}

    async def _note(self, connection: AsyncConnection, job: Job, error: Exception) -> None:
        """Write down why a job was not done, and when it is tried again; by a new connection where this one ended."""
        await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
        if isinstance(error, Later):
            await store.put_off(connection, job, error.wait_s, str(error))
            return
        why = without_secrets(f"{type(error).__name__}: {error}")[:300]
        is_over = job.attempts + 1 >= JOB_ATTEMPTS_MAX and not isinstance(error, Unavailable | RedisError)
        await store.failed(connection, job, why, None if is_over else pause_s(job.attempts + 1))
        FAILURES.labels(job.kind).inc()
        facts = {"job": job.id, "kind": job.kind, "object": job.object, "attempts": job.attempts + 1}
        (_log.error if is_over else _log.warning)("job failed", error=why, is_over=is_over, **facts)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
