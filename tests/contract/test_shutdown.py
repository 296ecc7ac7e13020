"""The promise: at the graceful end what is in flight is answered and told that it is the last; nothing new is begun."""

import asyncio

import pytest

from engine.claims import keys
from engine.runtime.connections import Stores
from tests.contract.conftest import Store
from tests.contract.front import Front, claim_request, told
from tests.contract.line import request

JSON = ("Content-Type", "application/json")


async def ending(front: Front) -> None:
    """The end has begun: no listener is left."""
    front.server.should_exit = True
    async with asyncio.timeout(5):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", front.port)
            except ConnectionError:  # refused, or reset when it was just being taken
                return
            writer.transport.abort()
            await asyncio.sleep(0.01)


async def ended(front: Front) -> None:
    async with asyncio.timeout(5):
        await front.serving


async def test_claims_in_flight_are_answered_and_new_connections_are_refused(front: Front, store: Store) -> None:
    await front.launched()
    tickets = await front.tickets(3)
    lines = [await front.line() for _ in tickets]
    idle = await front.line()
    await idle.ask(request("GET", "/v1/drops/trial"), "GET")
    store.hold()
    for line, ticket in zip(lines, tickets, strict=True):
        await line.send(claim_request(ticket))
    await store.until_asked()
    await ending(front)
    assert await idle.is_closed()
    assert not front.serving.done()
    store.release()
    for line in lines:
        told(await line.read(), 201, more=["connection"])
        assert await line.is_closed()
    await ended(front)


async def test_what_waits_behind_a_claim_is_answered_too(front: Front, store: Store) -> None:
    await front.launched()
    one, two = await front.tickets(2)
    line = await front.line()
    store.hold()
    await line.send(claim_request(one) + request("GET", "/v1/drops/trial") + claim_request(two))
    await store.until_asked()
    await ending(front)
    store.release()
    answers = [await line.read() for _ in range(3)]
    assert [answer.status for answer in answers] == [201, 200, 201]
    assert ["connection" in answer.headers for answer in answers] == [False, False, True]
    assert await line.is_closed()
    await ended(front)


async def test_a_claim_that_is_still_coming_in_is_taken(front: Front) -> None:
    await front.launched()
    data = claim_request(await front.ticket(), b'{"quantity": 1}', [JSON])
    line = await front.line()
    await line.send(data[:-5], pause_s=0.01)
    await ending(front)
    await line.send(data[-5:])
    told(await line.read(), 201, more=["connection"])
    assert await line.is_closed()
    await ended(front)


async def test_the_claim_of_a_client_that_vanished_is_decided_before_the_end(
    front: Front, store: Store, stores: Stores
) -> None:
    await front.launched()
    line = await front.line()
    ticket = await front.ticket()
    store.hold()
    await line.send(claim_request(ticket))
    await store.until_asked()
    line.vanish()
    await ending(front)
    await asyncio.sleep(0.15)  # uvicorn itself waits a tenth of a second before it looks
    if front.is_gate:
        assert not front.serving.done()
    store.release()
    await ended(front)
    assert await stores.redis.hget(keys.drop(0, "trial"), "taken:1") == b"1"


async def test_a_store_that_hangs_does_not_hold_up_the_end_for_ever(
    front: Front, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await front.launched()
    front.may_break = True  # uvicorn logs that it gave up on somebody
    ticket = await front.ticket()
    line = await front.line()
    monkeypatch.setattr(front.config, "timeout_graceful_shutdown", 0.3)
    store.hold()
    await line.send(claim_request(ticket))
    await store.until_asked()
    await ending(front)
    await asyncio.sleep(0.5)
    store.release()  # the drain at the end of the lifespan waits for the store's own bound, not for ours
    await ended(front)
