"""The promise: a limit is a person's, however many accounts, tickets, connections or addresses they come with.

And those who share an address with a bot are not refused for it. OWASP OAT-005 (Scalping), OAT-002 (Token Cracking).
"""

import asyncio
import secrets

from api.app import create_app
from engine.claims import ticket
from engine.members.model import Session
from engine.members.session import SessionTokens
from engine.runtime.connections import Stores
from engine.runtime.settings import Settings
from tests.api.conftest import Api, problem, running
from tests.contract.conftest import Start
from tests.contract.front import claim_request, told

ACCOUNTS = 40


async def tickets_of(api: Api, *sessions: Session) -> list[str]:
    found = []
    for session in sessions:
        headers = {"Authorization": f"Bearer {api.tokens.issue(session, 600)}"}
        found.append((await api.client.post("/v1/drops/trial/ticket", headers=headers)).json()["ticket"])
    return found


async def taken(api: Api) -> int:
    return int((await api.operate("GET", "/v1/drops/trial/report")).json()["items"][0]["store"]["taken"])


class TestOnePerson:
    async def test_with_many_accounts_gets_one_limit_also_in_a_race(self, api: Api) -> None:
        await api.launched(stock=100, limit=3)
        accounts = [Session(f"m-{number}", "person-1") for number in range(ACCOUNTS)]
        shown = await tickets_of(api, *accounts)
        answers = await asyncio.gather(*(api.claim(text) for text in shown))
        assert sorted(answer.status_code for answer in answers) == [201] * 3 + [409] * (ACCOUNTS - 3)
        assert await taken(api) == 3

    async def test_stays_one_over_several_processes_and_partitions(self, settings: Settings, stores: Stores) -> None:
        split = settings.model_copy(update={"partitions": 4})
        async with running(create_app(split)) as first, running(create_app(split)) as second:
            apis = [Api(client, SessionTokens(split)) for client in (first, second)]
            await apis[0].launched(stock=100, limit=2)
            accounts = [Session(f"m-{number}", "person-1") for number in range(ACCOUNTS)]
            shown = await tickets_of(apis[0], *accounts)
            answers = await asyncio.gather(*(apis[number % 2].claim(text) for number, text in enumerate(shown)))
            assert [answer.status_code for answer in answers].count(201) == 2

    async def test_with_many_tickets_in_hand_gets_one_limit(self, api: Api) -> None:
        await api.launched(stock=100, limit=2)
        shown = await tickets_of(api, *[Session("m-1", "m-1")] * ACCOUNTS)
        assert len(set(shown)) == ACCOUNTS
        answers = await asyncio.gather(*(api.claim(text) for text in shown for _ in range(3)))
        assert [answer.status_code for answer in answers].count(201) == 2
        assert await taken(api) == 2

    async def test_does_not_get_more_by_giving_the_last_one_another_size(self, api: Api) -> None:
        await api.launched(stock=100, limit=5)
        shown = await tickets_of(api, *[Session(f"m-{number}", "person-1") for number in range(30)])
        sizes = [5, 4, 3, 2, 1] * 6
        await asyncio.gather(
            *(api.claim(text, body={"quantity": size}) for text, size in zip(shown, sizes, strict=True))
        )
        assert await taken(api) <= 5

    async def test_is_not_hurt_by_accounts_that_only_look_like_theirs(self, api: Api) -> None:
        await api.launched(stock=100)
        names = ["m-1", "M-1", "m-1.", "m-10", "m-1:", "m_1"]
        for text in await tickets_of(api, *(Session(name, name) for name in names)):
            assert (await api.claim(text)).status_code == 201


class TestOneAddress:
    async def test_many_members_behind_it_are_all_served(self, start: Start) -> None:
        """Phones of one carrier: so the rate for an address is off unless it is set."""
        front = await start()
        await front.launched(stock=100)
        shown = await front.tickets(60)
        answers = await asyncio.gather(*(front.ask(claim_request(text)) for text in shown))
        assert {answer.status for answer in answers} == {201}

    async def test_with_a_rate_they_wait_and_lose_nothing(self, start: Start) -> None:
        free, front = await start(), await start(address_claims_per_second=10)
        await free.launched(stock=100)
        waiting = await free.tickets(20)
        await front.remember()
        async with asyncio.timeout(20):
            while waiting:
                answers = [(text, await front.ask(claim_request(text))) for text in waiting]
                assert {answer.code for _, answer in answers} <= {"201", "slow-down"}
                waiting = [text for text, answer in answers if answer.status == 429]
                await asyncio.sleep(0.3)
        assert await front.taken() == 20


class TestTicketFlood:
    """A ticket costs us a signature: whoever asks for more than the rate waits, and nobody else does."""

    async def test_a_member_is_slowed_and_takes_nothing_from_others_nor_from_their_own_claims(
        self, start: Start
    ) -> None:
        front = await start(member_claims_per_second=1, member_claims_burst=5)
        await front.launched(stock=100)
        answers = await asyncio.gather(*(front.ask(front.ticket_request()) for _ in range(30)))
        given = [answer for answer in answers if answer.status == 200]
        assert 5 <= len(given) <= 7
        slowed = [answer for answer in answers if answer.status != 200]
        for answer in slowed:
            found = told(answer, 429, "slow-down", ["retry-after"])
            assert found["whose"] == "member"
            assert found["detail"].endswith("wait, then ask for your ticket again")
            assert answer.headers["retry-after"] == "1"
        own = [await front.ask(claim_request(given[0].json()["ticket"])) for _ in range(5)]
        assert [answer.status for answer in own] == [201] + [200] * 4
        assert (await front.ask(claim_request(await front.ticket("m-2")))).status == 201

    async def test_from_one_address_with_many_accounts_it_is_slowed_where_addresses_have_a_rate(
        self, start: Start
    ) -> None:
        front = await start(address_claims_per_second=1, address_claims_burst=5)
        await front.launched()
        requests = [front.ticket_request(f"m-{number}") for number in range(20)]
        answers = await asyncio.gather(*map(front.ask, requests))
        assert 5 <= [answer.status for answer in answers].count(200) <= 7
        assert {answer.json()["whose"] for answer in answers if answer.status != 200} == {"address"}

    async def test_for_drops_that_do_not_exist_it_is_slowed_before_the_ledger_is_asked(self, start: Start) -> None:
        front = await start(member_claims_per_second=1, member_claims_burst=5)
        requests = [front.ticket_request(drop_id=f"drop-{number}") for number in range(20)]
        answers = await asyncio.gather(*map(front.ask, requests))
        assert 5 <= [answer.code for answer in answers].count("no-such-drop") <= 7
        assert {answer.code for answer in answers} == {"no-such-drop", "slow-down"}


class TestGuessing:
    async def test_forged_tickets_touch_neither_the_store_nor_anybodys_rate(
        self, settings: Settings, stores: Stores
    ) -> None:
        """Whoever forges tickets in a victim's name, thousands of them, slows only themselves."""
        strict = settings.model_copy(update={"member_claims_per_second": 2})
        app = create_app(strict)
        async with running(app) as client:
            api = Api(client, SessionTokens(strict))
            await api.launched()
            (good,) = await tickets_of(api, Session("victim", "victim"))
            data = ticket.from_text(good)
            assert data is not None
            calls = int((await stores.redis.info("commandstats")).get("cmdstat_evalsha", {}).get("calls", 0))
            for _ in range(2_000):
                forged = ticket.to_text(data[:-16] + secrets.token_bytes(16))
                problem(await api.claim(forged), 401, "ticket-invalid")
            after = int((await stores.redis.info("commandstats")).get("cmdstat_evalsha", {}).get("calls", 0))
            assert after == calls
            assert len(app.state.services.control.claims.members) == 0
            assert (await api.claim(good)).status_code == 201

    async def test_two_tickets_and_two_receipts_have_nothing_to_guess_in_common(self, api: Api) -> None:
        """64 bits of chance each: what a member knows of their own tells nothing of the next."""
        await api.launched(stock=2_000, limit=1_000)
        shown = [ticket.from_text(text) for text in await tickets_of(api, *[Session("m-1", "m-1")] * 500)]
        nonces = [data[20:28] for data in shown if data is not None]
        assert len(set(nonces)) == 500
        for byte in range(8):
            assert len({nonce[byte] for nonce in nonces}) > 150, "a byte of chance has 256 values: 500 draws show 220"
        assert len({data[-16:] for data in shown if data is not None}) == 500
