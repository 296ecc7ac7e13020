"""The ledger's side of drops: read one, list them, record what an operator did."""

from sqlalchemy import Row, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.drops.model import Control, Drop, Status, Verb, after
from engine.drops.spec import DropSpec
from engine.ledger.schema import drops, operator_actions


async def read(connection: AsyncConnection, drop_id: str, *, for_update: bool = False) -> Drop | None:
    """A drop, or None. `for_update` holds its row, so that operators' acts on one drop follow each other."""
    query = select(drops).where(drops.c.id == drop_id)
    row = (await connection.execute(query.with_for_update() if for_update else query)).one_or_none()
    return None if row is None else _drop(row)


async def acted(connection: AsyncConnection, drop: Drop, act: str) -> tuple[Control, Drop] | None:
    """An act that was done on a drop, and the drop as it was after it; by the unique key of drop and act."""
    found = await connection.execute(
        select(operator_actions).where(operator_actions.c.drop_id == drop.id, operator_actions.c.act == act)
    )
    row = found.one_or_none()
    if row is None:
        return None
    control = Control(Verb(row.verb), row.revision, row.actor, row.at, row.act, row.change)
    spec, status = DropSpec.model_validate(row.after["spec"]), Status(row.after["status"])
    return control, Drop(spec, status, row.revision, drop.epoch)


async def listed(connection: AsyncConnection, after_id: str | None, limit: int) -> list[Drop]:
    """Drops in the order of their ids, from the one after `after_id` on; a page by primary key."""
    query = select(drops).order_by(drops.c.id).limit(limit)
    if after_id is not None:
        query = query.where(drops.c.id > after_id)
    return [_drop(row) for row in await connection.execute(query)]


async def record(connection: AsyncConnection, drop_id: str, control: Control) -> Drop:
    """Write an act down, once: whoever comes second, the service or the worker, finds it there.

    Raises what `engine.drops.model.after` raises when the act does not follow from what the ledger has.
    """
    drop = await read(connection, drop_id, for_update=True)
    if drop is not None and drop.revision >= control.revision:
        return drop
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
    await connection.execute(
        insert(drops).values(row).on_conflict_do_update(index_elements=["id"], set_=row, where=is_behind)
    )
    await connection.execute(
        insert(operator_actions)
        .values(
            drop_id=drop_id,
            revision=control.revision,
            verb=str(control.verb),
            actor=control.actor,
            act=control.act,
            at=control.at,
            change=dict(control.change),
            before=None if drop is None else {"status": str(drop.status), "spec": _json(drop)},
            after={"status": str(changed.status), "spec": _json(changed)},
        )
        .on_conflict_do_nothing()
    )
    return changed


def _json(drop: Drop) -> dict[str, object]:
    return drop.spec.model_dump(mode="json", by_alias=True)


def _drop(row: Row[tuple[object, ...]]) -> Drop:
    return Drop(DropSpec.model_validate(row.spec), Status(row.status), row.revision, row.epoch)
