"""The store is replaced by a replica that lacks what was written last; a rebuild is killed in its middle."""

import asyncio
import os
import sys
from functools import partial
from pathlib import Path

from redis.asyncio import Redis
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.claims import keys
from engine.drops.model import Status, Verb
from engine.ledger.audit import wait_until_recorded
from engine.ledger.schema import drops
from engine.runtime.connections import Stores, open_stores
from engine.runtime.servers import EmbeddedValkey
from tests.faults.proxy import STALLED
from tests.faults.scene import Fault, Scene
from tests.faults.stack import Part, Stack

LAGS_S = 1.0
STEP_S_MAX = 30.0
_STATUS_AND_EPOCH = select(drops.c.status, drops.c.epoch)


async def _promoted(scene: Scene[Stack]) -> None:
    """What the replica lacks and the ledger has comes back by itself; what the ledger lacks too, by receipts."""
    replica = await _replica(scene)
    await scene.moment()
    scene.stack.lines["replica", "valkey"].carry(STALLED)
    await asyncio.sleep(LAGS_S)
    await asyncio.to_thread(scene.stack.valkey.kill)
    scene.heals()
    await asyncio.to_thread(scene.stack.promote, replica)
    await _brought_back(scene)


async def _outlived(scene: Scene[Stack]) -> None:
    """The API goes on with the old primary until the ledger names the new one; half the time the worker does too."""
    replica = await _replica(scene)
    await scene.moment()
    stays = frozenset(scene.chance.choice((("api",), ("api", "worker"))))
    await asyncio.to_thread(partial(scene.stack.promote, replica, stays=stays))
    scene.heals()
    await _brought_back(scene)


async def _replica(scene: Scene[Stack]) -> Part:
    scene.rush.may_refuse |= {"wrong-status", "paused"}
    replica = await asyncio.to_thread(scene.stack.start_replica)
    await _synced(replica)
    return replica


async def _brought_back(scene: Scene[Stack]) -> None:
    async with asyncio.timeout(STEP_S_MAX):
        status = await _rebuilt(scene)
    scene.expected += [Verb.REBUILD]
    if status is Status.PAUSED:
        await _bring_receipts(scene)


async def _synced(replica: Part) -> None:
    assert isinstance(replica.server, EmbeddedValkey)
    async with Redis.from_url(replica.server.url) as client:
        async with asyncio.timeout(STEP_S_MAX):
            while (await client.info("replication"))["master_link_status"] != "up":  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def _rebuilt(scene: Scene[Stack]) -> Status:
    """Wait until the worker has rebuilt the drop; the status that it left, whatever an operator did before."""
    async with open_stores(scene.stack.settings) as stores:
        while True:
            async with stores.ledger.connect() as connection:
                row = (await connection.execute(_STATUS_AND_EPOCH.where(drops.c.id == scene.rush.drop_id))).one()
            if row.epoch > 1:
                return Status(row.status)
            await asyncio.sleep(0.05)


async def _bring_receipts(scene: Scene[Stack]) -> None:
    """An operator brings what members hold, and lets the drop go on."""
    receipts = scene.stack.place / "receipts.txt"
    receipts.write_text("".join(f"{claim['receipt']}\n" for claim in scene.rush.told.claims))
    command = ["rebuild", scene.rush.drop_id, "--receipts", str(receipts), "--apply", "--data", str(scene.stack.place)]
    await _run(scene, command)
    receipts.unlink()
    scene.expected += [Verb.REBUILD, Verb.RESUME]
    await scene.rush.resume()


async def _run(scene: Scene[Stack], arguments: list[str]) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli", *arguments,
        env={**os.environ, **scene.stack.environment("worker")},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await asyncio.wait_for(process.communicate(), STEP_S_MAX)
    assert process.returncode == 0, said.decode()


async def _rebuild_killed(scene: Scene[Stack]) -> None:
    """It has fenced the drop and made its claims, and waits for the drop's row; there it is killed."""
    await scene.moment()
    work = scene.stack.rebuild_command(scene.rush.drop_id)
    async with open_stores(scene.stack.settings) as stores, stores.ledger.connect() as reader:
        await _hold_row(reader, stores, scene.rush.drop_id)
        await asyncio.to_thread(work.start)
        async with asyncio.timeout(STEP_S_MAX):
            while not await stores.redis.exists(keys.made(0, scene.rush.drop_id)):  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        await asyncio.sleep(scene.chance.random() * 0.2)
        pid = work.pid
        assert pid is not None, "the rebuild ended by itself"
        os.kill(pid, 9)
        work.wait(STEP_S_MAX)
        await reader.rollback()
        scene.heals()
    async with asyncio.timeout(STEP_S_MAX):
        await _rebuilt(scene)  # the worker carries on what was cut off
    scene.expected += [Verb.REBUILD]


async def _hold_row(reader: AsyncConnection, stores: Stores, drop_id: str) -> None:
    """Lock the drop's row with no act in the outbox: the worker would wait for the row, and the rebuild for it."""
    async with asyncio.timeout(STEP_S_MAX):
        while True:
            await reader.execute(_STATUS_AND_EPOCH.where(drops.c.id == drop_id).with_for_update())
            if await wait_until_recorded(stores.redis, 1, 1.0):
                return
            await reader.rollback()


def _stack(place: Path) -> Stack:
    """One of its own: a promoted replica is not what other faults begin with."""
    return Stack(place)


FAILOVER = [
    Fault(
        "replica-promoted",
        f"the replica hears nothing for {LAGS_S:.0f} s, the primary is killed, the replica takes its place",
        _promoted,
        _stack,
    ),
    Fault(
        "primary-outlives",
        "a replica takes the place of the primary, which lives on with the API's connections, or with the worker's too",
        _outlived,
        _stack,
    ),
    Fault("kill-rebuild", "SIGKILL of `flashclaim rebuild` in the middle of a rebuild", _rebuild_killed),
]
