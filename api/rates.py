"""Rates per second, counted in the process: bounded in memory by what one second brings."""

import time
from collections.abc import Hashable
from typing import ClassVar

from engine.errors import Unavailable


class SlowDown(Unavailable):
    """More requests in this second than the rate allows."""

    code: ClassVar[str] = "slow-down"


class Rate:
    """At most `per_second` requests of each key in a second, counted anew each second; 0 switches it off."""

    def __init__(self, per_second: int, whose: str) -> None:
        self.is_on = per_second > 0
        self._per_second = per_second
        self._whose = whose
        self._until_s = 0.0
        self._counts: dict[Hashable, int] = {}

    def count(self, key: Hashable) -> None:
        """Count one request; raises `SlowDown` past the rate."""
        if not self.is_on:
            return
        now_s = time.monotonic()
        if now_s >= self._until_s:
            self._until_s = now_s + 1
            self._counts.clear()
        seen = self._counts[key] = self._counts.get(key, 0) + 1
        if seen > self._per_second:
            raise SlowDown(
                f"more than {self._per_second} claims a second from this {self._whose}:"
                " wait a second; a ticket stays good",
                retry_after_s=1,
            )
