"""The promise: a store that was restarted, promoted, cut short or emptied contradicts nothing that was told."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncEngine

from engine.bounds import HOMECOMING_GRACE_S
from engine.claims import keys
from engine.claims.durability import Durability
from engine.claims.model import NotReady, OutcomeUnknown, Paused, StoreUnavailable
from engine.claims.store import RedisStore
from engine.drops.model import Status
from engine.ledger import homecoming
from engine.ledger.homecoming import Homecoming, Known, Standing, standing
from engine.runtime.connections import Stores, open_redis
from engine.runtime.servers import EmbeddedValkey
from engine.runtime.settings import Settings
from tests.factories.drops import drop_spec
from tests.factories.rushed import BOSS, CLAIMS, Rushed


@pytest.mark.parametrize(
    ("stored", "told", "expected"),
    [
        (None, 0, Standing.MISSING),
        (Known(3, 1, 10), 0, Standing.WHOLE),
        (Known(3, 1, 12), 0, Standing.WHOLE),  # the outbox tells the ledger the rest
        (Known(4, 2, 10), 0, Standing.WHOLE),  # rebuilt, and the outbox tells
        (Known(3, 1, 9), 0, Standing.BEHIND),
        (Known(2, 1, 10), 0, Standing.OUTDATED),
        (Known(3, 2, 10), 0, Standing.BEHIND),  # fenced
        (Known(3, 1, 10), 11, Standing.BEHIND),
    ],
)
def test_how_a_store_stands_to_a_ledger_at_revision_3_epoch_1_serial_10(
    stored: Known | None, told: int, expected: Standing
) -> None:
    assert standing(Known(3, 1, 10), stored, told) is expected


@pytest.fixture
def valkey_dir() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="fc-home-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def valkey(valkey_dir: Path) -> Iterator[EmbeddedValkey]:
    server = EmbeddedValkey(valkey_dir)
    server.start()
    yield server
    server.stop()


class Watched(Rushed):
    """A rushed drop on a store of its own, with the worker's watch."""

    def __init__(self, stores: Stores, settings: Settings, log: Path) -> None:
        super().__init__(stores, settings, log)
        self.homecoming = Homecoming(stores, settings.partitions)

    async def come_home(self) -> None:
        async with asyncio.timeout(20):
            is_home = False
            while not is_home:
                with suppress(StoreUnavailable, RedisError):  # a connection of before
                    is_home = await self.homecoming.look()
                await asyncio.sleep(0.05)
        await self.stores.redis.connection_pool.disconnect()

    async def claim_when_ready(self, member: str) -> int:
        ticket = await self.ticket(member)
        async with asyncio.timeout(20):
            while True:
                try:
                    return (await self.claim(member, ticket)).serial
                except (NotReady, StoreUnavailable, OutcomeUnknown):
                    await asyncio.sleep(0.05)


@pytest.fixture
async def watched(
    valkey: EmbeddedValkey, ledger: AsyncEngine, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Watched]:
    monkeypatch.setattr(homecoming, "HOMECOMING_GRACE_S", 0.3)
    redis = open_redis(valkey.url)
    scripts = RedisStore(redis, Durability())
    made = Watched(Stores(redis, ledger, scripts), settings, tmp_path / "claims.jsonl")
    await made.come_home()
    await made.rush()
    yield made
    scripts.close()
    await redis.aclose()


async def refused(watched: Watched) -> None:
    """The store is new to everybody, and decides nothing."""
    ticket = await watched.ticket("m-refused")
    while True:
        try:
            await watched.claim("m-refused", ticket)
        except NotReady:
            return
        except (StoreUnavailable, OutcomeUnknown):
            await asyncio.sleep(0.02)
        else:
            raise AssertionError("a store that was not compared has decided")


def restart(valkey: EmbeddedValkey) -> None:
    valkey.stop()
    valkey.start()


async def test_a_restarted_store_decides_again_once_it_was_compared(watched: Watched, valkey: EmbeddedValkey) -> None:
    before = await watched.claim("m-before")
    restart(valkey)
    await refused(watched)
    await watched.come_home()
    assert await watched.claim_when_ready("m-after") == before.serial + 1
    assert (await watched.drops.read("trial")).epoch == 1
    await watched.record()
    assert (await watched.audit()).details == []


async def test_an_emptied_store_stays_not_ready_and_is_never_made_again(watched: Watched) -> None:
    await watched.record()
    await watched.stores.redis.flushall()
    await refused(watched)
    await watched.come_home()
    await refused(watched)
    assert not await watched.stores.redis.exists(keys.drop(0, "trial"))
    assert not await watched.stores.redis.exists(keys.claims(0, "trial"))


async def test_a_store_whose_file_lost_its_tail_is_rebuilt_from_the_ledger(
    watched: Watched, valkey: EmbeddedValkey, valkey_dir: Path
) -> None:
    """A power failure that cut the append-only file: Valkey starts with what is left of it."""
    tickets = {f"late-{number}": await watched.ticket(f"late-{number}") for number in range(3)}
    first = {member: await watched.claim(member, ticket) for member, ticket in tickets.items()}
    await watched.record()
    await cut_tail(valkey, valkey_dir, until_lost=b"late-1")
    await refused(watched)
    await watched.come_home()
    for member, ticket in tickets.items():
        again = await watched.claim(member, ticket)
        assert (again.claim_id, again.repeated) == (first[member].claim_id, True)
    drop = await watched.drops.read("trial")
    assert (drop.epoch, drop.status) == (2, Status.LAUNCHED)
    assert await watched.claim_when_ready("m-after") == CLAIMS + 4
    await watched.record()
    assert (await watched.audit()).details == []


async def test_what_was_told_and_is_in_no_store_pauses_the_drop(
    watched: Watched, valkey: EmbeddedValkey, valkey_dir: Path
) -> None:
    """The ledger had not yet seen what the file lost; only the API knows that somebody was told."""
    lost = await watched.claim("late-1")
    await cut_tail(valkey, valkey_dir, until_lost=b"late-1")
    await refused(watched)  # by this the store hears of the serial
    await watched.come_home()
    drop = await watched.drops.read("trial")
    assert (drop.epoch, drop.status) == (2, Status.PAUSED)
    with pytest.raises(Paused):
        await watched.claim("m-after")
    await watched.drops.resume("trial", BOSS)
    assert await watched.claim_when_ready("m-after") == lost.serial + 1


async def test_a_replica_that_lost_writes_is_noticed_when_it_is_promoted(
    watched: Watched, valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    replica = EmbeddedValkey(tmp_path)
    replica.start()
    copy: Any = Redis.from_url(replica.url)
    try:
        await follow(copy, valkey)
        await copy.execute_command("REPLICAOF", "127.0.0.1", "1")  # it hears no more; what comes now is lost with it
        lagging = await watched.claim("m-lagging")
        await watched.record()
        valkey.stop()
        await copy.execute_command("REPLICAOF", "NO", "ONE")
        await switch(watched.stores, replica.url)
        await refused(watched)
        await watched.come_home()
        assert (await watched.drops.read("trial")).epoch == 2
        assert await watched.claim_when_ready("m-after") == lagging.serial + 1
        await watched.record()
        assert (await watched.audit()).details == []
    finally:
        await copy.aclose()
        replica.stop()


async def test_a_first_replica_gives_a_running_store_another_id_and_claims_go_on(
    watched: Watched, valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    """Nothing was lost, and nobody's connection has ended: only the name of the store is another."""
    before = await watched.stores.scripts.home()
    replica = EmbeddedValkey(tmp_path)
    replica.start()
    copy: Any = Redis.from_url(replica.url)
    try:
        await follow(copy, valkey)
        async with asyncio.timeout(10):
            while await watched.stores.scripts.home() == before:  # noqa: ASYNC110 (the store tells nobody)
                await asyncio.sleep(0.05)
        await watched.come_home()
        assert await watched.claim_when_ready("m-after") == CLAIMS + 1
        assert (await watched.drops.read("trial")).epoch == 1
    finally:
        await copy.aclose()
        replica.stop()


async def test_a_primary_that_outlives_its_failover_decides_nothing_once_another_is_named(
    watched: Watched, valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    """Its name leads this process to it for ever, and it believes itself at home: only the ledger knows better."""
    replica = EmbeddedValkey(tmp_path)
    replica.start()
    other: Any = open_redis(replica.url)
    stop = asyncio.Event()
    following = asyncio.create_task(watched.claims.follow(stop))
    try:
        await follow(other, valkey)
        await watched.come_home()
        await watched.claim_when_ready("m-before")
        await watched.record()
        await other.execute_command("REPLICAOF", "NO", "ONE")
        promoted = Stores(other, watched.stores.ledger, RedisStore(other, Durability()))
        assert not await Homecoming(promoted, watched.settings.partitions).look()
        await asyncio.sleep(HOMECOMING_GRACE_S / 2)  # before the new one may decide
        await refused(watched)
        assert await watched.stores.redis.get(keys.home(0)) == (await named_by_itself(watched)).encode()
        promoted.scripts.close()
    finally:
        stop.set()
        await following
        await other.aclose()
        replica.stop()


async def test_a_connection_in_use_goes_on_where_a_store_is_new_and_an_idle_one_is_closed(watched: Watched) -> None:
    """An idle one may lead to the store before; whoever waits for an answer on another gets it."""
    redis: Any = watched.stores.redis
    waiting = asyncio.create_task(redis.blpop("asked", timeout=10))
    async with asyncio.timeout(10):
        while (await redis.info("clients"))["blocked_clients"] == 0:  # noqa: ASYNC110 (the store tells nobody)
            await asyncio.sleep(0.01)
    idle = await redis.client_id()
    assert await redis.client_id() == idle
    await redis.delete(keys.home(0))
    assert not await watched.homecoming.look()
    assert await redis.client_id() != idle
    await redis.rpush("asked", "answer")
    assert await waiting == (b"asked", b"answer")


async def test_a_drop_that_refuses_its_rebuild_does_not_hold_up_the_others(
    watched: Watched, valkey: EmbeddedValkey
) -> None:
    """The store has a claim that the ledger lost, and misses a later one."""
    await watched.record()
    await watched.sql("delete from claims where serial = 4")
    await watched.sql("update claims set serial = 99 where serial = 5")
    restart(valkey)
    await watched.come_home()
    await refused(watched)
    await watched.drops.create(drop_spec("other"), BOSS)
    await watched.drops.launch("other", BOSS)


async def test_a_worker_whose_connections_outlive_the_failover_goes_where_the_name_leads(
    watched: Watched, valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    replica = EmbeddedValkey(tmp_path)
    replica.start()
    other: Any = open_redis(replica.url)
    try:
        await follow(other, valkey)
        await watched.come_home()
        before = await watched.claim_when_ready("m-before")
        await watched.record()
        await other.execute_command("REPLICAOF", "NO", "ONE")
        redis: Any = watched.stores.redis
        waiting = asyncio.create_task(redis.blpop("asked", timeout=1))
        async with asyncio.timeout(5):
            while not (await watched.stores.redis.info("clients"))["blocked_clients"]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        move_name(watched.stores, replica.url)  # and no connection ends
        await watched.homecoming.look()
        promoted = (await other.info("replication"))["master_replid"]
        assert await watched.stores.scripts.home() == promoted
        assert await waiting is None
        assert (await watched.stores.redis.info("replication"))["master_replid"] == promoted  # by each of the pool
        await watched.come_home()
        assert await watched.claim_when_ready("m-after") == before + 1
    finally:
        await other.aclose()
        replica.stop()


async def named_by_itself(watched: Watched) -> str:
    """The replication id of the store that the process reaches."""
    told: dict[str, str] = await watched.stores.redis.info("replication")
    return told["master_replid"]


async def cut_tail(valkey: EmbeddedValkey, valkey_dir: Path, *, until_lost: bytes) -> None:
    """Stop the store, and cut the end off its append-only file, with the first transaction that names a member."""
    valkey.stop()
    (file,) = (valkey_dir / "valkey" / "appendonlydir").glob("*.incr.aof")
    content = file.read_bytes()
    cut = content.rindex(b"MULTI", 0, content.index(until_lost)) + 20  # in the middle of a command
    file.write_bytes(content[:cut])
    valkey.start()


async def follow(copy: Any, primary: EmbeddedValkey) -> None:
    await copy.execute_command("REPLICAOF", "127.0.0.1", primary.url.rpartition(":")[2].partition("/")[0])
    async with asyncio.timeout(20):
        while (await copy.info("replication"))["master_link_status"] != "up":  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def switch(stores: Stores, url: str) -> None:
    """Let the clients find another store behind the name that they know, as after a failover."""
    await stores.redis.connection_pool.disconnect()
    move_name(stores, url)


def move_name(stores: Stores, url: str) -> None:
    """New connections lead to another store; those that are open stay where they are."""
    port = int(url.rpartition(":")[2].partition("/")[0])
    pool: Any = stores.redis.connection_pool
    pool.connection_kwargs["port"] = port
    for connection in [*pool._available_connections, *pool._in_use_connections]:
        connection.port = port
