"""Locks that all processes share: the ledger keeps them, and each ends with the connection that holds it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine


@asynccontextmanager
async def held(ledger: AsyncEngine, key: int) -> AsyncIterator[AsyncConnection | None]:
    """The connection that holds a lock until the end, or None where somebody else does; 64 bits with a sign name it.

    Whoever holds it for long asks the connection from time to time: it raises where it has ended, and the lock with it.

    Source: https://www.postgresql.org/docs/current/explicit-locking.html, "Advisory Locks".
    """
    async with ledger.connect() as connection:
        got = bool(await connection.scalar(text("select pg_try_advisory_lock(:key)"), {"key": key}))
        await connection.commit()
        try:
            yield connection if got else None
        finally:
            if got:
                await connection.execute(text("select pg_advisory_unlock(:key)"), {"key": key})
                await connection.commit()
