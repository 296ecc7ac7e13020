"""The ledger's side of members: for those whose session token carries no attributes."""

from collections.abc import Mapping

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.ledger.schema import members
from engine.members.model import Session


async def completed(connection: AsyncConnection, session: Session) -> Session:
    """The session with subject and attributes of the member's row (by primary key); as it was where there is none."""
    found = await connection.execute(select(members).where(members.c.id == session.member_id))
    row = found.one_or_none()
    return session if row is None else Session(session.member_id, row.subject, session.role, row.attributes)


async def put(connection: AsyncConnection, member_id: str, subject: str, attributes: Mapping[str, str]) -> None:
    """Write a member down, or write over what was known of them."""
    row = {"id": member_id, "subject": subject, "attributes": dict(attributes), "updated_at": func.now()}
    await connection.execute(insert(members).values(row).on_conflict_do_update(index_elements=["id"], set_=row))
