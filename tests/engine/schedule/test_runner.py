"""The promise: each job is done once, on time, by one of the workers; one that fails or hangs holds up no other."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import REGISTRY
from redis.exceptions import ConnectionError as RedisConnectionError
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from engine.claims.model import StoreUnavailable
from engine.drops import times
from engine.ledger.schema import events, schedule
from engine.notices import service as notices
from engine.notices.model import Event
from engine.runtime.connections import Stores
from engine.schedule import runner, service
from engine.schedule.handler import Handler, Kind, Work
from engine.schedule.kinds import KINDS
from engine.schedule.model import Job, Later, State
from engine.schedule.runner import Runner
from tests.engine.notices.test_feed import cut
from tests.engine.schedule.test_store import plan, planned, rows


async def chime(jobs: Sequence[Job], work: Work) -> None:
    await notices.announce(work.connection, [Event("chimed", job.object, {"name": job.name}) for job in jobs])


@asynccontextmanager
async def working(stores: Stores, workers: int = 1, **more: Handler | Kind) -> AsyncIterator[None]:
    """Workers that do jobs of these kinds too, and chimes."""
    own = {name: found if isinstance(found, Kind) else Kind(found) for name, found in more.items()}
    stop, known = asyncio.Event(), {**KINDS, "chime": Kind(chime), **own}
    runners = [Runner(stores, 1, known) for _ in range(workers)]
    running = [asyncio.create_task(found.run(stop)) for found in runners]
    try:
        yield
    finally:
        stop.set()
        async with asyncio.timeout(20):
            await asyncio.gather(*running)


async def until(ledger: AsyncEngine, holds: Callable[[list[Job]], bool], within_s: float = 20.0) -> list[Job]:
    """The jobs, once they are as wanted."""
    async with asyncio.timeout(within_s):
        while not holds(found := await rows(ledger)):  # noqa: ASYNC110 (a table tells nobody that it changed)
            await asyncio.sleep(0.02)
    return found


def all_done(jobs: list[Job]) -> bool:
    return all(job.state is State.DONE for job in jobs)


async def chimes(ledger: AsyncEngine) -> Counter[str]:
    async with ledger.connect() as connection:
        return Counter(row.payload["name"] for row in await connection.execute(select(events.c.payload)))


class TestTime:
    async def test_is_kept_to_the_second_and_never_before(self, stores: Stores) -> None:
        await plan(stores.ledger, *(planned(str(number), 0.3 * number) for number in range(6)))
        async with working(stores):
            for job in await until(stores.ledger, all_done):
                assert job.done_at is not None
                assert timedelta(0) <= job.done_at - job.due_at < timedelta(seconds=1)
        assert await chimes(stores.ledger) == Counter(str(number) for number in range(6))

    async def test_of_what_is_planned_meanwhile_is_kept_too(self, stores: Stores) -> None:
        await plan(stores.ledger, planned("later", 60))
        async with working(stores):
            await asyncio.sleep(0.7)
            await plan(stores.ledger, planned("now", -1))
            (job,) = await until(stores.ledger, all_done)
            assert job.done_at is not None
            assert job.done_at - job.due_at < timedelta(seconds=1.5)

    async def test_that_has_not_come_for_a_handler_is_waited_for(self, stores: Stores) -> None:
        seen: list[datetime] = []

        async def early(jobs: Sequence[Job], work: Work) -> None:
            seen.append(datetime.now(UTC))
            if len(seen) < 3:
                await chime(jobs, work)
                raise Later(0.3, "too early")

        await plan(stores.ledger, planned(kind="fail", in_s=-1))
        async with working(stores, fail=early):
            (job,) = await until(stores.ledger, all_done)
        assert (job.attempts, len(seen)) == (1, 3)
        assert seen[2] - seen[0] >= timedelta(seconds=0.6)
        assert await chimes(stores.ledger) == Counter()


class TestManyWorkers:
    async def test_do_each_job_once(self, stores: Stores) -> None:
        jobs = [planned(str(number), 0.5) for number in range(150)]
        await plan(stores.ledger, *jobs)
        async with working(stores, workers=3):
            await until(stores.ledger, all_done)
        assert await chimes(stores.ledger) == Counter(str(number) for number in range(150))

    async def test_do_each_job_once_though_their_connections_are_cut_all_the_time(self, stores: Stores) -> None:
        jobs = [planned(str(number), 0.02 * number) for number in range(120)]
        await plan(stores.ledger, *jobs)
        async with working(stores, workers=2):
            for _ in range(6):
                await asyncio.sleep(0.4)
                await cut(stores.ledger)
            await until_quiet(stores.ledger)
        assert await chimes(stores.ledger) == Counter(str(number) for number in range(120))


class TestManyAtOnce:
    async def test_are_done_together_and_one_that_fails_is_found_among_them(self, stores: Stores) -> None:
        given: list[int] = []

        async def some(jobs: Sequence[Job], work: Work) -> None:
            given.append(len(jobs))
            await chime(jobs, work)
            if any(job.name == "7" for job in jobs):
                raise ValueError("seven")

        await plan(stores.ledger, *(planned(str(number), -1, "some") for number in range(20)), kinds=["some"])
        async with working(stores, some=Kind(some, at_once=16)):
            found = await until(stores.ledger, lambda jobs: sum(job.state is State.DONE for job in jobs) == 19)
        assert max(given) == 16
        assert [(job.name, job.state, job.attempts) for job in found if job.error] == [("7", State.WAITING, 1)]
        assert await chimes(stores.ledger) == Counter(str(number) for number in range(20) if number != 7)

    async def test_are_all_undone_when_the_connection_ends_in_the_middle(self, stores: Stores) -> None:
        """What was done by itself before it goes with it; each is done once in the end."""
        cuts = [True]

        async def some(jobs: Sequence[Job], work: Work) -> None:
            await chime(jobs, work)
            if len(jobs) > 1 and cuts:
                raise ValueError("one of many")
            if jobs[0].name == "3" and cuts:
                cuts.pop()
                await work.connection.execute(text("select pg_terminate_backend(pg_backend_pid())"))

        await plan(stores.ledger, *(planned(str(number), -1, "some") for number in range(6)), kinds=["some"])
        async with working(stores, some=Kind(some, at_once=16)):
            found = await until(stores.ledger, all_done)
        assert {job.attempts for job in found} == {1}
        assert await chimes(stores.ledger) == Counter(str(number) for number in range(6))


async def until_quiet(ledger: AsyncEngine) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                async with ledger.connect() as connection:
                    left = await connection.scalar(text("select count(*) from schedule where state <> 'done'"))
            except Exception:  # noqa: BLE001 (cut as well)
                left = None
            if left == 0:
                return
            await asyncio.sleep(0.05)


class TestFailures:
    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Pauses of no length worth waiting for."""
        monkeypatch.setattr(runner, "pause_s", lambda attempts: 0.01 * attempts)

    async def test_leave_nothing_and_are_tried_again(self, stores: Stores) -> None:
        tried: list[int] = []

        async def fail_twice(jobs: Sequence[Job], work: Work) -> None:
            await chime(jobs, work)
            tried.append(jobs[0].attempts)
            if len(tried) < 3:
                raise RuntimeError("no luck")

        await plan(stores.ledger, planned("a", -1, "fail"))
        async with working(stores, fail=fail_twice):
            (job,) = await until(stores.ledger, all_done)
        assert tried == [0, 1, 2]
        assert (job.attempts, job.error) == (3, None)
        assert await chimes(stores.ledger) == Counter(["a"])

    async def test_end_after_some_attempts_and_say_so(self, stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(runner, "JOB_ATTEMPTS_MAX", 3)

        async def fail(jobs: Sequence[Job], work: Work) -> None:
            await work.connection.execute(text("select * from nowhere"))

        await plan(stores.ledger, planned("a", -1, "fail"), planned("b", -1))
        before = REGISTRY.get_sample_value("flashclaim_schedule_failures_total", {"kind": "fail"}) or 0
        async with working(stores, fail=fail):
            found = await until(stores.ledger, lambda jobs: not any(job.state is State.WAITING for job in jobs))
            await asyncio.sleep(0.8)  # the next look shows it
        assert [(job.state, job.attempts) for job in found] == [(State.FAILED, 3), (State.DONE, 1)]
        assert 'relation "nowhere" does not exist' in (found[0].error or "")
        assert REGISTRY.get_sample_value("flashclaim_schedule_failures_total", {"kind": "fail"}) == before + 3
        assert REGISTRY.get_sample_value("flashclaim_schedule_failed") == 1

    @pytest.mark.parametrize("error", [StoreUnavailable("away"), RedisConnectionError("away")])
    async def test_for_what_is_away_never_end(
        self, stores: Stores, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        monkeypatch.setattr(runner, "JOB_ATTEMPTS_MAX", 3)
        tried = []

        async def wait(jobs: Sequence[Job], work: Work) -> None:
            tried.append(jobs)
            if len(tried) < 6:
                raise error

        await plan(stores.ledger, planned("a", -1, "fail"))
        async with working(stores, fail=wait):
            await until(stores.ledger, all_done)
        assert len(tried) == 6

    async def test_hold_up_nobody_else(self, stores: Stores) -> None:
        """A job that hangs, and many that fail at once, beside one that is due."""
        hanging = asyncio.Event()

        async def hang(jobs: Sequence[Job], work: Work) -> None:
            await hanging.wait()

        async def fail(jobs: Sequence[Job], work: Work) -> None:
            raise ValueError(jobs[0].name)

        await plan(stores.ledger, planned("a", -2, "hang"), *(planned(str(n), -1, "fail") for n in range(30)),
            kinds=["hang", "fail"])  # fmt: skip
        await plan(stores.ledger, planned("on time", 0.5), kinds=["chime"])
        async with working(stores, hang=hang, fail=fail):
            (job,) = [job for job in await until(stores.ledger, _chimed) if job.kind == "chime"]
            assert job.done_at is not None
            assert job.done_at - job.due_at < timedelta(seconds=1)
            hanging.set()

    async def test_of_a_handler_that_takes_too_long_are_failures(
        self, stores: Stores, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(runner, "JOB_S_MAX", 0.3)
        waits = [60.0, 60.0, 0.0]

        async def slow(jobs: Sequence[Job], work: Work) -> None:
            await chime(jobs, work)
            await work.connection.execute(text("select pg_sleep(:wait_s)"), {"wait_s": waits.pop(0)})

        await plan(stores.ledger, planned("a", -1, "fail"))
        async with working(stores, fail=slow):
            (job,) = await until(stores.ledger, all_done)
        assert job.attempts == 3
        assert await chimes(stores.ledger) == Counter(["a"])

    async def test_are_written_down_without_secrets(self, stores: Stores) -> None:
        async def fail(jobs: Sequence[Job], work: Work) -> None:
            raise ValueError("redis://:hunter2@localhost " + "ab" * 40 + "x" * 1_000)

        await plan(stores.ledger, planned("a", -1, "fail"))
        async with working(stores, fail=fail):
            (job,) = await until(stores.ledger, lambda jobs: bool(jobs[0].error))
        assert "hunter2" not in str(job.error)
        assert "abab" not in str(job.error)
        assert len(job.error or "") <= 300

    async def test_are_taken_up_again_by_an_operator(self, stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(runner, "JOB_ATTEMPTS_MAX", 1)
        broken = [True]

        async def fail(jobs: Sequence[Job], work: Work) -> None:
            if broken:
                raise ValueError

        await plan(stores.ledger, planned("a", -1, "fail"))
        async with working(stores, fail=fail):
            (job,) = await until(stores.ledger, lambda jobs: jobs[0].state is State.FAILED)
            broken.clear()
            await service.retry(stores.ledger, job.id, "boss")
            await until(stores.ledger, all_done)


def _chimed(jobs: list[Job]) -> bool:
    return any(job.state is State.DONE for job in jobs if job.kind == "chime")


async def test_jobs_of_kinds_that_this_version_does_not_know_are_left_to_others(stores: Stores) -> None:
    await plan(stores.ledger, planned("a", -1, "unheard-of"), planned("b", -1), kinds=["unheard-of", "chime"])
    async with working(stores):
        await until(stores.ledger, _chimed)
        await asyncio.sleep(0.8)
    assert [job.state for job in await rows(stores.ledger)] == [State.WAITING, State.DONE]
    assert (REGISTRY.get_sample_value("flashclaim_schedule_overdue_seconds") or 0) > 0.5


async def test_what_is_being_done_is_ended_before_the_worker_is(stores: Stores) -> None:
    begun, slow = asyncio.Event(), 0.5

    async def take_time(jobs: Sequence[Job], work: Work) -> None:
        begun.set()
        await asyncio.sleep(slow)
        await chime(jobs, work)

    await plan(stores.ledger, planned("a", -1, "slow"), kinds=["slow"])
    async with working(stores, slow=take_time):
        await begun.wait()
    assert await chimes(stores.ledger) == Counter(["a"])
    assert all_done(await rows(stores.ledger))


async def test_an_idle_worker_asks_little(stores: Stores) -> None:
    """Of all lanes one looks, twice a second, over one connection."""
    await plan(stores.ledger, planned("a", 3_600))
    async with working(stores):
        await asyncio.sleep(0.5)
        before = await calls(stores.ledger)
        await asyncio.sleep(2)
        asked = await calls(stores.ledger) - before
    assert asked <= 8


async def calls(ledger: AsyncEngine) -> int:
    """How many transactions were committed in this database so far."""
    async with ledger.connect() as connection:
        await connection.execute(text("select pg_stat_force_next_flush()"))
    async with ledger.connect() as connection:
        found = await connection.scalar(
            text("select xact_commit from pg_stat_database where datname = current_database()")
        )
    return int(found or 0)


def test_every_kind_has_a_handler_and_every_handler_a_sentence() -> None:
    assert set(times.KINDS) <= KINDS.keys()
    assert all(kind.do.__doc__ and kind.at_once >= 1 for kind in KINDS.values())
    assert {column.name for column in schedule.columns} == set(Job.__slots__)
