"""The promise: a store that is away is said to be away, once for all who wait; nothing is asked twice."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

import lua
from engine.bounds import STORE_TIMEOUT_S
from engine.claims.durability import Durability
from engine.claims.model import OutcomeUnknown, StoreUnavailable
from engine.claims.pipe import PipeBroken
from engine.claims.store import RedisStore
from engine.runtime import connections
from engine.runtime.connections import Stores, open_redis


@pytest.fixture
async def silent_port() -> AsyncIterator[int]:
    """A server that takes connections and never says a word."""
    taken: list[asyncio.StreamWriter] = []

    async def take(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.append(writer)

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    for writer in taken:
        writer.close()
    server.close()


async def ask(store: RedisStore) -> object:
    return await store.run(lua.load("claim"), ("a", "b", "c", "d", "e"), ("trial", 1, 0))


async def test_all_who_wait_for_a_silent_store_hear_after_one_timeout(
    silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert STORE_TIMEOUT_S > 1
    monkeypatch.setattr(connections, "STORE_TIMEOUT_S", 0.3)
    redis = open_redis(f"redis://127.0.0.1:{silent_port}/0")
    store = RedisStore(redis, Durability())
    began_s = time.perf_counter()
    answers = await asyncio.gather(*(ask(store) for _ in range(5)), return_exceptions=True)
    assert {type(answer) for answer in answers} == {StoreUnavailable}
    assert time.perf_counter() - began_s < 0.9
    await redis.aclose()


async def test_a_connection_that_ends_is_an_unknown_outcome_and_the_next_call_connects_anew(stores: Stores) -> None:
    assert isinstance(await ask(stores.scripts), list)
    pipe = stores.scripts._pipe
    assert pipe is not None
    await stores.redis.client_pause(300)
    asking = asyncio.ensure_future(ask(stores.scripts))
    await asyncio.sleep(0.05)
    pipe._transport.abort()
    with pytest.raises(OutcomeUnknown):
        await asking
    with pytest.raises(PipeBroken):  # whoever holds the broken pipe is told, and does not wait for ever
        await pipe.call("PING")
    assert isinstance(await ask(stores.scripts), list)
    assert stores.scripts._pipe is not pipe


async def test_a_store_that_hangs_is_an_unknown_outcome_when_its_time_is_over(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.claims.pipe.STORE_TIMEOUT_S", 0.3)
    assert isinstance(await ask(stores.scripts), list)
    await stores.redis.client_pause(1_000)
    began_s = time.perf_counter()
    answers = await asyncio.gather(*(ask(stores.scripts) for _ in range(3)), return_exceptions=True)
    assert {type(answer) for answer in answers} == {OutcomeUnknown}
    assert time.perf_counter() - began_s < 0.9


async def test_a_store_that_is_no_longer_the_primary_is_left(stores: Stores) -> None:
    script = lua.Script("demoted", "return redis.error_reply('READONLY You can not write')", "0" * 40, (), ())
    with pytest.raises(StoreUnavailable):
        await stores.scripts.run(script, (), ())
    assert stores.scripts._pipe is not None
    assert not stores.scripts._pipe.is_open
