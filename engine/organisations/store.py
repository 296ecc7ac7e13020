"""The ledger's side of organisations."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ARRAY, Row, Text, any_, literal, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.bounds import ORGANISATION_DEPTH_MAX
from engine.ledger import paging
from engine.ledger.schema import organisations
from engine.organisations.model import Organisation

_ROWS_AT_ONCE = 1_000
# Up to the root, by the primary key; the depth bounds what a broken tree would cost.
_PATH = f"""
    with recursive up as (
        select id, parent, 1 as depth from organisations where id = :organisation
        union all
        select o.id, o.parent, depth + 1 from organisations o join up on o.id = up.parent
            where depth <= {ORGANISATION_DEPTH_MAX}
    )
    select id from up order by depth
"""
# Down to the leaves, by the index on parent.
_UNDER = f"""
    with recursive down as (
        select cast(:root as text) as id, 1 as depth
        union all
        select o.id, depth + 1 from organisations o join down on o.parent = down.id
            where depth <= {ORGANISATION_DEPTH_MAX}
    )
    select id from down
"""


async def parents(connection: AsyncConnection) -> dict[str, str | None]:
    """The whole tree: each organisation's parent."""
    rows = await connection.execute(select(organisations.c.id, organisations.c.parent))
    return {row.id: row.parent for row in rows}


async def path(connection: AsyncConnection, organisation: str) -> tuple[str, ...]:
    """An organisation and those above it, up to the root; empty where the ledger does not know it."""
    return tuple(await connection.scalars(text(_PATH), {"organisation": organisation}))


async def under(connection: AsyncConnection, root: str) -> list[str]:
    """A root, whether or not the ledger knows it, and all that is under it."""
    return list(await connection.scalars(text(_UNDER), {"root": root}))


async def read(connection: AsyncConnection, ids: Sequence[str]) -> dict[str, Organisation]:
    """Some organisations by their ids; without those that are not there."""
    rows = await connection.execute(
        select(organisations).where(organisations.c.id == any_(literal(list(ids), ARRAY(Text))))
    )
    return {row.id: _organisation(row) for row in rows}


async def listed(
    connection: AsyncConnection, after_id: str | None, limit: int, among: Sequence[str] | None
) -> list[Organisation]:
    """Organisations in the order of their ids, from the one after `after_id` on; only those `among` some, if given."""
    query = paging.within(paging.page(organisations, after_id, limit), organisations.c.id, among)
    return [_organisation(row) for row in await connection.execute(query)]


async def hold(connection: AsyncConnection) -> None:
    """Let nobody else change the tree until the transaction ends: two changes could make a circle of it."""
    await connection.execute(text("lock table organisations in share row exclusive mode"))


async def put(connection: AsyncConnection, given: Iterable[Organisation]) -> None:
    """Write organisations down, parents before those under them."""
    rows = [{name: getattr(found, name) for name in ("id", "parent", "kind", "title", "town")} for found in given]
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        query = insert(organisations).values(rows[start : start + _ROWS_AT_ONCE])
        changed = {name: query.excluded[name] for name in ("parent", "kind", "title", "town")}
        await connection.execute(query.on_conflict_do_update(index_elements=["id"], set_=changed))


def _organisation(row: Row[Any]) -> Organisation:
    return Organisation(id=row.id, kind=row.kind, title=row.title, parent=row.parent, town=row.town)
