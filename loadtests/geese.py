"""`python -m loadtests.geese`: 2,000 geese from a million entries on real stores: close, reveal, claim.

The entries are written straight into the ledger, as a worker would have written them; all else is what an operator
does. The wait until the beacon's round is due is not counted. DRAW_ENTRANTS makes it shorter.
"""

import asyncio
import gzip
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import text

from engine.draws import verify
from engine.draws.publication import BeaconValue
from engine.draws.service import Draws
from engine.drops.model import Actor
from engine.drops.service import Drops
from engine.drops.spec import parse
from engine.runtime.connections import Stores, open_stores
from engine.runtime.settings import load_settings
from loadtests.stage import recorded, say, servers, timed

ENTRANTS = 1_000_000
GEESE = 2_000
DRAW = "geese"
BOSS = Actor("geese")
ENTERED = """
    insert into claims (drop_id, partition, serial, item, quantity, member_id, subject, nonce, epoch, claimed_at)
    select :draw, 0, serial, 1, 1, 'm-' || serial, 'm-' || serial,
        decode(lpad(to_hex(serial), 16, '0'), 'hex'), 1, now()
    from generate_series(cast(:first as int), cast(:last as int)) as serial
"""


def main() -> int:
    """Run it; the exit code is 1 when the published file does not verify."""
    with servers() as (place, redis_url, postgres_url):
        return asyncio.run(_run(place, redis_url, postgres_url))


async def _run(data_dir: Path, redis_url: str, postgres_url: str) -> int:
    settings = load_settings(data_dir, redis_url=redis_url, postgres_url=postgres_url)
    count = int(os.environ.get("DRAW_ENTRANTS", str(ENTRANTS)))
    async with open_stores(settings) as stores, recorded(stores):
        drops = Drops(stores.redis, stores.scripts, stores.ledger, 1)
        published = await _drawn(stores, drops, Draws(stores, drops, 1), count)
    path = data_dir / "draw.json"
    path.write_bytes(gzip.decompress(published))
    say(f"{path.stat().st_size / 1e6:.1f} MB published, {len(published) / 1e6:.1f} MB of it in the ledger")
    with timed("verified from the file"):
        return subprocess.run([sys.executable, "-I", verify.__file__, path], check=False).returncode  # noqa: ASYNC221


async def _drawn(stores: Stores, drops: Drops, draws: Draws, count: int) -> bytes:
    opens = datetime.now(UTC) + timedelta(seconds=2)
    due = opens.replace(microsecond=0) + timedelta(seconds=30 + count / 40_000)
    await drops.create(parse(_definition(opens, due), "geese"), BOSS)
    await draws.commit(DRAW, BOSS)
    await drops.launch(DRAW, BOSS)
    with timed(f"{count} entries written into the ledger"):
        for first in range(1, count + 1, 100_000):
            async with stores.ledger.begin() as connection:
                last = min(first + 99_999, count)
                await connection.execute(text(ENTERED), {"draw": DRAW, "first": first, "last": last})
    await _until(opens + timedelta(seconds=2))
    began_s = time.perf_counter()
    with timed("close"):
        await draws.close(DRAW, BOSS)
    closing_s = time.perf_counter() - began_s
    await _until(due)
    began_s = time.perf_counter()
    with timed(f"reveal, award and claim {GEESE} geese"):
        await draws.reveal(DRAW, BeaconValue(7, "5a" * 32, datetime.now(UTC)), BOSS)
    say(f"{closing_s + time.perf_counter() - began_s:7.1f} s  close, reveal and awards together")
    with timed("100 proofs"):
        for number in range(1, 101):
            await draws.proof_for(DRAW, f"m-{number}")
    draw, awards, _ = await draws.results(DRAW, 0, 1)
    say(f"{draw.entrants} entrants, {awards}")
    return (await draws.document(DRAW))[1]


async def _until(at: datetime) -> None:
    await asyncio.sleep(max(0.0, (at - datetime.now(UTC)).total_seconds()) + 0.05)


def _definition(opens: datetime, due: datetime) -> dict[str, Any]:
    hour = timedelta(hours=1)
    return {
        "id": DRAW,
        "title": {"en": "Geese"},
        "organisation": "dongguan",
        "allocation": "draw",
        "opens_at": opens.isoformat(),
        "closes_at": (opens + timedelta(seconds=1)).isoformat(),
        "draw": {
            "prizes": [{"id": "goose", "title": {"en": "Goose"}, "stock": GEESE}],
            "rules": {"en": "One goose a person."},
            "weights": {"base": 1, "misses_max": 3, "points_each": 100, "points_max": 2, "weight_max": 5},
            "collect_until": (due + 100 * hour).isoformat(),
            "beacon": {
                "source": "an example",
                "value_bytes": 32,
                "rounds": [
                    {"round": 7, "due_at": due.isoformat(), "wait_until": (due + hour).isoformat()},
                    {"round": 9, "due_at": (due + 2 * hour).isoformat(), "wait_until": (due + 3 * hour).isoformat()},
                ],
            },
        },
    }


if __name__ == "__main__":
    sys.exit(main())
