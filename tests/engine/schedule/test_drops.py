"""The promise: a drop's opening, waves and end happen on time, once, whatever an operator does; no claim notices it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncEngine

from engine.claims import keys
from engine.drops import store as drops_store
from engine.drops import times
from engine.drops.model import Actor, Control, Drop, Status, Verb
from engine.drops.service import Drops
from engine.ledger import actions, evidence, homes
from engine.ledger.actions import Action
from engine.ledger.schema import drops as drops_table
from engine.ledger.schema import events, operator_actions, schedule
from engine.runtime.connections import Stores
from engine.schedule import store
from engine.schedule.kinds import drops as kinds
from engine.schedule.model import Job, State
from tests.engine.schedule.test_runner import working
from tests.engine.schedule.test_store import rows
from tests.factories.drops import drop_json, drop_spec
from tests.factories.ledger import record_all

BOSS = Actor("boss")
TRIAL = "drop:trial"
SOON_S = 1.2
Found = list[tuple[str, dict[str, Any]]]


def service(stores: Stores) -> Drops:
    return Drops(stores.redis, stores.scripts, stores.ledger, 1)


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


async def launched(stores: Stores, opens_in_s: float = -60.0, lasts_s: float = 3_600.0, **more: Any) -> Drop:
    opens = now() + timedelta(seconds=opens_in_s)
    drops = service(stores)
    closes = (opens + timedelta(seconds=lasts_s)).isoformat()
    await drops.create(drop_spec("trial", opens, closes_at=closes, **more), BOSS)
    return await drops.launch("trial", BOSS)


async def told(ledger: AsyncEngine) -> Found:
    async with ledger.connect() as connection:
        found = await connection.execute(select(events).where(events.c.object == TRIAL).order_by(events.c.id))
        return [(row.kind, row.payload) for row in found]


async def waiting(ledger: AsyncEngine) -> list[tuple[str, str]]:
    return [(job.kind, job.name) for job in await rows(ledger, TRIAL) if job.state is State.WAITING]


async def acts(ledger: AsyncEngine) -> list[Action]:
    async with ledger.connect() as connection:
        return await actions.on_drop(connection, "trial")


async def until(holds: Callable[[], Awaitable[bool]], within_s: float = 15.0) -> None:
    async with asyncio.timeout(within_s):
        while not await holds():  # noqa: ASYNC110 (a ledger tells nobody that it changed)
            await asyncio.sleep(0.02)


async def until_closed(stores: Stores) -> Drop:
    async def is_closed() -> bool:
        return (await service(stores).read("trial")).status is Status.CLOSED

    await until(is_closed)
    return await service(stores).read("trial")


async def until_done(ledger: AsyncEngine) -> list[Job]:
    async def are_done() -> bool:
        return all(job.state is State.DONE for job in await rows(ledger, TRIAL))

    await until(are_done)
    return await rows(ledger, TRIAL)


async def until_told(ledger: AsyncEngine, count: int) -> None:
    async def are_told() -> bool:
        return len(await told(ledger)) == count

    await until(are_told)


class TestPlans:
    async def test_follow_each_act(self, stores: Stores) -> None:
        drops = service(stores)
        opens = now() + timedelta(hours=1)
        await drops.create(drop_spec("trial", opens), BOSS)
        assert await rows(stores.ledger, TRIAL) == []
        await drops.launch("trial", BOSS)
        first = await waiting(stores.ledger)
        assert [kind for kind, _ in first] == ["drop-opens", "wave", "drop-closes"]
        for act in (drops.pause, drops.resume):
            await act("trial", BOSS)
            assert await waiting(stores.ledger) == first
        later = opens + timedelta(minutes=5)
        await drops.amend("trial", {"opens_at": later.isoformat()}, None, BOSS)
        moved = await waiting(stores.ledger)
        assert sorted(moved) == sorted([("drop-opens", times.name(later)), ("wave", times.name(later)), first[2]])
        await drops.amend("trial", {"title": {"en": "Other"}}, None, BOSS)
        assert await waiting(stores.ledger) == moved
        await drops.close("trial", BOSS)
        assert await rows(stores.ledger, TRIAL) == []
        assert await told(stores.ledger) == [("drop-closed", {})]

    async def test_are_the_same_when_the_worker_records_an_act_again(self, stores: Stores) -> None:
        """The outbox tells of each act too; its worker finds it recorded, and planned."""
        await launched(stores, 3_600)
        before = await rows(stores.ledger, TRIAL)
        await record_all(stores)
        assert await rows(stores.ledger, TRIAL) == before

    async def test_are_made_by_the_worker_where_the_service_was_killed(self, stores: Stores) -> None:
        """Between store and ledger: the outbox alone knows of the launch."""
        await launched(stores, 3_600)
        wanted = [(job.kind, job.name) for job in await rows(stores.ledger, TRIAL)]
        async with stores.ledger.begin() as connection:
            for table in (schedule, drops_table, operator_actions):
                await connection.execute(delete(table))
        await record_all(stores)
        assert [(job.kind, job.name) for job in await rows(stores.ledger, TRIAL)] == wanted

    async def test_are_not_undone_by_a_creation_that_is_recorded_late(self, ledger: AsyncEngine) -> None:
        def control(verb: Verb, revision: int) -> Control:
            change = {"spec": drop_json("trial")} if verb is Verb.CREATE else {}
            return Control(verb, revision, "boss", datetime.now(UTC), f"act-{revision}", change)

        create, launch = control(Verb.CREATE, 1), control(Verb.LAUNCH, 2)

        async def record_late() -> None:
            async with ledger.begin() as connection:
                await drops_store.record(connection, "trial", create, create.at)

        async with ledger.begin() as connection:
            await drops_store.record(connection, "trial", create, create.at)
            late = asyncio.create_task(record_late())
            await asyncio.sleep(0.3)
            await drops_store.record(connection, "trial", launch, launch.at)
        await late
        assert [kind for kind, _ in await waiting(ledger)] == ["drop-opens", "wave", "drop-closes"]

    async def test_are_made_for_open_drops_of_a_ledger_from_before(self, stores: Stores) -> None:
        drops = service(stores)
        await launched(stores, 3_600)
        await drops.create(drop_spec("draft"), BOSS)
        await drops.create(drop_spec("over"), BOSS)
        await drops.launch("over", BOSS)
        await drops.close("over", BOSS)
        before = await waiting(stores.ledger)
        async with stores.ledger.begin() as connection:
            await connection.execute(delete(schedule))
        for _ in range(2):
            await kinds.plan_open(stores.ledger)
        assert await waiting(stores.ledger) == before
        async with stores.ledger.connect() as connection:
            assert {job.object for job in await store.listed(connection, None, None, 0, 100)} == {TRIAL}


class TestOnTime:
    async def test_a_drop_opens_releases_and_closes(self, stores: Stores) -> None:
        opens = now() + timedelta(seconds=2)
        waves = [
            {"at": (opens + timedelta(seconds=at)).isoformat(), "stock": {"box": units}}
            for at, units in ((0, 4), (1, 3), (1, 2), (1.5, 1))
        ]
        async with working(stores):
            await launched(stores, (opens - now()).total_seconds(), 2.0, waves=waves)
            drop = await until_closed(stores)
            done = await until_done(stores.ledger)
        assert {job.kind: len([1 for found in done if found.kind == job.kind]) for job in done} == {
            "drop-opens": 1,
            "wave": 3,
            "drop-closes": 1,
        }
        for job in done:
            assert job.done_at is not None
            assert timedelta(0) <= job.done_at - datetime.fromisoformat(job.name) < timedelta(seconds=1)
        found = await told(stores.ledger)
        assert [kind for kind, _ in found].count("drop-opened") == 1
        assert [payload["stock"] for kind, payload in found if kind == "wave-released"] == [
            {"box": 4},
            {"box": 5},
            {"box": 1},
        ]
        assert found[-1] == ("drop-closed", {})
        closing = (await acts(stores.ledger))[-1]
        assert (closing.verb, closing.actor) == ("close", "schedule")
        assert closing.applied_at >= drop.spec.closes_at
        assert closing.applied_at - drop.spec.closes_at < timedelta(seconds=1)

    async def test_one_that_is_launched_late_opens_then(self, stores: Stores) -> None:
        async with working(stores):
            await launched(stores, -60)
            await until_told(stores.ledger, 2)
        (job,) = [job for job in await rows(stores.ledger, TRIAL) if job.kind == "drop-opens"]
        assert job.done_at is not None
        assert job.done_at - job.due_at < timedelta(seconds=1.5), "it is not a minute late: it was planned just now"

    async def test_a_restock_is_a_wave_of_its_own(self, stores: Stores) -> None:
        async with working(stores):
            await launched(stores)
            await service(stores).restock("trial", "box", 7, BOSS)
            await until_told(stores.ledger, 3)
        released = [payload["stock"] for kind, payload in await told(stores.ledger) if kind == "wave-released"]
        assert released == [{"box": 10}, {"box": 7}]


class TestTheEnd:
    async def test_that_an_operator_brought_about_is_left(self, stores: Stores) -> None:
        await launched(stores, -60, 61)
        await service(stores).close("trial", BOSS)
        async with working(stores):
            await asyncio.sleep(SOON_S + 0.5)
        assert [act.verb for act in await acts(stores.ledger)] == ["create", "launch", "close"]
        assert await rows(stores.ledger, TRIAL) == []

    async def test_that_is_moved_comes_then(self, stores: Stores) -> None:
        await launched(stores, -60, 61.5)
        closes = now() + timedelta(seconds=3)
        await service(stores).amend("trial", {"closes_at": closes.isoformat()}, None, BOSS)
        async with working(stores):
            await asyncio.sleep(1.6)
            assert (await service(stores).read("trial")).status is Status.LAUNCHED
            await until_closed(stores)
        assert (await acts(stores.ledger))[-1].applied_at >= closes

    async def test_of_a_paused_drop_waits_until_it_goes_on(
        self, stores: Stores, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A close is for good: whoever paused it may have to give it more time."""
        monkeypatch.setattr(kinds, "LOOK_AGAIN_S", 0.3)
        await launched(stores, -60, 60.5)
        await service(stores).pause("trial", BOSS)
        async with working(stores):
            await asyncio.sleep(SOON_S)
            assert (await service(stores).read("trial")).status is Status.PAUSED
            (job,) = [job for job in await rows(stores.ledger, TRIAL) if job.kind == "drop-closes"]
            assert (job.state, job.attempts) == (State.WAITING, 0)
            assert "paused" in (job.error or "")
            await service(stores).resume("trial", BOSS)
            await until_closed(stores)

    async def test_of_a_paused_drop_that_gets_more_time_is_then(
        self, stores: Stores, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(kinds, "LOOK_AGAIN_S", 0.3)
        await launched(stores, -60, 60.5)
        await service(stores).pause("trial", BOSS)
        async with working(stores):
            await asyncio.sleep(SOON_S)
            closes = now() + timedelta(hours=1)
            await service(stores).amend("trial", {"closes_at": closes.isoformat()}, None, BOSS)
            await service(stores).resume("trial", BOSS)
            await asyncio.sleep(SOON_S)
        assert (await service(stores).read("trial")).status is Status.LAUNCHED
        assert await waiting(stores.ledger) == [("drop-closes", times.name(closes))]

    async def test_is_not_before_the_stores_clock_says_so(
        self, stores: Stores, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Claims are accepted until then: a close by another clock would refuse the last of them."""
        true = Drops.now

        async def behind(drops: Drops) -> datetime:
            return await true(drops) - timedelta(seconds=1)

        monkeypatch.setattr(Drops, "now", behind)
        drop = await launched(stores, -60, 61)
        async with working(stores):
            await until_closed(stores)
        closing = (await acts(stores.ledger))[-1]
        assert closing.at >= drop.spec.closes_at
        assert closing.applied_at >= drop.spec.closes_at + timedelta(seconds=1)

    async def test_waits_for_a_store_that_the_ledger_does_not_name(self, stores: Stores) -> None:
        """It was left behind by a failover: a close there would be lost."""
        await launched(stores, -60, 60.5)
        async with stores.ledger.begin() as connection:
            named = await homes.read(connection)
            for partition in named:
                await homes.name(connection, partition, "f" * 40)
        async with working(stores):
            await asyncio.sleep(SOON_S + 0.5)
            (job,) = [job for job in await rows(stores.ledger, TRIAL) if job.kind == "drop-closes"]
            assert job.state is State.WAITING
            async with stores.ledger.begin() as connection:
                for partition, home in named.items():
                    await homes.name(connection, partition, home)
            await until_closed(stores)

    async def test_that_was_cut_off_after_the_store_is_one_act(
        self, stores: Stores, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The worker's ledger goes away between the store's act and its recording; the outbox tells of it as well."""
        await launched(stores, -60, 60.5)
        record, cuts = drops_store.record, [True]

        async def cut_off(*given: Any) -> Any:
            if cuts:
                cuts.pop()
                raise OSError("the ledger is away")
            return await record(*given)

        monkeypatch.setattr(drops_store, "record", cut_off)
        async with working(stores):

            async def is_cut() -> bool:
                return not cuts

            await until(is_cut)
            await record_all(stores)
            await until_closed(stores)
            await until_done(stores.ledger)
        done = await acts(stores.ledger)
        assert [act.verb for act in done] == ["create", "launch", "close"]
        assert [kind for kind, _ in await told(stores.ledger)].count("drop-closed") == 1

    async def test_waits_where_the_store_is_further_than_a_restored_ledger(
        self, stores: Stores, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Until somebody has rebuilt the drop; it has not failed."""
        monkeypatch.setattr(kinds, "LOOK_AGAIN_S", 0.2)
        await launched(stores, -60, 60.5)
        await stores.redis.hset(keys.drop(0, "trial"), "revision", "7")
        async with working(stores):
            await asyncio.sleep(SOON_S + 0.5)
            (job,) = [job for job in await rows(stores.ledger, TRIAL) if job.kind == "drop-closes"]
            assert (job.state, job.attempts) == (State.WAITING, 0)
            assert "further in the store" in (job.error or "")
            await stores.redis.hset(keys.drop(0, "trial"), "revision", "2")
            await until_closed(stores)

    async def test_shuts_no_time_in_which_claims_were_accepted(self, stores: Stores) -> None:
        """What the audit calls shut begins at the end or later: no honest claim lies in it."""
        drop = await launched(stores, -60, 61)
        async with working(stores, workers=2):
            await until_closed(stores)
        (since, _) = evidence.shut(await acts(stores.ledger))[-1]
        assert since >= drop.closes_ms
