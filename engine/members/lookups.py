"""Asks the ledger of many members at once: what comes while one question is under way goes into the next.

At the opening of a drop for a list thousands ask in the same second: a query for each costs a process half a
millisecond, one for hundreds of them a hundredth of that.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from engine.bounds import KNOWN_AT_ONCE_MAX, ORGANISATION_DEPTH_MAX
from engine.members.model import Session
from engine.members.predicate import Known, Predicate

# By primary keys: on which lists members stand, and the way up from their organisation. That is the session's, or the
# ledger's where the session does not say.
_KNOWN = f"""
    with recursive asked as (
        select * from unnest(cast(:members as text[]), cast(:subjects as text[]), cast(:organisations as text[]))
            with ordinality as a(member, subject, organisation, place)
    ), own as (
        select a.place, a.member, a.subject, coalesce(a.organisation, m.organisation) as id
        from asked a left join members m on m.id = a.member
    ), up as (
        select o.id as leaf, o.id, o.parent, 1 as depth from organisations o where o.id in (select id from own)
        union all
        select up.leaf, o.id, o.parent, depth + 1 from organisations o join up on o.id = up.parent
            where depth <= {ORGANISATION_DEPTH_MAX}
    )
    select own.id as own, array(select up.id from up where up.leaf = own.id order by depth) as path,
        array(select distinct l.list from list_members l
            where l.list = any(cast(:lists as text[])) and l.member in (own.member, own.subject)) as lists
    from own order by own.place
"""


class _Asked(NamedTuple):
    session: Session
    lists: frozenset[str]
    segments: Mapping[str, Predicate]
    answer: "asyncio.Future[Known]"


class Lookups:
    """The questions of one process."""

    def __init__(self, ledger: AsyncEngine) -> None:
        self._ledger = ledger
        self._waiting: list[_Asked] = []
        self._working: asyncio.Task[None] | None = None

    async def known(self, session: Session, lists: frozenset[str], segments: Mapping[str, Predicate]) -> Known:
        """What the ledger says of a session's member: on which of some lists they are, and where their organisation is.

        `segments` come back as they are given. Raises the ledger's errors.
        """
        answer: asyncio.Future[Known] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Asked(session, lists, segments, answer))
        if self._working is None:
            self._working = asyncio.create_task(self._work())
        return await answer

    async def _work(self) -> None:
        try:
            while self._waiting:
                asked, self._waiting = self._waiting[:KNOWN_AT_ONCE_MAX], self._waiting[KNOWN_AT_ONCE_MAX:]
                await self._answer(asked)
        finally:
            self._working = None

    async def _answer(self, asked: Sequence[_Asked]) -> None:
        try:
            async with self._ledger.connect() as connection:
                found = await _ask(connection, asked)
        except Exception as error:  # noqa: BLE001 (whatever broke, each who waits is told)
            for one in asked:
                if not one.answer.done():
                    one.answer.set_exception(error)
            return
        for one, known in zip(asked, found, strict=True):
            if not one.answer.done():  # its client may have gone
                one.answer.set_result(known)


async def _ask(connection: AsyncConnection, asked: Sequence[_Asked]) -> list[Known]:
    given = {
        "members": [one.session.member_id for one in asked],
        "subjects": [one.session.subject for one in asked],
        "organisations": [one.session.attributes.get("organisation") for one in asked],
        "lists": sorted(frozenset[str]().union(*(one.lists for one in asked))),
    }
    rows = (await connection.execute(text(_KNOWN), given)).all()
    return [
        Known(one.lists.intersection(row.lists), tuple(row.path) or ((row.own,) if row.own else ()), one.segments)
        for one, row in zip(asked, rows, strict=True)
    ]
