"""The promise: over a rate a claim is 429 and hears when to come back; its ticket stays good."""

import asyncio

from api.app import create_app
from engine.members.session import SessionTokens
from engine.runtime.connections import Stores
from engine.runtime.settings import Settings
from tests.api.conftest import Api, problem, running


async def test_a_members_rate_is_429_and_the_ticket_stays_good(settings: Settings, stores: Stores) -> None:
    strict = settings.model_copy(update={"member_claims_per_second": 3})
    async with running(create_app(strict)) as client:
        api = Api(client, SessionTokens(strict))
        await api.launched()
        ticket = await api.ticket()
        answers = await asyncio.gather(*(api.claim(ticket) for _ in range(20)))
        slowed = [answer for answer in answers if answer.status_code == 429]
        assert slowed
        problem(slowed[0], 429, "slow-down")
        assert slowed[0].headers["retry-after"] == "1"
        await asyncio.sleep(1.05)
        assert (await api.claim(ticket)).status_code == 200
        assert (await api.claim(await api.ticket("m-2"))).status_code == 201


async def test_an_address_rate_is_429(settings: Settings, stores: Stores) -> None:
    strict = settings.model_copy(update={"address_claims_per_second": 3})
    async with running(create_app(settings)) as free, running(create_app(strict)) as client:
        taking, api = Api(free, SessionTokens(settings)), Api(client, SessionTokens(strict))
        await api.launched()
        tickets = [await taking.ticket(f"m-{number}") for number in range(20)]
        answers = await asyncio.gather(*map(api.claim, tickets))
        assert 429 in {answer.status_code for answer in answers}
