"""The promise: what a store's error means is never guessed, and a call is repeated only where nothing was done.

Each error comes from a real Valkey that was brought to say it.
"""

import asyncio
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hiredis import ReplyError
from redis.asyncio import Redis
from redis.exceptions import RedisError

import lua
from engine.claims import durability, keys, replies
from engine.claims.durability import Durability
from engine.claims.model import OutcomeUnknown, StoreUnavailable
from engine.claims.store import RedisStore
from engine.runtime.connections import open_redis
from engine.runtime.servers import EmbeddedValkey, _valkey_binary, free_port, stop_process

TRUSTED = Durability(is_checked=False)


def test_only_what_is_known_to_have_done_nothing_is_said_to_have_done_nothing() -> None:
    for kind in replies.NOTHING_DONE:
        assert isinstance(replies.meaning(ReplyError(f"{kind} so it is")), StoreUnavailable)
    for text in ("ERR user_script:9: attempt to index a nil value", "UNKILLABLE", "WRONGTYPE Operation", ""):
        assert isinstance(replies.meaning(ReplyError(text)), OutcomeUnknown)
    assert set(replies.NOTHING_DONE) >= replies.ELSEWHERE


class Own:
    """A Valkey of its own for a test, with options of its own."""

    def __init__(self, path: Path, *options: str) -> None:
        self.path, self.port, self._options = path, free_port(), options
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def client(self) -> Any:
        return open_redis(f"redis://127.0.0.1:{self.port}/0")

    def start(self, *more: str, answers: bytes = b"+PONG") -> None:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.path)]
        with (self.path.parent / f"{self.path.name}.log").open("ab") as log:
            command = [_valkey_binary(), *options, *self._options, *more]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._wait(answers)

    def stop(self) -> None:
        if self.process is not None:
            stop_process(self.process)

    def _wait(self, answers: bytes) -> None:
        for _ in range(500):
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as line:
                line.sendall(b"PING\r\n")
                if line.recv(64).startswith(answers):
                    return
            threading.Event().wait(0.02)
        raise AssertionError(f"Valkey did not say {answers!r}")


@contextmanager
def own(path: Path, *options: str) -> Iterator[Own]:
    path.mkdir(exist_ok=True)
    server = Own(path, *options)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
async def changed(redis: "Redis") -> AsyncIterator[Any]:
    """The shared store, whose settings are put back."""
    names = ("maxmemory", "min-replicas-to-write", "busy-reply-threshold", "requirepass")
    before = {name: str((await redis.config_get(name))[name]) for name in names}
    yield redis
    for name, value in before.items():
        await redis.config_set(name, value)
    await redis.execute_command("REPLICAOF", "NO", "ONE")  # type: ignore[no-untyped-call]


async def until(redis: Any, words: str, *command: str) -> None:
    """Wait until a command's answer has these words."""
    store = RedisStore(redis, TRUSTED)
    async with asyncio.timeout(20):
        while words not in (await store.ask(*command)).decode():  # noqa: ASYNC110 (the store tells nobody)
            await asyncio.sleep(0.05)
    store.close()


async def write(store: RedisStore, partition: int = 0) -> object:
    """Any script that writes."""
    return await store.run(lua.load("settle"), (keys.home(partition),), (await store.home(),))


async def refusal_of(redis: Any) -> str:
    store = RedisStore(redis, TRUSTED)
    with pytest.raises(StoreUnavailable) as caught:
        await write(store)
    store.close()
    return str(caught.value)


class TestNothingDone:
    async def test_oom(self, changed: Any) -> None:
        await changed.config_set("maxmemory", "1mb")
        assert "its memory is full" in await refusal_of(changed)
        assert not await changed.exists(keys.home(0))

    async def test_noreplicas(self, changed: Any) -> None:
        await changed.config_set("min-replicas-to-write", "1")
        assert "too few replicas" in await refusal_of(changed)

    async def test_readonly(self, changed: Any) -> None:
        await changed.execute_command("REPLICAOF", "127.0.0.1", "1")
        assert "it is a replica now" in await refusal_of(changed)

    async def test_busy(self, changed: Any, redis_url: str) -> None:
        await changed.config_set("busy-reply-threshold", "20")
        store = RedisStore(changed, TRUSTED)
        await store.home()
        other: Any = Redis.from_url(redis_url)
        endless = asyncio.create_task(other.eval("while true do end", 0))
        await asyncio.sleep(0.2)
        with pytest.raises(StoreUnavailable, match="a script that runs too long"):
            await write(store)
        await other.script_kill()
        with pytest.raises(RedisError):
            await endless
        assert await write(store) == b"settled"
        store.close()
        await other.aclose()

    async def test_noauth_and_wrongpass(self, changed: Any, redis_url: str) -> None:
        await changed.config_set("requirepass", "secret")
        for url in (redis_url, redis_url.replace("redis://", "redis://:wrong@")):
            redis = open_redis(url)
            assert "cannot be reached" in await refusal_of(redis)
            await redis.aclose()

    async def test_noscript_is_the_one_call_that_is_repeated(self, changed: Any) -> None:
        store = RedisStore(changed, TRUSTED)
        await write(store)
        await changed.script_flush()
        assert await write(store) == b"settled"
        store.close()

    async def test_misconf(self, tmp_path: Path) -> None:
        """Snapshots are on and the last one failed: the disk is gone."""
        with own(tmp_path / "gone") as server:
            redis = server.client
            await redis.config_set("save", "3600 1")
            await redis.set("a", "b")
            shutil.rmtree(server.path)
            await redis.bgsave()
            await until(redis, "rdb_last_bgsave_status:err", "INFO", "persistence")
            assert "cannot write to its disk" in await refusal_of(redis)
            await redis.config_set("save", "")  # or it would not end
            await redis.aclose()

    async def test_loading(self, tmp_path: Path) -> None:
        """A restarted store reads its file, and says so; when it is done, it decides."""
        with own(tmp_path / "slow") as server:
            redis = server.client
            await redis.mset({f"key-{number}": os.urandom(2_000) for number in range(300)})
            await redis.save()
            await redis.aclose()
            server.stop()
            slowly = ("--key-load-delay", "10000", "--loading-process-events-interval-bytes", "1024")
            server.start(*slowly, answers=b"-LOAD")
            redis = server.client
            store = RedisStore(redis, TRUSTED)
            with pytest.raises(StoreUnavailable):
                await write(store)
            async with asyncio.timeout(30):
                while True:
                    with suppress(StoreUnavailable):
                        assert await write(store) == b"settled"
                        break
                    await asyncio.sleep(0.1)
            store.close()
            await redis.aclose()

    async def test_a_cluster_that_is_not_ours(self, tmp_path: Path) -> None:
        """MOVED, ASK, CROSSSLOT, CLUSTERDOWN: we speak to one node, and it says that the keys are not with it."""
        options = ("--cluster-enabled", "yes", "--cluster-require-full-coverage", "no")
        lines = [("--cluster-port", str(free_port())) for _ in range(2)]  # its default may be past the last port
        with own(tmp_path / "a", *options, *lines[0]) as first, own(tmp_path / "b", *options, *lines[1]) as second:
            here, there = first.client, second.client
            assert "cluster is not whole" in await refusal_of(here)
            slot = await here.execute_command("CLUSTER", "KEYSLOT", keys.home(0))
            for client, low, high in ((here, 0, slot), (there, slot + 1, 16_383)):
                await client.execute_command("CLUSTER", "ADDSLOTSRANGE", low, high)
            await here.execute_command("CLUSTER", "MEET", "127.0.0.1", second.port, lines[1][1])
            async with asyncio.timeout(30):
                await until(here, "cluster_slots_assigned:16384", "CLUSTER", "INFO")
                store = RedisStore(here, TRUSTED)
                while True:
                    with suppress(StoreUnavailable):
                        assert await write(store) == b"settled"
                        break
                    await asyncio.sleep(0.1)
            far = await self._a_partition_elsewhere(here, slot)
            with pytest.raises(StoreUnavailable, match="another one has these keys"):
                await write(store, far)
            with pytest.raises(StoreUnavailable, match="not together"):
                await store.run(lua.load("repair"), (keys.home(0), keys.home(far)), ("a", "", "b"))
            await self._migrate(here, there, slot)
            with pytest.raises(StoreUnavailable, match="taking these keys over"):
                await store.run(lua.load("settle"), ("fc:{0}:absent",), (await store.home(),))
            store.close()
            for client in (here, there):
                await client.aclose()

    @staticmethod
    async def _a_partition_elsewhere(here: Any, slot: int) -> int:
        for partition in range(1, 100):
            if await here.execute_command("CLUSTER", "KEYSLOT", keys.home(partition)) > slot:
                return partition
        raise AssertionError("no partition lies in the other node")

    @staticmethod
    async def _migrate(here: Any, there: Any, slot: int) -> None:
        ours, theirs = [await client.execute_command("CLUSTER", "MYID") for client in (here, there)]
        await there.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ours)
        await here.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", theirs)


async def test_a_script_that_fails_on_the_way_is_an_unknown_outcome(changed: Any) -> None:
    """By design no script does; were one to, nobody would be told that nothing has happened."""
    text = "redis.call('SET', KEYS[1], 'done') error('broken')"
    broken = lua.Script("broken", text, "0" * 40, ("key",), ())
    store = RedisStore(changed, TRUSTED)
    with pytest.raises(OutcomeUnknown):
        await store.run(broken, ("written",), ())
    assert await changed.get("written") == b"done"
    store.close()


def test_the_stores_of_this_project_are_started_as_the_default_level_wants(tmp_path: Path) -> None:
    arguments = EmbeddedValkey(tmp_path)._arguments()
    config = dict(zip(arguments[::2], arguments[1::2], strict=True))
    assert durability.faults(Durability(), "master", {name[2:]: value for name, value in config.items()}) == []
