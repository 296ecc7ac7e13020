"""What the bench found, as JSON, as tables and as a chart; the ratios are what performance is judged by."""

import platform
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.bench.chart import Bar, draw
from loadtests.bench.rounds import CONNECTIONS, OPEN_CONNECTIONS, OpenRound, Round
from loadtests.bench.whole import FullRate

# ratio: what it should reach, in words
GOALS: Mapping[str, str] = {
    "cpu_usual": "at least 12",
    "cpu_nginx_lua": "at least 1.6",
    "rps_bare": "at least 1.2",
    "rps_usual": "at least 10",
    "p99_bare": "at most 1.5",
    "bytes_per_claim": "at most 80",
    "ledger_rate": "at least 4",
}


@dataclass(frozen=True, slots=True)
class Found:
    """All that one run measured, by contestant where it is many."""

    closed: Mapping[str, list[Round]]
    half: Mapping[str, list[OpenRound]]
    sweep: list[OpenRound]
    ledger_rows_per_s: float
    single_rows_per_s: float
    tickets_per_s: float
    full_rate: FullRate
    skipped: Mapping[str, str]
    command: str
    at: str


def as_json(found: Found) -> dict[str, Any]:
    """Everything, with units in the names."""
    return {
        "command": found.command,
        "at": found.at,
        "machine": {"cores": _cores(), "system": platform.platform(), "python": platform.python_version()},
        "ratios": ratios(found),
        "contestants": {name: _contestant(rounds) for name, rounds in found.closed.items()},
        "skipped": dict(found.skipped),
        "open_loop_half": {name: [_open(done) for done in rounds] for name, rounds in found.half.items()},
        "open_loop_sweep": [_open(done) for done in found.sweep],
        "ledger_rows_per_s": round(found.ledger_rows_per_s),
        "single_rows_per_s": round(found.single_rows_per_s),
        "tickets_per_s": round(found.tickets_per_s),
        "full_rate": {
            "claims_per_s": round(found.full_rate.claims_per_s),
            "lag_p50_s": round(found.full_rate.lag_p50_s, 3),
            "lag_p99_s": round(found.full_rate.lag_p99_s, 3),
            "outbox_bytes_max": found.full_rate.outbox_bytes_max,
        },
    }


def ratios(found: Found) -> dict[str, float]:
    """Each the median of the rounds' ratios: what was measured side by side is compared side by side."""
    closed = found.closed
    named: dict[str, float] = {}
    if "usual" in closed:
        named["cpu_usual"] = _ratio(closed, "usual", "ours", _cpu_us)
        named["rps_usual"] = _ratio(closed, "ours", "usual", _rps)
    if "nginx_lua" in closed:
        named["cpu_nginx_lua"] = _ratio(closed, "nginx_lua", "ours", _cpu_us)
    named["rps_bare"] = _ratio(closed, "ours", "bare", _rps)
    named["p99_bare"] = statistics.median(
        ours.load.p99_ms / bare.load.p99_ms for ours, bare in zip(found.half["ours"], found.half["bare"], strict=True)
    )
    named["bytes_per_claim"] = statistics.median(done.bytes_per_claim or 0 for done in closed["ours"])
    named["ledger_rate"] = found.ledger_rows_per_s / statistics.median(map(_rps, closed["ours"]))
    return {name: round(named[name], 2) for name in GOALS if name in named}


def tables(found: Found) -> list[tuple[str, list[str], list[list[object]]]]:
    """Title, columns and rows of each table."""
    closed: list[list[object]] = []
    for name, rounds in found.closed.items():
        rates = [done.rps for done in rounds]
        closed.append([
            name, f"{_median(rounds, _rps):,.0f}", f"{min(rates):,.0f}-{max(rates):,.0f}",
            f"{_median(rounds, lambda done: done.load.p50_ms):.1f}",
            f"{_median(rounds, lambda done: done.load.p99_ms):.1f}",
            f"{_median(rounds, lambda done: done.load.p999_ms):.1f}",
            f"{_median(rounds, lambda done: done.server_us):.1f}", f"{_median(rounds, lambda done: done.store_us):.1f}",
            f"{_median(rounds, _cpu_us):.1f}",
        ])  # fmt: skip
    sweep: list[list[object]] = [
        [f"{done.rate:,.0f}", f"{done.load.accepted / done.load.seconds:,.0f}", done.load.refused, done.load.unanswered,
         f"{done.load.p50_ms:.1f}", f"{done.load.p99_ms:.1f}"]
        for done in found.sweep
    ]  # fmt: skip
    return [
        (
            f"closed loop, {CONNECTIONS} connections",
            ["contestant", "claims/s", "spread", "p50 ms", "p99 ms", "p99.9 ms", "server µs", "store µs", "CPU µs"],
            closed,
        ),
        (
            f"ours, open loop, {OPEN_CONNECTIONS} connections",
            ["sent/s", "accepted/s", "refused", "not sent or not answered", "p50 ms", "p99 ms"],
            sweep,
        ),
        ("ratios", ["ratio", "found", "goal"], [[name, value, GOALS[name]] for name, value in ratios(found).items()]),
    ]


def chart(found: Found, file: Path) -> None:
    """Draw the CPU per claim of each contestant, but for `rowlock`, whose bar would hide the others."""
    bars = [
        Bar(name, (_median(rounds, lambda done: done.server_us), _median(rounds, lambda done: done.store_us)))
        for name, rounds in found.closed.items()
        if name != "rowlock"
    ]
    draw("CPU per claim, µs: less is better", ("server", "store"), bars, file)


def _contestant(rounds: list[Round]) -> dict[str, Any]:
    return {
        "claims_per_s": [round(done.rps) for done in rounds],
        "p50_ms": [done.load.p50_ms for done in rounds],
        "p99_ms": [done.load.p99_ms for done in rounds],
        "p999_ms": [done.load.p999_ms for done in rounds],
        "server_us": [round(done.server_us, 2) for done in rounds],
        "store_us": [round(done.store_us, 2) for done in rounds],
        "bytes_per_claim": [done.bytes_per_claim and round(done.bytes_per_claim, 1) for done in rounds],
    }


def _open(done: OpenRound) -> dict[str, Any]:
    load = done.load
    return {
        "sent_per_s": round(done.rate),
        "accepted_per_s": round(load.accepted / load.seconds),
        "refused": load.refused,
        "unanswered": load.unanswered,
        "p50_ms": round(load.p50_ms, 2),
        "p99_ms": round(load.p99_ms, 2),
        "p999_ms": round(load.p999_ms, 2),
        "refused_p99_ms": round(load.refused_p99_ms, 2),
    }


def _ratio(closed: Mapping[str, list[Round]], above: str, below: str, figure: Callable[[Round], float]) -> float:
    return statistics.median(figure(a) / figure(b) for a, b in zip(closed[above], closed[below], strict=True))


def _median(rounds: list[Round], figure: Callable[[Round], float]) -> float:
    return statistics.median(map(figure, rounds))


def _rps(done: Round) -> float:
    return done.rps


def _cpu_us(done: Round) -> float:
    return done.server_us + done.store_us


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0))
