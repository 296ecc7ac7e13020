"""Buckets that all processes share, on a store of their own: one script call for all requests that wait.

While a call is under way, arrivals gather. When that store is away, or takes too long, requests pass: then the buckets
of each process decide alone, which they have done before anyone is asked here. A limiter that is out stops no rush.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence

import structlog
from prometheus_client import Counter

import lua
from engine.bounds import BATCH_CLAIMS_MAX, QUEUE_CLAIMS_MAX, RATES_AWAY_S, RATES_WAIT_S_MAX
from engine.claims.store import ScriptRunner
from engine.rates.model import Bucket, SlowDown

Tell = Callable[[SlowDown | None], None]

UNCOUNTED = Counter(
    "flashclaim_rates_uncounted",
    "Claims and ticket requests that only their own process counted, for the shared buckets were away",
)
_log = structlog.get_logger(__name__)


class SharedBuckets:
    """Asks the rates' store whether requests come too soon; `drain` before the process ends."""

    def __init__(self, script_store: ScriptRunner) -> None:
        self._store = script_store
        self._queue: deque[tuple[Sequence[Bucket], Tell]] = deque()
        self._working: asyncio.Task[None] | None = None
        self._away_until_s = 0.0
        self._is_away = False

    def ask(self, wanted: Sequence[Bucket], tell: Tell) -> None:
        """Count one request; `tell` is called exactly once, with the refusal or with None."""
        if not wanted or len(self._queue) >= QUEUE_CLAIMS_MAX:
            tell(None)
            return
        self._queue.append((wanted, tell))
        if self._working is None:
            self._working = asyncio.get_running_loop().create_task(self._work())

    async def spend(self, wanted: Sequence[Bucket]) -> None:
        """`ask`, and wait; raises `SlowDown`."""
        answer: asyncio.Future[SlowDown | None] = asyncio.get_running_loop().create_future()
        self.ask(wanted, lambda refused: None if answer.done() else answer.set_result(refused))
        refused = await answer
        if refused is not None:
            raise refused

    async def drain(self) -> None:
        """Wait until every request that was taken in has its answer."""
        if self._working is not None:
            await self._working

    async def _work(self) -> None:
        while self._queue:
            batch = [self._queue.popleft() for _ in range(min(BATCH_CLAIMS_MAX, len(self._queue)))]
            answers = await self._count([wanted for wanted, _ in batch])
            for (_, tell), refused in zip(batch, answers, strict=True):
                try:
                    tell(refused)
                except Exception:  # noqa: BLE001 (one waiter's trouble is not that of the others)
                    _log.exception("waiter failed")
        self._working = None

    async def _count(self, batch: list[Sequence[Bucket]]) -> Sequence[SlowDown | None]:
        if time.monotonic() >= self._away_until_s:
            try:
                async with asyncio.timeout(RATES_WAIT_S_MAX):
                    answers = await admit(self._store, batch)
            except Exception as error:  # noqa: BLE001 (whatever broke, the rush goes on)
                self._away_until_s = time.monotonic() + RATES_AWAY_S
                self._note(is_away=True, error=repr(error)[:200])
            else:
                self._note(is_away=False)
                return answers
        UNCOUNTED.inc(len(batch))
        return [None] * len(batch)

    def _note(self, *, is_away: bool, **more: str) -> None:
        if is_away != self._is_away:
            text = "rates' store is away: each process counts alone" if is_away else "rates' store is back"
            _log.warning(text, **more)
        self._is_away = is_away


async def admit(store: ScriptRunner, batch: Sequence[Sequence[Bucket]]) -> list[SlowDown | None]:
    """Count a batch of requests by `lua/admit.lua`; raises as `RedisStore.run` does."""
    places: dict[str, int] = {}
    requests = [
        ",".join(
            f"{places.setdefault(key, len(places) + 1)}:{rate.interval_us}:{rate.slack_us}" for key, rate in wanted
        )
        for wanted in batch
    ]
    replies = await store.run(lua.load("admit"), list(places), requests)
    return [_refusal(wanted, reply) for wanted, reply in zip(batch, replies, strict=True)]


def _refusal(wanted: Sequence[Bucket], reply: int | bytes) -> SlowDown | None:
    if isinstance(reply, int):
        return None
    place, _, wait_us = reply.partition(b":")
    return wanted[int(place)].rate.slow_down(int(wait_us))
