"""When a request comes too soon: the generic cell rate algorithm, pure.

A bucket is one number: when its next request is due at the steady rate. A request may come ahead of that by what the
burst allows; then the next one is due an interval later. It is a token bucket without anything to refill.
Source: ITU-T I.371 (03/2004), annex A, "virtual scheduling algorithm".

`decide` is the model that `lua/admit.lua` and the buckets of a process are held against.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from engine.errors import Unavailable

# By the kind of request: whoever was refused a ticket, or showed a bad one, has none that could stay good.
_ADVICE = {"claims": "wait; a ticket stays good", "tickets": "wait, then ask for your ticket again"}


class SlowDown(Unavailable):
    """More requests than a rate allows; `whose` says whose rate it is."""

    code: ClassVar[str] = "slow-down"


@dataclass(frozen=True, slots=True)
class Rate:
    """`per_second` requests steadily and `burst` at once; 0 a second is no bound, a burst of 0 is one second's."""

    whose: str
    what: str
    per_second: int
    burst: int = 0
    interval_us: int = field(init=False)  # between two requests at the steady rate
    slack_us: int = field(init=False)  # how far ahead of it a request may come

    def __post_init__(self) -> None:
        interval_us = -(-1_000_000 // self.per_second) if self.per_second else 0
        object.__setattr__(self, "interval_us", interval_us)
        object.__setattr__(self, "slack_us", ((self.burst or self.per_second or 1) - 1) * interval_us)

    @property
    def is_on(self) -> bool:
        return self.per_second > 0

    def slow_down(self, wait_us: float) -> SlowDown:
        """The error that tells whose rate it was, and when the next request will do."""
        advice = _ADVICE.get(self.what, "wait")
        return SlowDown(
            f"more than {self.per_second} {self.what} a second from this {self.whose}: {advice}",
            retry_after_s=max(1, int(-(-wait_us // 1_000_000))),
            whose=self.whose,
        )


class Bucket(NamedTuple):
    """One of the buckets that a request spends from."""

    key: str
    rate: Rate


class TooSoon(NamedTuple):
    """Which of a request's buckets has no room, counted from 0, and how long until it has."""

    place: int
    wait_us: int


def decide(due_us: dict[str, int], wanted: Sequence[Bucket], now_us: int) -> TooSoon | None:
    """Let a request spend from its buckets in order, up to the first that has no room; None when all have."""
    for place, (key, rate) in enumerate(wanted):
        ahead_us = max(due_us.get(key, 0) - now_us, 0)
        if ahead_us > rate.slack_us + rate.interval_us:
            ahead_us = 0  # no request at this rate and by this clock has put it there
        if ahead_us > rate.slack_us:
            return TooSoon(place, ahead_us - rate.slack_us)
        due_us[key] = now_us + ahead_us + rate.interval_us
    return None
