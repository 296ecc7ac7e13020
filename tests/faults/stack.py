"""What a rush meets: real servers and our own commands as processes, each of them started, killed, frozen by its pid.

API and worker reach the stores through proxies, one for each way. `Stack` is made of single parts, which a fault starts
again itself; `DevStack` is a whole `flashclaim dev`, whose supervisor does it.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import httpx
import psutil
from redis import Redis

from engine.ledger.migrations import migrate
from engine.members.model import Session
from engine.members.session import SessionTokens
from engine.runtime.connections import open_stores
from engine.runtime.keyfile import ensure_keys
from engine.runtime.servers import (
    DATABASE,
    EmbeddedPostgres,
    EmbeddedValkey,
    free_port,
    is_answering,
    running_pid,
    short_dir,
    stop_process,
)
from engine.runtime.settings import Settings, load_settings
from tests.faults.proxy import Proxies

READY_S_MAX = 60.0
STOP_S_MAX = 40.0
TOKEN_S = 7 * 86_400


class Startable(Protocol):
    """A server of engine/runtime/servers.py, or a `Command`."""

    @property
    def pid(self) -> int | None: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...


class Command:
    """One of our commands as a child process, with settings of its own; its output goes to a log."""

    def __init__(
        self, log: Path, arguments: list[str], environment: Mapping[str, str], port: int | None = None
    ) -> None:
        self.environment = dict(environment)
        self._log = log
        self._arguments = arguments
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return running_pid(self._process)

    def start(self) -> None:
        """Start, and return when its port answers, if it has one."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cli", *self._arguments],
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + READY_S_MAX
        while self._port is not None and not is_answering(self._port):
            assert self.pid is not None, f"{self._arguments} ended: see {self._log}\n{self._log.read_text()[-2_000:]}"
            assert time.monotonic() < deadline, f"{self._arguments} did not listen within {READY_S_MAX:.0f} s"
            time.sleep(0.02)

    def wait(self, seconds: float) -> int:
        assert self._process is not None
        return self._process.wait(seconds)

    def stop(self) -> None:
        if self._process is not None:
            stop_process(self._process, grace_s=STOP_S_MAX)


class Part:
    """A process of the stack and its children."""

    def __init__(self, name: str, server: Startable) -> None:
        self.name = name
        self.server = server

    def start(self) -> None:
        self.server.start()

    def stop(self) -> None:
        self.server.stop()

    def kill(self) -> None:
        """End it at once, with its children, as a loss of power would."""
        self._signal(signal.SIGKILL)
        deadline = time.monotonic() + READY_S_MAX
        while self.server.pid is not None:
            assert time.monotonic() < deadline, f"{self.name} outlives SIGKILL"
            time.sleep(0.01)

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        pid = self.server.pid
        assert pid is not None, f"{self.name} does not run"
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)


class Running:
    """What rushes and checks know of a stack: where it is, what its settings are, what it logs."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    @property
    def settings(self) -> Settings:
        """The settings with the stores' own addresses, past the proxies."""
        raise NotImplementedError

    @property
    def api_pid(self) -> int:
        raise NotImplementedError

    def start(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError

    def operator_token(self) -> str:
        return SessionTokens(self.settings).issue(Session("operator", "operator", "operator"), TOKEN_S)

    def logs(self) -> dict[Path, bytes]:
        """All that the stack has logged."""
        found = [*self.place.rglob("*.log"), self.place / "postgres" / "log"]
        return {path: path.read_bytes() for path in found if path.exists()}

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_S_MAX
        while time.monotonic() < deadline:
            with suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200:
                    return
            time.sleep(0.05)
        raise AssertionError(f"not ready within {READY_S_MAX:.0f} s: {self.logs()}")

    def survivors(self) -> list[str]:
        """Processes that still run in this stack's directory, or with it in their command."""
        place = str(self.place)
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                command = " ".join(process.cmdline())
                if place in command or process.cwd().startswith(place):
                    found.append(f"{process.pid}: {command}")
        return found


@dataclass(frozen=True, slots=True)
class Wish:
    """What is special about a stack: where Valkey keeps its file, settings of the API, a clock that can be moved."""

    valkey_place: Path | None = None
    api: Mapping[str, str] = field(default_factory=dict)
    clock: Mapping[str, str] = field(default_factory=dict)  # environment of API and Valkey


class Stack(Running):
    """Valkey, PostgreSQL, worker and API, with a proxy on each way from the latter to the former."""

    def __init__(self, place: Path, wish: Wish | None = None) -> None:
        super().__init__(place)
        wish = wish or Wish()
        ensure_keys(place)
        self._valkey = EmbeddedValkey(wish.valkey_place or place)
        self._postgres = EmbeddedPostgres(place)
        self._clock = wish.clock
        self.valkey, self.postgres = Part("valkey", self._valkey), Part("postgres", self._postgres)
        self._replicas: list[Part] = []
        self._lines = Proxies()
        redis = _port(self._valkey)
        ledger = str(short_dir(place) / ".s.PGSQL.5432")
        self.lines = {
            (user, store): self._lines.open(upstream)
            for user in ("api", "worker")
            for store, upstream in (("valkey", redis), ("postgres", ledger))
        }
        serve = ["serve", "--port", str(self.port), "--data", str(place)]
        self.api_command = Command(
            place / "api.log", serve, {**self.environment("api"), **wish.api, **wish.clock}, self.port
        )
        self.api = Part("api", self.api_command)
        self.worker = Part("worker", self.worker_command("worker-1"))

    def start(self) -> None:
        with _environment(self._clock):
            self.valkey.start()
        self.postgres.start()
        asyncio.run(self._migrate())
        self.worker.start()
        self.api.start()
        self.wait_until_ready()

    def stop(self) -> None:
        for part in (self.api, self.worker, *self._replicas, self.valkey, self.postgres):
            with suppress(AssertionError):
                part.thaw()
            part.stop()
        self._lines.close()

    @property
    def parts(self) -> dict[str, Part]:
        return {part.name: part for part in (self.valkey, self.postgres, self.worker, self.api)}

    @property
    def settings(self) -> Settings:
        return load_settings(self.place, redis_url=self._valkey.url, postgres_url=self._postgres.url)

    @property
    def api_pid(self) -> int:
        pid = self.api.server.pid
        assert pid is not None, "the API does not run"
        return pid

    def environment(self, user: str) -> dict[str, str]:
        """Settings under which a command reaches the stores through the lines of `api` or `worker`."""
        redis, ledger = self.lines[user, "valkey"].port, self.lines[user, "postgres"].port
        return {
            "FLASHCLAIM_REDIS_URL": f"redis://127.0.0.1:{redis}/0",
            "FLASHCLAIM_POSTGRES_URL": f"postgresql://postgres@127.0.0.1:{ledger}/{DATABASE}",
        }

    def worker_command(self, name: str) -> Command:
        arguments = ["worker", "--name", name, "--data", str(self.place)]
        return Command(self.place / "worker.log", arguments, self.environment("worker"))

    def migrate_command(self) -> Command:
        arguments = ["migrate", "--data", str(self.place)]
        return Command(self.place / "migrate.log", arguments, self.environment("worker"))

    def rebuild_command(self, drop_id: str) -> Command:
        arguments = ["rebuild", drop_id, "--apply", "--data", str(self.place)]
        return Command(self.place / "rebuild.log", arguments, self.environment("worker"))

    def start_replica(self) -> Part:
        """A second Valkey that follows the first, by the line `replica` to `valkey`.

        A replica that is frozen does not lag: what the first one sent lies in its socket. A line that stalls does it.
        """
        server = EmbeddedValkey(self.place / f"replica-{len(self._replicas)}")
        replica = Part("replica", server)
        replica.start()
        self._replicas.append(replica)
        line = self.lines["replica", "valkey"] = self._lines.open(_port(self._valkey))
        _order(server, f"REPLICAOF 127.0.0.1 {line.port}")
        return replica

    def promote(self, replica: Part, *, stays: frozenset[str] = frozenset()) -> None:
        """Make a replica the primary: from now on API and worker reach it where they reached the first Valkey.

        Those of `api` and `worker` that stay keep their connections to the first.
        """
        server = replica.server
        assert isinstance(server, EmbeddedValkey)
        self.lines["replica", "valkey"].reset()
        _order(server, "REPLICAOF NO ONE")
        self._replicas.append(self.valkey)  # to be stopped in the end, if it lives
        self._valkey, self.valkey = server, Part("valkey", server)
        for user in ("api", "worker"):
            self.lines[user, "valkey"].switch(_port(server), resets=user not in stays)

    async def _migrate(self) -> None:
        async with open_stores(self.settings) as stores:
            await migrate(stores.ledger)


class DevStack(Running):
    """A whole `flashclaim dev`."""

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        arguments = ["dev", "--port", str(self.port), "--data", str(place)]
        self.supervisor = Part("dev", Command(place / "dev.log", arguments, {}))

    def start(self) -> None:
        self.supervisor.start()
        self.wait_until_ready()

    def stop(self) -> None:
        self.supervisor.stop()

    def kill_supervisor(self) -> None:
        """Kill the parent alone: its children become orphans."""
        pid = self.supervisor.server.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        while self.supervisor.server.pid is not None:
            time.sleep(0.01)

    @property
    def settings(self) -> Settings:
        return load_settings(self.place)

    @property
    def pids(self) -> dict[str, int | None]:
        found: dict[str, Any] = json.loads((self.place / "dev.json").read_text())
        pids: dict[str, int | None] = found["pids"]
        return pids

    @property
    def api_pid(self) -> int:
        pid = self.pids["api"]
        assert pid is not None
        return pid


def _port(valkey: EmbeddedValkey) -> int:
    return int(valkey.url.rpartition(":")[2].partition("/")[0])


def _order(valkey: EmbeddedValkey, command: str) -> None:
    with Redis.from_url(valkey.url) as client:
        client.execute_command(command)


@contextmanager
def _environment(more: Mapping[str, str]) -> Iterator[None]:
    """This process's environment with more in it: what the embedded servers are started with."""
    before = {name: os.environ.get(name) for name in more}
    os.environ.update(more)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
