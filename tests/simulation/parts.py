"""The engine's processes as they run in earnest, on the run's store, ledger and network."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from engine.claims.backlog import Backlog
from engine.claims.model import Claim
from engine.claims.service import Claims, IssuedTicket
from engine.drops.model import Drop
from engine.drops.service import Drops
from engine.errors import FlashclaimError
from engine.ledger.persist import Persister
from engine.ledger.reconcile import Reconciler
from engine.members.model import Session
from engine.runtime.connections import Stores
from engine.runtime.settings import Settings
from tests.simulation.access import RedisAccess, ScriptAccess
from tests.simulation.ledger import Ledger, LedgerAccess, writer_of
from tests.simulation.network import Network, Process
from tests.simulation.store import Store

SETTINGS = Settings.model_validate(
    {
        "redis_url": "redis://simulated",
        "postgres_url": "postgresql://simulated",
        "ticket_keys": {1: "11" * 32, 2: "33" * 32},
        "receipt_keys": {1: "22" * 32},
        "session_secret": "a secret for the simulation, long enough",
    }
)


class Site:
    """Where processes run: the network and what it leads to."""

    def __init__(
        self, network: Network, store: Store, ledger: Ledger, partitions: int, wall_s: Callable[[], float]
    ) -> None:
        self.network = network
        self.store = store
        self.ledger = ledger
        self.partitions = partitions
        self.settings = SETTINGS.model_copy(update={"partitions": partitions})
        self._wall_s = wall_s

    def stores(self, process: Process) -> Stores:
        redis = RedisAccess(self.network, process, self.store)
        ledger = LedgerAccess(self.network, process, self.ledger, lambda: round(self._wall_s() * 1000))
        scripts = ScriptAccess(self.network, process, self.store, redis)
        return Stores(cast(Any, redis), cast(Any, ledger), cast(Any, scripts))

    def drop_lines(self, process: Process) -> None:
        """The connections of a process that is dead end."""
        for server in (self.store, self.ledger):
            for line in list(server.lines):
                if line.process is process:
                    line.close()


def stay_with(part: "Api | Worker", store: Store) -> None:
    """Let a process go on with a store that was left behind, as long as its connections last."""
    for access in (part.stores.redis, part.stores.scripts):
        cast(Any, access).stay_with(store)


class Api:
    """One API process: the service of drops and of claims, as api/ has them."""

    def __init__(self, site: Site, name: str) -> None:
        self._site = site
        self.name = name
        self.start()

    def start(self) -> None:
        site = self._site
        self.process = Process(self.name)
        self.stores = stores = site.stores(self.process)
        self.drops = Drops(stores.redis, stores.scripts, stores.ledger, site.partitions)
        backlog = Backlog(stores.redis, site.partitions, site.settings.outbox_bytes_max)
        self.claims = Claims(stores.scripts, stores.ledger, self.drops, site.settings, backlog)
        self.process.spawn(self.claims.remind(asyncio.Event()))
        self.process.spawn(self._follow())

    async def _follow(self) -> None:
        await self.claims.trust_none()
        await self.claims.follow(asyncio.Event())

    def kill(self) -> None:
        self.process.kill()
        self._site.drop_lines(self.process)

    async def ticket(self, drop_id: str, member_id: str, item: str | None, quantity: int | None) -> IssuedTicket:
        drop = await self.drops.get(drop_id)
        return self.claims.issue_ticket(Session(member_id, member_id), drop, item, quantity)

    async def claim(self, drop_id: str, ticket: str, item: str | None) -> Claim | FlashclaimError:
        """What a press is answered: as api/claim.py."""
        try:
            opened = self.claims.open_ticket(ticket)
            drop: Drop = self.drops.known(drop_id) or await self.drops.get(drop_id)
            return await self.claims.claim(drop, opened, item, None)
        except FlashclaimError as error:
            return error


class Worker:
    """One worker process: `flashclaim worker`."""

    def __init__(self, site: Site, name: str) -> None:
        self._site = site
        self.start(name)

    def start(self, name: str) -> None:
        self.name = name
        self.process = Process(name)
        self.stores = stores = self._site.stores(self.process)
        persister = Persister(stores.redis, writer_of(cast(Any, stores.ledger)), self._site.partitions, name)
        reconciler = Reconciler(stores, self._site.partitions)
        self._stop = asyncio.Event()
        self.tasks = [self.process.spawn(persister.run(self._stop)), self.process.spawn(reconciler.run(self._stop))]

    def kill(self) -> None:
        self._stop.set()
        self.process.kill()
        self._site.drop_lines(self.process)
