"""`flashclaim bench`: everything in one run, so that each figure has its baseline beside it."""

import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from engine.errors import Misconfigured
from loadtests.bench import ingest, rounds, whole
from loadtests.bench.contestants import Contestant
from loadtests.bench.ours import CONTESTANTS, Ours
from loadtests.bench.report import Found

NEEDED = ("bare", "ours")  # without these there is nothing to compare


def bench(round_count: int, seconds: float, only: tuple[str, ...], say: Callable[[str], None]) -> Found:
    """Measure all contestants, or those named; a progress line for each thing measured.

    Raises `BenchFailed` when a contestant did not do what it was measured at, `Misconfigured` for an unknown name.
    """
    began = datetime.now(UTC)
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell may have started us with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    with _started(only, say) as (contestants, skipped):
        ours = next(contestant for contestant in contestants if isinstance(contestant, Ours))
        compared = [contestant for contestant in contestants if contestant.name in NEEDED]
        closed = rounds.measure_closed(contestants, round_count, seconds, say)
        saturation = statistics.median(done.rps for done in closed["ours"])
        half = rounds.measure_half(compared, saturation / 2, round_count, seconds, say)
        sweep = rounds.measure_sweep(ours, saturation, seconds, say)
        tickets = whole.tickets_per_s(ours, round_count, seconds, say)
        full_rate = whole.full_rate(ours, seconds * 2, say)
    ledger, single = ingest.measure(round_count, say)
    return Found(
        closed=closed,
        half=half,
        sweep=sweep,
        ledger_rows_per_s=ledger,
        single_rows_per_s=single,
        tickets_per_s=tickets,
        full_rate=full_rate,
        skipped=skipped,
        command=" ".join(["flashclaim", *sys.argv[1:]]),
        at=began.isoformat(timespec="seconds"),
    )


@contextmanager
def _started(only: tuple[str, ...], say: Callable[[str], None]) -> Iterator[tuple[list[Contestant], dict[str, str]]]:
    known = [contestant.name for contestant in CONTESTANTS]
    for name in only:
        if name not in known:
            raise Misconfigured(f"there is no contestant {name!r}; there are {', '.join(known)}")
    with tempfile.TemporaryDirectory(prefix="fc-bench-") as directory:
        place = Path(directory)
        place.chmod(0o755)
        started: list[Contestant] = []
        skipped: dict[str, str] = {}
        try:
            for kind in CONTESTANTS:
                if only and kind.name not in {*only, *NEEDED}:
                    continue
                missing = kind.missing()
                if missing is not None:
                    skipped[kind.name] = f"not installed here: {missing}"
                    say(f"skipped {kind.name}, {skipped[kind.name]}")
                    continue
                say(f"starting {kind.name}")
                contestant = kind(place / kind.name)
                started.append(contestant)
                contestant.start()
            yield started, skipped
        finally:
            for contestant in started:
                contestant.stop()
