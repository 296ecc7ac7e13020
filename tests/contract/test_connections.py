"""The promise: the gate keeps, closes and loses connections as uvicorn does, and a lost one costs nobody a claim."""

import asyncio

import pytest

from tests.contract.conftest import Start, Store
from tests.contract.front import Front, claim_request, told
from tests.contract.line import request

CLOSE = ("Connection", "close")
KEEP = ("Connection", "keep-alive")


class TestKeptAlive:
    async def test_many_requests_on_one_connection(self, front: Front) -> None:
        await front.launched()
        tickets = await front.tickets(5)
        line = await front.line()
        for serial, ticket in enumerate(tickets, 1):
            assert told(await line.ask(claim_request(ticket)), 201)["serial"] == serial
            assert (await line.ask(request("GET", "/v1/drops/trial"), "GET")).status == 200
            assert told(await line.ask(claim_request(ticket, b'{"quantity": 1}')), 200)["serial"] == serial
            assert (await line.ask(front.ticket_request())).status == 200
            told(await line.ask(claim_request("nonsense")), 401, "ticket-invalid", ["www-authenticate"])

    async def test_a_client_that_wants_the_end_gets_it_and_is_told(self, front: Front) -> None:
        await front.launched()
        ticket = await front.ticket()
        for given in ("close", "Close", "foo, close"):
            line = await front.line()
            answer = await line.ask(claim_request(ticket, headers=[("Connection", given)]))
            assert answer.headers["connection"] == "close"
            assert answer.status in (200, 201)
            assert await line.is_closed()

    async def test_a_refusal_and_a_ticket_too_are_followed_by_the_end(self, front: Front) -> None:
        await front.launched()
        for data in (
            claim_request("nonsense", headers=[CLOSE]),
            request("POST", "/v1/drops/trial/ticket", [front.bearer(), CLOSE]),
        ):
            line = await front.line()
            assert (await line.ask(data)).headers["connection"] == "close"
            assert await line.is_closed()

    async def test_keep_alive_asked_for_is_given_without_a_word(self, front: Front) -> None:
        await front.launched()
        ticket = await front.ticket()
        line = await front.line()
        told(await line.ask(claim_request(ticket, headers=[KEEP])), 201)
        told(await line.ask(claim_request(ticket, headers=[KEEP])), 200)

    @pytest.mark.parametrize("headers", [[], [KEEP], [CLOSE]])
    async def test_http_1_0_is_answered_and_closed(self, front: Front, headers: list[tuple[str, str]]) -> None:
        await front.launched()
        ticket = await front.ticket()
        line = await front.line()
        told(await line.ask(claim_request(ticket, headers=headers, version="1.0")), 201, more=["connection"])
        assert await line.is_closed()

    async def test_head_and_options_do_not_upset_the_line(self, front: Front) -> None:
        await front.launched()
        ticket = await front.ticket()
        line = await front.line()
        for method in ("HEAD", "OPTIONS", "HEAD"):
            assert (await line.ask(request(method, "/v1/drops/trial/claims"), method)).status == 405
        told(await line.ask(claim_request(ticket)), 201)


class TestIdle:
    async def test_an_idle_connection_is_closed_after_its_time(self, start: Start) -> None:
        front = await start(config={"timeout_keep_alive": 0.2})
        await front.launched()
        ticket = await front.ticket()
        loop = asyncio.get_running_loop()
        for last in (claim_request(ticket), request("GET", "/v1/drops/trial"), front.ticket_request()):
            line = await front.line()
            await line.ask(last)
            since_s = loop.time()
            assert await line.is_closed(within_s=1)
            assert 0.15 < loop.time() - since_s < 0.5

    async def test_the_time_begins_anew_with_each_answer(self, start: Start) -> None:
        front = await start(config={"timeout_keep_alive": 0.2})
        await front.launched()
        ticket = await front.ticket()
        line = await front.line()
        for _ in range(4):
            assert (await line.ask(claim_request(ticket))).status in (200, 201)
            await asyncio.sleep(0.12)  # more than half of it
        assert (await line.ask(claim_request(ticket))).status == 200

    @pytest.mark.parametrize("pieces", [1, 2])
    async def test_a_busy_connection_is_not_closed(self, start: Start, store: Store, pieces: int) -> None:
        """Neither while a claim is at the store, nor while it comes in."""
        front = await start(config={"timeout_keep_alive": 0.05})
        await front.launched()
        ticket = await front.ticket()
        line = await front.line()
        await line.ask(front.ticket_request())
        data = claim_request(ticket)
        store.hold()
        await line.send(data[: len(data) // pieces], data[len(data) // pieces :], pause_s=0.1)
        await store.until_asked()
        assert not await line.is_closed(within_s=0.1)
        store.release()
        told(await line.read(), 201)

    async def test_an_idle_connection_that_never_asked_is_closed_by_the_gate(self, start: Start) -> None:
        """uvicorn alone leaves it for ever: thousands of them would fill the process."""
        front = await start(config={"timeout_keep_alive": 0.3})
        await front.launched()
        silent, late = await front.line(), await front.line()
        await asyncio.sleep(0.15)  # a proxy opens connections ahead of their use
        assert (await late.ask(request("GET", "/v1/drops/trial"), "GET")).status == 200
        assert await silent.is_closed(within_s=0.5) is (front.kind == "gate")


class TestLost:
    async def test_the_claim_of_a_client_that_vanished_is_decided(self, front: Front, store: Store) -> None:
        await front.launched()
        one, two, three = await front.tickets(3)
        lines = [await front.line() for _ in range(3)]
        store.hold()
        await lines[0].send(claim_request(one))
        await store.until_asked()  # the next two gather in one batch
        await lines[1].send(claim_request(two))
        await store.until_gathered(2)
        await lines[2].send(claim_request(three))
        await store.until_gathered(3)
        lines[1].vanish()
        await asyncio.sleep(0.02)
        store.release()
        assert [told(await lines[place].read(), 201)["serial"] for place in (0, 2)] == [1, 3]
        assert told(await front.ask(claim_request(two)), 200)["serial"] == 2

    async def test_a_client_that_vanishes_behind_its_second_request_harms_nobody(
        self, front: Front, store: Store
    ) -> None:
        await front.launched()
        one, two = await front.tickets(2)
        gone, other = await front.line(), await front.line()
        store.hold()
        await gone.send(claim_request(one) + request("GET", "/v1/drops/trial") + claim_request(two))
        await store.until_asked()
        gone.vanish()
        await asyncio.sleep(0.02)
        store.release()
        assert told(await front.ask(claim_request(one)), 200)["serial"] == 1
        assert told(await other.ask(claim_request(two)), 201)["serial"] == 2

    @pytest.mark.parametrize("part", [10, 120, -10])
    async def test_a_client_that_vanishes_within_a_request_claims_nothing(self, front: Front, part: int) -> None:
        await front.launched()
        ticket = await front.ticket()
        line = await front.line()
        await line.send(claim_request(ticket, b'{"quantity": 1}')[:part])
        line.vanish()
        await asyncio.sleep(0.02)
        assert await front.taken() == 0

    async def test_the_claim_of_a_half_closed_client_is_decided(self, front: Front, store: Store) -> None:
        await front.launched()
        ticket = await front.ticket()
        line = await front.line()
        store.hold()
        await line.send(claim_request(ticket))
        await store.until_asked()
        line.end_writing()
        await asyncio.sleep(0.02)
        store.release()
        assert told(await front.ask(claim_request(ticket)), 200)["serial"] == 1

    async def test_no_connection_is_kept_after_its_end(self, front: Front, store: Store) -> None:
        await front.launched()
        ticket = await front.ticket()
        for _ in range(3):
            await front.ask(claim_request(ticket))
        await asyncio.sleep(0.02)
        assert store.claims == 3
        assert front.server.server_state.connections == set()


async def test_a_client_that_says_it_will_send_no_more_still_gets_its_answer(front: Front, store: Store) -> None:
    """The gate alone: uvicorn closes at the end of what a client sends (its `eof_received`), whoever waits."""
    await front.launched()
    ticket = await front.ticket()
    line = await front.line()
    store.hold()
    await line.send(claim_request(ticket))
    await store.until_asked()
    line.end_writing()
    await asyncio.sleep(0.02)
    store.release()
    if front.is_gate:
        answer = await line.read()
        assert (answer.status, answer.json()["serial"]) == (201, 1)
    assert await line.is_closed()
