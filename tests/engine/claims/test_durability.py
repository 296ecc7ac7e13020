"""The promise: a store whose settings break the durability that is promised is refused, unless we are told to go on."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

import lua
from engine.claims import keys
from engine.claims.durability import Durability, Level, faults
from engine.claims.model import OutcomeUnknown, StoreUnavailable
from engine.claims.store import RedisStore, StoreUnsafe
from engine.runtime.connections import open_redis
from engine.runtime.servers import EmbeddedValkey

SAFE = {
    "appendonly": "yes",
    "appendfsync": "always",
    "maxmemory-policy": "noeviction",
    "min-replicas-to-write": "1",
}


@pytest.mark.parametrize("level", ["disk", "replica", "memory"])
def test_a_safe_store_has_no_fault(level: Level) -> None:
    assert faults(Durability(level), "master", SAFE) == []


@pytest.mark.parametrize(
    ("level", "name", "value"),
    [
        ("disk", "appendonly", "no"),
        ("disk", "appendfsync", "everysec"),
        ("disk", "appendfsync", "no"),
        ("disk", "maxmemory-policy", "allkeys-lru"),
        ("replica", "min-replicas-to-write", "0"),
        ("replica", "maxmemory-policy", "volatile-ttl"),
        ("memory", "maxmemory-policy", "allkeys-random"),
    ],
)
def test_each_setting_that_breaks_a_level_is_named_with_what_to_set(level: Level, name: str, value: str) -> None:
    (fault,) = faults(Durability(level), "master", {**SAFE, name: value})
    assert f"{name} is {value!r}" in fault.found
    assert f"set `{name} " in fault.advice


def test_weaker_levels_do_not_ask_for_the_disk() -> None:
    for level in ("replica", "memory"):
        assert faults(Durability(level), "master", {**SAFE, "appendonly": "no"}) == []


def test_a_replica_and_a_store_that_does_not_tell_are_refused() -> None:
    assert "only copies" in faults(Durability(), "slave", SAFE)[0].found
    assert "does not tell" in faults(Durability(), "master", None)[0].found


@pytest.fixture
async def redis_of_its_own(redis: "Redis") -> AsyncIterator["Redis"]:
    yield redis
    await redis.config_set("appendfsync", "always")
    await redis.acl_deluser("limited")


async def test_the_start_is_stopped_by_an_unsafe_store_and_goes_on_when_it_is_made_safe(
    redis_of_its_own: "Redis",
) -> None:
    redis = redis_of_its_own
    await redis.config_set("appendfsync", "everysec")
    store = RedisStore(redis, Durability())
    with pytest.raises(StoreUnsafe, match="set `appendfsync always`"):
        await store.check()
    with pytest.raises(StoreUnavailable):
        await store.home()
    told_otherwise = RedisStore(redis, Durability(is_checked=False))
    await told_otherwise.check()
    await redis.config_set("appendfsync", "always")
    await store.check()
    assert await store.home() == await told_otherwise.home()
    for opened in (store, told_otherwise):
        opened.close()


async def test_a_store_that_does_not_tell_its_settings_is_refused_unless_we_are_told(
    redis_of_its_own: "Redis", redis_url: str
) -> None:
    commands = ["+@all", "-config"]
    await redis_of_its_own.acl_setuser("limited", enabled=True, passwords=["+pw"], keys=["*"], commands=commands)
    limited = open_redis(redis_url.replace("redis://", "redis://limited:pw@"))
    store, told_otherwise = RedisStore(limited, Durability()), RedisStore(limited, Durability(is_checked=False))
    with pytest.raises(StoreUnsafe, match="does not tell its settings"):
        await store.check()
    await told_otherwise.check()
    told_otherwise.close()
    await limited.aclose()


class TestReplica:
    """The level `replica`: a claim is told when so many replicas have it, and not before."""

    @pytest.fixture
    async def pair(self, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Any, Any]]:
        servers = [EmbeddedValkey(tmp_path_factory.mktemp(name)) for name in ("primary", "replica")]
        for server in servers:
            server.start()
        primary, copy = (open_redis(server.url) for server in servers)
        port = servers[0].url.rpartition(":")[2].partition("/")[0]
        try:
            await primary.config_set("repl-diskless-sync-delay", 0)
            await primary.config_set("repl-ping-replica-period", 1)
            await copy.execute_command("REPLICAOF", "127.0.0.1", port)  # type: ignore[no-untyped-call]
            while (await copy.info("replication"))["master_link_status"] != "up":
                pass
            await primary.config_set("min-replicas-to-write", 1)
            yield primary, copy
        finally:
            for client in (primary, copy):
                await client.aclose()
            for server in reversed(servers):
                server.stop()

    async def test_an_answer_waits_for_the_replica(self, pair: tuple[Any, Any]) -> None:
        primary, copy = pair
        store = RedisStore(primary, Durability("replica"))
        assert await settle(store) == b"settled"
        assert (await copy.get(keys.home(0))).decode() == await store.home()
        await copy.execute_command("CLIENT", "PAUSE", "3000", "ALL")
        with pytest.raises(OutcomeUnknown, match="too few replicas"):
            await settle(store)
        store.close()

    async def test_a_primary_that_lost_its_replicas_gives_nothing_out(self, pair: tuple[Any, Any]) -> None:
        primary, copy = pair
        store = RedisStore(primary, Durability("replica"))
        await settle(store)
        await copy.execute_command("REPLICAOF", "NO", "ONE")
        while (await primary.info("replication"))["connected_slaves"]:
            pass
        with pytest.raises(StoreUnavailable, match="too few replicas follow it"):
            await settle(store)
        store.close()


async def settle(store: RedisStore) -> object:
    """Any script that writes."""
    return await store.run(lua.load("settle"), (keys.home(0),), (await store.home(),))
