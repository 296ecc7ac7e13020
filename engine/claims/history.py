"""The ledger's side of claims: what was recorded, for members, operators and the audit."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, Row, cast, extract, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.drops.model import from_ms
from engine.ids import ClaimId
from engine.ledger.schema import claims, operator_actions

PAGE_ROWS = 10_000
_PLAYS_ROWS = 2_000  # a few ms of the event loop


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
    town: int = 0
    slogan: int = 0


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
    claims.c.town,
    claims.c.slogan,
)


class Group(NamedTuple):
    """Claims that every counter of the store counts alike."""

    item: int
    town: int
    slogan: int


_GROUP = (claims.c.item, claims.c.town, claims.c.slogan)
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
    return None if row is None else _claim(row)


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
    return [_claim(row) for row in await connection.execute(query)]


async def of_drop(connection: AsyncConnection, drop_id: str) -> AsyncIterator[list[RecordedClaim]]:
    """All claims of a drop in the order of their serials, in pages (primary key)."""
    rows = await connection.stream(
        select(*_COLUMNS)
        .where(claims.c.drop_id == drop_id)
        .order_by(claims.c.partition, claims.c.serial)
        .execution_options(yield_per=PAGE_ROWS)
    )
    async for page in rows.partitions():
        yield [_claim(row) for row in page]


async def plays(connection: AsyncConnection, drop_id: str) -> AsyncIterator[Sequence[Row[int, int, int, int]]]:
    """Of each claim of a drop: partition, serial, item, and when, in ms; in pages (primary key).

    Also of millions, beside the requests of a process: no row is made into more than it is.
    """
    claimed_ms = cast(func.round(extract("epoch", claims.c.claimed_at) * 1000), BigInteger)
    rows = await connection.stream(
        select(claims.c.partition, claims.c.serial, claims.c.item, claimed_ms)
        .where(claims.c.drop_id == drop_id)
        .order_by(claims.c.partition, claims.c.serial)
        .execution_options(yield_per=_PLAYS_ROWS)
    )
    async for page in rows.partitions():
        yield page


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


async def window(
    connection: AsyncConnection, drop_id: str, partition: int, after_serial: int, limit: int
) -> list[RecordedClaim]:
    """The next claims of a drop in one partition by serial (primary key)."""
    query = select(*_COLUMNS).where(*_in(drop_id, partition), claims.c.serial > after_serial)
    rows = await connection.execute(query.order_by(claims.c.serial).limit(limit))
    return [_claim(row) for row in rows]


async def last_serial(connection: AsyncConnection, drop_id: str, partition: int) -> int:
    """The highest serial that is recorded (primary key); 0 for none."""
    return await connection.scalar(select(func.max(claims.c.serial)).where(*_in(drop_id, partition))) or 0


async def sums(
    connection: AsyncConnection, drop_id: str, partition: int, first: int, last: int
) -> dict[Group, tuple[int, int]]:
    """Per group: claims and units of the serials from `first` to `last` (primary key)."""
    rows = await connection.execute(
        select(*_GROUP, func.count(), func.sum(claims.c.quantity))
        .where(*_in(drop_id, partition), claims.c.serial.between(first, last))
        .group_by(*_GROUP)
    )
    return {Group(*of): (count, units) for *of, count, units in rows}


async def returned(
    connection: AsyncConnection, drop_id: str, partition: int, last: int, until_ms: int
) -> dict[Group, tuple[int, int]]:
    """Per group: units given back until a moment and later, of serials up to `last` (index `claims_released_idx`)."""
    is_by_then = claims.c.released_at <= from_ms(until_ms)
    rows = await connection.execute(
        select(
            *_GROUP,
            func.coalesce(func.sum(claims.c.quantity).filter(is_by_then), 0),
            func.coalesce(func.sum(claims.c.quantity).filter(~is_by_then), 0),
        )
        .where(*_in(drop_id, partition), claims.c.released_at.is_not(None), claims.c.serial <= last)
        .group_by(*_GROUP)
    )
    return {Group(*of): (by_then, later) for *of, by_then, later in rows}


async def skipped(connection: AsyncConnection, drop_id: str, partition: int) -> list[tuple[int, int]]:
    """Serials (first, last) that the last rebuild left out: somebody was told of them, nobody has proved them."""
    acts = operator_actions.c
    change = await connection.scalar(
        select(acts.change)
        .where(acts.drop_id == drop_id, acts.verb == "rebuild")
        .order_by(acts.revision.desc())
        .limit(1)
    )
    gaps = (change or {}).get("skipped", [])
    return [(first, last) for of, first, last in gaps if of == partition]


def _in(drop_id: str, partition: int) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return claims.c.drop_id == drop_id, claims.c.partition == partition


def _claim(row: Any) -> RecordedClaim:
    drop_id, partition, serial, *rest = row
    return RecordedClaim(ClaimId(drop_id, partition, serial), *rest)
