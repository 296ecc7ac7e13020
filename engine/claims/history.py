"""The ledger's side of claims: what was recorded, for members, operators and the audit."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.ids import ClaimId, DropId
from engine.ledger.schema import claims

PAGE_ROWS = 10_000


class RecordedClaim(NamedTuple):
    """A claim as the ledger has it; `item` is the item's number in the drop, from 1."""

    claim_id: ClaimId
    item: int
    quantity: int
    member_id: str
    subject: str
    nonce: bytes
    claimed_at: datetime
    released_at: datetime | None


_COLUMNS = (
    claims.c.drop_id,
    claims.c.partition,
    claims.c.serial,
    claims.c.item,
    claims.c.quantity,
    claims.c.member_id,
    claims.c.subject,
    claims.c.nonce,
    claims.c.claimed_at,
    claims.c.released_at,
)
_KEY = (claims.c.drop_id, claims.c.partition, claims.c.serial)


async def find(connection: AsyncConnection, claim_id: ClaimId) -> RecordedClaim | None:
    """One claim by its id (primary key), or None."""
    rows = await connection.execute(
        select(*_COLUMNS).where(
            claims.c.drop_id == claim_id.drop_id,
            claims.c.partition == claim_id.partition,
            claims.c.serial == claim_id.serial,
        )
    )
    row = rows.one_or_none()
    return None if row is None else _claim(tuple(row))


async def of_member(
    connection: AsyncConnection, member_id: str, limit: int, after: ClaimId | None = None
) -> list[RecordedClaim]:
    """A member's claims, the newest first, from the one after `after` on (index `claims_ticket_key`)."""
    order = (claims.c.claimed_at, *_KEY)
    query = select(*_COLUMNS).where(claims.c.member_id == member_id).order_by(*(by.desc() for by in order)).limit(limit)
    if after is not None:
        # Only among the member's own: where another's claim stands must tell no more than one that does not exist.
        last = select(claims.c.claimed_at, *_KEY).where(claims.c.member_id == member_id, tuple_(*_KEY) == tuple(after))
        query = query.where(tuple_(*order) < last.scalar_subquery())
    return [_claim(tuple(row)) for row in await connection.execute(query)]


async def of_drop(connection: AsyncConnection, drop_id: str) -> AsyncIterator[RecordedClaim]:
    """All claims of a drop in the order of their serials, read in pages by primary key."""
    rows = await connection.stream(
        select(*_COLUMNS)
        .where(claims.c.drop_id == drop_id)
        .order_by(claims.c.partition, claims.c.serial)
        .execution_options(yield_per=PAGE_ROWS)
    )
    async for row in rows:
        yield _claim(tuple(row))


async def totals(connection: AsyncConnection, drop_id: str) -> dict[int, tuple[int, int, int]]:
    """Per item: claims recorded, units claimed, units given back (primary key prefix)."""
    rows = await connection.execute(
        select(
            claims.c.item,
            func.count(),
            func.sum(claims.c.quantity),
            func.coalesce(func.sum(claims.c.quantity).filter(claims.c.released_at.is_not(None)), 0),
        )
        .where(claims.c.drop_id == drop_id)
        .group_by(claims.c.item)
    )
    return {item: (count, units, released) for item, count, units, released in rows}


def _claim(row: tuple[object, ...]) -> RecordedClaim:
    drop_id, partition, serial, *rest = row
    return RecordedClaim(ClaimId(DropId(str(drop_id)), int(str(partition)), int(str(serial))), *rest)  # type: ignore[arg-type]
