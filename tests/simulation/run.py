"""Runs many seeds in several processes, and says what came of them."""

import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.simulation.world import Outcome, simulate

_CHUNK = 25  # seeds that a process is given at once
_PROGRESS_S = 5.0
TRACES_MAX = 3  # failing seeds that are told with their whole trace


@dataclass
class Summary:
    """What came of the seeds that were run."""

    seeds: int = 0
    figures: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    failed: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        self.seeds += 1
        self.figures.update(outcome.figures)
        self.kinds[outcome.kind] += 1
        if outcome.broken:
            self.failed.append(outcome)

    def line(self, seconds: float) -> str:
        told = ", ".join(f"{count:,} {name}" for name, count in self.figures.items())
        worlds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(self.kinds.items()))
        return f"{self.seeds:,} seeds in {seconds:.0f} s ({worlds}): {told}; {len(self.failed)} violations"


def replay_command(seed: int) -> str:
    return f"python -m tests.simulation --seeds 1 --first {seed}"


def report(outcome: Outcome) -> str:
    """The seed, what was broken, the trace, and how to see it again."""
    lines = [f"seed {outcome.seed} ({outcome.kind})", *(f"  {said}" for said in outcome.broken), "  trace:"]
    return "\n".join([*lines, *(f"  {line}" for line in outcome.trace), f"  again: {replay_command(outcome.seed)}"])


def run(first: int, seeds: int, processes: int) -> Summary:
    """Run the seeds from `first` on; progress goes to stderr."""
    summary, began_s = Summary(), time.monotonic()
    told_s = began_s
    for outcome in _outcomes(range(first, first + seeds), min(processes, max(1, seeds // _CHUNK))):
        summary.add(outcome)
        if outcome.broken and len(summary.failed) <= TRACES_MAX:
            print(report(outcome), flush=True)
        if time.monotonic() - told_s > _PROGRESS_S:
            told_s = time.monotonic()
            print(f"{summary.seeds:,} of {seeds:,} seeds, {len(summary.failed)} violations", file=sys.stderr)
    print(summary.line(time.monotonic() - began_s))
    if summary.failed:
        print("seeds with violations: " + " ".join(str(outcome.seed) for outcome in summary.failed[:100]))
    return summary


def _outcomes(seeds: range, processes: int) -> Iterator[Outcome]:
    if processes == 1:
        yield from map(simulate, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(simulate, seeds, chunksize=_CHUNK)
