"""The promise: each refusal comes when it says, with the facts that help; a race has as many winners as units."""

import asyncio
from datetime import UTC, datetime, timedelta

from api.app import create_app
from engine.members.session import SessionTokens
from engine.runtime.connections import Stores
from engine.runtime.settings import Settings
from tests.api.conftest import Api, problem, running


async def test_limit_reached_says_which_limit_and_what_remains(api: Api) -> None:
    await api.launched(limit=3)
    assert (await api.claim(await api.ticket(quantity=2))).status_code == 201
    found = problem(await api.claim(await api.ticket(quantity=2)), 409, "limit-reached")
    facts = {name: found[name] for name in ("limit", "limit_per_member", "held", "remaining")}
    assert facts == {"limit": "limit_per_member", "limit_per_member": 3, "held": 2, "remaining": 1}
    assert (await api.claim(await api.ticket(quantity=1))).status_code == 201


async def test_a_race_for_the_limit_has_one_winner(api: Api) -> None:
    await api.launched(stock=50)
    tickets = [await api.ticket() for _ in range(30)]
    answers = await asyncio.gather(*(api.claim(ticket) for ticket in tickets))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 29


async def test_a_race_for_the_last_boxes_sells_each_once(api: Api) -> None:
    await api.launched(stock=7)
    tickets = [await api.ticket(f"m-{number}") for number in range(40)]
    answers = await asyncio.gather(*(api.claim(ticket) for ticket in tickets))
    accepted = [answer.json()["serial"] for answer in answers if answer.status_code == 201]
    assert sorted(accepted) == [1, 2, 3, 4, 5, 6, 7]
    for answer in answers:
        if answer.status_code != 201:
            problem(answer, 409, "sold-out")


async def test_sold_out_says_when_more_is_released(api: Api) -> None:
    opens = datetime.now(UTC) - timedelta(minutes=1)
    later = opens + timedelta(minutes=30)
    waves = [{"at": opens.isoformat(), "stock": {"box": 1}}, {"at": later.isoformat(), "stock": {"box": 1}}]
    await api.launched(opens_at=opens, stock=2, waves=waves)
    assert (await api.claim(await api.ticket())).status_code == 201
    found = problem(await api.claim(await api.ticket("m-2")), 409, "sold-out")
    assert found["left"] == 0
    assert abs(datetime.fromisoformat(found["next_release_at"]) - later) < timedelta(milliseconds=1)


async def test_not_open_says_when_and_the_same_ticket_works_then(api: Api) -> None:
    await api.launched(opens_at=datetime.now(UTC) + timedelta(seconds=1))
    ticket = await api.ticket()
    answer = await api.claim(ticket)
    found = problem(answer, 409, "not-open")
    wait = datetime.fromisoformat(found["opens_at"]) - datetime.now(UTC)
    assert wait < timedelta(seconds=1)
    assert answer.headers["retry-after"] == "1"
    await asyncio.sleep(wait.total_seconds() + 0.05)
    assert (await api.claim(ticket)).status_code == 201


async def test_paused_and_closed(api: Api) -> None:
    await api.launched()
    ticket = await api.ticket()
    await api.operate("POST", "/v1/drops/trial/pause")
    problem(await api.claim(ticket), 409, "paused")
    await api.operate("POST", "/v1/drops/trial/resume")
    assert (await api.claim(ticket)).status_code == 201
    other = await api.ticket("m-2")
    await api.operate("POST", "/v1/drops/trial/close")
    problem(await api.claim(other), 409, "closed")


async def test_an_expired_ticket_may_ask_but_never_claim(settings: Settings, stores: Stores) -> None:
    brief = settings.model_copy(update={"ticket_ttl_s": 1})
    async with running(create_app(brief)) as client:
        api = Api(client, SessionTokens(brief))
        await api.launched()
        used, unused = await api.ticket(), await api.ticket("m-2")
        assert (await api.claim(used)).status_code == 201
        await asyncio.sleep(1.1)
        assert (await api.claim(used)).status_code == 200
        answer = await api.claim(unused)
        assert "expired_at" in problem(answer, 401, "ticket-expired")
        assert answer.headers["www-authenticate"] == "Ticket"
