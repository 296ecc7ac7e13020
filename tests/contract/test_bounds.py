"""The promise: with the gate a request's head has a bound in bytes and in time, and so has a claim's body in time.

uvicorn has no such bounds: here there is no twin. What is refused is never a claim, and never disturbs an answer
that is under way.
"""

import asyncio

import pytest

from api import gate
from engine.bounds import HEAD_BYTES_MAX
from tests.contract.conftest import Start, Store
from tests.contract.front import Front, claim_request, told
from tests.contract.line import Answer, Line, request

SOON_S = 0.2


@pytest.fixture
async def front(start: Start, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Front:
    monkeypatch.setattr(gate, "REQUEST_S_MAX", SOON_S)
    front: Front = await start()
    return front


pytestmark = pytest.mark.parametrize("start", ["gate"], indirect=True)


def refused(answer: Answer, status: int, code: str) -> None:
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["connection"] == "close"
    assert answer.code == code


def large_head(target: str = "/v1/drops/trial/claims", size: int = HEAD_BYTES_MAX) -> bytes:
    return request("POST", target, [(f"X-{number}", "a" * 1_000) for number in range(size // 1_000 + 1)])


class TestBytes:
    @pytest.mark.parametrize("target", ["/v1/drops/trial/claims", "/v1/drops/trial", "/" + "a" * 70_000])
    @pytest.mark.parametrize("piece", [5_000, 30_000])
    async def test_a_head_that_is_too_large_is_431(self, front: Front, target: str, piece: int) -> None:
        await front.launched()
        data = large_head(target)[: HEAD_BYTES_MAX + 1_000]
        line = await front.line()
        await line.send(*[data[at : at + piece] for at in range(0, len(data), piece)], pause_s=0.002)
        refused(await line.read(), 431, "head-too-large")
        assert await line.is_closed()

    async def test_a_head_that_is_too_large_is_431_though_it_comes_in_one_piece(self, front: Front) -> None:
        """Given by hand, because the kernel may cut a write anywhere."""
        await front.launched()
        line = await front.line()
        front.protocol(line).data_received(large_head())
        refused(await line.read(), 431, "head-too-large")
        assert await line.is_closed()

    async def test_a_large_head_within_the_bound_is_taken(self, front: Front) -> None:
        await front.launched()
        data = claim_request(await front.ticket(), headers=[("X-More", "a" * (HEAD_BYTES_MAX - 1_000))])
        line = await front.line()
        await line.send(*[data[at : at + 9_000] for at in range(0, len(data), 9_000)])
        assert (await line.read()).status == 201

    async def test_behind_a_claim_the_claim_is_answered_and_then_the_end_comes(
        self, front: Front, store: Store
    ) -> None:
        await front.launched()
        ticket = await front.ticket()
        line = await front.line()
        store.hold()
        await line.send(claim_request(ticket))
        await store.until_asked()
        line.send_unread(large_head()[:-4])
        await asyncio.sleep(0.02)
        store.release()
        told(await line.read(), 201, more=["connection"])
        assert await line.is_closed()


async def dribble(line: Line, data: bytes, every_s: float = 0.02) -> None:
    """Send a byte now and then, until the other side has had enough."""
    try:
        for at in range(len(data)):
            await line.send(data[at : at + 1], pause_s=every_s)
    except ConnectionError:
        pass


class TestTime:
    async def test_a_head_that_dribbles_is_408(self, front: Front) -> None:
        await front.launched()
        for target in ("/v1/drops/trial/claims", "/v1/drops/trial"):
            line = await front.line()
            dribbling = asyncio.create_task(dribble(line, request("POST", target) * 9))
            refused(await line.read(), 408, "too-slow")
            assert await line.is_closed()
            await dribbling

    async def test_a_head_that_stops_is_408(self, front: Front) -> None:
        line = await front.line()
        since_s = asyncio.get_running_loop().time()
        await line.send(b"P")
        refused(await line.read(), 408, "too-slow")
        assert SOON_S * 0.9 < asyncio.get_running_loop().time() - since_s < SOON_S * 3
        assert await line.is_closed()

    async def test_a_second_head_that_stops_is_408_too(self, front: Front) -> None:
        await front.launched()
        line = await front.line()
        await line.ask(front.ticket_request())
        await line.send(b"POST /v1/drops")
        refused(await line.read(), 408, "too-slow")
        assert await line.is_closed()

    @pytest.mark.parametrize("withheld", [15, 1])
    async def test_a_claim_whose_body_never_comes_is_408_and_no_claim(self, front: Front, withheld: int) -> None:
        await front.launched()
        ticket = await front.ticket()
        line = await front.line()
        await line.send(claim_request(ticket, b'{"quantity": 1}')[:-withheld])
        refused(await line.read(), 408, "too-slow")
        assert await line.is_closed()
        assert await front.taken() == 0

    async def test_a_request_that_comes_in_time_clears_the_clock(self, front: Front, store: Store) -> None:
        """The bound is on what comes in, not on how long the store takes, nor on the next request."""
        await front.launched()
        ticket = await front.ticket()
        data = claim_request(ticket, b'{"quantity": 1}')
        line = await front.line()
        store.hold()
        await line.send(data[:60], data[60:-5], data[-5:], pause_s=0.04)
        await store.until_asked()
        assert not await line.is_closed(within_s=SOON_S * 1.5)
        store.release()
        told(await line.read(), 201)
        await asyncio.sleep(SOON_S)
        await line.send(data[:60], data[60:-5], data[-5:], pause_s=0.04)
        told(await line.read(), 200)

    async def test_a_head_that_dribbles_behind_a_claim_lets_it_be_answered_and_then_ends(
        self, front: Front, store: Store
    ) -> None:
        await front.launched()
        ticket = await front.ticket()
        line = await front.line()
        store.hold()
        await line.send(claim_request(ticket), b"POST /v1/dro")
        await store.until_asked()
        assert not await line.is_closed(within_s=SOON_S * 1.5)
        store.release()
        told(await line.read(), 201, more=["connection"])
        assert await line.is_closed()

    async def test_a_head_that_dribbles_on_after_the_answer_before_it_is_408(self, front: Front, store: Store) -> None:
        await front.launched()
        ticket = await front.ticket()
        line = await front.line()
        store.hold()
        await line.send(claim_request(ticket), b"POST /v1/dro")
        await store.until_asked()
        store.release()
        told(await line.read(), 201)
        refused(await line.read(), 408, "too-slow")
        assert await line.is_closed()

    async def test_a_body_for_the_app_may_take_its_time(self, front: Front) -> None:
        """Only claims are bounded as a whole: an operator's upload may come over a slow line."""
        await front.launched()
        data = request("POST", "/v1/receipts/verify", [("Content-Type", "application/json")], b'{"receipt": "x"}')
        line = await front.line()
        await line.send(data[:-5])
        assert not await line.is_closed(within_s=SOON_S * 1.5)
        await line.send(data[-5:])
        assert (await line.read()).code == "receipt-invalid"
