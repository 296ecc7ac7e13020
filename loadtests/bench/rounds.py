"""Measures the contestants side by side: interleaved rounds of a closed loop, then open loops at fixed rates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loadtests.bench.contestants import BenchFailed, Contestant
from loadtests.bench.meter import Load, closed_loop, cpu_s, open_loop

CONNECTIONS = 256
OPEN_CONNECTIONS = 1_024
WARM_CLAIMS, WARM_CONNECTIONS, WARM_S_MAX = 2_000, 16, 10.0
SHARES = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)  # of what `ours` takes in the closed loop


@dataclass(frozen=True, slots=True)
class Round:
    """One contestant in one round; CPU in µs per claim, of the server's and of the store's processes."""

    load: Load
    server_us: float
    store_us: float
    bytes_per_claim: float | None

    @property
    def rps(self) -> float:
        return self.load.accepted / self.load.seconds


@dataclass(frozen=True, slots=True)
class OpenRound:
    """One contestant at one rate."""

    rate: float
    load: Load


def measure_closed(
    contestants: Sequence[Contestant], rounds: int, seconds: float, say: Callable[[str], None]
) -> dict[str, list[Round]]:
    """Each contestant in turn, `rounds` times, as fast as it goes."""
    found: dict[str, list[Round]] = {contestant.name: [] for contestant in contestants}
    for number in range(1, rounds + 1):
        for contestant in contestants:
            done = _closed(contestant, seconds)
            found[contestant.name].append(done)
            say(
                f"round {number}/{rounds}  {contestant.name:14} {done.rps:>8,.0f}/s  p99 {done.load.p99_ms:>6.1f} ms"
                f"  CPU {done.server_us:>5.1f} + {done.store_us:>5.1f} µs"
            )
    return found


def measure_half(
    contestants: Sequence[Contestant], rate: float, rounds: int, seconds: float, say: Callable[[str], None]
) -> dict[str, list[OpenRound]]:
    """The same rate for each contestant in turn, half of what `ours` takes: what waiting is left."""
    found: dict[str, list[OpenRound]] = {contestant.name: [] for contestant in contestants}
    for number in range(1, rounds + 1):
        for contestant in contestants:
            done = _open(contestant, rate, seconds, CONNECTIONS)
            found[contestant.name].append(done)
            say(
                f"open loop {number}/{rounds}  {contestant.name:10} {rate:>8,.0f}/s"
                f"  p50 {done.load.p50_ms:.1f}  p99 {done.load.p99_ms:.1f} ms"
            )
    return found


def measure_sweep(
    contestant: Contestant, saturation: float, seconds: float, say: Callable[[str], None]
) -> list[OpenRound]:
    """One contestant from a quarter of its saturation up to twice that."""
    found = []
    for share in SHARES:
        done = _open(contestant, saturation * share, seconds, OPEN_CONNECTIONS)
        found.append(done)
        say(
            f"open loop  {contestant.name} at {share:.0%}  accepted {done.load.accepted / done.load.seconds:>8,.0f}/s"
            f"  refused {done.load.refused}  p99 {done.load.p99_ms:.1f} ms"
        )
    return found


def _closed(contestant: Contestant, seconds: float) -> Round:
    warm, plan = contestant.prepare(WARM_CLAIMS + int(seconds * contestant.claims_per_s_max)).split(WARM_CLAIMS)
    warmed = closed_loop(contestant, warm, WARM_CONNECTIONS, WARM_S_MAX, by_wrk=False)
    before_s = cpu_s(contestant.server_pids()), cpu_s(contestant.store_pids())
    load = closed_loop(contestant, plan, CONNECTIONS, seconds)
    after_s = cpu_s(contestant.server_pids()), cpu_s(contestant.store_pids())
    _check(contestant, load)
    figures = contestant.check(warmed.accepted + load.accepted, CONNECTIONS)
    claims = figures["claims"] - warmed.accepted
    server_us, store_us = ((after - before) / claims * 1e6 for before, after in zip(before_s, after_s, strict=True))
    return Round(load, server_us, store_us, figures.get("bytes_per_claim"))


def _open(contestant: Contestant, rate: float, seconds: float, connections: int) -> OpenRound:
    warm, plan = contestant.prepare(WARM_CLAIMS + int(seconds * rate) + 1).split(WARM_CLAIMS)
    warmed = closed_loop(contestant, warm, WARM_CONNECTIONS, WARM_S_MAX, by_wrk=False)
    load = open_loop(contestant, plan, connections, seconds, rate)
    contestant.check(warmed.accepted + load.accepted, load.unanswered)
    return OpenRound(rate, load)


def _check(contestant: Contestant, load: Load) -> None:
    if load.refused or load.unanswered:
        raise BenchFailed(f"{contestant.name}: {load.refused} were refused, {load.unanswered} got no answer")
