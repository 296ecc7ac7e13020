"""What a load cost: CPU time by the kernel's counters, around a run of wrk or of our own generator."""

import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from loadtests.bench.contestants import BenchFailed, Contestant
from loadtests.bench.plan import Plan

WRK_START_S_MAX = 60.0  # to read its tokens, and to end
_ACCEPTED = ("200", "201")


@dataclass(frozen=True, slots=True)
class Load:
    """What came of a load; latencies in ms of accepted claims; `refused` were told so, `unanswered` were not told."""

    seconds: float
    accepted: int
    refused: int
    unanswered: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    refused_p99_ms: float = 0.0


def cpu_s(pids: Iterable[int]) -> float:
    """Seconds of CPU that all threads of these processes have used (/proc/PID/task/TID/schedstat, in ns)."""
    total_ns = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            total_ns += int((task / "schedstat").read_text().split()[0])
    return total_ns / 1e9


def closed_loop(contestant: Contestant, plan: Plan, connections: int, seconds: float, *, by_wrk: bool = True) -> Load:
    """As much as the contestant takes: each connection sends when it has its answer. By wrk, when it is installed."""
    wrk = shutil.which("wrk") if by_wrk else None
    if wrk is None:
        return _generated(contestant, plan, connections, seconds, None)
    script = str(Path(__file__).with_name("wrk.lua"))
    command = [
        wrk, "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "-s", script, f"http://127.0.0.1:{contestant.port}",
        "--", plan.head, plan.tail, str(plan.tokens),
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + WRK_START_S_MAX)
    except subprocess.TimeoutExpired:
        raise BenchFailed(f"wrk did not end within {seconds + WRK_START_S_MAX:.0f} s: try again") from None
    if done.returncode or not done.stderr.startswith("{"):
        raise BenchFailed(f"wrk failed: {done.stderr[:300]}")
    found = json.loads(done.stderr)
    accepted = found["requests"] - found["refused"]
    return Load(
        found["seconds"], accepted, found["refused"], found["broken"],
        found["p50_ms"], found["p99_ms"], found["p999_ms"],
    )  # fmt: skip


def open_loop(contestant: Contestant, plan: Plan, connections: int, seconds: float, rate: float) -> Load:
    """`rate` requests a second, whether the contestant keeps up or not."""
    return _generated(contestant, plan, connections, seconds, rate)


def _generated(contestant: Contestant, plan: Plan, connections: int, seconds: float, rate: float | None) -> Load:
    command = [sys.executable, "-m", "loadtests.bench.generator"]
    numbers = [str(contestant.port), str(connections), str(seconds), str(rate or 0)]
    done = subprocess.run(
        [*command, plan.head, plan.tail, str(plan.tokens), *numbers], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BenchFailed(f"the generator failed: {done.stderr[-300:]}")
    found = json.loads(done.stdout)
    statuses: Mapping[str, int] = found["statuses"]
    latencies: Mapping[str, list[float]] = found["latencies_ms"]
    accepted_ms = [value for status, values in latencies.items() if status in _ACCEPTED for value in values]
    refused_ms = [value for status, values in latencies.items() if status not in _ACCEPTED for value in values]
    p50, p99, p999 = _percentiles(accepted_ms)
    return Load(
        seconds=found["seconds"],
        accepted=len(accepted_ms),
        refused=len(refused_ms),
        unanswered=statuses.get("0", 0),
        p50_ms=p50,
        p99_ms=p99,
        p999_ms=p999,
        refused_p99_ms=_percentiles(refused_ms)[1],
    )


def _percentiles(values: list[float]) -> tuple[float, float, float]:
    if len(values) < 2:
        return 0.0, 0.0, 0.0
    cuts = statistics.quantiles(values, n=1000)
    return cuts[499], cuts[989], cuts[998]
