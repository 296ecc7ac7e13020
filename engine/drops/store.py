"""The ledger's side of drops: read one, list them, record what an operator did."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Row, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.drops import times
from engine.drops.model import Control, Drop, Status, Verb, after
from engine.drops.spec import DropSpec
from engine.ledger import paging
from engine.ledger.actions import FORGET_ACTS, Action
from engine.ledger.schema import draws, drops, operator_actions
from engine.notices import service as notices
from engine.notices.model import Event
from engine.schedule import service as schedule

_LAST_TICKET_EXPIRES = """
    select max(least(closes_at, greatest(opens_at, :sealed_until) + make_interval(secs => :ttl_s)))
    from (
        select (a.after->'spec'->>'opens_at')::timestamptz as opens_at,
            (a.after->'spec'->>'closes_at')::timestamptz as closes_at
        from operator_actions a join drops d on d.id = a.drop_id
        where d.status <> 'closed' and a.after->'spec' is not null
    ) as windows
"""


async def read(connection: AsyncConnection, drop_id: str, *, for_update: bool = False) -> Drop | None:
    """A drop, or None. `for_update` holds its row, so that operators' acts on one drop follow each other."""
    query = select(drops).where(drops.c.id == drop_id)
    row = (await connection.execute(query.with_for_update() if for_update else query)).one_or_none()
    return None if row is None else _drop(row)


async def read_all(connection: AsyncConnection, drop_ids: Sequence[str]) -> dict[str, Drop]:
    """Those of some drops that there are, by their ids (primary key)."""
    rows = await connection.execute(select(drops).where(drops.c.id.in_(drop_ids)))
    return {row.id: _drop(row) for row in rows}


async def acted(connection: AsyncConnection, drop: Drop, act: str) -> tuple[Control, Drop] | None:
    """An act that was done on a drop, and the drop as it was after it; by the unique key of drop and act."""
    found = await connection.execute(
        select(operator_actions).where(operator_actions.c.drop_id == drop.id, operator_actions.c.act == act)
    )
    row = found.one_or_none()
    if row is None:
        return None
    control = _control(row)
    spec, status = DropSpec.model_validate(row.after["spec"]), Status(row.after["status"])
    return control, Drop(spec, status, row.revision, drop.epoch)


async def last_act(connection: AsyncConnection, drop: Drop) -> Control | None:
    """The act that made a drop what it is; None for an act from before acts had ids."""
    found = await connection.execute(
        select(operator_actions).where(
            operator_actions.c.drop_id == drop.id, operator_actions.c.revision == drop.revision
        )
    )
    row = found.one_or_none()
    return None if row is None or row.act is None else _control(row)


async def is_committed(connection: AsyncConnection, drop_id: str) -> bool:
    """Whether a draw was committed to (engine/draws/)."""
    found = await connection.scalar(select(draws.c.state).where(draws.c.drop_id == drop_id))
    return found is not None


async def listed(
    connection: AsyncConnection, after_id: str | None, limit: int, among: Sequence[str] | None = None
) -> list[Drop]:
    """Drops in the order of their ids, from the one after `after_id` on; a page by primary key."""
    query = paging.within(paging.page(drops, after_id, limit), drops.c.spec["organisation"].astext, among)
    return [_drop(row) for row in await connection.execute(query)]


async def record(
    connection: AsyncConnection, drop_id: str, control: Control, applied_at: datetime
) -> tuple[Drop, Action | None]:
    """Write what an act made of a drop, once: whoever comes second, the service or the worker, finds it there.

    What the schedule has to do for it from now on is planned with it, and a close is announced.

    The drop, and the action that the caller has to append (engine/ledger/actions.py); None when it was there already.
    Raises what `engine.drops.model.after` raises when the act does not follow from what the ledger has.
    """
    drop = await read(connection, drop_id, for_update=True)
    if drop is not None and drop.revision >= control.revision:
        return drop, None
    changed = after(drop, control)
    row = {
        "id": drop_id,
        "spec": _json(changed),
        "status": str(changed.status),
        "revision": changed.revision,
        "epoch": changed.epoch,
        "updated_at": control.at,
    }
    # A drop that is not there yet cannot be locked: another may have created it, and gone on, since it was read.
    is_behind = drops.c.revision < control.revision
    written = await connection.execute(
        insert(drops).values(row).on_conflict_do_update(index_elements=["id"], set_=row, where=is_behind)
    )
    if written.rowcount == 1:
        await _tell(connection, changed, control.verb)
    return changed, Action(
        object=f"drop:{drop_id}",
        verb=str(control.verb),
        actor=control.actor,
        at=control.at,
        applied_at=applied_at,
        change=dict(control.change),
        before=None if drop is None else _state(drop),
        after=_state(changed),
        drop_id=drop_id,
        revision=control.revision,
        act=control.act,
    )


async def overtake(
    connection: AsyncConnection,
    drop_id: str,
    revision: int,
    epoch: int,
    actor: str,
    at: datetime,
    reason: str,
    *,
    was_launched: bool,
) -> Action | None:
    """Give up acts that the store has and the ledger has not: the next one follows the store's revision and epoch.

    A launched drop is paused by it, for a pause or a close may be among them; and so is a draft that `was_launched` by
    one of them, for its claims name items that must not change any more.

    The action that the caller has to append; None where the ledger is as far by now.
    """
    drop = await read(connection, drop_id, for_update=True)
    if drop is None or drop.revision >= revision:
        return None
    is_open = drop.status is Status.LAUNCHED or (was_launched and drop.status is Status.DRAFT)
    status = Status.PAUSED if is_open else drop.status
    changed = replace(drop, status=status, revision=revision, epoch=max(epoch, drop.epoch))
    values = {"status": str(status), "revision": revision, "epoch": changed.epoch, "updated_at": at}
    await connection.execute(update(drops).where(drops.c.id == drop_id).values(values))
    await _tell(connection, changed, None)
    return Action(
        object=f"drop:{drop_id}",
        verb=FORGET_ACTS,
        actor=actor,
        at=at,
        applied_at=at,
        change={"reason": reason, "first": drop.revision + 1, "last": revision},
        before=_state(drop),
        after=_state(changed),
        drop_id=drop_id,
        revision=revision,
    )


async def _tell(connection: AsyncConnection, drop: Drop, done: Verb | None) -> None:
    """Tell the schedule what is to be done for a drop now, and those who follow events that it was closed."""
    of_drop = f"drop:{drop.id}"
    await schedule.plan(connection, of_drop, times.KINDS, times.jobs(drop))
    if done is Verb.CLOSE:
        await notices.announce(connection, [Event("drop-closed", of_drop)])


def _control(row: Row[tuple[object, ...]]) -> Control:
    return Control(Verb(row.verb), row.revision, row.actor, row.at, row.act, row.change)


def _state(drop: Drop) -> dict[str, object]:
    return {"status": str(drop.status), "epoch": drop.epoch, "spec": _json(drop)}


async def last_ticket_expires(connection: AsyncConnection, sealed_until: datetime, ttl_s: int) -> datetime | None:
    """When the last ticket expires that may have been sealed until a moment; None without a drop that takes claims.

    A ticket keeps the window that its drop had when it was sealed, so every window that the drop ever had counts.
    """
    found: datetime | None = await connection.scalar(
        text(_LAST_TICKET_EXPIRES), {"sealed_until": sealed_until, "ttl_s": ttl_s}
    )
    return found


def _json(drop: Drop) -> dict[str, object]:
    return drop.spec.model_dump(mode="json", by_alias=True)


def _drop(row: Row[tuple[object, ...]]) -> Drop:
    return Drop(DropSpec.model_validate(row.spec), Status(row.status), row.revision, row.epoch)
