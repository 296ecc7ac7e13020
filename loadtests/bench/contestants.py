"""Who is measured: each contestant starts its own server and its own store, and says what to send to it."""

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from random import sample
from secrets import token_urlsafe
from typing import Any, ClassVar

import asyncpg
import redis

from engine.errors import FlashclaimError
from engine.runtime.servers import EmbeddedPostgres, EmbeddedValkey, free_port, is_answering, stop_process
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
    claims_per_s_max: ClassVar[int] = 90_000  # more than it takes here: so many tokens are made, and none is sent twice

    def __init__(self, place: Path) -> None:
        self.place = place
        self.place.mkdir(parents=True, exist_ok=True)
        self.place.chmod(0o755)
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
        self._server = self._spawn(command, self.port, environment)

    def _spawn(self, command: list[str], port: int, environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        """Start a process, and return when it answers on a port; raises `BenchFailed` with its last words."""
        log = self.place / f"{port}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**os.environ, **environment}
            )
        deadline = time.monotonic() + START_S_MAX
        while not is_answering(port):
            if process.poll() is not None or time.monotonic() > deadline:
                stop_process(process)
                said = log.read_text(errors="replace").strip().splitlines()  # the log goes with the bench's directory
                raise BenchFailed(f"{self.name} did not start: {said[-1] if said else 'it said nothing'}")
            time.sleep(0.05)
        return process

    def _uvicorn(self, app: str, **environment: str) -> None:
        options = ["--port", str(self.port), "--loop", "uvloop", "--http", "httptools", "--no-access-log"]
        quiet = ["--log-level", "warning", "--no-server-header"]
        self._serve([sys.executable, "-m", "uvicorn", app, *options, *quiet], **environment)

    def _counted(self, accepted: int, on_the_way: int, found: int) -> int:
        if not accepted <= found <= accepted + on_the_way:
            raise BenchFailed(f"{self.name}: {accepted} claims were accepted, {found} are there")
        return found

    def _plan(self, path: str, header: str, tokens: list[str]) -> Plan:
        return plan.write(path, header, tokens, self.place / "tokens")


class Bare(Contestant):
    name = "bare"

    def start(self) -> None:
        self._uvicorn("loadtests.bench.baselines.bare:app")

    def prepare(self, count: int) -> Plan:
        # As long as a ticket, so that as much is read.
        header = f"Authorization: Ticket {'A' * 90}"
        return self._plan("/v1/drops/bench/claims", header, [token_urlsafe(12) for _ in range(count)])

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
        return self._plan("/drops/bench/claims", "X-Member-Id: ", members(count))

    def check(self, accepted: int, on_the_way: int) -> Mapping[str, float]:
        with redis.Redis.from_url(self._valkey.url) as client:
            taken = STOCK - int(client.get("stock:bench") or 0)
        return {"claims": self._counted(accepted, on_the_way, taken)}


class Usual(_OnValkey):
    name = "usual"
    claims_per_s_max = 15_000

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
        given = {"place": self.place, "port": self.port, "redis_port": redis_port, "sha": sha}
        for name, value in given.items():
            text = text.replace(f"{{{name}}}", str(value))
        (self.place / "nginx.conf").write_text(text)
        self._serve(["nginx", "-p", str(self.place), "-c", str(self.place / "nginx.conf")])


class RowLock(Contestant):
    name = "rowlock"
    claims_per_s_max = 10_000

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
        return self._plan("/drops/bench/claims", "X-Member-Id: ", members(count))

    def check(self, accepted: int, on_the_way: int) -> Mapping[str, float]:
        found = asyncio.run(self._execute("select count(*) from bench_claims"))
        return {"claims": self._counted(accepted, on_the_way, found)}

    async def _execute(self, text: str) -> Any:
        connection = await asyncpg.connect(self._postgres.url)
        try:
            return await (connection.fetchval(text) if text.startswith("select") else connection.execute(text))
        finally:
            await connection.close()


def members(count: int) -> list[str]:
    """As many ids of members, no two the same, of one length and in no order."""
    return [f"m-{number:07}-{token_urlsafe(3)}" for number in sample(range(10_000_000), count)]


def _family(pid: int) -> list[int]:
    """A process and its children, as the kernel lists them."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(found for child in children for found in _family(int(child)))]
