"""Opens and closes the ways to the two stores; nothing else makes a client."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from asyncpg import InterfaceError, PostgresError
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from engine.bounds import LEDGER_STATEMENT_S_MAX, STORE_TIMEOUT_S
from engine.claims.durability import Durability
from engine.claims.store import RedisStore
from engine.draws.dealer import Dealer
from engine.errors import Misconfigured
from engine.runtime.settings import Settings

# What a ledger that is away, or ends a connection, is told by: asyncpg's own come while a connection is made.
LEDGER_AWAY = (SQLAlchemyError, PostgresError, InterfaceError, OSError)
LEDGER_CONNECTIONS_MAX = 10  # per process; PostgreSQL's default of 100 carries ten processes


@dataclass(frozen=True, slots=True)
class Stores:
    """The stores of a process: `redis` decides, `ledger` records; `rates`, where there is one, counts.

    `dealer` makes again what no store keeps: the sequences of instant wins.
    """

    redis: "Redis"
    ledger: AsyncEngine
    scripts: RedisStore
    rates: RedisStore | None = None
    dealer: Dealer = field(default_factory=Dealer)


class _TellsClosed(AbstractConnection):
    """On uvloop a write to a connection that was just reset is a RuntimeError; it is told as what it is."""

    async def send_packed_command(self, *args: Any, **kwargs: Any) -> None:
        try:
            await super().send_packed_command(*args, **kwargs)
        except RuntimeError as error:
            raise RedisConnectionError(f"the connection has ended: {error}") from error


def open_redis(url: str, setting: str = "redis_url") -> "Redis":
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
    except ValueError:  # its words may hold a part of the password
        raise Misconfigured(
            f"{setting} cannot be read: write redis://:PASSWORD@HOST:PORT/0, with %-codes for signs in the password"
        ) from None
    pool = redis.connection_pool
    pool.connection_class = type("Connection", (_TellsClosed, pool.connection_class), {})
    return redis


def open_ledger(url: str, answer_s_max: float = LEDGER_STATEMENT_S_MAX) -> AsyncEngine:
    """An SQLAlchemy engine on asyncpg for a PostgreSQL URL, whichever driver the URL names."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # its words may hold a part of the password
        raise Misconfigured(
            "postgres_url cannot be read: write postgresql://USER:PASSWORD@HOST:PORT/DATABASE,"
            " with %-codes for signs in the password"
        ) from None
    return create_async_engine(
        parsed.set(drivername="postgresql+asyncpg"),
        pool_size=LEDGER_CONNECTIONS_MAX,
        max_overflow=0,
        pool_pre_ping=True,
        hide_parameters=True,  # an error's text goes to logs: no member's id may stand in it
        connect_args={"timeout": STORE_TIMEOUT_S, "command_timeout": answer_s_max},
    )


@asynccontextmanager
async def open_stores(settings: Settings, ledger_s_max: float = LEDGER_STATEMENT_S_MAX) -> AsyncIterator[Stores]:
    """The stores, closed at the end. Nothing is connected before it is used.

    `ledger_s_max` is how long a statement may take: where a person waits, shorter than in a worker.
    """
    redis = open_redis(settings.redis_url)
    rates = open_redis(settings.rates_redis_url, "rates_redis_url") if settings.rates_redis_url else None
    counting = RedisStore(rates, Durability("memory", is_checked=False)) if rates else None
    ledger = open_ledger(settings.postgres_url, ledger_s_max)
    stores = Stores(redis, ledger, RedisStore(redis, settings.promised), counting, Dealer(settings.instant_keyring))
    try:
        yield stores
    finally:
        stores.scripts.close()
        if stores.rates is not None:
            stores.rates.close()
        await stores.redis.aclose()
        await stores.ledger.dispose()
