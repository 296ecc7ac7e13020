"""The promise: the ledger's record of a drop only goes forward, whoever writes an act down first, or late."""

import asyncio
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from engine.drops import store
from engine.drops.model import Control, Status, Verb
from tests.factories.drops import drop_json

WAITS_S = 0.3


def control(verb: Verb, revision: int) -> Control:
    change = {"spec": drop_json("trial")} if verb is Verb.CREATE else {}
    return Control(verb, revision, "boss", datetime.now(UTC), f"act-{revision}", change)


async def test_a_creation_that_is_recorded_late_does_not_undo_the_launch(ledger: AsyncEngine) -> None:
    """The worker records the creation from the outbox while the service records it too, and the launch after it."""
    create, launch = control(Verb.CREATE, 1), control(Verb.LAUNCH, 2)

    async def record_late() -> None:
        async with ledger.begin() as connection:
            await store.record(connection, "trial", create, create.at)

    async with ledger.begin() as service:
        await store.record(service, "trial", create, create.at)
        late = asyncio.create_task(record_late())
        await asyncio.sleep(WAITS_S)  # it has found no drop, and waits for this transaction to insert its own
        await store.record(service, "trial", launch, launch.at)
    await late
    async with ledger.connect() as connection:
        drop = await store.read(connection, "trial")
    assert drop is not None
    assert (drop.status, drop.revision) == (Status.LAUNCHED, 2)
