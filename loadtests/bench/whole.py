"""What stands around the claim path: tickets a second, and the ledger's lag while claims come at full rate."""

import re
import statistics
import threading
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from loadtests.bench.meter import closed_loop
from loadtests.bench.ours import Ours
from loadtests.bench.rounds import CONNECTIONS

SAMPLE_S = 0.05
TICKETS_PER_S_MAX = 30_000
_LAG = re.compile(r'^flashclaim_ledger_lag_seconds\{partition="0"\} (\S+)$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class FullRate:
    """Claims while a worker writes them down: its lag in s, and how big the outbox grew, in bytes."""

    claims_per_s: float
    lag_p50_s: float
    lag_p99_s: float
    lag_max_s: float
    outbox_bytes_max: int


def tickets_per_s(ours: Ours, rounds: int, seconds: float, say: Callable[[str], None]) -> float:
    """Tickets that one API process gives out in a second, each to another member with a session of their own."""
    rates = []
    for number in range(1, rounds + 1):
        plan = ours.prepare_tickets(int(seconds * TICKETS_PER_S_MAX))
        load = closed_loop(ours, plan, CONNECTIONS, seconds)
        rates.append(load.accepted / load.seconds)
        say(f"tickets {number}/{rounds}  {rates[-1]:>8,.0f}/s  p99 {load.p99_ms:.1f} ms  refused {load.refused}")
    return statistics.median(rates)


def full_rate(ours: Ours, seconds: float, say: Callable[[str], None]) -> FullRate:
    """Claims as fast as they go, with API, store, worker, ledger and load all on this machine."""
    url = ours.start_worker()
    plan = ours.prepare(int(seconds * ours.claims_per_s_max))
    lags: list[float] = []
    sizes: list[int] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLE_S):
            found = _LAG.search(httpx.get(url).text)
            if found:
                lags.append(float(found[1]))
            sizes.append(ours.outbox_bytes())

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        load = closed_loop(ours, plan, CONNECTIONS, seconds)
    finally:
        ended.set()
        watching.join()
        ours.stop_worker()
    ours.check(load.accepted, CONNECTIONS)
    cuts = statistics.quantiles(lags, n=100)
    found = FullRate(load.accepted / load.seconds, cuts[49], cuts[98], max(lags), max(sizes))
    say(
        f"full rate  {found.claims_per_s:>8,.0f} claims/s into the ledger  lag p50 {found.lag_p50_s:.2f}"
        f"  p99 {found.lag_p99_s:.2f}  max {found.lag_max_s:.2f} s  outbox up to {found.outbox_bytes_max / 1e6:.1f} MB"
    )
    return found
