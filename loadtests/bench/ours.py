"""flashclaim itself as a contestant, and the pieces of it that are measured apart."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import redis
from sqlalchemy import text

from engine import towns
from engine.bounds import OUTBOX_SAMPLES
from engine.claims import keys
from engine.claims.durability import Level
from engine.claims.ticket import seal
from engine.claims.wire import ClaimRequest
from engine.drops.model import Actor, to_ms
from engine.drops.service import Drops
from engine.drops.spec import parse
from engine.ledger.audit import AuditReport, audit, wait_until_recorded
from engine.ledger.homecoming import Homecoming
from engine.ledger.ingest import writer_of
from engine.ledger.migrations import migrate
from engine.ledger.persist import Persister
from engine.members.model import Session
from engine.members.session import SessionTokens
from engine.runtime.connections import open_stores
from engine.runtime.keyfile import ensure_keys
from engine.runtime.servers import EmbeddedPostgres, EmbeddedValkey, free_port, stop_process
from engine.runtime.settings import Settings, load_settings
from loadtests.bench.contestants import STOCK, Bare, BenchFailed, Contestant, NginxLua, RowLock, Usual, members
from loadtests.bench.plan import Plan

_TOWN = towns.load()[0].zh


class Ours(Contestant):
    """flashclaim as `serve` runs it: ticket, receipt, outbox, `appendfsync always`; audited after each round."""

    name = "ours"
    durability: ClassVar[Level] = "disk"

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self._valkey = EmbeddedValkey(place)
        self._postgres = EmbeddedPostgres(place)
        self._round = 0
        self._memory_bytes = 0
        self._window_ms = (0, 0)
        self._worker: subprocess.Popen[bytes] | None = None

    @property
    def settings(self) -> Settings:
        urls = {"redis_url": self._valkey.url, "postgres_url": self._postgres.url}
        return load_settings(self.place, **urls, durability=self.durability)

    @property
    def drop_id(self) -> str:
        return f"bench-{self._round}"

    def start(self) -> None:
        ensure_keys(self.place)
        self._valkey.start()
        self._postgres.start()
        if self.durability == "memory":
            with redis.Redis.from_url(self._valkey.url) as client:
                client.config_set("appendonly", "no")
        asyncio.run(self._migrate())
        self._serve(
            [sys.executable, "-m", "cli", "serve", "--port", str(self.port), "--data", str(self.place)], **self._urls
        )

    def store_pids(self) -> list[int]:
        return [] if self._valkey.pid is None else [self._valkey.pid]

    def stop(self) -> None:
        self.stop_worker()
        super().stop()
        self._valkey.stop()
        self._postgres.stop()

    def prepare(self, count: int) -> Plan:
        self._round += 1
        now = datetime.now(UTC)
        opens, closes = now - timedelta(minutes=1), now + timedelta(hours=1)
        self._window_ms = to_ms(opens), to_ms(closes)
        asyncio.run(self._launch(opens, closes))
        self._memory_bytes = self._used_memory()
        return self._plan(f"/v1/drops/{self.drop_id}/claims", "Authorization: Ticket ", self.tickets(count))

    def tickets(self, count: int) -> list[str]:
        """Tickets for the drop of this round, each of another member."""
        keyring, (opens_ms, closes_ms) = self.settings.ticket_keyring, self._window_ms
        return [
            seal(keyring, self.drop_id, ClaimRequest(os.urandom(8), 1, 1, member, member), opens_ms, closes_ms)
            for member in members(count)
        ]

    def check(self, accepted: int, on_the_way: int) -> Mapping[str, float]:
        report = asyncio.run(self._drained())
        if report.differences:
            raise BenchFailed(f"{self.name}: the audit found {report.differences} differences: {report.details[:3]}")
        claims = self._counted(accepted, on_the_way, report.in_ledger)
        return {"claims": claims, "bytes_per_claim": (self._used_memory() - self._memory_bytes) / max(1, claims)}

    def prepare_tickets(self, count: int) -> Plan:
        """Make a new drop for members of one town, and sessions with which to take tickets for it."""
        self._round += 1
        now = datetime.now(UTC)
        asyncio.run(self._launch(now - timedelta(minutes=1), now + timedelta(hours=1), {"town": {"in": [_TOWN]}}))
        tokens = SessionTokens(self.settings)
        sessions = [
            tokens.issue(Session(member, member, "member", {"town": _TOWN}), 3_600) for member in members(count)
        ]
        return self._plan(f"/v1/drops/{self.drop_id}/ticket", "Authorization: Bearer ", sessions)

    def start_worker(self) -> str:
        """Start a persistence worker; where its metrics are."""
        port = free_port()
        command = [sys.executable, "-m", "cli", "worker", "--metrics-port", str(port), "--data", str(self.place)]
        self._worker = self._spawn(command, port, self._urls)
        return f"http://127.0.0.1:{port}/metrics"

    def stop_worker(self) -> None:
        if self._worker is not None:
            stop_process(self._worker)
            self._worker = None

    def outbox_bytes(self) -> int:
        with redis.Redis.from_url(self._valkey.url) as client:
            return int(client.memory_usage(keys.outbox(0), samples=OUTBOX_SAMPLES) or 0)

    @property
    def _urls(self) -> dict[str, str]:
        settings = self.settings
        return {
            "FLASHCLAIM_REDIS_URL": settings.redis_url,
            "FLASHCLAIM_POSTGRES_URL": settings.postgres_url,
            "FLASHCLAIM_DURABILITY": settings.durability,
        }

    async def _migrate(self) -> None:
        async with open_stores(self.settings) as stores:
            await migrate(stores.ledger)
            await Homecoming(stores, self.settings.partitions).look()

    async def _launch(self, opens: datetime, closes: datetime, eligibility: Mapping[str, Any] | None = None) -> None:
        spec = {
            "id": self.drop_id, "title": {"en": "bench"}, "organisation": "bench", "allocation": "rush",
            "opens_at": opens.isoformat(), "closes_at": closes.isoformat(), "limit_per_member": 1,
            "items": [{"id": "box", "title": {"en": "box"}, "stock": STOCK}], "eligibility": eligibility or {},
        }  # fmt: skip
        async with open_stores(self.settings) as stores:
            drops = Drops(stores.redis, stores.scripts, stores.ledger, self.settings.partitions)
            await drops.create(parse(spec, "bench"), Actor("bench"))
            await drops.launch(self.drop_id, Actor("bench"))

    async def _drained(self) -> AuditReport:
        """Empty the outbox with one worker, as it would have been emptied meanwhile; then audit."""
        settings, stop = self.settings, asyncio.Event()
        async with open_stores(settings) as stores:
            working = asyncio.create_task(
                Persister(stores.redis, writer_of(stores.ledger), settings.partitions, "bench").run(stop)
            )
            if not await wait_until_recorded(stores.redis, settings.partitions, 120):
                raise BenchFailed("the worker did not empty the outbox within two minutes")
            stop.set()
            await working
            async with stores.ledger.connect() as connection:
                options = await connection.execution_options(isolation_level="AUTOCOMMIT")
                await options.execute(text("checkpoint"))  # what is measured next has the disk to itself
            await stores.redis.xtrim(keys.outbox(0), maxlen=0, approximate=False)
            return await audit(stores, settings.partitions, settings.receipt_keyring, self.drop_id)

    def _used_memory(self) -> int:
        with redis.Redis.from_url(self._valkey.url) as client:
            return int(client.info("memory")["used_memory_dataset"])


class OursNoFsync(Ours):
    """The same without the disk: what the promise of `appendfsync always` costs."""

    name = "ours_no_fsync"
    durability = "memory"


CONTESTANTS: tuple[type[Contestant], ...] = (Bare, Usual, RowLock, NginxLua, Ours, OursNoFsync)
