"""`python -m loadtests.draws`: 2,000 geese from a million entrants, and a million plays for instant wins, timed.

The files are written and verified as anybody does it: by the one file, in a process of its own. DRAW_ENTRANTS makes
it shorter, DRAW_WEIGHT makes every weight the same (32 is the highest).
"""

import gc
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from engine.draws import instant, verify
from engine.draws.publication import BeaconValue, Entrant, Proofs, close, commit, reveal
from engine.draws.verify import Json
from loadtests.stage import say, timed

ENTRANTS = 1_000_000
GEESE = 2_000
SEED = 20_250_920
SECRET = bytes(range(32))
OPENS_MS = 1_758_340_800_000
DAY_MS = 86_400_000


def main() -> int:
    """Run it; the exit code is 1 when a file does not verify."""
    gc.disable()  # as the verifier does
    count = int(os.environ.get("DRAW_ENTRANTS", str(ENTRANTS)))
    with tempfile.TemporaryDirectory(prefix="fc-draws-") as name:
        return max(_draw(count, Path(name)), _instant(count, Path(name)))


def _draw(count: int, folder: Path) -> int:
    fixed = int(os.environ.get("DRAW_WEIGHT", "0"))
    entrants, weights = list(_entrants(count, fixed)), _weights(fixed)
    committed = commit({**_terms(), "weights": weights}, SECRET)
    with timed(f"close with {count} entrants"):
        closed = close(committed, entrants, datetime(2025, 9, 20, 12, 1, tzinfo=UTC))
    with timed(f"reveal {GEESE} winners and as many waiting"):
        value = BeaconValue(4711, "ab" * 32, datetime(2025, 9, 20, 13, 1, tzinfo=UTC))
        revealed = reveal(closed, SECRET, value)
    with timed("a tree for all proofs"):
        proofs = Proofs(closed)
    with timed("1,000 proofs"):
        for entrant in entrants[:1_000]:
            proofs.of(entrant.name)
    return _verified(revealed, folder / "draw.json")


def _instant(count: int, folder: Path) -> int:
    terms: Json = {
        "drop": "wheel",
        "opens_ms": OPENS_MS,
        "closes_ms": OPENS_MS + DAY_MS,
        "prizes": [{"id": "goose", "stock": GEESE}, {"id": "mooncake", "stock": 2_100}],
        "curve": [[OPENS_MS, 50_000], [OPENS_MS + DAY_MS // 2, 700_000], [OPENS_MS + DAY_MS * 9 // 10, 1_000_000]],
        "partitions": 1,
    }
    committed = instant.commit(terms, SECRET)
    with timed("deal 4,100 prizes"):
        (due,) = instant.deal(committed, SECRET)
    plays, taken = [], 0
    for number in range(count):
        at_ms = OPENS_MS + number * DAY_MS // count
        item = verify.play(due, taken, at_ms)
        taken += item > 0
        plays.append((at_ms, item))
    with timed(f"reveal {count} plays, {taken} of which won"):
        revealed = instant.reveal(committed, SECRET, [plays])
    return _verified(revealed, folder / "instant.json")


def _verified(document: Json, path: Path) -> int:
    path.write_bytes(verify.canonical(document))
    with timed(f"verify {path.name}, {path.stat().st_size / 1e6:.0f} MB, by `python -I verify.py`"):
        done = subprocess.run([sys.executable, "-I", str(verify.__file__), str(path)], check=False, capture_output=True)
    say(done.stdout.decode().rstrip().rpartition("\n")[2] + done.stderr.decode())
    return done.returncode


def _entrants(count: int, fixed: int) -> Iterator[Entrant]:
    random = Random(SEED)
    for serial in range(1, count + 1):
        misses = fixed - 1 if fixed else random.choice((0, 0, 0, 1, 1, 2, 3))
        yield Entrant(f"goose-2025.0.{serial}", misses, 0 if fixed else random.randrange(400))


def _weights(fixed: int) -> Json:
    return {
        "base": 1,
        "misses_max": max(0, fixed - 1) or 3,
        "points_each": 100,
        "points_max": 2,
        "weight_max": fixed or 5,
    }


def _terms() -> Json:
    return {
        "draw": "goose-2025",
        "rules": {"en": "One goose a person."},
        "closes_at": "2025-09-20T12:00:00Z",
        "prizes": [{"id": "goose", "stock": GEESE}],
        "waiting": GEESE,
        "confirm": {"within_hours": 48},
        "beacon": {
            "source": "drand quicknet",
            "value_bytes": 32,
            "rounds": [
                {"round": 4711, "due_at": "2025-09-20T13:00:00Z", "wait_until": "2025-09-20T19:00:00Z"},
                {"round": 9711, "due_at": "2025-09-20T20:00:00Z", "wait_until": "2025-09-21T20:00:00Z"},
            ],
        },
    }


if __name__ == "__main__":
    sys.exit(main())
