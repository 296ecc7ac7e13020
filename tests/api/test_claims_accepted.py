"""The promise: an accepted claim is 201 with a receipt that verifies; its ticket tells the same claim for ever."""

import asyncio
from datetime import UTC, datetime, timedelta

from tests.api.conftest import Api, problem


async def test_the_first_time_is_201_with_a_receipt_that_verifies(api: Api) -> None:
    await api.launched()
    answer = await api.claim(await api.ticket())
    assert answer.status_code == 201
    claim = answer.json()
    assert claim | {"receipt": "", "claimed_at": ""} == {
        "claim_id": "trial.0.1",
        "drop_id": "trial",
        "item": "box",
        "quantity": 1,
        "serial": 1,
        "claimed_at": "",
        "receipt": "",
    }
    assert abs(datetime.fromisoformat(claim["claimed_at"]) - datetime.now(UTC)) < timedelta(seconds=30)
    checked = await api.client.post("/v1/receipts/verify", json={"receipt": claim["receipt"]})
    assert checked.json() == {name: value for name, value in claim.items() if name != "receipt"}


async def test_the_same_ticket_again_is_200_with_the_same_claim_whatever_happened_since(api: Api) -> None:
    await api.launched(stock=1)
    ticket = await api.ticket()
    first = (await api.claim(ticket)).json()
    problem(await api.claim(await api.ticket("m-2")), 409, "sold-out")
    for act in (None, "pause", "resume", "close"):
        if act:
            assert (await api.operate("POST", f"/v1/drops/trial/{act}")).status_code == 200
        again = await api.claim(ticket)
        assert again.status_code == 200
        assert again.json() == first


async def test_a_hundred_presses_at_once_make_one_claim(api: Api) -> None:
    await api.launched(stock=50, limit=5)
    ticket = await api.ticket()
    answers = await asyncio.gather(*(api.claim(ticket) for _ in range(100)))
    assert sorted(answer.status_code for answer in answers) == [200] * 99 + [201]
    assert len({answer.text for answer in answers}) == 1


async def test_a_member_with_a_limit_takes_a_ticket_for_each_claim(api: Api) -> None:
    await api.launched(stock=50, limit=40)
    tickets = [await api.ticket() for _ in range(41)]
    answers = [(await api.claim(ticket)).status_code for ticket in tickets]
    assert answers == [201] * 40 + [409]
