"""Locks that all processes share: the ledger keeps them, and each ends with the connection that holds it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine


@asynccontextmanager
async def held(ledger: AsyncEngine, key: int) -> AsyncIterator[bool]:
    """Whether nobody else holds a lock, and then hold it until the end; 64 bits with a sign say which lock.

    Source: https://www.postgresql.org/docs/current/explicit-locking.html, "Advisory Locks".
    """
    async with ledger.connect() as connection:
        got = bool(await connection.scalar(text("select pg_try_advisory_lock(:key)"), {"key": key}))
        await connection.commit()
        try:
            yield got
        finally:
            if got:
                await connection.execute(text("select pg_advisory_unlock(:key)"), {"key": key})
                await connection.commit()
