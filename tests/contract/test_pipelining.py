"""The promise: requests that come one behind the other on a connection are answered in order, each as if it were alone.

The gate takes only what is not behind an unanswered request; the rest waits in uvicorn's own queue.
"""

import asyncio
from typing import Any

import pytest

from engine.drops.model import Drop
from engine.drops.service import Drops
from tests.contract.conftest import Store
from tests.contract.front import Front, claim_request, told
from tests.contract.line import Line, request

DROP = request("GET", "/v1/drops/trial")


@pytest.fixture
def slow_list(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = Drops.listed

    async def slow(drops: Drops, *page: Any) -> list[Drop]:
        await asyncio.sleep(0.1)
        return await listed(drops, *page)

    monkeypatch.setattr(Drops, "listed", slow)


def list_request(front: Front) -> bytes:
    return request("GET", "/v1/drops", [front.bearer("boss", "operator")])


async def nothing_yet(line: Line) -> None:
    assert not await line.is_closed(within_s=0.03)


async def test_five_in_one_write_are_answered_in_order(front: Front) -> None:
    await front.launched()
    one, two, three = await front.tickets(3)
    line = await front.line()
    await line.send(
        b"".join([claim_request(one), DROP, claim_request(two), front.ticket_request("m-9"), claim_request(three)])
    )
    answers = [await line.read() for _ in range(5)]
    assert [answer.status for answer in answers] == [201, 200, 201, 200, 201]
    assert [answers[place].json()["serial"] for place in (0, 2, 4)] == [1, 2, 3]
    assert answers[1].json()["id"] == "trial"
    assert (await front.ask(claim_request(answers[3].json()["ticket"]))).json()["serial"] == 4


async def test_two_claims_back_to_back(front: Front) -> None:
    await front.launched()
    one, two = await front.tickets(2)
    line = await front.line()
    await line.send(claim_request(one) + claim_request(two))
    assert [told(await line.read(), 201)["serial"] for _ in range(2)] == [1, 2]


async def test_the_same_ticket_three_times_in_one_write_is_one_claim(front: Front) -> None:
    await front.launched()
    ticket = await front.ticket()
    line = await front.line()
    await line.send(claim_request(ticket) * 3)
    answers = [await line.read() for _ in range(3)]
    assert [answer.status for answer in answers] == [201, 200, 200]
    assert len({answer.body for answer in answers}) == 1


@pytest.mark.usefixtures("slow_list")
async def test_a_claim_behind_a_slow_get_waits_for_it(front: Front) -> None:
    await front.launched()
    ticket = await front.ticket()
    line = await front.line()
    await line.send(list_request(front), claim_request(ticket))
    assert len((await line.read("GET")).json()["drops"]) == 1
    assert (await line.read()).status == 201


@pytest.mark.usefixtures("slow_list")
async def test_a_refusal_behind_a_slow_get_waits_for_it(front: Front) -> None:
    """The gate could answer this one at once, and so out of turn."""
    await front.launched()
    line = await front.line()
    await line.send(list_request(front), claim_request("nonsense"), front.ticket_request())
    assert [(await line.read()).status for _ in range(3)] == [200, 401, 200]


async def test_a_get_behind_a_claim_waits_for_it(front: Front, store: Store) -> None:
    await front.launched()
    ticket = await front.ticket()
    line = await front.line()
    store.hold()
    await line.send(claim_request(ticket), DROP)
    await store.until_asked()
    await nothing_yet(line)
    store.release()
    assert (await line.read()).status == 201
    assert (await line.read("GET")).json()["id"] == "trial"


async def test_a_refusal_behind_a_claim_waits_for_it(front: Front, store: Store) -> None:
    await front.launched()
    ticket = await front.ticket()
    line = await front.line()
    store.hold()
    await line.send(claim_request(ticket), claim_request("nonsense"), front.ticket_request("m-2"))
    await store.until_asked()
    await nothing_yet(line)
    store.release()
    assert [(await line.read()).status for _ in range(3)] == [201, 401, 200]


async def test_a_head_that_stops_half_way_behind_a_claim_does_not_touch_its_answer(front: Front, store: Store) -> None:
    await front.launched()
    one, two = await front.tickets(2)
    behind = claim_request(two, b'{"item": "box"}', [("Content-Type", "application/json")])
    for cut in (1, 20, len(behind) - 30, len(behind) - 3):
        line = await front.line()
        store.hold()
        await line.send(claim_request(one) + behind[:cut])
        await store.until_asked()
        store.release()
        assert told(await line.read(), 201 if cut == 1 else 200)["serial"] == 1
        await line.send(behind[cut:])
        assert told(await line.read(), 201 if cut == 1 else 200)["serial"] == 2


async def test_many_in_one_write_are_all_answered(front: Front) -> None:
    """More bytes than a head may have: what came together with other requests' bytes is no large head."""
    await front.launched(limit=500, stock=500)
    ticket = await front.ticket()
    times = 66_000 // len(claim_request(ticket)) + 1
    line = await front.line()
    line.send_unread(claim_request(ticket) * times)
    assert [(await line.read()).status for _ in range(times)] == [201] + [200] * (times - 1)


@pytest.mark.parametrize("first", ["claim", "drop", "refused", "ticket"])
async def test_the_bytes_of_earlier_requests_do_not_weigh_on_a_head(front: Front, first: str) -> None:
    await front.launched()
    ticket = await front.ticket()
    last = claim_request(ticket)
    earlier = {
        "claim": claim_request(ticket),
        "drop": DROP,
        "refused": claim_request("nonsense"),
        "ticket": front.ticket_request(),
    }[first]
    times = 66_000 // len(earlier) + 1
    line = await front.line()
    protocol = front.protocol(line)
    # Given by hand, because the kernel may cut a write anywhere, and this is about one cut.
    protocol.data_received(earlier * times + last[:50])
    await asyncio.sleep(0)
    assert not protocol.transport.is_closing()
    protocol.data_received(last[50:])
    for _ in range(times):
        assert (await line.read()).status in (200, 201, 401)
    assert (await line.read()).status in (200, 201)


class TestBehindAClose:
    """What comes behind the last request that a connection will answer must not be done: no one will hear of it."""

    @pytest.fixture(params=["1.1 close", "1.0 keep-alive", "1.0 "])
    def ending(self, request: pytest.FixtureRequest) -> tuple[str, list[tuple[str, str]]]:
        version, _, connection = request.param.partition(" ")
        return version, [("Connection", connection)] if connection else []

    async def test_a_claim_behind_a_closing_claim_is_not_made(
        self, front: Front, ending: tuple[str, list[tuple[str, str]]]
    ) -> None:
        await front.launched()
        one, two = await front.tickets(2)
        version, headers = ending
        line = await front.line()
        await line.send(claim_request(one, headers=headers, version=version) + claim_request(two))
        assert told(await line.read(), 201, more=["connection"])["serial"] == 1
        assert await line.is_closed()
        assert await front.taken() == 1

    @pytest.mark.parametrize("first", ["ticket", "refused"])
    async def test_a_claim_behind_an_answer_that_was_given_at_once_is_not_made(
        self, front: Front, ending: tuple[str, list[tuple[str, str]]], first: str
    ) -> None:
        await front.launched()
        ticket = await front.ticket()
        version, headers = ending
        firsts = {
            "ticket": request("POST", "/v1/drops/trial/ticket", [front.bearer("m-2"), *headers], version=version),
            "refused": claim_request("nonsense", headers=headers, version=version),
        }
        line = await front.line()
        await line.send(firsts[first] + claim_request(ticket))
        assert (await line.read()).headers["connection"] == "close"
        assert await line.is_closed()
        assert (await front.ask(claim_request(ticket))).status == 201
