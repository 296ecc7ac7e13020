"""A real Valkey and a real PostgreSQL, started once for each test process; every test gets them empty and migrated."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from engine.claims import keys
from engine.claims.durability import Durability
from engine.claims.store import RedisStore
from engine.draws.dealer import Dealer
from engine.ledger import homes
from engine.ledger.migrations import migrate
from engine.ledger.schema import metadata
from engine.runtime.connections import Stores, open_ledger, open_redis
from engine.runtime.servers import EmbeddedPostgres, EmbeddedValkey
from engine.runtime.settings import Settings

hypothesis_settings.register_profile("shared", deadline=None)  # other things run on this machine
hypothesis_settings.load_profile("shared")

PARTITIONS_AT_HOME = 8  # more than any test has


@pytest.fixture(scope="session")
def data_dir() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="fc-tests-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def redis_url(data_dir: Path) -> Iterator[str]:
    server = EmbeddedValkey(data_dir)
    server.start()
    yield server.url
    server.stop()


@pytest.fixture(scope="session")
def postgres_url(data_dir: Path) -> Iterator[str]:
    server = EmbeddedPostgres(data_dir)
    server.start()
    yield server.url
    server.stop()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator["AsyncRedis"]:
    client = open_redis(redis_url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
async def ledger(postgres_url: str) -> AsyncIterator[AsyncEngine]:
    engine = open_ledger(postgres_url)
    await migrate(engine)
    async with engine.begin() as connection:
        await connection.execute(text(f"truncate {', '.join(metadata.tables)}"))
    yield engine
    await engine.dispose()


@pytest.fixture
async def stores(redis: "AsyncRedis", ledger: AsyncEngine, settings: Settings) -> AsyncIterator[Stores]:
    scripts = RedisStore(redis, Durability())
    home = await scripts.home()
    async with ledger.begin() as connection:
        for partition in range(PARTITIONS_AT_HOME):
            await redis.set(keys.home(partition), home)
            await homes.name(connection, partition, home)
    yield Stores(redis, ledger, scripts, dealer=Dealer(settings.instant_keyring))
    scripts.close()


@pytest.fixture
def settings(redis_url: str, postgres_url: str) -> Settings:
    return Settings.model_validate(
        {
            "redis_url": redis_url,
            "postgres_url": postgres_url,
            "ticket_keys": {1: "11" * 32},
            "receipt_keys": {1: "22" * 32},
            "instant_keys": {1: "44" * 32},
            "session_secret": "a secret for the tests, long enough",
            "member_claims_per_second": 0,
            "invalid_tickets_per_second": 0,
        }
    )


@pytest.fixture
def empty_redis(redis_url: str) -> Iterator["Redis"]:
    with Redis.from_url(redis_url) as client:
        client.flushall()
        yield client
