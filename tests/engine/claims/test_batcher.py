"""The promise: every waiter gets an answer, a failing batch harms nobody else, too long a queue is refused at once."""

import asyncio
from collections.abc import Sequence
from time import perf_counter

import pytest

from engine.bounds import BATCH_CLAIMS_MAX, BATCHES_IN_FLIGHT_MAX, QUEUE_CLAIMS_MAX
from engine.claims.batcher import _LOOKED_AT_EVERY, Answer, AnswerOf, Batcher, Turns
from engine.claims.model import Claim, OutcomeUnknown, Overloaded, StoreUnavailable
from engine.errors import Unavailable
from engine.ids import DropId

ARGUMENT = bytes(12) + bytes(8) + b"\x01\x00\x01\x01m\x00"


def claim(serial: int) -> Claim:
    return Claim(DropId("trial"), 0, serial, "box", 1, 1_000, "receipt", repeated=False)


class Store:
    """Answers batches when the test lets it; it stands for a slow store, not for a deciding one."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.in_flight = 0
        self.in_flight_max = 0
        self.gate = asyncio.Event()
        self.fails: Exception | None = None
        self.serial = 0

    async def decide(self, arguments: Sequence[bytes]) -> AnswerOf:
        self.sizes.append(len(arguments))
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight, self.in_flight_max)
        try:
            await self.gate.wait()
            if self.fails:
                raise self.fails
            first = self.serial + 1
            self.serial += len(arguments)
            return lambda place: claim(first + place)
        finally:
            self.in_flight -= 1


async def decided(batcher: Batcher) -> Claim:
    answer: asyncio.Future[Claim] = asyncio.get_running_loop().create_future()

    def tell(told: Answer) -> None:
        if isinstance(told, Claim):
            answer.set_result(told)
        else:
            answer.set_exception(told)

    batcher.submit(ARGUMENT, tell)
    return await answer


def nobody(_: Answer) -> None:
    """A waiter that does not look."""


async def test_arrivals_gather_while_a_batch_is_away() -> None:
    store = Store()
    batcher = Batcher(store.decide, Turns())
    waiting = [asyncio.ensure_future(decided(batcher)) for _ in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting += [asyncio.ensure_future(decided(batcher)) for _ in range(100)]
    await asyncio.sleep(0.01)
    store.gate.set()
    claims = await asyncio.gather(*waiting)
    assert store.sizes == [3, 100]
    assert [told.serial for told in claims] == list(range(1, 104))


async def test_batches_and_flights_are_bounded() -> None:
    store = Store()
    batcher = Batcher(store.decide, Turns())
    waiting = [asyncio.ensure_future(decided(batcher)) for _ in range(BATCH_CLAIMS_MAX * 5)]
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
    batcher = Batcher(store.decide, Turns())
    answers = await asyncio.gather(*(decided(batcher) for _ in range(20)), return_exceptions=True)
    expected = type(error) if isinstance(error, Unavailable) else OutcomeUnknown
    assert {type(answer) for answer in answers} == {expected}
    store.fails = None
    assert (await decided(batcher)).serial == 1


async def test_a_waiter_that_breaks_keeps_nobody_from_their_answer() -> None:
    store = Store()
    store.gate.set()
    batcher = Batcher(store.decide, Turns())
    seen: list[Answer] = []

    def breaks(_: Answer) -> None:
        raise ConnectionResetError

    batcher.submit(ARGUMENT, breaks)
    batcher.submit(ARGUMENT, seen.append)
    await batcher.drain()
    assert len(seen) == 1


async def test_past_the_bound_a_claim_is_refused_at_once_with_a_time_to_come_back() -> None:
    store = Store()
    batcher = Batcher(store.decide, Turns())
    for _ in range(QUEUE_CLAIMS_MAX):
        batcher.submit(ARGUMENT, nobody)
    with pytest.raises(Overloaded) as refused:
        batcher.submit(ARGUMENT, nobody)
    assert refused.value.retry_after_s >= 1
    store.gate.set()
    await batcher.drain()
    assert store.serial == QUEUE_CLAIMS_MAX


async def test_a_store_that_hangs_is_noticed_by_the_wait_not_by_the_length() -> None:
    """A queue far below its bound in length is refused when its head has been away for long."""
    store = Store()
    batcher = Batcher(store.decide, Turns())
    for _ in range(100):
        batcher.submit(ARGUMENT, nobody)
    await asyncio.sleep(0.01)
    for _ in range(_LOOKED_AT_EVERY):
        batcher.submit(ARGUMENT, nobody)
    batcher._batches = dict.fromkeys(batcher._batches, perf_counter() - 3)
    with pytest.raises(Overloaded) as refused:
        batcher.submit(ARGUMENT, nobody)
    assert refused.value.retry_after_s >= 3
    store.gate.set()
    await batcher.drain()
    assert store.serial == 100 + _LOOKED_AT_EVERY
    batcher.submit(ARGUMENT, nobody)
    await batcher.drain()


async def test_drops_take_turns_at_the_store() -> None:
    """The promise: a claim on a quiet drop waits for the batches that are away, never for the whole rush on another."""
    order: list[str] = []
    turns = Turns(at_once=1)

    def batcher_of(name: str) -> Batcher:
        async def decide(arguments: Sequence[bytes]) -> AnswerOf:
            order.append(name)
            await asyncio.sleep(0)
            return claim

        return Batcher(decide, turns)

    rush, quiet = batcher_of("rush"), batcher_of("quiet")
    for _ in range(BATCH_CLAIMS_MAX * 10):
        rush.submit(ARGUMENT, nobody)
    quiet.submit(ARGUMENT, nobody)
    await asyncio.gather(rush.drain(), quiet.drain())
    assert order.index("quiet") <= 2
    assert order.count("rush") == 10
