"""What the measurements stand on: servers of their own that go with them, a worker, and lines that say how long."""

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from engine.ledger.homecoming import Homecoming
from engine.ledger.ingest import writer_of
from engine.ledger.migrations import migrate
from engine.ledger.persist import Persister
from engine.runtime.connections import Stores
from engine.runtime.keyfile import ensure_keys
from engine.runtime.servers import EmbeddedPostgres, EmbeddedValkey


@contextmanager
def servers() -> Iterator[tuple[Path, str, str]]:
    """A directory with keys, and the URLs of a Valkey and a PostgreSQL in it; all of it goes at the end."""
    with tempfile.TemporaryDirectory(prefix="fc-loadtest-") as name:
        place = Path(name)
        place.chmod(0o755)  # PostgreSQL runs as another user than root
        ensure_keys(place)
        valkey, postgres = EmbeddedValkey(place), EmbeddedPostgres(place)
        try:
            valkey.start()
            postgres.start()
            yield place, valkey.url, postgres.url
        finally:
            postgres.stop()
            valkey.stop()


@asynccontextmanager
async def recorded(stores: Stores) -> AsyncIterator[None]:
    """The store at home in a ledger of the newest shape, which a worker writes until the end; one partition."""
    await migrate(stores.ledger)
    stop = asyncio.Event()
    worker = asyncio.create_task(Persister(stores.redis, writer_of(stores.ledger), 1, "loadtest").run(stop))
    await Homecoming(stores, 1).look()
    try:
        yield
    finally:
        stop.set()
        await worker


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Say how long it took, in s."""
    began_s = time.perf_counter()
    yield
    say(f"{time.perf_counter() - began_s:7.1f} s  {what}")


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
