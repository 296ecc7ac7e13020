"""How late the schedule is: many drops open in one second, then close in one second, on real servers and workers.

    python -m loadtests.lateness --drops 500 --workers 2

Prints for each kind of job how long after its time it was done, by the ledger's clock.
"""

import argparse
import asyncio
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import text

from engine.drops.model import Actor
from engine.drops.service import Drops
from engine.drops.spec import parse
from engine.ledger.migrations import migrate
from engine.runtime.connections import Stores, open_stores
from engine.runtime.servers import stop_process
from engine.runtime.settings import load_settings
from loadtests.stage import servers

CREATED_AT_ONCE = 8
A_DROP_S = 0.08  # to create and launch one, generously
WORKERS_START_S = 8.0
OPEN_S = 10.0
DONE_S_MAX = 300.0
_FIGURES = """
    select kind, count(*),
        percentile_cont(array[0.5, 0.99, 1]) within group (order by extract(epoch from done_at - due_at)) as late_s
    from schedule where state = 'done' group by kind order by kind
"""


async def measure(stores: Stores, start: "Workers", drops: int, workers: int) -> None:
    opens = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=drops * A_DROP_S + WORKERS_START_S)
    closes = opens + timedelta(seconds=OPEN_S)
    service, places = Drops(stores.redis, stores.scripts, stores.ledger, 1), asyncio.Semaphore(CREATED_AT_ONCE)

    async def one(number: int) -> None:
        definition = {
            "id": f"drop-{number}",
            "title": {"en": "Drop"},
            "organisation": "dongguan",
            "allocation": "rush",
            "opens_at": opens.isoformat(),
            "closes_at": closes.isoformat(),
            "items": [{"id": "box", "title": {"en": "Box"}, "stock": 10}],
        }
        async with places:
            await service.create(parse(definition, "bench"), Actor("bench"))
            await service.launch(f"drop-{number}", Actor("bench"))

    await asyncio.gather(*(one(number) for number in range(drops)))
    start.run(workers)
    print(f"{drops} drops, {workers} workers; ready {(opens - datetime.now(UTC)).total_seconds():.1f} s before")
    await _until_done(stores, 3 * drops)
    async with stores.ledger.connect() as connection:
        for kind, count, (median_s, p99_s, most_s) in await connection.execute(text(_FIGURES)):
            print(f"{kind:12} {count:6} jobs, late: median {median_s:.3f} s, p99 {p99_s:.3f} s, most {most_s:.3f} s")


async def _until_done(stores: Stores, jobs: int) -> None:
    async with asyncio.timeout(DONE_S_MAX):
        done = 0
        while done < jobs:
            await asyncio.sleep(1)
            async with stores.ledger.connect() as connection:
                done = await connection.scalar(text("select count(*) from schedule where state = 'done'")) or 0


class Workers:
    """Workers as processes of their own."""

    def __init__(self, place: Path, redis_url: str, postgres_url: str) -> None:
        self._place = place
        self._urls = {"FLASHCLAIM_REDIS_URL": redis_url, "FLASHCLAIM_POSTGRES_URL": postgres_url}
        self._running: list[subprocess.Popen[bytes]] = []

    def run(self, count: int) -> None:
        for number in range(count):
            command = [sys.executable, "-m", "cli", "worker", "--name", f"w-{number}", "--data", str(self._place)]
            with (self._place / "worker.log").open("ab") as log:
                self._running.append(subprocess.Popen(command, env={**os.environ, **self._urls}, stderr=log))

    def stop(self) -> None:
        for process in self._running:
            stop_process(process)


async def run(place: Path, redis_url: str, postgres_url: str, drops: int, count: int) -> None:
    async with open_stores(load_settings(place, redis_url=redis_url, postgres_url=postgres_url)) as stores:
        await migrate(stores.ledger)
        first = Workers(place, redis_url, postgres_url)
        first.run(1)  # the store is brought home
        try:
            while not await stores.redis.exists("fc:{0}:home"):  # noqa: ASYNC110 (a store tells nobody)
                await asyncio.sleep(0.1)
        finally:
            first.stop()
        workers = Workers(place, redis_url, postgres_url)
        try:
            await measure(stores, workers, drops, count)
        finally:
            workers.stop()


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--drops", type=int, default=500)
    options.add_argument("--workers", type=int, default=2)
    given = options.parse_args()
    with servers() as (place, redis_url, postgres_url):
        asyncio.run(run(place, redis_url, postgres_url, given.drops, given.workers))
