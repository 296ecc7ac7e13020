"""The promise: migrations make the tables that the code expects, from any revision and back, while claims go on.

A database of its own: the tests take tables away that others rely on.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from redis.asyncio import Redis
from sqlalchemy import Connection, func, insert, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from engine.drops import store as drops_store
from engine.ledger import actions, migrations
from engine.ledger.ingest import writer_of
from engine.ledger.migrations import LedgerBusy, LedgerForeign, LosesData, NoSuchRevision, migrate
from engine.ledger.persist import Persister
from engine.ledger.schema import claims, dead_letters, drops, metadata
from engine.runtime.connections import open_ledger
from tests.engine.ledger.test_persist import add, entry
from tests.factories.drops import drop_json

BATCH = 64


@pytest.fixture
async def own(postgres_url: str) -> AsyncIterator[AsyncEngine]:
    """An empty database."""
    name = "migrations"
    await _alone(postgres_url, f"drop database if exists {name} with (force)", f"create database {name}")
    ledger = open_ledger(postgres_url.replace("/flashclaim?", f"/{name}?"))
    yield ledger
    await ledger.dispose()
    await _alone(postgres_url, f"drop database {name} with (force)")


async def _alone(postgres_url: str, *statements: str) -> None:
    admin = open_ledger(postgres_url)
    async with admin.connect() as connection:
        settled = await connection.execution_options(isolation_level="AUTOCOMMIT")
        for statement in statements:
            await settled.execute(text(statement))
    await admin.dispose()


async def tables(ledger: AsyncEngine) -> set[str]:
    async with ledger.connect() as connection:
        found = await connection.scalars(text("select tablename from pg_tables where schemaname = 'public'"))
        return set(found) - {"alembic_version"}


async def steps_recorded(ledger: AsyncEngine) -> list[str]:
    """The acts on the ledger, which are all that is in its chain."""
    async with ledger.connect() as connection:
        links = await actions.chain(connection)
    assert actions.broken_links(links) == []
    acts = [link.action for link in links]
    assert {(act.object, act.verb, act.actor) for act in acts} == {("ledger:migrations", "migrate", "boss")}
    return [f"{(act.before or {})['migration']} → {act.after['migration']}" for act in acts]


async def differences(ledger: AsyncEngine) -> list[object]:
    def compared(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, metadata))

    async with ledger.connect() as connection:
        return await connection.run_sync(compared)


class TestSteps:
    async def test_make_the_tables_of_the_code(self, own: AsyncEngine) -> None:
        assert await migrate(own) == migrations.newest() == await migrations.current(own)
        assert await differences(own) == []

    async def test_lead_forward_and_back_through_every_revision(self, own: AsyncEngine) -> None:
        ways = [migrations.EMPTY, *migrations.revisions()]
        for _ in range(2):
            for revision in [*ways, *reversed(ways)]:
                assert await migrate(own, revision, may_lose_data=True) == revision
                assert (await migrations.current(own) or migrations.EMPTY) == revision
        assert await tables(own) == set()
        await migrate(own)
        assert await differences(own) == []

    @pytest.mark.parametrize("work", [None, {"bits": 18}])
    async def test_move_a_drops_proof_of_work_among_its_gates_and_back(
        self, own: AsyncEngine, work: dict[str, int] | None
    ) -> None:
        await migrate(own, "0005")
        before = {**drop_json("old"), "proof_of_work": work}
        async with own.begin() as connection:
            row = {"id": "old", "spec": before, "status": "launched", "revision": 2, "epoch": 1}
            await connection.execute(insert(drops).values(row))
        await migrate(own, "0006")
        async with own.connect() as connection:
            found = await drops_store.read(connection, "old")
        assert found is not None
        assert found.spec.gates.model_dump(mode="json") == ({"proof_of_work": work} if work else {})
        await migrate(own, "0005", may_lose_data=True)
        async with own.connect() as connection:
            assert await connection.scalar(select(drops.c.spec)) == before

    async def test_back_ask_first(self, own: AsyncEngine) -> None:
        await migrate(own)
        with pytest.raises(LosesData, match="take a backup"):
            await migrate(own, "0001")
        assert await migrations.current(own) == migrations.newest()

    async def test_to_nowhere_are_refused(self, own: AsyncEngine) -> None:
        for wrong in ("9999", "", "head; drop table claims", "00"):
            with pytest.raises(NoSuchRevision):
                await migrate(own, wrong)

    async def test_of_a_newer_version_are_left_alone(self, own: AsyncEngine) -> None:
        await migrate(own)
        await _become_newer(own)
        for to in (None, "0001"):
            with pytest.raises(LedgerForeign, match="newer"):
                await migrate(own, to, may_lose_data=True)
        assert await tables(own) == set(metadata.tables)

    async def test_of_an_operator_are_recorded_where_there_is_a_chain(self, own: AsyncEngine) -> None:
        for to in ("0001", "0004", "0003", "0003", "0004"):
            assert await migrate(own, to, may_lose_data=True, actor="boss") == to
        assert await steps_recorded(own) == ["0001 → 0004", "0004 → 0003", "0003 → 0004"]
        for to in ("0002", "0003"):  # the chain goes, and begins anew with what brought it back
            await migrate(own, to, may_lose_data=True, actor="boss")
        assert await steps_recorded(own) == ["0002 → 0003"]

    async def test_of_an_operator_that_cannot_be_recorded_are_not_done(
        self, own: AsyncEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Somebody holds the end of the chain: the step is undone with its row, and is tried again."""
        monkeypatch.setattr(migrations, "_ATTEMPTS", 1)
        monkeypatch.setattr(migrations, "_LOCK_TIMEOUT", "200ms")
        await migrate(own)
        async with own.begin() as connection:
            await connection.execute(text(f"select pg_advisory_xact_lock({actions._ADVISORY_LOCK})"))
            with pytest.raises(LedgerBusy):
                await migrate(own, "0003", may_lose_data=True, actor="boss")
        assert await migrations.current(own) == migrations.newest()
        assert await migrate(own, "0003", may_lose_data=True, actor="boss") == "0003"

    async def test_of_several_at_once_are_one(self, own: AsyncEngine) -> None:
        assert set(await asyncio.gather(*(migrate(own) for _ in range(4)))) == {migrations.newest()}


async def _become_newer(ledger: AsyncEngine) -> None:
    async with ledger.begin() as connection:
        await connection.execute(text("update alembic_version set version_num = '9999'"))


@asynccontextmanager
async def traffic(redis: "Redis", ledger: AsyncEngine) -> AsyncIterator["Traffic"]:
    """Claims that are decided all the time, and one real worker that writes them down."""
    running = Traffic(redis, ledger)
    stop = asyncio.Event()
    worker = Persister(redis, writer_of(ledger), 1, "worker")
    working = [asyncio.create_task(worker.run(stop)), asyncio.create_task(running.decide(stop))]
    yield running
    stop.set()
    await asyncio.wait_for(asyncio.gather(*working), 20)


class Traffic:
    def __init__(self, redis: "Redis", ledger: AsyncEngine) -> None:
        self._redis = redis
        self._ledger = ledger
        self.decided = 0

    async def decide(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await add(self._redis, entry(self.decided + 1, BATCH))
            self.decided += BATCH
            await asyncio.sleep(0.005)

    async def in_ledger(self) -> int:
        async with self._ledger.connect() as connection:
            return await connection.scalar(select(func.count()).select_from(claims)) or 0

    async def goes_on(self, for_more: int = 5 * BATCH, within_s: float = 15) -> None:
        """Wait until more claims are in the ledger."""
        await self._reaches(await self.in_ledger() + for_more, within_s)

    async def _reaches(self, count: int, within_s: float) -> None:
        async with asyncio.timeout(within_s):
            while await self.in_ledger() < count:  # noqa: ASYNC110 (a table tells nobody that it grew)
                await asyncio.sleep(0.02)

    async def nothing_is_lost(self) -> None:
        await self._reaches(self.decided, within_s=30)
        async with self._ledger.connect() as connection:
            serials = list(await connection.scalars(select(claims.c.serial).order_by(claims.c.serial)))
            buried = await connection.scalar(select(func.count()).select_from(dead_letters))
        assert serials == list(range(1, len(serials) + 1))
        assert buried == 0


class TestTraffic:
    async def test_loses_nothing_while_the_tables_go_back_and_forth(self, redis: "Redis", own: AsyncEngine) -> None:
        await migrate(own)
        async with traffic(redis, own) as running:
            for _ in range(2):
                await running.goes_on()
                await migrate(own, "0001", may_lose_data=True)
                written = await running.in_ledger()
                await asyncio.sleep(0.5)
                assert await running.in_ledger() == written, "a worker writes only into tables that it knows"
                await migrate(own)
            await running.goes_on()
            await running.nothing_is_lost()

    @pytest.mark.parametrize("change", ["older", "newer"])
    async def test_waits_on_tables_that_the_worker_does_not_know_and_says_so(
        self, redis: "Redis", own: AsyncEngine, change: str
    ) -> None:
        await migrate(own)
        with capture_logs() as logs:
            async with traffic(redis, own) as running:
                await running.goes_on()
                await (migrate(own, "0001", may_lose_data=True) if change == "older" else _become_newer(own))
                await asyncio.sleep(0.3)  # what was being written at that moment
                written = await running.in_ledger()
                await asyncio.sleep(0.7)
                assert await running.in_ledger() == written
                async with own.begin() as connection:
                    if change == "newer":
                        await connection.execute(
                            text("update alembic_version set version_num = :own"), {"own": migrations.newest()}
                        )
                await migrate(own)
                await running.nothing_is_lost()
        said = " ".join(str(line.get("error")) for line in logs)
        assert ("run `flashclaim migrate`" if change == "older" else "in the version that made it") in said

    async def test_goes_on_while_a_migration_cannot_get_its_lock(
        self, redis: "Redis", own: AsyncEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A report reads a table for minutes: the migration gives up again and again, and claims pass between."""
        monkeypatch.setattr(migrations, "_ATTEMPTS", 2)
        await migrate(own)
        async with traffic(redis, own) as running:
            await running.goes_on()
            async with own.connect() as reading:
                await reading.execute(text("select count(*) from operator_actions"))
                began_s = time.monotonic()
                going = asyncio.create_task(migrate(own, "0001", may_lose_data=True))
                longest_s = await _longest_wait(running, going)
                with pytest.raises(LedgerBusy, match="nothing was changed"):
                    await going
            assert longest_s < 3.5, "no longer than one attempt holds its locks, and a moment"
            assert time.monotonic() - began_s < 20
            assert await migrations.current(own) == migrations.newest()
            await migrate(own, "0001", may_lose_data=True)
            await migrate(own)
            await running.nothing_is_lost()


async def _longest_wait(running: Traffic, until: "asyncio.Task[str]") -> float:
    """The longest time in which no claim reached the ledger."""
    longest_s, last, since_s = 0.0, await running.in_ledger(), time.monotonic()
    while not until.done():
        await asyncio.sleep(0.02)
        now = await running.in_ledger()
        longest_s = max(longest_s, time.monotonic() - since_s)
        if now != last:
            last, since_s = now, time.monotonic()
    return longest_s


class TestCutOff:
    @pytest.mark.parametrize("way", ["forward", "back"])
    async def test_leaves_the_old_revision_whole_and_can_be_run_again(self, own: AsyncEngine, way: str) -> None:
        """Its connection is cut after its first steps, while it waits for the last table."""
        before, to = ("0001", None) if way == "forward" else (migrations.newest(), migrations.EMPTY)
        await migrate(own, before)
        table = "operator_actions" if way == "forward" else "drops"  # the one that the last step takes
        async with own.connect() as holding:
            await holding.execute(text(f"select count(*) from {table}"))
            going = asyncio.create_task(migrate(own, to, may_lose_data=True))
            await _cut(own)
            with pytest.raises(DBAPIError):
                await going
        assert await migrations.current(own) == before
        assert await tables(own) >= {"drops", "claims", "members", "operator_actions", "dead_letters"}
        await migrate(own, to, may_lose_data=True)
        await migrate(own)
        assert await differences(own) == []

    async def test_in_the_middle_of_traffic_loses_nothing(self, redis: "Redis", own: AsyncEngine) -> None:
        await migrate(own)
        async with traffic(redis, own) as running:
            await running.goes_on()
            async with own.connect() as reading:
                await reading.execute(text("select count(*) from operator_actions"))
                going = asyncio.create_task(migrate(own, "0001", may_lose_data=True))
                await _cut(own)
                with pytest.raises(DBAPIError):
                    await going
            await running.goes_on()
            assert await migrations.current(own) == migrations.newest()
            await running.nothing_is_lost()


async def _cut(ledger: AsyncEngine) -> None:
    """End the connection of the migration as soon as it waits for a table."""
    # Of `pg_locks` alone: a transaction sees `pg_stat_activity` as it was when it first looked.
    waiting = """
        select pg_terminate_backend(pid) from pg_locks
        where not granted and locktype = 'relation' and mode = 'AccessExclusiveLock'
        and database = (select oid from pg_database where datname = current_database())
    """
    async with ledger.connect() as connection, asyncio.timeout(10):
        while not (await connection.execute(text(waiting))).all():  # noqa: ASYNC110 (nor that it is waited for)
            await asyncio.sleep(0.01)
