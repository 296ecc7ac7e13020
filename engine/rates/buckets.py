"""The buckets of one process: exact for it, bounded in memory, at the cost of a dictionary's look-up.

They lie in two generations. A bucket that nobody has spent from for as long as it takes to fill is as good as a new
one; so the older generation is dropped whole when the younger is that old, and nothing is ever searched for.
"""

import time
from collections.abc import Callable, Hashable

from engine.bounds import BUCKETS_MAX
from engine.rates.model import Rate


class Buckets:
    """The buckets of one rate, by key, decided as `engine.rates.model.decide` does.

    When more than `BUCKETS_MAX` keys come while a bucket fills, the oldest are forgotten early: then they are full.
    """

    def __init__(self, rate: Rate, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self.rate = rate
        self.is_on = rate.is_on
        self._clock = clock
        self._interval_ns = rate.interval_us * 1_000
        self._slack_ns = rate.slack_us * 1_000
        self._turn_ns = 0
        self._young: dict[Hashable, int] = {}
        self._old: dict[Hashable, int] = {}

    def spend(self, key: Hashable) -> None:
        """Count one request; raises `SlowDown` when its bucket has no room."""
        if not self.is_on:
            return
        now_ns = self._clock()
        if now_ns >= self._turn_ns or len(self._young) >= BUCKETS_MAX:
            self._turn(now_ns)
        due_ns = self._young.get(key) or self._old.get(key, 0)
        if due_ns < now_ns:
            due_ns = now_ns
        elif due_ns - now_ns > self._slack_ns:
            raise self.rate.slow_down((due_ns - now_ns - self._slack_ns) / 1_000)
        self._young[key] = due_ns + self._interval_ns

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._young or key in self._old

    def _turn(self, now_ns: int) -> None:
        self._turn_ns = now_ns + self._slack_ns + self._interval_ns
        self._young, self._old = {}, self._young
