"""The promise: every waiter gets an answer, a failing batch harms nobody else, too long a queue is refused at once."""

import asyncio
from collections.abc import Sequence

import pytest

from engine.bounds import BATCH_CLAIMS_MAX, BATCHES_IN_FLIGHT_MAX, QUEUE_CLAIMS_MAX
from engine.claims.batcher import Batcher
from engine.claims.model import Decision, OutcomeUnknown, Overloaded, StoreUnavailable, Verdict
from engine.claims.store import Batch
from engine.errors import Unavailable

ARGUMENT = bytes(12) + bytes(8) + b"\x01\x00\x01\x01m\x00"


class Store:
    """Answers batches when the test lets it; it stands for a slow store, not for a deciding one."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.in_flight = 0
        self.in_flight_max = 0
        self.gate = asyncio.Event()
        self.fails: Exception | None = None
        self.serial = 0

    async def send(self, arguments: Sequence[bytes]) -> Batch:
        self.sizes.append(len(arguments))
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight, self.in_flight_max)
        try:
            await self.gate.wait()
            if self.fails:
                raise self.fails
            first = self.serial + 1
            self.serial += len(arguments)
            return Batch(arguments, [1_000, 0, 0, *range(first, self.serial + 1)])
        finally:
            self.in_flight -= 1


async def test_arrivals_gather_while_a_batch_is_away() -> None:
    store = Store()
    batcher = Batcher(store.send)
    waiting = [asyncio.ensure_future(batcher.decide(ARGUMENT)) for _ in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting += [asyncio.ensure_future(batcher.decide(ARGUMENT)) for _ in range(100)]
    await asyncio.sleep(0.01)
    store.gate.set()
    decisions = await asyncio.gather(*waiting)
    assert store.sizes == [3, 100]
    assert [decision.serial for decision, _ in decisions] == list(range(1, 104))
    assert {decision.verdict for decision, _ in decisions} == {Verdict.ACCEPTED}


async def test_batches_and_flights_are_bounded() -> None:
    store = Store()
    batcher = Batcher(store.send)
    waiting = [asyncio.ensure_future(batcher.decide(ARGUMENT)) for _ in range(BATCH_CLAIMS_MAX * 5)]
    await asyncio.sleep(0.01)
    store.gate.set()
    await asyncio.gather(*waiting)
    assert max(store.sizes) <= BATCH_CLAIMS_MAX
    assert store.in_flight_max <= BATCHES_IN_FLIGHT_MAX
    assert sum(store.sizes) == len(waiting)


@pytest.mark.parametrize("error", [StoreUnavailable("away"), OutcomeUnknown("cut"), RuntimeError("a defect")])
async def test_a_failing_batch_answers_all_its_waiters_and_the_next_one_works(error: Exception) -> None:
    store = Store()
    store.gate.set()
    store.fails = error
    batcher = Batcher(store.send)
    answers = await asyncio.gather(*(batcher.decide(ARGUMENT) for _ in range(20)), return_exceptions=True)
    expected = type(error) if isinstance(error, Unavailable) else OutcomeUnknown
    assert {type(answer) for answer in answers} == {expected}
    store.fails = None
    decision, _ = await batcher.decide(ARGUMENT)
    assert decision.verdict is Verdict.ACCEPTED


async def test_a_waiter_that_goes_away_cancels_only_itself() -> None:
    store = Store()
    batcher = Batcher(store.send)
    gone, stays = (asyncio.ensure_future(batcher.decide(ARGUMENT)) for _ in range(2))
    await asyncio.sleep(0.01)
    gone.cancel()
    store.gate.set()
    decision, _ = await stays
    assert decision.serial == 2
    assert store.sizes == [2]


async def test_a_waiter_that_breaks_keeps_nobody_from_their_answer() -> None:
    store = Store()
    store.gate.set()
    batcher = Batcher(store.send)
    seen: list[Decision | Unavailable] = []

    def breaks(_: Decision | Unavailable, __: int) -> None:
        raise ConnectionResetError

    batcher.submit(ARGUMENT, breaks)
    batcher.submit(ARGUMENT, lambda decision, _: seen.append(decision))
    await batcher.drain()
    assert len(seen) == 1


async def test_past_the_bound_a_claim_is_refused_at_once_with_a_time_to_come_back() -> None:
    store = Store()
    batcher = Batcher(store.send)
    for _ in range(QUEUE_CLAIMS_MAX):
        batcher.submit(ARGUMENT, lambda _, __: None)
    with pytest.raises(Overloaded) as refused:
        batcher.submit(ARGUMENT, lambda _, __: None)
    assert refused.value.retry_after_s >= 1
    store.gate.set()
    await batcher.drain()
    assert store.serial == QUEUE_CLAIMS_MAX
