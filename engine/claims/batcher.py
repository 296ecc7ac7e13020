"""Gathers claims while a batch is at the store, then sends them together; every waiter gets an answer.

One batcher for each partition and drop in a process. There is no linger: an idle batcher sends at the end of the event
loop's turn, a busy one when the batch in flight is back. The queue is bounded by the wait that it means, not by its
length alone; past the bound a claim is refused at once (`Overloaded`) and the store never hears of it. The drops of a
process take turns at the store, so that a rush on one of them does not starve the others.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from math import ceil
from time import perf_counter

import structlog
from prometheus_client import Histogram

from engine.bounds import (
    BATCH_CLAIMS_MAX,
    BATCHES_AT_ONCE_MAX,
    BATCHES_IN_FLIGHT_MAX,
    QUEUE_CLAIMS_MAX,
    QUEUE_WAIT_S_MAX,
)
from engine.claims.model import Claim, OutcomeUnknown, Overloaded
from engine.errors import FlashclaimError, Unavailable

Answer = Claim | FlashclaimError  # the claim, its refusal, or that nobody knows (`OutcomeUnknown`)
AnswerOf = Callable[[int], Answer]  # the answer of a batch's claim by its place, worked out when it is asked for
Decide = Callable[[Sequence[bytes]], Awaitable[AnswerOf]]
Waiter = Callable[[Answer], None]

_SMOOTHING = 0.2  # how much the newest batch counts in the expected time of the next one
_LOOKED_AT_EVERY = 64  # claims queued between two looks at the wait that the queue means

BATCH_CLAIMS = Histogram(
    "flashclaim_batch_claims", "Claims in one script call", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
)
# Observed once a batch, for its oldest claim: what the slowest of them met, at a cost that no claim feels.
STAGE_SECONDS = Histogram(
    "flashclaim_claim_stage_seconds",
    "Time of a batch's oldest claim in each stage: gather (queued), store (sent to answered, fsync included), tell",
    ["stage"],
    buckets=(0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5),
)
_GATHER, _STORE, _TELL = (STAGE_SECONDS.labels(stage) for stage in ("gather", "store", "tell"))
_log = structlog.get_logger(__name__)


class Turns:
    """The batches that a process may have at the store at once, dealt out to its batchers in the order they asked."""

    def __init__(self, at_once: int = BATCHES_AT_ONCE_MAX) -> None:
        self._free = at_once
        self._waiting: deque[Callable[[], None]] = deque()

    def ask(self, start: Callable[[], None]) -> None:
        """Call `start` when it is its turn; at once when there is room."""
        self._waiting.append(start)
        self._deal()

    def give_back(self) -> None:
        self._free += 1
        self._deal()

    def _deal(self) -> None:
        while self._free and self._waiting:
            self._free -= 1
            self._waiting.popleft()()


class Batcher:
    """Has claims decided in batches; see the module for the promise.

    `decide` gets the arguments of at most 512 claims and returns their answers, or raises `Unavailable`.
    """

    def __init__(self, decide: Decide, turns: Turns) -> None:
        self._decide = decide
        self._turns = turns
        self._queue: deque[tuple[bytes, Waiter, float]] = deque()
        self._batches: dict[asyncio.Task[None], float] = {}  # those at the store, and when they asked for their turn
        self._telling: set[asyncio.Task[None]] = set()
        self._is_asking = False
        self._asked_s = 0.0
        self._look_at = _LOOKED_AT_EVERY  # the length of the queue at which its wait is worked out anew
        self._batch_s = 0.0  # from asking for a turn to being answered, smoothed

    def submit(self, argument: bytes, waiter: Waiter) -> None:
        """Queue one claim; `waiter` is called exactly once with what became of it. Raises `Overloaded`."""
        queue = self._queue
        if len(queue) >= self._look_at:
            self._refuse_when_overloaded()
            self._look_at = len(queue) + _LOOKED_AT_EVERY
            self._ask()
        queue.append((argument, waiter, perf_counter()))
        if not self._batches and not self._is_asking:
            self._is_asking, self._asked_s = True, perf_counter()
            asyncio.get_running_loop().call_soon(self._turns.ask, self._start)

    async def drain(self) -> None:
        """Wait until every claim that was taken in has its answer."""
        while self._batches or self._queue or self._telling:
            if self._batches or self._telling:
                await asyncio.wait({*self._batches, *self._telling})
            else:
                await asyncio.sleep(0)

    def _may_send(self) -> bool:
        # A second batch goes out beside the first only when it is full: half-empty batches cost more than they win.
        if not self._batches:
            return True
        return len(self._queue) >= BATCH_CLAIMS_MAX and len(self._batches) < BATCHES_IN_FLIGHT_MAX

    def _refuse_when_overloaded(self) -> None:
        # A store that hangs shows in the age of the batch that it has, long before it shows in an average.
        since_s = next(iter(self._batches.values()), self._asked_s)
        overdue_s = max(0.0, perf_counter() - since_s - self._batch_s)
        wait_s = overdue_s + (1 + len(self._queue) / BATCH_CLAIMS_MAX) * self._batch_s
        if len(self._queue) >= QUEUE_CLAIMS_MAX or wait_s > QUEUE_WAIT_S_MAX:
            raise Overloaded(
                "too many claims are waiting: send the same ticket again in a moment",
                retry_after_s=max(1, ceil(wait_s)),
            )

    def _start(self) -> None:
        self._is_asking = False
        queue = self._queue
        batch = [queue.popleft() for _ in range(min(BATCH_CLAIMS_MAX, len(queue)))]
        self._look_at = max(_LOOKED_AT_EVERY, len(queue))
        task = asyncio.get_running_loop().create_task(self._run(batch, self._asked_s))
        self._batches[task] = self._asked_s
        self._ask()

    def _ask(self) -> None:
        if self._queue and not self._is_asking and self._may_send():
            self._is_asking, self._asked_s = True, perf_counter()
            self._turns.ask(self._start)

    async def _run(self, batch: list[tuple[bytes, Waiter, float]], asked_s: float) -> None:
        sent_s = perf_counter()
        try:
            answer_of = await self._decide([argument for argument, _, _ in batch])
        except Unavailable as error:
            answer_of = _always(error)
        except Exception:  # noqa: BLE001 (whatever broke, every waiter gets an answer)
            _log.exception("batch failed", claims=len(batch))
            answer_of = _always(_unknown())
        answered_s = perf_counter()
        self._batch_s += _SMOOTHING * (answered_s - asked_s - self._batch_s)
        self._landed()
        await asyncio.sleep(0)  # the next batch goes out now
        self._tell(batch, answer_of)
        BATCH_CLAIMS.observe(len(batch))
        _GATHER.observe(sent_s - batch[0][2])
        _STORE.observe(answered_s - sent_s)
        _TELL.observe(perf_counter() - answered_s)

    def _landed(self) -> None:
        """Send the next batch, before the answers of this one are told: the store works meanwhile."""
        task = asyncio.current_task()
        assert task is not None
        del self._batches[task]
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)
        self._turns.give_back()
        self._ask()

    def _tell(self, batch: list[tuple[bytes, Waiter, float]], answer_of: AnswerOf) -> None:
        for place, (_, waiter, _) in enumerate(batch):
            try:
                answer = answer_of(place)
            except Exception:  # noqa: BLE001 (an answer that cannot be worked out is one claim's trouble)
                _log.exception("answer failed")
                answer = _unknown()
            try:
                waiter(answer)
            except Exception:  # noqa: BLE001
                # One reply to a broken connection must not keep the others of its batch from theirs.
                _log.exception("waiter failed")


def _always(answer: Answer) -> AnswerOf:
    return lambda _: answer


def _unknown() -> OutcomeUnknown:
    return OutcomeUnknown("something broke on the way: send the same ticket again to learn the outcome")
