"""The promise: keys are rotated under traffic; no process meets a ticket or a receipt without having its key."""

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from api.app import create_app
from engine.claims.ticket import from_text
from engine.drops import store
from engine.members.session import SessionTokens
from engine.runtime import keyfile
from engine.runtime.connections import Stores
from engine.runtime.settings import Settings, load_settings
from tests.api.conftest import Api, running
from tests.factories.drops import drop_json
from tests.factories.ledger import record_all


def instance(data_dir: Path, settings: Settings) -> Settings:
    """A data directory as `flashclaim dev` leaves it, on the stores of the tests."""
    keyfile.ensure_keys(data_dir)
    urls = f'{{"redis_url": "{settings.redis_url}", "postgres_url": "{settings.postgres_url}"}}'
    (data_dir / "dev.json").write_text(urls)
    return load_settings(data_dir)


def key_id(ticket: str) -> int:
    """The id in the second byte of a ticket or a receipt."""
    sealed = from_text(ticket)
    assert sealed is not None
    return sealed[1]


async def test_a_rotation_under_traffic_refuses_nobody(stores: Stores, settings: Settings, tmp_path: Path) -> None:
    """Two processes: tickets of each are claimed at the other, all through a rotation of both kinds of keys."""
    local = instance(tmp_path, settings)
    async with AsyncExitStack() as processes:
        one = await processes.enter_async_context(running(create_app(local, tmp_path)))
        await asyncio.sleep(keyfile.WATCH_S / 2)  # so that the two look at the keys at different moments
        two = await processes.enter_async_context(running(create_app(local, tmp_path)))
        first, second = (Api(client, SessionTokens(local)) for client in (one, two))
        await first.launched(stock=100_000)
        receipts: list[str] = []
        done = asyncio.Event()

        async def press(here: Api, there: Api, name: str) -> None:
            for number in range(1_000_000):
                if done.is_set():
                    return
                answer = await there.claim(await here.ticket(f"{name}-{number}"))
                assert answer.status_code == 201, answer.text
                receipts.append(answer.json()["receipt"])
                await asyncio.sleep(0.01)

        pressing = [asyncio.create_task(press(*way)) for way in ((first, second, "a"), (second, first, "b"))]
        for kind in ("ticket", "receipt"):
            await asyncio.to_thread(keyfile.rotate, tmp_path, kind)
        await asyncio.sleep(2 * keyfile.WATCH_S)
        assert {key_id(await api.ticket("late")) for api in (first, second)} == {2}
        done.set()
        await asyncio.gather(*pressing)
        assert {key_id(text) for text in receipts} == {1, 2}
        for text in (receipts[0], receipts[-1]):
            for client in (one, two):
                assert (await verified(client, text)).status_code == 200


async def verified(client: httpx.AsyncClient, receipt: str) -> httpx.Response:
    return await client.post("/v1/receipts/verify", json={"receipt": receipt})


async def test_a_ticket_key_may_go_when_no_ticket_under_it_can_be_good(api: Api, stores: Stores) -> None:
    now = datetime.now(UTC)

    async def last_expires(sealed_until: datetime) -> datetime | None:
        await record_all(stores)
        async with stores.ledger.connect() as connection:
            return await store.last_ticket_expires(connection, sealed_until, 600)

    assert await last_expires(now) is None
    opens = now + timedelta(days=1)
    assert (await api.operate("POST", "/v1/drops", drop_json("later", opens))).status_code == 201
    assert (await api.operate("POST", "/v1/drops/later/launch")).status_code == 200
    assert await last_expires(now) == opens + timedelta(seconds=600), "sealed before the opening, good until after it"
    assert await last_expires(opens + timedelta(minutes=55)) == opens + timedelta(hours=1), "no longer than the drop"
    earlier = {"opens_at": (opens - timedelta(hours=2)).isoformat()}
    assert (await api.operate("PATCH", "/v1/drops/later", earlier, **{"If-Match": '"2"'})).status_code == 200
    assert await last_expires(now) == opens + timedelta(seconds=600), (
        "a ticket keeps the window that it was sealed with"
    )
    assert (await api.operate("POST", "/v1/drops/later/close")).status_code == 200
    assert await last_expires(now) is None
