"""Writes one read of the outbox into the ledger, in one transaction: rows first, then releases, then controls.

Claims are copied straight into their table. When one of them is there already, the copy is undone and made again by
way of a temporary table. So replays are harmless: a row that is there already stays as it is. A row that is there with
*other* content is a fault (two decisions under one serial); it is never overwritten, and its entry goes to the dead
letters.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from io import BytesIO
from typing import Any

from asyncpg import DataError, IntegrityConstraintViolationError
from sqlalchemy import and_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from engine.bounds import LEDGER_LOCK_TIMEOUT
from engine.claims.outbox import ClaimsEntry, ControlEntry, EntryUnreadable, ReleaseEntry, StreamEntry, decode
from engine.drops import store as drops_store
from engine.drops.model import from_ms
from engine.errors import FlashclaimError
from engine.ledger import actions, migrations
from engine.ledger.actions import Action
from engine.ledger.persist import OpenWriter
from engine.ledger.rows import COLUMNS, HEADER, TRAILER, rows
from engine.ledger.schema import claims, dead_letters

LOCK_TIMEOUT = LEDGER_LOCK_TIMEOUT  # past it the worker lets go of what it has and tries again
_NAMES = ", ".join(COLUMNS)
_MAKE_INCOMING = f"""
    create temporary table if not exists incoming on commit delete rows as select {_NAMES} from claims with no data
"""
_INSERT = f"insert into claims ({_NAMES}) select {_NAMES} from incoming on conflict do nothing"
# Rows of this read that the ledger has otherwise, or could not take because their ticket has a claim already. Whose a
# claim was that has been erased since is no difference.
_CONFLICTS = """
    select i.serial from incoming i
    left join claims c on (c.drop_id, c.partition, c.serial) = (i.drop_id, i.partition, i.serial)
    where (c.item, c.quantity, c.nonce, c.claimed_at, c.town, c.slogan)
            is distinct from (i.item, i.quantity, i.nonce, i.claimed_at, i.town, i.slogan)
        or ((c.member_id, c.subject) <> (i.member_id, i.subject) and c.member_id not like '~%')
"""


class LedgerWriter:
    """Writes reads of the outbox on one connection; see `engine.ledger.persist.Writer`."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def write(self, partition: int, stream: str, entries: Sequence[StreamEntry]) -> int:
        return await _ingest(self._connection, partition, stream, entries)

    async def commit(self) -> None:
        await self._connection.commit()


def writer_of(ledger: AsyncEngine) -> OpenWriter:
    """What opens a writer on a ledger."""
    return partial(_open_writer, ledger)


@asynccontextmanager
async def _open_writer(ledger: AsyncEngine) -> AsyncIterator[LedgerWriter]:
    async with ledger.connect() as connection:
        await connection.execute(text(_MAKE_INCOMING))
        await connection.commit()
        yield LedgerWriter(connection)


async def _ingest(connection: AsyncConnection, partition: int, stream: str, entries: Sequence[StreamEntry]) -> int:
    batches: list[tuple[StreamEntry, ClaimsEntry]] = []
    others: list[tuple[StreamEntry, ReleaseEntry | ControlEntry]] = []
    faults: dict[bytes, tuple[StreamEntry, str]] = {}
    for entry in entries:
        try:
            decoded = decode(entry[1])
        except EntryUnreadable as error:
            faults[entry[0]] = (entry, str(error))
            continue
        if isinstance(decoded, ClaimsEntry):
            batches.append((entry, decoded))
        else:
            others.append((entry, decoded))
    await migrations.hold(connection, LOCK_TIMEOUT)
    for entry, fault in await _insert_claims(connection, partition, batches):
        faults[entry[0]] = (entry, fault)
    done: list[Action] = []
    for entry, other in others:
        refused = await _apply(connection, partition, other, done)
        if refused is not None:
            faults[entry[0]] = (entry, refused)
    await actions.append(connection, done)  # last: it holds a lock for which operators' acts wait
    await _bury(connection, stream, list(faults.values()))
    return len(faults)


async def _insert_claims(
    connection: AsyncConnection, partition: int, batches: Sequence[tuple[StreamEntry, ClaimsEntry]]
) -> list[tuple[StreamEntry, str]]:
    if not batches:
        return []
    driver: Any = (await connection.get_raw_connection()).driver_connection
    try:
        async with connection.begin_nested():
            await _copy(driver, "claims", [rows(partition, batch) for _, batch in batches])
    except (EntryUnreadable, IntegrityConstraintViolationError, DataError):
        return await _insert_one_by_one(connection, driver, partition, batches)
    return []


async def _copy(driver: Any, table: str, packed: Sequence[bytes]) -> int:
    """Copy rows as `rows` packs them; how many."""
    source = BytesIO(b"".join([HEADER, *packed, TRAILER]))
    done: str = await driver.copy_to_table(table, source=source, columns=COLUMNS, format="binary")
    return int(done.rpartition(" ")[2])


async def _insert_one_by_one(
    connection: AsyncConnection, driver: Any, partition: int, batches: Sequence[tuple[StreamEntry, ClaimsEntry]]
) -> list[tuple[StreamEntry, str]]:
    """The slow way, for a read in which something is amiss: what can be inserted is, and each fault is named.

    Each entry has a savepoint of its own, so that one which the ledger can never take does not hold up the others.
    """
    faults: list[tuple[StreamEntry, str]] = []
    for entry, batch in batches:
        try:
            async with connection.begin_nested():
                hit = await _insert(driver, rows(partition, batch))
        except EntryUnreadable as error:
            faults.append((entry, str(error)))
        except DataError as error:
            faults.append((entry, f"the ledger cannot take it: {str(error)[:200]}"))
        else:
            if hit:
                faults.append((entry, f"the ledger has other claims under these serials or tickets: {hit[:20]}"))
    return faults


async def _insert(driver: Any, packed: bytes) -> list[int]:
    """Insert what is not there yet; the serials that the ledger has otherwise."""
    await driver.execute("truncate incoming")
    count = await _copy(driver, "incoming", [packed])
    if int((await driver.execute(_INSERT)).rpartition(" ")[2]) == count:
        return []
    return sorted(serial for (serial,) in await driver.fetch(_CONFLICTS))


async def _apply(
    connection: AsyncConnection, partition: int, entry: ReleaseEntry | ControlEntry, done: list[Action]
) -> str | None:
    """Why an entry cannot be written, or None; what an operator did by it goes to `done`."""
    try:
        async with connection.begin_nested():
            if isinstance(entry, ReleaseEntry):
                return await _release(connection, partition, entry, done)
            _, action = await drops_store.record(connection, entry.drop_id, entry.control, from_ms(entry.at_ms))
        done += [action] if action is not None else []
    except FlashclaimError as error:
        return error.detail
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"makes no legal act: {type(error).__name__}: {error}"[:300]
    except DBAPIError as error:
        # A ledger that is away is asked again; an entry that it can never take must not hold up those behind it.
        if not _is_data_fault(error):
            raise
        return f"the ledger cannot take it: {str(error.orig)[:200]}"
    return None


def _is_data_fault(error: DBAPIError) -> bool:
    """Whether PostgreSQL says that the values are at fault: SQLSTATE classes 22 (data) and 23 (constraints)."""
    return str(getattr(error.orig, "sqlstate", None) or "")[:2] in ("22", "23")


async def _release(
    connection: AsyncConnection, partition: int, entry: ReleaseEntry, actions_done: list[Action]
) -> str | None:
    is_claim = and_(claims.c.drop_id == entry.drop_id, claims.c.partition == partition, claims.c.serial == entry.serial)
    released_at = from_ms(entry.at_ms)
    done = await connection.execute(
        update(claims).where(is_claim, claims.c.released_at.is_(None)).values(released_at=released_at)
    )
    if done.rowcount == 1:
        actions_done.append(_action(partition, entry))
        return None
    found = (await connection.execute(select(claims.c.released_at).where(is_claim))).one_or_none()
    if found is None:
        return f"claim {entry.drop_id}.{partition}.{entry.serial} was given back, but the ledger has no such claim"
    return None if found.released_at == released_at else "given back twice"


def _kept(text: str) -> str:
    """A text as PostgreSQL takes it: a release must be recorded whatever its reason is written in."""
    return text.replace("\0", "").encode(errors="replace").decode()


def _action(partition: int, entry: ReleaseEntry) -> Action:
    at = from_ms(entry.at_ms)
    return Action(
        object=f"claim:{entry.drop_id}.{partition}.{entry.serial}",
        verb="release",
        actor=entry.actor,
        at=at,
        applied_at=at,
        change={"reason": _kept(entry.reason), "item": entry.item, "quantity": entry.quantity},
        before={"released_at": None},
        after={"released_at": at.isoformat()},
        drop_id=entry.drop_id,
    )


async def _bury(connection: AsyncConnection, stream: str, faults: Sequence[tuple[StreamEntry, str]]) -> None:
    if not faults:
        return
    rows = [
        {
            "stream": stream,
            "entry_id": entry_id.decode(),
            "fields": {name.decode(errors="replace"): value.hex() for name, value in fields.items()},
            "error": error,
        }
        for (entry_id, fields), error in faults
    ]
    await connection.execute(insert(dead_letters).values(rows).on_conflict_do_nothing())
