"""The ledger is away for long, is migrated under traffic, or is not what the worker knows; workers share a name."""

import asyncio
import os

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.ledger.audit import wait_until_recorded
from engine.ledger.migrations import current, migrate, newest, revisions
from engine.runtime.connections import Stores, open_stores
from tests.faults.scene import Fault, Scene
from tests.faults.stack import Part, Stack

DOWN_S = float(os.environ.get("FAULT_DOWN_S", "15"))
TOGETHER_S = 3.0
STEP_S_MAX = 30.0
_BEFORE = revisions()[-2]
_BEFORE_THE_CHAIN = "0002"  # the step from here waits for the record of acts, in the middle of its work
_ON_TO_NEXT = ("alter table claims add column next_has_it text", "update alembic_version set version_num = '9999'")
_BACK_FROM_NEXT = (
    "alter table claims drop column next_has_it",
    f"update alembic_version set version_num = '{newest()}'",
)
_IN_THE_MIDDLE = """
    select count(*) from pg_locks
    where relation = 'operator_actions'::regclass and mode = 'AccessExclusiveLock' and not granted
"""


async def _down(scene: Scene[Stack]) -> None:
    await scene.moment()
    await asyncio.to_thread(scene.chance.choice((scene.stack.postgres.stop, scene.stack.postgres.kill)))
    await asyncio.sleep(DOWN_S)
    scene.heals()
    await asyncio.to_thread(scene.stack.postgres.start)


async def _migration_killed(scene: Scene[Stack]) -> None:
    """The migration hangs in its middle on a lock that a reader holds; there it is killed."""
    await scene.moment()
    async with open_stores(scene.stack.settings) as stores:
        await migrate(stores.ledger, _BEFORE_THE_CHAIN, may_lose_data=True)
        migration = scene.stack.migrate_command()
        async with stores.ledger.connect() as reader, stores.ledger.connect() as watcher:
            await reader.execute(text("lock table operator_actions in access share mode"))
            migration.start()
            await _until_in_the_middle(watcher)
            await asyncio.sleep(scene.chance.random())
            pid = migration.pid
            assert pid is not None, "the migration ended by itself"
            os.kill(pid, 9)
            migration.wait(STEP_S_MAX)
        assert await current(stores.ledger) == _BEFORE_THE_CHAIN, "half a migration was kept"
        await _migrate(scene, stores)


async def _old_schema(scene: Scene[Stack]) -> None:
    await scene.moment()
    async with open_stores(scene.stack.settings) as stores:
        await migrate(stores.ledger, _BEFORE, may_lose_data=True)
        await asyncio.to_thread(scene.stack.worker.kill)
        await asyncio.to_thread(scene.stack.worker.start)
        await asyncio.sleep(TOGETHER_S)
        await _migrate(scene, stores)


async def _newer_schema(scene: Scene[Stack]) -> None:
    """The next version was rolled out to the ledger, this worker is still the old one: it waits, and writes nothing."""
    await scene.moment()
    async with open_stores(scene.stack.settings) as stores:
        await _alter(stores, _ON_TO_NEXT)
        await asyncio.to_thread(scene.stack.worker.kill)
        await asyncio.to_thread(scene.stack.worker.start)
        await asyncio.sleep(TOGETHER_S)
        assert not await wait_until_recorded(stores.redis, 1, 0), "the worker writes into tables that it does not know"
        scene.heals()
        await _alter(stores, _BACK_FROM_NEXT)


async def _one_name(scene: Scene[Stack]) -> None:
    """They take up each other's reads; then one of them is stopped, or killed with what it had read."""
    await scene.moment()
    second = Part("second worker", scene.stack.worker_command("worker-1"))
    await asyncio.to_thread(second.start)
    try:
        await asyncio.sleep(TOGETHER_S)
        scene.heals()
        await asyncio.to_thread(scene.chance.choice((second.stop, second.kill)))
    finally:
        await asyncio.to_thread(second.stop)


async def _alter(stores: Stores, statements: tuple[str, ...]) -> None:
    async with stores.ledger.begin() as connection:
        for statement in statements:
            await connection.execute(text(statement))


async def _until_in_the_middle(watcher: AsyncConnection) -> None:
    async with asyncio.timeout(STEP_S_MAX):
        while not await watcher.scalar(text(_IN_THE_MIDDLE)):
            await watcher.rollback()
            await asyncio.sleep(0.02)


async def _migrate(scene: Scene[Stack], stores: Stores) -> None:
    scene.heals()
    again = scene.stack.migrate_command()
    again.start()
    assert await asyncio.to_thread(again.wait, STEP_S_MAX) == 0, "the migration failed"
    assert await current(stores.ledger) == newest()


LEDGER = [
    Fault("postgres-down", f"PostgreSQL is stopped or killed, and away for {DOWN_S:.0f} s", _down, goes_on=True),
    Fault(
        "kill-migration",
        "SIGKILL of `flashclaim migrate` in the middle of a migration",
        _migration_killed,
        goes_on=True,
    ),
    Fault(
        "old-schema",
        "the worker starts on a ledger of the version before, which is then migrated",
        _old_schema,
        goes_on=True,
    ),
    Fault(
        "newer-schema", "the worker starts on a ledger of a later version than it knows", _newer_schema, goes_on=True
    ),
    Fault(
        "one-name",
        f"two workers run under one name for {TOGETHER_S:.0f} s, then one is stopped or killed",
        _one_name,
        goes_on=True,
    ),
]
