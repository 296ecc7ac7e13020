"""Erases a member: what is known of them goes, what they were given stays counted, under a pseudonym that is nobody's.

In this order, so that it may be cut off anywhere and goes on by itself:
1. asked: a row with the pseudonyms, of the member and of each subject under which the store may have claims of theirs;
2. held back while a drop is open on which they hold claims: their limit counts there. It is done once those are closed;
3. for each closed drop, under the lock of its rebuild: the ledger's rows get the pseudonym, then the store's;
4. their row, their places on lists, what was changed of them, their inbox with the events that tell of it, and the
   first row go, in one transaction with the act; prizes, points and quizzes of the person stay, under the pseudonym.

Between the two halves of 3 the store has a subject that the ledger has not: the reconciler may put the claims there
under the pseudonym, which the script expects. A rebuild makes the pseudonyms from the ledger, receipts prove what they
proved, and an entry of the outbox that comes again finds its claims (engine/ledger/ingest.py).

Whoever adds a table that names members adds it here: a test compares `NAMING_MEMBERS` with the schema.
"""

import asyncio
import json
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from hashlib import sha256
from typing import Any, ClassVar, NamedTuple

import structlog
from redis.exceptions import RedisError
from sqlalchemy import Row, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

import lua
from engine import ids
from engine.bounds import ERASE_LOOK_S, LEDGER_LOCK_TIMEOUT
from engine.claims import history, keys
from engine.errors import FlashclaimError, Refused, Unavailable
from engine.ledger import actions, migrations
from engine.ledger.audit import wait_until_recorded
from engine.ledger.locks import held
from engine.ledger.rebuild import lock_of
from engine.ledger.schema import (
    awards,
    claims,
    draw_points,
    erasures,
    list_members,
    member_changes,
    members,
    messages,
    quiz_attempts,
)
from engine.members import store
from engine.members.service import NoSuchMember
from engine.notices import store as notices
from engine.runtime.connections import LEDGER_AWAY, Stores

_BY_SUBJECT = (quiz_attempts, awards, draw_points)  # rows that stay, under the pseudonym
NAMING_MEMBERS = {"claims", "members", "list_members", "member_changes", "erasures", "messages", "inboxes"} | {
    of.name for of in _BY_SUBJECT
}
_PSEUDONYM_BYTES = 12
_RECORDED_S_MAX = 2.0  # for the outbox to be empty: in the middle of a rush it may not be, and it is tried again
_AWAY = (*LEDGER_AWAY, RedisError, FlashclaimError)
_log = structlog.get_logger(__name__)
# Open drops whose limits count claims of a member, by the index on member and drop: their own, and those on the other
# drops of their campaign.
_HELD_ON = """
    select d.id, (d.spec->>'closes_at')::timestamptz as closes_at from drops d
    where d.status <> 'closed' and exists (
        select 1 from claims c where c.member_id = :member
            and (c.drop_id = d.id or coalesce(d.spec->'campaign'->'drops', '[]') ? c.drop_id)
    ) order by d.id
"""
_NAMED_IN_DEAD_LETTERS = """
    select count(*) from dead_letters d, unnest(cast(:names as text[])) as name where strpos(d.fields::text, name) > 0
"""


class ExportRequired(Refused):
    """Nobody is erased before what is known of them was given out: the request must bring the digest of it."""

    code: ClassVar[str] = "export-required"


class Holds(NamedTuple):
    """Why an erasure waits: a drop's id, or nothing, and the reason."""

    drop_id: str | None
    reason: str


class Erasure(NamedTuple):
    """What was asked for. Each subject that the member ever was has a pseudonym of its own: a limit counts subjects."""

    pseudonym: str
    member_id: str
    subjects: Mapping[str, str]
    actor: str


class Erasures:
    """Gives out what is known of members, and erases them."""

    def __init__(self, stores: Stores, partitions: int) -> None:
        self._stores = stores
        self._partitions = partitions
        self._turn = asyncio.Lock()

    async def export(self, member_id: str, actor: str) -> dict[str, Any]:
        """All that is kept of a member, and its `digest`, which an erasure asks for. Raises `NoSuchMember`."""
        async with self._stores.ledger.begin() as connection:
            await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
            found = await _kept(connection, member_id)
            # Who looked, not at whom: what the record of acts holds cannot be taken back.
            told = {"claims": len(found["claims"])}
            await actions.record(connection, "member:export", "export", actor, change=told, before=None, after={})
        return {**found, "digest": _digest(found)}

    async def ask(self, member_id: str, digest: str, actor: str) -> list[Holds]:
        """Erase a member, now, or once nothing holds it back: what does.

        Raises `NoSuchMember`, and `ExportRequired` unless `digest` is that of an export of what is known now.
        """
        async with self._stores.ledger.begin() as connection:
            await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
            await store.hold(connection, member_id)
            asked = await _asked(connection, member_id)
            if asked is None:
                if digest != _digest(await _kept(connection, member_id)):
                    raise ExportRequired("take the export first, and send its digest: nothing may be missed")
                asked = Erasure(_pseudonym(), member_id, await _subjects(connection, member_id, {}), actor)
                await connection.execute(insert(erasures).values(asked._asdict()))
        try:
            return await self.attempt(asked)
        except Unavailable as error:
            return [Holds(None, error.detail)]

    async def run(self, stop: asyncio.Event) -> None:
        """Carry out what was asked for, once it can be, until `stop` is set."""
        while not stop.is_set():
            try:
                async with self._stores.ledger.connect() as connection:
                    waiting = [_erasure(row) for row in await connection.execute(select(erasures))]
                for asked in waiting:
                    with suppress(Unavailable):
                        await self.attempt(asked)
            except _AWAY as error:
                _log.warning("not erased", error=str(error)[:200])
            except Exception:  # noqa: BLE001 (whatever broke, claims must go on into the ledger)
                _log.exception("not erased")
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), ERASE_LOOK_S)

    async def attempt(self, asked: Erasure) -> list[Holds]:
        """Carry an erasure out; what holds it back, or nothing when it is done. Raises `Unavailable`."""
        # One at a time: each takes three connections, of which a process has ten.
        async with self._turn, held(self._stores.ledger, lock_of(asked.pseudonym)) as lock:
            if lock is None:
                return [Holds(None, "it is being carried out at this moment")]
            while True:
                if found := await self._holds(asked):
                    return found
                asked = await self._with_subjects(asked)
                async with self._stores.ledger.connect() as connection:
                    places = await _places(connection, asked)
                # Those that were done by an attempt that was cut off are done again: the store may lack its half.
                done = {drop_id: await self._on_drop(asked, drop_id) for drop_id in places}
                if await self._end(asked, done):
                    return []
                # A claim of theirs came in the meantime: its drop may be open.

    async def _with_subjects(self, asked: Erasure) -> Erasure:
        """An erasure with the subjects that the member has become since it was asked for."""
        async with self._stores.ledger.begin() as connection:
            await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
            found = await _subjects(connection, asked.member_id, asked.subjects)
            is_this = erasures.c.pseudonym == asked.pseudonym
            await connection.execute(update(erasures).where(is_this).values(subjects=found))
        return asked._replace(subjects=found)

    async def _holds(self, asked: Erasure) -> list[Holds]:
        if not await wait_until_recorded(self._stores.redis, self._partitions, _RECORDED_S_MAX):
            return [Holds(None, "claims of the last seconds are on their way into the ledger")]
        async with self._stores.ledger.connect() as connection:
            drops = (await connection.execute(text(_HELD_ON), {"member": asked.member_id})).all()
            named = [name.encode().hex() for name in {asked.member_id, *asked.subjects}]
            if await connection.scalar(text(_NAMED_IN_DEAD_LETTERS), {"names": named}):
                return [Holds(None, "entries in the dead letters may name them: settle those first")]
        return [
            Holds(row.id, f"their limit counts on it until it is closed; it ends at {row.closes_at}") for row in drops
        ]

    async def _on_drop(self, asked: Erasure, drop_id: str) -> int:
        """Put the pseudonym in the place of a member on one drop; how many claims."""
        async with held(self._stores.ledger, lock_of(drop_id)) as lock:
            if lock is None:
                raise Unavailable(f"drop {drop_id!r} is being rebuilt: it is tried again in a moment")
            async with self._stores.ledger.begin() as connection:
                await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
                on_drop = claims.c.drop_id == drop_id
                for subject, instead in asked.subjects.items():
                    is_theirs = claims.c.member_id == asked.member_id, claims.c.subject == subject
                    named = {"member_id": asked.pseudonym, "subject": instead}
                    await connection.execute(update(claims).where(on_drop, *is_theirs).values(named))
                rows = (
                    await connection.execute(
                        select(claims.c.partition, claims.c.subject, func.array_agg(claims.c.serial).label("serials"))
                        .where(on_drop, claims.c.member_id == asked.pseudonym)
                        .group_by(claims.c.partition, claims.c.subject)
                    )
                ).all()
            was = {instead: subject for subject, instead in asked.subjects.items()}
            for row in rows:
                await self._in_store(drop_id, row.partition, was[row.subject], row.subject, row.serials)
        return sum(len(row.serials) for row in rows)

    async def _in_store(self, drop_id: str, partition: int, subject: str, instead: str, serials: Sequence[int]) -> None:
        await self._stores.redis.unlink(keys.made(partition, drop_id))  # of a rebuild that was cut off
        places = keys.claims(partition, drop_id), keys.home(partition)
        reply: bytes = await self._stores.scripts.run(lua.load("erase"), places, [subject, instead, *serials])
        if reply != b"erased":
            raise Unavailable("the store is being compared with the ledger: it is tried again in a moment")

    async def _end(self, asked: Erasure, done: Mapping[str, int]) -> bool:
        """Take away what is known of the member; false where a claim of theirs came in since."""
        async with self._stores.ledger.begin() as connection:
            await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
            await store.hold(connection, asked.member_id)
            is_theirs = claims.c.member_id == asked.member_id
            if await connection.scalar(select(func.count()).select_from(claims).where(is_theirs)):
                return False
            known = await store.read(connection, asked.member_id)
            await connection.execute(delete(members).where(members.c.id == asked.member_id))
            if known is not None and known.mark is not None:
                await connection.execute(delete(member_changes).where(member_changes.c.mark == known.mark))
            # A person who has another account stays on the lists that name the person.
            others = select(members.c.subject).where(members.c.subject.in_(list(asked.subjects)))
            alone = set(asked.subjects) - set(await connection.scalars(others)) | {asked.member_id}
            await connection.execute(delete(list_members).where(list_members.c.member.in_(alone)))
            await notices.forget(connection, asked.member_id)
            was_won_by = awards.c.member_id == asked.member_id
            await connection.execute(update(awards).where(was_won_by).values(member_id=asked.pseudonym))
            for table in _BY_SUBJECT:
                for subject in alone & asked.subjects.keys():
                    named = {"subject": asked.subjects[subject]}
                    await connection.execute(update(table).where(table.c.subject == subject).values(named))
            await connection.execute(delete(erasures).where(erasures.c.pseudonym == asked.pseudonym))
            told = {"claims": sum(done.values()), "drops": len(done)}
            await actions.record(
                connection, f"member:{asked.pseudonym}", "erase", asked.actor, change=told, before=None, after={}
            )
        _log.info("member erased", **told)
        return True


async def _kept(connection: AsyncConnection, member_id: str) -> dict[str, Any]:
    """All that the ledger keeps of a member. Raises `NoSuchMember` where that is nothing."""
    known = await store.read(connection, member_id)
    recorded = await history.of_member(connection, member_id, limit=_CLAIMS_MAX)
    names = [member_id, known.subject] if known else [member_id]
    on = select(list_members.c.list).where(list_members.c.member.in_(names)).order_by(list_members.c.list)
    lists = sorted(set(await connection.scalars(on)))
    told = await connection.execute(
        select(messages).where(messages.c.member_id == member_id).order_by(messages.c.number)
    )
    drawn = await connection.execute(select(awards).where(awards.c.subject.in_(names)).order_by(awards.c.draw_id))
    attempts = await connection.execute(
        select(*(quiz_attempts.c[name] for name in ("drop_id", "attempt", "started_at", "answers", "mark", "passed")))
        .where(quiz_attempts.c.subject.in_(names))
        .order_by(quiz_attempts.c.started_at)
    )
    if known is None and not recorded and not lists:
        raise NoSuchMember(f"the ledger has no member {member_id!r}: their identity provider may")
    changed = await store.changes(connection, known.mark) if known and known.mark else []
    return {
        "member_id": member_id,
        "known": known.content() if known else None,
        "lists": lists,
        "quiz_attempts": [
            {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}
            for row in attempts.mappings()
        ],
        "messages": [dict(row.texts) for row in told],
        "awards": [f"{row.draw_id}: {row.prize or 'waiting'}, {row.state}" for row in drawn],
        "changes": [
            {"at": row.at.isoformat(), "actor": row.actor, "before": row.before, "after": row.after} for row in changed
        ],
        "claims": [
            {
                "claim_id": str(row.claim_id),
                "item": row.item,
                "quantity": row.quantity,
                "subject": row.subject,
                "claimed_at": row.claimed_at.isoformat(),
                "released_at": row.released_at.isoformat() if row.released_at else None,
            }
            for row in recorded
        ],
    }


_CLAIMS_MAX = 1_000_000  # of one member: all


async def _subjects(connection: AsyncConnection, member_id: str, known_as: Mapping[str, str]) -> dict[str, str]:
    """Every subject that a member ever was, as far as the ledger knows, each with its pseudonym."""
    known = await store.read(connection, member_id)
    claimed = await connection.scalars(select(claims.c.subject).where(claims.c.member_id == member_id).distinct())
    subjects = sorted({member_id, *claimed, *([known.subject] if known else [])})
    return {**{subject: _pseudonym() for subject in subjects}, **known_as}


def _pseudonym() -> str:
    return ids.pseudonym(secrets.token_bytes(_PSEUDONYM_BYTES))


async def _places(connection: AsyncConnection, asked: Erasure) -> list[str]:
    """The drops on which there are claims of a member, under their id or already under the pseudonym."""
    is_theirs = claims.c.member_id.in_([asked.member_id, asked.pseudonym])
    return list(
        await connection.scalars(select(claims.c.drop_id).where(is_theirs).distinct().order_by(claims.c.drop_id))
    )


async def _asked(connection: AsyncConnection, member_id: str) -> Erasure | None:
    row = (await connection.execute(select(erasures).where(erasures.c.member_id == member_id))).one_or_none()
    return None if row is None else _erasure(row)


def _erasure(row: Row[Any]) -> Erasure:
    return Erasure(row.pseudonym, row.member_id, row.subjects, row.actor)


def _digest(kept: Mapping[str, Any]) -> str:
    return sha256(json.dumps(kept, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
