"""The promise: what cannot be decided is 503 and says when to come back; the same ticket learns the outcome."""

import asyncio

import httpx
import pytest

from api.app import create_app
from engine.bounds import OUTBOX_LOOK_S, QUEUE_CLAIMS_MAX
from engine.claims import keys
from engine.claims.model import Overloaded
from engine.claims.service import Claims
from engine.drops.model import Drop
from engine.members.session import SessionTokens
from engine.runtime.connections import Stores
from engine.runtime.settings import Settings
from tests.api.conftest import Api, problem, running


def fill(claims: Claims, drop: Drop, ticket: str) -> None:
    opened = claims.open_ticket(ticket)
    for _ in range(QUEUE_CLAIMS_MAX + 1):
        claims.submit(drop, opened, None, None, lambda _: None)


class cut_line:  # noqa: N801 (used as a function)
    """A line to the store that carries every request and cuts the connection instead of carrying a script's answer."""

    def __init__(self, redis_url: str) -> None:
        self._port = int(httpx.URL(redis_url).port or 0)

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        store_reader, store_writer = await asyncio.open_connection("127.0.0.1", self._port)
        while sent := await reader.read(65_536):
            store_writer.write(sent)
            answer = await store_reader.read(65_536)
            if b"EVAL" in sent and not answer.startswith(b"-NOSCRIPT"):
                break
            writer.write(answer)
        writer.close()
        store_writer.close()


async def test_past_the_bound_a_claim_is_shed_before_the_store(settings: Settings, stores: Stores) -> None:
    app = create_app(settings)
    async with running(app) as client:
        api = Api(client, SessionTokens(settings))
        await api.launched()
        ticket = await api.ticket()
        claims = app.state.services.claims
        drop = await app.state.services.drops.get("trial")
        await stores.redis.client_pause(700)  # the store is slow: the queue fills
        for _ in range(2):  # the first batches leave the queue at once, then nothing leaves it
            with pytest.raises(Overloaded):
                fill(claims, drop, ticket)
            await asyncio.sleep(0.02)
        answer = await api.claim(ticket)
        problem(answer, 503, "overloaded")
        assert int(answer.headers["retry-after"]) >= 1
        await claims.drain()
        assert (await api.claim(ticket)).status_code == 200


async def test_past_the_bound_of_the_outbox_claims_are_shed_until_the_ledger_has_caught_up(
    settings: Settings, stores: Stores
) -> None:
    async with running(create_app(settings.model_copy(update={"outbox_bytes_max": 1_000_000}))) as client:
        api = Api(client, SessionTokens(settings))
        await api.launched()
        ticket = await api.ticket()
        for _ in range(150):
            await stores.redis.xadd(keys.outbox(0), {"claims": bytes(10_000)})
        await asyncio.sleep(OUTBOX_LOOK_S * 1.5)
        answer = await api.claim(ticket)
        assert "ledger is behind" in problem(answer, 503, "overloaded")["detail"]
        assert answer.headers["retry-after"]
        await stores.redis.delete(keys.outbox(0))
        await asyncio.sleep(OUTBOX_LOOK_S * 1.5)
        assert (await api.claim(ticket)).status_code == 201


async def test_a_missing_state_is_503_and_never_made_again(api: Api, stores: Stores) -> None:
    await api.launched()
    ticket = await api.ticket()
    await stores.redis.delete(keys.drop(0, "trial"))
    answer = await api.claim(ticket)
    problem(answer, 503, "not-ready")
    assert answer.headers["retry-after"]
    for act in ("pause", "close"):
        problem(await api.operate("POST", f"/v1/drops/trial/{act}"), 503, "not-ready")
    assert not await stores.redis.exists(keys.drop(0, "trial"))


async def test_a_missing_field_of_the_state_is_503(api: Api, stores: Stores) -> None:
    await api.launched()
    ticket = await api.ticket()
    await stores.redis.hdel(keys.drop(0, "trial"), "taken:1")
    problem(await api.claim(ticket), 503, "not-ready")


async def test_a_store_that_cannot_be_reached_is_503(settings: Settings, stores: Stores) -> None:
    async with running(create_app(settings)) as client:
        api = Api(client, SessionTokens(settings))
        await api.launched()
        ticket = await api.ticket()
    lost = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    async with running(create_app(lost)) as client:
        answer = await Api(client, SessionTokens(lost)).claim(ticket)
        problem(answer, 503, "store-unavailable")
        assert answer.headers["retry-after"]


async def test_a_store_that_does_not_answer_is_503_outcome_unknown(settings: Settings, stores: Stores) -> None:
    """The store takes the batch and the line breaks: the same ticket learns later that it was accepted."""
    async with running(create_app(settings)) as client:
        api = Api(client, SessionTokens(settings))
        await api.launched()
        ticket = await api.ticket()
        async with cut_line(settings.redis_url) as url:
            behind = settings.model_copy(update={"redis_url": url})
            async with running(create_app(behind)) as other:
                answer = await Api(other, SessionTokens(behind)).claim(ticket)
                problem(answer, 503, "outcome-unknown")
        again = await api.claim(ticket)
        assert again.status_code == 200
        assert again.json()["serial"] == 1
