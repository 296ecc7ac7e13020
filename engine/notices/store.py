"""The ledger's side of notices: inboxes, and the line of events.

Messages of a member are numbered without gaps, in the order in which their transactions commit: whoever tells holds the
member's inbox until the commit. So a reader who has seen number 7 has seen all before it, and whoever asks for number 7
can only mean their own.

Events get their place in the line after their transaction is committed, by whoever reads first: so none comes into the
line behind a reader's back, however late it commits, and no writer waits for another.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.bounds import EVENTS_PLACED_MAX, EVENTS_READ_MAX, MESSAGES_KEPT_MAX
from engine.ledger.schema import events, inboxes, messages
from engine.notices.model import Event, Message, Placed, Received

CHANNEL = "flashclaim_messages"  # PostgreSQL tells on it that somebody was told something
_PLACES_LOCK = 0x706C61636573  # "places": one reader at a time gives places
# In the order of ids, so that two who tell the same members wait for each other and not in a circle.
_OPEN = """
    insert into inboxes (member_id, last)
    select distinct member_id, 0 from unnest(cast(:members as text[])) as t (member_id) order by member_id
    on conflict do nothing
"""
_HOLD = """
    select count(*) from (
        select 1 from inboxes where member_id = any(cast(:members as text[])) order by member_id for update
    ) as held
"""
# A statement of its own behind the lock: it sees what the one before has told.
_TELL = """
    with given as (
        select t.*, row_number() over (partition by t.member_id order by t.at) as ahead
        from unnest(
            cast(:members as text[]), cast(:kinds as text[]), cast(:texts as text[]), cast(:facts as text[]),
            cast(:onces as text[])
        ) with ordinality as t (member_id, kind, texts, facts, once, at)
        where not exists (select from messages m where m.member_id = t.member_id and m.once = t.once)
    ), told as (
        insert into messages (member_id, number, kind, texts, facts, once)
        select g.member_id, i.last + g.ahead, g.kind, g.texts::jsonb, g.facts::jsonb, g.once
        from given g join inboxes i on i.member_id = g.member_id
        returning member_id, number, kind
    ), numbered as (
        update inboxes i set last = t.last
        from (select member_id, max(number) as last from told group by member_id) as t
        where i.member_id = t.member_id
    ), said as (
        insert into events (kind, object, payload)
        select 'message-told', 'member:' || member_id, jsonb_build_object('number', number, 'kind', kind) from told
    )
    select count(*) from told
"""
_MAKE_ROOM = """
    delete from messages m using inboxes i
    where i.member_id = any(cast(:members as text[])) and i.last > :kept
        and m.member_id = i.member_id and m.number <= i.last - :kept
"""
# For each stream its member's messages past a number, by the primary key.
_NEWER = """
    select s.at - 1 as stream, m.* from unnest(cast(:members as text[]), cast(:numbers as int[]))
        with ordinality as s (member_id, number, at)
    cross join lateral (
        select member_id, number, kind, texts, facts, created_at, read_at from messages
        where messages.member_id = s.member_id and messages.number > s.number order by messages.number limit :limit
    ) as m order by s.at, m.number
"""
_ANNOUNCE = """
    insert into events (kind, object, payload)
    select kind, object, payload::jsonb
    from unnest(cast(:kinds as text[]), cast(:objects as text[]), cast(:payloads as text[]))
        with ordinality as t (kind, object, payload, at) order by at
"""
_PLACE = """
    update events set place = line.last + waiting.ahead
    from (select coalesce(max(place), 0) as last from events) as line,
        (select id, row_number() over (order by id) as ahead from (
            select id from events where place is null order by id limit :limit
        ) as first) as waiting
    where events.id = waiting.id
"""


async def tell(connection: AsyncConnection, written: Sequence[tuple[Message, str, str]]) -> int:
    """Put messages, each with its texts and its facts as JSON, into inboxes; how many were not told before.

    Whoever tells some of these members at the same time waits until this transaction ends.
    """
    members = [message.member_id for message, _, _ in written]
    rows = {
        "members": members,
        "kinds": [message.kind for message, _, _ in written],
        "texts": [texts for _, texts, _ in written],
        "facts": [facts for _, _, facts in written],
        "onces": [message.once for message, _, _ in written],
    }
    everybody = {"members": sorted(set(members))}
    await connection.execute(text(_OPEN), everybody)
    await connection.execute(text(_HOLD), everybody)
    told: int = await connection.scalar(text(_TELL), rows) or 0
    if told:
        await connection.execute(text(_MAKE_ROOM), everybody | {"kept": MESSAGES_KEPT_MAX})
        await connection.execute(select(func.pg_notify(CHANNEL, "")))
    return told


async def last(connection: AsyncConnection, member_id: str) -> int:
    """The highest number in an inbox; 0 where nothing was ever told."""
    found: int | None = await connection.scalar(select(inboxes.c.last).where(inboxes.c.member_id == member_id))
    return found or 0


async def page(connection: AsyncConnection, member_id: str, before: int | None, limit: int) -> list[Received]:
    """Messages of a member, the newest first, those below a number (primary key, backwards)."""
    query = select(messages).where(messages.c.member_id == member_id).order_by(messages.c.number.desc()).limit(limit)
    rows = await connection.execute(query if before is None else query.where(messages.c.number < before))
    return [_received(row) for row in rows]


async def unread(connection: AsyncConnection, member_id: str) -> int:
    """How many messages are not read; of the few that are kept."""
    query = select(func.count()).select_from(messages)
    found = await connection.scalar(query.where(messages.c.member_id == member_id, messages.c.read_at.is_(None)))
    return found or 0


async def read(connection: AsyncConnection, member_id: str, number: int) -> datetime | None:
    """Mark a message as read; when it was first read, or None where there is none."""
    this = (messages.c.member_id == member_id, messages.c.number == number)
    await connection.execute(update(messages).where(*this, messages.c.read_at.is_(None)).values(read_at=func.now()))
    found: datetime | None = await connection.scalar(select(messages.c.read_at).where(*this))
    return found


async def read_until(connection: AsyncConnection, member_id: str, number: int) -> int:
    """Mark a message and all before it as read; how many were not."""
    these = (messages.c.member_id == member_id, messages.c.number <= number, messages.c.read_at.is_(None))
    done = await connection.execute(update(messages).where(*these).values(read_at=func.now()))
    return done.rowcount


async def newer(
    connection: AsyncConnection, streams: Sequence[tuple[str, int]], limit: int
) -> list[tuple[int, Received]]:
    """For streams (member, number that was seen): which one, and the next messages of its member, in order."""
    asked = {"members": [member for member, _ in streams], "numbers": [number for _, number in streams], "limit": limit}
    return [(row.stream, _received(row)) for row in await connection.execute(text(_NEWER), asked)]


async def forget(connection: AsyncConnection, member_id: str) -> None:
    """Take an inbox away, with all that is in it, and the events that tell of it."""
    for table, column in ((messages, messages.c.member_id), (inboxes, inboxes.c.member_id)):
        await connection.execute(table.delete().where(column == member_id))
    await connection.execute(events.delete().where(events.c.object == f"member:{member_id}"))


async def announce(connection: AsyncConnection, happened: Sequence[Event]) -> None:
    """Write events down, in their order, in the transaction that does what they tell."""
    if happened:
        rows = {
            "kinds": [event.kind for event in happened],
            "objects": [event.object for event in happened],
            "payloads": [json.dumps(event.payload, ensure_ascii=False) for event in happened],
        }
        await connection.execute(text(_ANNOUNCE), rows)


async def events_after(connection: AsyncConnection, cursor: int, limit: int = EVENTS_READ_MAX) -> list[Placed]:
    """The next events in the line behind a place (0: from the beginning), in order; none is ever skipped.

    It may give places, which are there for others once the caller's transaction is committed: commit before you send.
    """
    got = text("select exists (select from events where place is null) and pg_try_advisory_xact_lock(:key)")
    if await connection.scalar(got, {"key": _PLACES_LOCK}):
        await connection.execute(text(_PLACE), {"limit": EVENTS_PLACED_MAX})
    query = select(events).where(events.c.place > cursor).order_by(events.c.place).limit(limit)
    return [
        Placed(row.place, Event(row.kind, row.object, row.payload), row.created_at)
        for row in await connection.execute(query)
    ]


def _received(row: Row[Any]) -> Received:
    return Received(*(getattr(row, name) for name in Received._fields))
