"""The ledger's migrations: bring a database to a revision, forward or back, while claims go on.

Rules: additive first; never edited once released; backfills in batches apart. All steps of one call are one
transaction: one that is cut off leaves the old revision whole. It gives up on a lock after a short while and tries
again, instead of holding up claims that are on their way into the ledger. Of several at once one waits for the other.

A worker holds migrations off for each transaction, and writes only where it knows the tables (`hold`).
"""

import asyncio
from functools import cache
from pathlib import Path
from typing import ClassVar

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from engine.errors import Invalid, Refused, Unavailable
from engine.ledger import actions

EMPTY = "base"  # the revision before the first: no tables
_CHAINED_SINCE = "0003"  # the first revision whose record of acts this version can write
_ADVISORY_LOCK = 0x666C617368  # "flash": one migration at a time in a database, and none while a worker writes
KEEP_OUT = f"select pg_advisory_xact_lock({_ADVISORY_LOCK})"  # workers and other migrations, until the transaction ends
_LOCK_TIMEOUT = "2s"  # so long, at the most, a waiting migration holds up others
_STATEMENT_TIMEOUT = "300s"
_ATTEMPTS = 5
_PAUSE_S = 1.0  # between two attempts, in which what was held up gets through
_LOCK_NOT_AVAILABLE, _DEADLOCK = "55P03", "40P01"


class LedgerBusy(Unavailable):
    """Locks that a migration needs were held by others at every attempt."""

    code: ClassVar[str] = "ledger-busy"


class LedgerForeign(Unavailable):
    """The ledger's tables are not those that this version knows."""

    code: ClassVar[str] = "ledger-foreign"


class LosesData(Refused):
    """A step back was not allowed to lose data."""

    code: ClassVar[str] = "loses-data"


class NoSuchRevision(Invalid):
    code: ClassVar[str] = "no-such-revision"


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


@cache
def revisions() -> tuple[str, ...]:
    """All revisions that this version knows, the oldest first."""
    return tuple(script.revision for script in reversed(list(ScriptDirectory.from_config(_config()).walk_revisions())))


def newest() -> str:
    """The revision that this version of the program wants."""
    return revisions()[-1]


def is_known(revision: str | None) -> bool:
    """Whether this version knows a revision; one that it does not know is newer than all that it knows."""
    return revision is None or revision in revisions()


def is_chained(revision: str | None) -> bool:
    """Whether a ledger at a revision has a record of acts in which a step to it can be written down."""
    return _order(revision) >= _order(_CHAINED_SINCE)


async def migrate(
    ledger: AsyncEngine, to: str | None = None, *, may_lose_data: bool = False, actor: str | None = None
) -> str:
    """Bring the database to a revision, the newest unless one is named; the revision that it is at then.

    An operator's step (`actor`) is recorded in its own transaction, where the revision has a record (`is_chained`).

    Raises `NoSuchRevision`, `LosesData` for a step back that is not allowed, `LedgerForeign` for a database that a
    newer version made, `LedgerBusy` when its locks are held for long.
    """
    wanted = newest() if to is None else to
    if wanted not in (EMPTY, *revisions()):
        raise NoSuchRevision(f"there is no migration {wanted!r}: there are {', '.join((EMPTY, *revisions()))}")
    for attempt in range(_ATTEMPTS):
        if attempt:
            await asyncio.sleep(_PAUSE_S)
        try:
            return await _migrate(ledger, wanted, may_lose_data, actor)
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in (_LOCK_NOT_AVAILABLE, _DEADLOCK):
                raise
    raise LedgerBusy("the ledger's tables were in use at every attempt, nothing was changed: try again later")


async def _migrate(ledger: AsyncEngine, wanted: str, may_lose_data: bool, actor: str | None) -> str:
    async with ledger.begin() as connection:
        await connection.execute(text(f"set local lock_timeout = '{_LOCK_TIMEOUT}'"))
        await connection.execute(text(f"set local statement_timeout = '{_STATEMENT_TIMEOUT}'"))
        await connection.execute(text(KEEP_OUT))
        found = await at(connection)
        if not is_known(found):
            raise LedgerForeign(f"the ledger is at migration {found}, which a newer version made: use that version")
        if _order(wanted) >= _order(found):
            await connection.run_sync(lambda sync: command.upgrade(_config(sync), wanted))
        elif may_lose_data:
            await connection.run_sync(lambda sync: command.downgrade(_config(sync), wanted))
        else:
            raise LosesData(f"going back from {found} to {wanted} may lose data: take a backup, then allow it")
        if actor is not None and _order(wanted) != _order(found) and is_chained(wanted):
            await _record(connection, actor, found, wanted)
        return wanted


async def _record(connection: AsyncConnection, actor: str, found: str | None, wanted: str) -> None:
    database = await connection.scalar(text("select current_database()"))
    await actions.record(
        connection,
        f"ledger:{database}",
        "migrate",
        actor,
        change={"to": wanted},
        before={"migration": found or EMPTY},
        after={"migration": wanted},
    )


def _order(revision: str | None) -> int:
    return -1 if revision in (None, EMPTY) else revisions().index(str(revision))


async def current(ledger: AsyncEngine) -> str | None:
    """The revision that the database is at; None for an empty one."""
    async with ledger.connect() as connection:
        return await at(connection)


async def hold(connection: AsyncConnection, lock_timeout: str) -> None:
    """Begin a transaction on tables that stay as this version knows them until its end.

    Raises `LedgerForeign` for older and newer tables: rows for others could be refused, or lack what those demand.
    """
    await connection.execute(
        text("select set_config('lock_timeout', :timeout, true), pg_advisory_xact_lock_shared(:key)"),
        {"timeout": lock_timeout, "key": _ADVISORY_LOCK},
    )
    # A statement of its own: it sees what was committed while the lock was waited for.
    found = await connection.scalar(text("select version_num from alembic_version"))
    if found != newest():
        advice = "run `flashclaim migrate`" if is_known(found) else "start this worker in the version that made it"
        raise LedgerForeign(f"the ledger is at migration {found or EMPTY}, this version writes {newest()}: {advice}")


async def at(connection: AsyncConnection) -> str | None:
    """The revision of the database on a connection; None for an empty one."""
    if await connection.scalar(text("select to_regclass('alembic_version')")) is None:
        return None
    found: str | None = await connection.scalar(text("select version_num from alembic_version"))
    return found
