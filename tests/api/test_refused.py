"""The promise: a refused claim burns nothing: the store is the same byte for byte, and the ticket stays good."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from engine.claims import keys
from engine.runtime.connections import Stores
from tests.api.conftest import Api, problem


async def dump(stores: Stores) -> dict[bytes, bytes]:
    """Every key of the store with all that is in it."""
    redis: Any = stores.redis
    return {key: await redis.dump(key) for key in sorted(await redis.keys("*"))}


async def _sold_out(api: Api, _: Stores) -> str:
    await api.claim(await api.ticket("m-2", quantity=3))
    return await api.ticket()


async def _over_limit(api: Api, _: Stores) -> str:
    await api.claim(await api.ticket(quantity=2))
    return await api.ticket(quantity=2)


async def _after(act: str, api: Api) -> str:
    shown = await api.ticket()
    await api.operate("POST", f"/v1/drops/trial/{act}")
    return shown


async def _fenced(api: Api, stores: Stores) -> str:
    shown = await api.ticket()
    await stores.redis.hset(keys.drop(0, "trial"), "epoch", 2)
    return shown


async def _torn(api: Api, stores: Stores) -> str:
    shown = await api.ticket()
    await stores.redis.hdel(keys.drop(0, "trial"), "taken:1")
    return shown


REFUSALS: list[tuple[Any, int, str]] = [
    (_sold_out, 409, "sold-out"),
    (_over_limit, 409, "limit-reached"),
    (lambda api, _: _after("pause", api), 409, "paused"),
    (lambda api, _: _after("close", api), 409, "closed"),
    (_fenced, 503, "not-ready"),
    (_torn, 503, "not-ready"),
]


@pytest.mark.parametrize(("prepare", "status", "code"), REFUSALS)
async def test_a_refused_claim_changes_nothing(api: Api, stores: Stores, prepare: Any, status: int, code: str) -> None:
    await api.launched(stock=3, limit=3)
    shown = await prepare(api, stores)
    before = await dump(stores)
    for _ in range(3):
        problem(await api.claim(shown), status, code)
    assert await dump(stores) == before


async def test_a_claim_before_the_opening_changes_nothing(api: Api, stores: Stores) -> None:
    await api.launched(opens_at=datetime.now(UTC) + timedelta(hours=1))
    shown, before = await api.ticket(), await dump(stores)
    problem(await api.claim(shown), 409, "not-open")
    assert await dump(stores) == before


async def test_a_forged_ticket_changes_nothing(api: Api, stores: Stores) -> None:
    await api.launched()
    shown, before = await api.ticket(), await dump(stores)
    problem(await api.claim(shown[:-2] + "AA"), 401, "ticket-invalid")
    assert await dump(stores) == before


async def test_what_was_refused_for_now_is_accepted_with_the_same_ticket_later(api: Api) -> None:
    await api.launched(stock=1)
    shown, other = await api.ticket(), await api.ticket("m-2")
    await api.operate("POST", "/v1/drops/trial/pause")
    problem(await api.claim(shown), 409, "paused")
    await api.operate("POST", "/v1/drops/trial/resume")
    assert (await api.claim(shown)).status_code == 201
    problem(await api.claim(other), 409, "sold-out")
    await api.operate("POST", "/v1/drops/trial/restock", {"item": "box", "quantity": 1})
    answer = await api.claim(other)
    assert (answer.status_code, answer.json()["serial"]) == (201, 2)
