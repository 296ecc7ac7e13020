"""What is done for a drop at its times: its opening and its waves are announced, at its end it is closed.

The store decides by its own clock whether a claim is within the window; so nothing is announced or closed before that
clock says so, and a close by the schedule changes no claim's answer: the window has refused it already.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from engine.bounds import LEDGER_LOCK_TIMEOUT, PAGE_ROWS_MAX
from engine.drops import store as drops_store
from engine.drops import times
from engine.drops.model import Actor, Drop, StaleRevision, Status, WrongStatus
from engine.ledger import migrations
from engine.notices import service as notices
from engine.notices.model import Event
from engine.schedule import service
from engine.schedule.handler import Work
from engine.schedule.model import Job, Later

ACTOR = "schedule"
LOOK_AGAIN_S = 5.0  # at a drop that cannot be closed at its end
EARLY_S_MAX = 0.1  # by which the store's clock may be behind for the handler to wait, and not to come again
_OF_DROP = "drop:"


async def opens(jobs: Sequence[Job], work: Work) -> None:
    """Announce drops that have opened."""
    due = await _due(jobs, work)
    await notices.announce(work.connection, [Event("drop-opened", job.object, {"at": job.name}) for job, _ in due])


async def wave(jobs: Sequence[Job], work: Work) -> None:
    """Announce what waves have released."""
    due = await _due(jobs, work)
    happened = [
        Event("wave-released", job.object, {"at": job.name, "stock": _released(drop, job.name)}) for job, drop in due
    ]
    await notices.announce(work.connection, happened)


async def closes(jobs: Sequence[Job], work: Work) -> None:
    """Close drops at their end, each by an act of its own key. The act is announced where it is recorded.

    One that is paused then is left to whoever paused it, for a close is for good: they may have to give more time, or
    to restock what a rebuild found missing. It is closed once it goes on.
    """
    for job, drop in await _due(jobs, work):
        if drop.status is Status.PAUSED:
            raise Later(LOOK_AGAIN_S, "the drop is paused: it is closed once it goes on, unless it gets more time")
        try:
            await work.drops.close(drop.id, Actor(ACTOR, job.key))
        except (WrongStatus, StaleRevision) as error:
            # An operator was quicker, and the next look finds nothing to do; or the ledger was restored to before the
            # store, and somebody has to rebuild the drop first.
            raise Later(LOOK_AGAIN_S, error.detail) from None


async def _due(jobs: Sequence[Job], work: Work) -> list[tuple[Job, Drop]]:
    """The jobs that are still to be done, with their drops, once the store's clock has come to their time too."""
    drops = await drops_store.read_all(work.connection, [job.object.removeprefix(_OF_DROP) for job in jobs])
    planned = {(of, job.kind, job.name) for of, drop in drops.items() for job in times.jobs(drop)}
    named = [(job, job.object.removeprefix(_OF_DROP)) for job in jobs]
    due = [(job, drops[of]) for job, of in named if (of, job.kind, job.name) in planned]
    if due:
        await work.follow()
        early_s = (max(datetime.fromisoformat(job.name) for job, _ in due) - await work.drops.now()).total_seconds()
        if early_s > EARLY_S_MAX:
            raise Later(early_s, "the store's clock has not come to this time yet")
        await asyncio.sleep(max(0.0, early_s))
    return due


def _released(drop: Drop, name: str) -> dict[str, int]:
    """Units of each item that are released at a time."""
    stock: dict[str, int] = {}
    for part in drop.spec.releases():
        for item, quantity in part.stock.items() if times.name(part.at) == name else ():
            stock[item] = stock.get(item, 0) + quantity
    return stock


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
                    await service.plan(connection, f"{_OF_DROP}{drop_id}", times.KINDS, times.jobs(drop))
        if len(page) < PAGE_ROWS_MAX:
            return
        last = page[-1].id
