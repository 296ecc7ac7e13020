"""Who is measured: each contestant starts its own server and its own store, and says what to send to it."""

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import asyncpg
import redis

from engine.claims import keys
from engine.claims.ticket import seal
from engine.claims.wire import ClaimRequest
from engine.drops.model import Actor, to_ms
from engine.drops.service import Drops
from engine.drops.spec import parse
from engine.errors import FlashclaimError
from engine.ledger.audit import AuditReport, audit, wait_until_recorded
from engine.ledger.migrations import migrate
from engine.ledger.persist import Persister
from engine.runtime.connections import open_stores
from engine.runtime.servers import EmbeddedPostgres, EmbeddedValkey, free_port, is_answering, stop_process
from engine.runtime.settings import Settings, ensure_keys, load_settings
from loadtests.bench import plan
from loadtests.bench.baselines import rowlock, usual
from loadtests.bench.plan import Plan

START_S_MAX = 30.0
STOCK = 10_000_000


class BenchFailed(FlashclaimError):
    """A contestant did not do what it was measured at."""

    code = "bench-failed"


class Contestant:
    """A server and its store, each in processes of its own."""

    name: ClassVar[str]

    def __init__(self, place: Path) -> None:
        self._place = place
        self._place.mkdir(parents=True, exist_ok=True)
        self._place.chmod(0o755)
        self.port = free_port()
        self._server: subprocess.Popen[bytes] | None = None

    @classmethod
    def missing(cls) -> str | None:
        """What is not installed here that it needs; None when it can be measured."""
        return None

    def start(self) -> None:
        """Start store and server; returns when the server answers."""
        raise NotImplementedError

    def prepare(self, count: int) -> Plan:
        """Make a new drop, and what to send for `count` claims on it."""
        raise NotImplementedError

    def check(self, accepted: int, on_the_way: int) -> Mapping[str, float]:
        """Figures of the round: at least `claims`, how many the store holds.

        Raises `BenchFailed` unless these are the accepted ones, and at most those whose answers were still on the way
        when the load ended.
        """
        raise NotImplementedError

    def store_pids(self) -> list[int]:
        return []

    def server_pids(self) -> list[int]:
        return [] if self._server is None else _family(self._server.pid)

    def stop(self) -> None:
        if self._server is not None:
            stop_process(self._server)

    def _serve(self, command: list[str], **environment: str) -> None:
        with (self._place / "server.log").open("ab") as log:
            self._server = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **environment}
            )
        deadline = time.monotonic() + START_S_MAX
        while not is_answering(self.port):
            if self._server.poll() is not None or time.monotonic() > deadline:
                raise BenchFailed(f"{self.name} did not start: see {self._place / 'server.log'}")
            time.sleep(0.05)

    def _uvicorn(self, app: str, **environment: str) -> None:
        options = ["--port", str(self.port), "--loop", "uvloop", "--http", "httptools", "--no-access-log"]
        quiet = ["--log-level", "warning", "--no-server-header"]
        self._serve([sys.executable, "-m", "uvicorn", app, *options, *quiet], **environment)

    def _counted(self, accepted: int, on_the_way: int, found: int) -> int:
        if not accepted <= found <= accepted + on_the_way:
            raise BenchFailed(f"{self.name}: {accepted} claims were accepted, {found} are there")
        return found

    def _plan(self, path: str, header: str, tokens: list[str]) -> Plan:
        return plan.write(path, header, tokens, self._place / "tokens")


class Bare(Contestant):
    name = "bare"

    def start(self) -> None:
        self._uvicorn("loadtests.bench.baselines.bare:app")

    def prepare(self, count: int) -> Plan:
        # As long as a ticket, so that as much is read.
        header = f"Authorization: Ticket {'A' * 90}"
        return self._plan("/v1/drops/bench/claims", header, [f"{number:08}" for number in range(count)])

    def check(self, accepted: int, on_the_way: int) -> Mapping[str, float]:
        return {"claims": accepted}


class _OnValkey(Contestant):
    """Decides on a Valkey of its own, with the settings that Redis has by itself: nothing is written to disk."""

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self._valkey = EmbeddedValkey(place)

    def start(self) -> None:
        self._valkey.start()
        with redis.Redis.from_url(self._valkey.url) as client:
            client.config_set("appendonly", "no")

    def store_pids(self) -> list[int]:
        return [] if self._valkey.pid is None else [self._valkey.pid]

    def stop(self) -> None:
        super().stop()
        self._valkey.stop()

    def prepare(self, count: int) -> Plan:
        with redis.Redis.from_url(self._valkey.url) as client:
            client.delete("members:bench")
            client.set("stock:bench", STOCK)
        return self._plan("/drops/bench/claims", "X-Member-Id: ", _members(count))

    def check(self, accepted: int, on_the_way: int) -> Mapping[str, float]:
        with redis.Redis.from_url(self._valkey.url) as client:
            taken = STOCK - int(client.get("stock:bench") or 0)
        return {"claims": self._counted(accepted, on_the_way, taken)}


class Usual(_OnValkey):
    name = "usual"

    def start(self) -> None:
        super().start()
        self._uvicorn("loadtests.bench.baselines.usual:app", BENCH_REDIS_URL=self._valkey.url)


class NginxLua(_OnValkey):
    name = "nginx_lua"

    @classmethod
    def missing(cls) -> str | None:
        parts = ("/usr/lib/nginx/modules/ngx_http_lua_module.so", "/usr/share/lua/5.1/nginx/redis.lua")
        if shutil.which("nginx") is None or not all(Path(part).exists() for part in parts):
            return "nginx, its Lua module and its Redis client (Debian: nginx libnginx-mod-http-lua lua-nginx-redis)"
        return None

    def start(self) -> None:
        super().start()
        with redis.Redis.from_url(self._valkey.url) as client:
            sha = client.script_load(usual.SCRIPT.read_text())
            redis_port = client.connection_pool.connection_kwargs["port"]
        text = (usual.SCRIPT.parent / "nginx.conf").read_text()
        given = {"place": self._place, "port": self.port, "redis_port": redis_port, "sha": sha}
        for name, value in given.items():
            text = text.replace(f"{{{name}}}", str(value))
        (self._place / "nginx.conf").write_text(text)
        self._serve(["nginx", "-p", str(self._place), "-c", str(self._place / "nginx.conf")])


class RowLock(Contestant):
    name = "rowlock"

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self._postgres = EmbeddedPostgres(place)

    def start(self) -> None:
        self._postgres.start()
        asyncio.run(self._execute(rowlock.TABLES))
        self._uvicorn("loadtests.bench.baselines.rowlock:app", BENCH_POSTGRES_URL=self._postgres.url)

    def store_pids(self) -> list[int]:
        return [] if self._postgres.pid is None else _family(self._postgres.pid)

    def stop(self) -> None:
        super().stop()
        self._postgres.stop()

    def prepare(self, count: int) -> Plan:
        asyncio.run(
            self._execute(f"truncate bench_drops, bench_claims; insert into bench_drops values ('bench', {STOCK})")
        )
        return self._plan("/drops/bench/claims", "X-Member-Id: ", _members(count))

    def check(self, accepted: int, on_the_way: int) -> Mapping[str, float]:
        found = asyncio.run(self._execute("select count(*) from bench_claims"))
        return {"claims": self._counted(accepted, on_the_way, found)}

    async def _execute(self, text: str) -> Any:
        connection = await asyncpg.connect(self._postgres.url)
        try:
            return await (connection.fetchval(text) if text.startswith("select") else connection.execute(text))
        finally:
            await connection.close()


class Ours(Contestant):
    """flashclaim as `serve` runs it: ticket, receipt, outbox, `appendfsync always`; audited after each round."""

    name = "ours"
    is_durable: ClassVar[bool] = True

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self._valkey = EmbeddedValkey(place)
        self._postgres = EmbeddedPostgres(place)
        self._round = 0
        self._memory_bytes = 0

    @property
    def settings(self) -> Settings:
        return load_settings(self._place, redis_url=self._valkey.url, postgres_url=self._postgres.url)

    @property
    def drop_id(self) -> str:
        return f"bench-{self._round}"

    def start(self) -> None:
        ensure_keys(self._place)
        self._valkey.start()
        self._postgres.start()
        if not self.is_durable:
            with redis.Redis.from_url(self._valkey.url) as client:
                client.config_set("appendonly", "no")
        asyncio.run(self._migrate())
        self._serve(
            [sys.executable, "-m", "cli", "serve", "--port", str(self.port), "--data", str(self._place)],
            FLASHCLAIM_REDIS_URL=self._valkey.url,
            FLASHCLAIM_POSTGRES_URL=self._postgres.url,
        )

    def store_pids(self) -> list[int]:
        return [] if self._valkey.pid is None else [self._valkey.pid]

    def stop(self) -> None:
        super().stop()
        self._valkey.stop()
        self._postgres.stop()

    def prepare(self, count: int) -> Plan:
        self._round += 1
        now = datetime.now(UTC)
        opens, closes = now - timedelta(minutes=1), now + timedelta(hours=1)
        asyncio.run(self._launch(opens, closes))
        self._memory_bytes = self._used_memory()
        keyring, opens_ms, closes_ms = self.settings.ticket_keyring, to_ms(opens), to_ms(closes)
        tickets = [
            seal(keyring, self.drop_id, ClaimRequest(os.urandom(8), 1, 1, member, member), opens_ms, closes_ms)
            for member in _members(count)
        ]
        return self._plan(f"/v1/drops/{self.drop_id}/claims", "Authorization: Ticket ", tickets)

    def check(self, accepted: int, on_the_way: int) -> Mapping[str, float]:
        report = asyncio.run(self._drained())
        if report.differences:
            raise BenchFailed(f"{self.name}: the audit found {report.differences} differences: {report.details[:3]}")
        claims = self._counted(accepted, on_the_way, report.in_ledger)
        return {"claims": claims, "bytes_per_claim": (self._used_memory() - self._memory_bytes) / max(1, claims)}

    async def _migrate(self) -> None:
        async with open_stores(self.settings) as stores:
            await migrate(stores.ledger)

    async def _launch(self, opens: datetime, closes: datetime) -> None:
        spec = {
            "id": self.drop_id, "title": {"en": "bench"}, "organisation": "bench", "allocation": "rush",
            "opens_at": opens.isoformat(), "closes_at": closes.isoformat(), "limit_per_member": 1,
            "items": [{"id": "box", "title": {"en": "box"}, "stock": STOCK}],
        }  # fmt: skip
        async with open_stores(self.settings) as stores:
            drops = Drops(stores.redis, stores.scripts, stores.ledger, self.settings.partitions)
            await drops.create(parse(spec, "bench"), Actor("bench"))
            await drops.launch(self.drop_id, Actor("bench"))

    async def _drained(self) -> AuditReport:
        """Empty the outbox with one worker, as it would have been emptied meanwhile; then audit."""
        settings, stop = self.settings, asyncio.Event()
        async with open_stores(settings) as stores:
            working = asyncio.create_task(Persister(stores, settings.partitions, "bench").run(stop))
            if not await wait_until_recorded(stores.redis, settings.partitions, 120):
                raise BenchFailed("the worker did not empty the outbox within two minutes")
            stop.set()
            await working
            await stores.redis.xtrim(keys.outbox(0), maxlen=0, approximate=False)
            return await audit(stores, settings.partitions, settings.receipt_keyring, self.drop_id)

    def _used_memory(self) -> int:
        with redis.Redis.from_url(self._valkey.url) as client:
            return int(client.info("memory")["used_memory_dataset"])


class OursNoFsync(Ours):
    """The same without the disk: what the promise of `appendfsync always` costs."""

    name = "ours_no_fsync"
    is_durable = False


CONTESTANTS: tuple[Callable[[Path], Contestant], ...] = (Bare, Usual, RowLock, NginxLua, Ours, OursNoFsync)


def _members(count: int) -> list[str]:
    return [f"m-{number:010}" for number in range(count)]


def _family(pid: int) -> list[int]:
    """A process and its children, as the kernel lists them."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(found for child in children for found in _family(int(child)))]
