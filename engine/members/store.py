"""The ledger's side of members: what is known of each, and what was changed of them."""

import json
import secrets
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import uuid4

from sqlalchemy import Row, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.ledger import actions, paging
from engine.ledger.actions import Action
from engine.ledger.schema import member_changes, members
from engine.members.attributes import Attributes, of_record
from engine.members.model import Session

_SALT_BYTES = 16


class Member(NamedTuple):
    """A member as the ledger has them; `mark` stands for them in the record of acts."""

    id: str
    subject: str
    attributes: Attributes
    updated_at: datetime
    mark: str | None

    @property
    def organisation(self) -> str | None:
        found = self.attributes.get("organisation")
        return found if isinstance(found, str) else None

    def content(self) -> dict[str, Any]:
        """What an operator writes of them."""
        return _content(self.subject, self.attributes)


async def completed(connection: AsyncConnection, session: Session) -> Session:
    """The session with subject and attributes of the member's row (by primary key); as it was where there is none."""
    found = await read(connection, session.member_id)
    return session if found is None else Session(session.member_id, found.subject, session.role, found.attributes)


async def hold(connection: AsyncConnection, member_id: str) -> None:
    """Let nobody else write what is known of a member until the transaction ends, also where there is no row yet."""
    await connection.execute(text("select pg_advisory_xact_lock(hashtextextended(:id, 0))"), {"id": member_id})


async def read(connection: AsyncConnection, member_id: str) -> Member | None:
    """A member by their id (primary key), or None."""
    row = (await connection.execute(select(members).where(members.c.id == member_id))).one_or_none()
    return None if row is None else _member(row)


async def listed(
    connection: AsyncConnection, after_id: str | None, limit: int, among: Sequence[str] | None
) -> list[Member]:
    """Members in the order of their ids; only those of some organisations, if given (index on organisation and id)."""
    query = paging.within(paging.page(members, after_id, limit), members.c.organisation, among)
    return [_member(row) for row in await connection.execute(query)]


async def put(connection: AsyncConnection, member_id: str, subject: str, attributes: Attributes, actor: str) -> Member:
    """Write a member down, or write over what was known of them, for an operator; the member as they were told to be.

    The record of acts, which nobody can alter, keeps a digest of what was changed, under the member's mark; what it was
    lies beside it, with the salt without which the digest tells nothing, and goes with the member.
    """
    await hold(connection, member_id)
    known = await read(connection, member_id)
    now: datetime = (await connection.execute(select(func.now()))).scalar_one()
    mark = (known.mark if known else None) or str(uuid4())
    kept = {name: value for name, value in attributes.items() if name != "organisation"}
    told = Member(member_id, subject, attributes, now, mark)
    row = {
        "id": member_id,
        "subject": subject,
        "attributes": kept,
        "organisation": told.organisation,
        "mark": mark,
        "updated_at": now,
    }
    await connection.execute(insert(members).values(row).on_conflict_do_update(index_elements=["id"], set_=row))
    before, after = known.content() if known else None, told.content()
    salt = await _salt(connection, mark)
    change = {"mark": mark, "at": now, "actor": actor, "before": before, "after": after, "salt": salt}
    await connection.execute(insert(member_changes).values(change))
    act = Action(
        object=f"member:{mark}",
        verb="put",
        actor=actor,
        at=now,
        applied_at=now,
        change={"names": sorted(attributes)},
        before=None if before is None else {"digest": digest(salt, before)},
        after={"digest": digest(salt, after)},
    )
    await actions.append(connection, [act])
    return told


async def changes(connection: AsyncConnection, mark: str) -> list[Row[Any]]:
    """What operators changed of a member, in order (index on the mark)."""
    rows = await connection.execute(
        select(member_changes).where(member_changes.c.mark == mark).order_by(member_changes.c.id)
    )
    return list(rows)


def digest(salt: bytes, content: dict[str, Any]) -> str:
    """What the record of acts keeps of a member's content."""
    return sha256(salt + json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


async def _salt(connection: AsyncConnection, mark: str) -> bytes:
    """One salt for all changes of a member, so that the digest after one is the digest before the next."""
    found: bytes | None = await connection.scalar(
        select(member_changes.c.salt).where(member_changes.c.mark == mark).limit(1)
    )
    return found or secrets.token_bytes(_SALT_BYTES)


def _content(subject: str, attributes: Attributes) -> dict[str, Any]:
    return {
        "subject": subject,
        "attributes": {name: list(v) if isinstance(v, tuple) else v for name, v in sorted(attributes.items())},
    }


def _member(row: Row[Any]) -> Member:
    return Member(row.id, row.subject, of_record(row.attributes, row.organisation), row.updated_at, row.mark)
