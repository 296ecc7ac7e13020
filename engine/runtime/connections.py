"""Opens and closes the ways to the two stores; nothing else makes a client."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from engine.bounds import STORE_TIMEOUT_S
from engine.claims.store import RedisStore
from engine.errors import Misconfigured
from engine.runtime.settings import Settings

LEDGER_CONNECTIONS_MAX = 10  # per process; PostgreSQL's default of 100 carries ten processes


@dataclass(frozen=True, slots=True)
class Stores:
    """The two stores of a process: `redis` decides, `ledger` records."""

    redis: "Redis"
    ledger: AsyncEngine
    scripts: RedisStore


class _TellsClosed(AbstractConnection):
    """On uvloop a write to a connection that was just reset is a RuntimeError; it is told as what it is."""

    async def send_packed_command(self, *args: Any, **kwargs: Any) -> None:
        try:
            await super().send_packed_command(*args, **kwargs)
        except RuntimeError as error:
            raise RedisConnectionError(f"the connection has ended: {error}") from error


def open_redis(url: str) -> "Redis":
    """A client that never repeats a call on its own: a repeated call could act twice."""
    try:
        redis = Redis.from_url(
            url,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=STORE_TIMEOUT_S,
            socket_connect_timeout=STORE_TIMEOUT_S,
            socket_keepalive=True,
            health_check_interval=0,
        )
    except ValueError as error:
        raise Misconfigured(f"redis_url: {error}") from None
    pool = redis.connection_pool
    pool.connection_class = type("Connection", (_TellsClosed, pool.connection_class), {})
    return redis


def open_ledger(url: str) -> AsyncEngine:
    """An SQLAlchemy engine on asyncpg for a PostgreSQL URL, whichever driver the URL names."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise Misconfigured(f"postgres_url: {error}") from None
    return create_async_engine(
        parsed.set(drivername="postgresql+asyncpg"),
        pool_size=LEDGER_CONNECTIONS_MAX,
        max_overflow=0,
        pool_pre_ping=True,
        connect_args={"timeout": STORE_TIMEOUT_S, "command_timeout": 60},
    )


@asynccontextmanager
async def open_stores(settings: Settings) -> AsyncIterator[Stores]:
    """Both stores, closed at the end. Nothing is connected before it is used."""
    redis = open_redis(settings.redis_url)
    stores = Stores(redis, open_ledger(settings.postgres_url), RedisStore(redis))
    try:
        yield stores
    finally:
        stores.scripts.close()
        await stores.redis.aclose()
        await stores.ledger.dispose()
