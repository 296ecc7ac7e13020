"""`python -m loadtests.geese`: 2,000 geese from a million entries on real stores: close, reveal, claim.

The entries are written straight into the ledger, as a worker would have written them; all else is what an operator
does. The wait until the beacon's round is due is not counted. DRAW_ENTRANTS makes it shorter.
"""

import asyncio
import gzip
import os
import subprocess
import sys
import tempfile
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
from engine.ledger.homecoming import Homecoming
from engine.ledger.ingest import writer_of
from engine.ledger.migrations import migrate
from engine.ledger.persist import Persister
from engine.runtime.connections import Stores, open_stores
from engine.runtime.keyfile import ensure_keys
from engine.runtime.servers import EmbeddedPostgres, EmbeddedValkey
from engine.runtime.settings import load_settings
from loadtests.million import say, timed

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
    with tempfile.TemporaryDirectory(prefix="fc-geese-") as name:
        data_dir = Path(name)
        data_dir.chmod(0o755)
        valkey, postgres = EmbeddedValkey(data_dir), EmbeddedPostgres(data_dir)
        try:
            valkey.start()
            postgres.start()
            return asyncio.run(_run(data_dir, valkey.url, postgres.url))
        finally:
            valkey.stop()
            postgres.stop()


async def _run(data_dir: Path, redis_url: str, postgres_url: str) -> int:
    ensure_keys(data_dir)
    settings = load_settings(data_dir, redis_url=redis_url, postgres_url=postgres_url)
    count, stop = int(os.environ.get("DRAW_ENTRANTS", str(ENTRANTS))), asyncio.Event()
    async with open_stores(settings) as stores:
        await migrate(stores.ledger)
        worker = asyncio.create_task(Persister(stores.redis, writer_of(stores.ledger), 1, "geese").run(stop))
        await Homecoming(stores, 1).look()
        drops = Drops(stores.redis, stores.scripts, stores.ledger, 1)
        published = await _drawn(stores, drops, Draws(stores, drops, 1), count)
        stop.set()
        await worker
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
