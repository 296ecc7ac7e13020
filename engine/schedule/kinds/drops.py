"""What is done for a drop at its times: its opening and its waves are announced, at its end it is closed.

The store decides by its own clock whether a claim is within the window; so nothing is announced or closed before that
clock says so, and a close by the schedule changes no claim's answer: the window has refused it already.
"""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from engine.bounds import LEDGER_LOCK_TIMEOUT, PAGE_ROWS_MAX
from engine.drops import store as drops_store
from engine.drops import times
from engine.drops.model import Actor, Drop, Status, WrongStatus
from engine.ledger import migrations
from engine.notices import service as notices
from engine.notices.model import Event
from engine.schedule import service
from engine.schedule.handler import Work
from engine.schedule.model import Job, Later

ACTOR = "schedule"
PAUSED_LOOK_S = 5.0  # between two looks at a drop that is paused at its end


async def opens(job: Job, work: Work) -> None:
    """Announce that a drop has opened."""
    if await _when_due(job, work) is not None:
        await notices.announce(work.connection, [Event("drop-opened", job.object, {"at": job.name})])


async def wave(job: Job, work: Work) -> None:
    """Announce what a wave has released."""
    drop = await _when_due(job, work)
    if drop is not None:
        stock: dict[str, int] = {}
        for part in drop.spec.releases():
            if times.name(part.at) == job.name:
                stock = {item: stock.get(item, 0) + part.stock.get(item, 0) for item in {**stock, **part.stock}}
        await notices.announce(work.connection, [Event("wave-released", job.object, {"at": job.name, "stock": stock})])


async def closes(job: Job, work: Work) -> None:
    """Close a drop at its end, by an act of its own key. The act is announced where it is recorded.

    One that is paused then is left to whoever paused it, for a close is for good: they may have to give more time, or
    to restock what a rebuild found missing. It is closed once it goes on.
    """
    drop = await _when_due(job, work)
    if drop is None:
        return
    if drop.status is Status.PAUSED:
        raise Later(PAUSED_LOOK_S, "the drop is paused: it is closed once it goes on, unless it gets more time")
    try:
        await work.drops.close(drop.id, Actor(ACTOR, job.key))
    except WrongStatus as error:
        raise Later(1.0, error.detail) from None  # an operator was quicker: there is nothing to do at the next look


async def _when_due(job: Job, work: Work) -> Drop | None:
    """The drop, once the store's clock has come to the job's time too; None where its times are others by now."""
    drop = await work.drops.read(job.object.removeprefix("drop:"))
    if (job.kind, job.name) not in {(planned.kind, planned.name) for planned in times.jobs(drop)}:
        return None
    await work.follow()
    early_s = (datetime.fromisoformat(job.name) - await work.drops.now()).total_seconds()
    if early_s > 0:
        raise Later(early_s, "the store's clock has not come to this time yet")
    return drop


async def plan_open(ledger: AsyncEngine) -> None:
    """Plan the jobs of drops from before there was a schedule, also those of a backup from then; others stay."""
    last: str | None = None
    while True:
        async with ledger.connect() as connection:
            page = await drops_store.listed(connection, last, PAGE_ROWS_MAX)
        for drop_id in [drop.id for drop in page if times.jobs(drop)]:
            async with ledger.begin() as connection:
                await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
                drop = await drops_store.read(connection, drop_id, for_update=True)
                if drop is not None:
                    await service.plan(connection, f"drop:{drop_id}", times.KINDS, times.jobs(drop))
        if len(page) < PAGE_ROWS_MAX:
            return
        last = page[-1].id
