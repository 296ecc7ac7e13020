"""Gathers claims while a batch is at the store, then sends them together; every waiter gets an answer.

One batcher for each partition and drop in a process. There is no linger: an idle batcher sends at the end of the event
loop's turn, a busy one when the batch in flight is back. The queue is bounded by the wait that it means, not by its
length alone; past the bound a claim is refused at once (`Overloaded`) and the store never hears of it.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from math import ceil

import structlog
from prometheus_client import Histogram

from engine.bounds import BATCH_CLAIMS_MAX, BATCHES_IN_FLIGHT_MAX, QUEUE_CLAIMS_MAX, QUEUE_WAIT_S_MAX
from engine.claims.model import Decision, OutcomeUnknown, Overloaded
from engine.claims.store import Batch
from engine.errors import Unavailable

Send = Callable[[Sequence[bytes]], Awaitable[Batch]]
Waiter = Callable[[Decision | Unavailable, int], None]  # the decision, and the store's time in ms

_SMOOTHING = 0.2  # how much the newest batch counts in the expected time of the next one

BATCH_CLAIMS = Histogram(
    "flashclaim_batch_claims", "Claims in one script call", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
)
BATCH_SECONDS = Histogram(
    "flashclaim_batch_seconds",
    "Time of one script call, sent to answered, fsync included",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5),
)
_log = structlog.get_logger(__name__)


class Batcher:
    """Decides claims in batches through `send`; see the module for the promise.

    `send` gets the arguments of at most 512 claims and returns their batch, or raises `Unavailable`.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._queue: deque[tuple[bytes, Waiter]] = deque()
        self._batches: set[asyncio.Task[None]] = set()
        self._is_flush_due = False
        self._batch_s = 0.0

    def submit(self, argument: bytes, waiter: Waiter) -> None:
        """Queue one claim; `waiter` is called exactly once with what became of it. Raises `Overloaded`."""
        queue = self._queue
        if len(queue) >= BATCH_CLAIMS_MAX:
            self._refuse_when_overloaded()
        queue.append((argument, waiter))
        if not self._is_flush_due and len(self._batches) < BATCHES_IN_FLIGHT_MAX:
            self._is_flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    async def decide(self, argument: bytes) -> tuple[Decision, int]:
        """Queue one claim and wait; the decision and the store's time in ms. Raises `Unavailable`.

        A caller that goes away cancels only its own wait: the claim is decided all the same.
        """
        answer: asyncio.Future[tuple[Decision, int]] = asyncio.get_running_loop().create_future()

        def tell(decision: Decision | Unavailable, now_ms: int) -> None:
            if answer.done():
                return
            if isinstance(decision, Unavailable):
                answer.set_exception(decision)
            else:
                answer.set_result((decision, now_ms))

        self.submit(argument, tell)
        return await answer

    async def drain(self) -> None:
        """Wait until every claim that was taken in has its answer."""
        while self._batches or self._queue:
            if self._batches:
                await asyncio.wait(self._batches)
            else:
                await asyncio.sleep(0)

    def _refuse_when_overloaded(self) -> None:
        wait_s = len(self._queue) / BATCH_CLAIMS_MAX * self._batch_s
        if len(self._queue) >= QUEUE_CLAIMS_MAX or wait_s > QUEUE_WAIT_S_MAX:
            raise Overloaded(
                "too many claims are waiting: send the same ticket again in a moment",
                retry_after_s=max(1, ceil(wait_s)),
            )

    def _flush(self) -> None:
        self._is_flush_due = False
        # A second batch goes out beside the first only when it is full: half-empty batches cost more than they win.
        while self._queue and (
            not self._batches or (len(self._queue) >= BATCH_CLAIMS_MAX and len(self._batches) < BATCHES_IN_FLIGHT_MAX)
        ):
            batch = [self._queue.popleft() for _ in range(min(BATCH_CLAIMS_MAX, len(self._queue)))]
            task = asyncio.get_running_loop().create_task(self._run(batch))
            self._batches.add(task)
            task.add_done_callback(self._landed)

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._batches.discard(task)
        self._flush()

    async def _run(self, batch: list[tuple[bytes, Waiter]]) -> None:
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        try:
            decided = await self._send([argument for argument, _ in batch])
            answers: Sequence[Decision | Unavailable] = [decided[index] for index in range(len(batch))]
            now_ms = decided.now_ms
        except Unavailable as error:
            answers, now_ms = [error] * len(batch), 0
        except Exception:  # noqa: BLE001 (whatever broke, every waiter gets an answer)
            _log.exception("batch failed", claims=len(batch))
            unknown = OutcomeUnknown("something broke on the way: send the same ticket again to learn the outcome")
            answers, now_ms = [unknown] * len(batch), 0
        took_s = loop.time() - started_s
        self._batch_s += _SMOOTHING * (took_s - self._batch_s)
        BATCH_CLAIMS.observe(len(batch))
        BATCH_SECONDS.observe(took_s)
        for (_, waiter), answer in zip(batch, answers, strict=True):
            try:
                waiter(answer, now_ms)
            except Exception:  # noqa: BLE001
                # One reply to a broken connection must not keep the others of its batch from theirs.
                _log.exception("waiter failed")
