"""The ledger's side of members: for those whose session token carries no attributes."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.ledger import actions
from engine.ledger.actions import Action
from engine.ledger.schema import members
from engine.members.model import Session


async def completed(connection: AsyncConnection, session: Session) -> Session:
    """The session with subject and attributes of the member's row (by primary key); as it was where there is none."""
    found = await connection.execute(select(members).where(members.c.id == session.member_id))
    row = found.one_or_none()
    return session if row is None else Session(session.member_id, row.subject, session.role, row.attributes)


async def put(
    connection: AsyncConnection, member_id: str, subject: str, attributes: Mapping[str, str], actor: str
) -> None:
    """Write a member down, or write over what was known of them, for an operator."""
    known = (await connection.execute(select(members).where(members.c.id == member_id).with_for_update())).one_or_none()
    now: datetime = (await connection.execute(select(func.now()))).scalar_one()
    told = {"subject": subject, "attributes": dict(attributes)}
    row = {"id": member_id, **told, "updated_at": now}
    await connection.execute(insert(members).values(row).on_conflict_do_update(index_elements=["id"], set_=row))
    before = None if known is None else {"subject": known.subject, "attributes": known.attributes}
    await actions.append(
        connection,
        [Action(f"member:{member_id}", "put", actor, at=now, applied_at=now, change=told, before=before, after=told)],
    )
