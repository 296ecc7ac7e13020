"""The ledger's side of lists and segments: names for some of the members, of which drops make use."""

from collections.abc import Collection, Mapping
from datetime import date, datetime
from typing import Any, NamedTuple

from sqlalchemy import ARRAY, Text, any_, func, literal, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.bounds import ORGANISATION_DEPTH_MAX
from engine.ledger.schema import list_members, lists, members, segments
from engine.members.model import Session
from engine.members.predicate import Known, Predicate
from engine.members.selection import Named, selection

# By primary keys: on which lists a member stands, and the way up from their organisation. That is the session's, or
# the ledger's where the session does not say.
_KNOWN = f"""
    with recursive own as (
        select coalesce(cast(:organisation as text), (select organisation from members where id = :member)) as id
    ), up as (
        select o.id, o.parent, 1 as depth from organisations o join own on o.id = own.id
        union all
        select o.id, o.parent, depth + 1 from organisations o join up on o.id = up.parent
            where depth <= {ORGANISATION_DEPTH_MAX}
    )
    select (select id from own) as own, array(select id from up order by depth) as path,
        array(select distinct list from list_members
            where list = any(cast(:lists as text[])) and member in (:member, :subject)) as lists
"""


class ListFigures(NamedTuple):
    name: str
    members: int
    updated_at: datetime


async def known(
    connection: AsyncConnection, session: Session, on: Collection[str], of: Mapping[str, Predicate]
) -> Known:
    """What the ledger says of a session's member: on which of some lists they are, and where their organisation is."""
    given = {
        "member": session.member_id,
        "subject": session.subject,
        "organisation": session.attributes.get("organisation"),
        "lists": sorted(on),
    }
    row = (await connection.execute(text(_KNOWN), given)).one()
    path = tuple(row.path) or ((row.own,) if row.own else ())
    return Known(frozenset(row.lists), path, of)


async def named_segments(connection: AsyncConnection, names: Collection[str]) -> dict[str, Predicate]:
    """Some segments by their names; without those that are not there."""
    is_named = segments.c.name == any_(literal(list(names), ARRAY(Text)))
    rows = await connection.execute(select(segments.c.name, segments.c.predicate).where(is_named))
    return {row.name: Predicate.model_validate(row.predicate) for row in rows}


async def segments_listed(connection: AsyncConnection) -> dict[str, Predicate]:
    rows = await connection.execute(select(segments.c.name, segments.c.predicate).order_by(segments.c.name))
    return {row.name: Predicate.model_validate(row.predicate) for row in rows}


async def put_segment(connection: AsyncConnection, name: str, predicate: Predicate) -> None:
    row = {"name": name, "predicate": predicate.model_dump(mode="json"), "updated_at": func.now()}
    await connection.execute(insert(segments).values(row).on_conflict_do_update(index_elements=["name"], set_=row))


async def count(connection: AsyncConnection, predicate: Predicate, today: date, named: Named) -> int:
    """How many members a predicate holds for: a look at every row."""
    query = select(func.count()).select_from(members).where(selection(predicate, today, named))
    return await connection.scalar(query) or 0


async def list_names(connection: AsyncConnection) -> list[str]:
    return list(await connection.scalars(select(lists.c.name).order_by(lists.c.name)))


async def lists_listed(connection: AsyncConnection) -> list[ListFigures]:
    """The lists with how many stand on each."""
    sizes = select(list_members.c.list, func.count().label("members")).group_by(list_members.c.list).subquery()
    rows: Any = await connection.execute(
        select(lists.c.name, func.coalesce(sizes.c.members, 0), lists.c.updated_at)
        .join(sizes, sizes.c.list == lists.c.name, isouter=True)
        .order_by(lists.c.name)
    )
    return [ListFigures(*row) for row in rows]
