"""Everything on one machine: Valkey, PostgreSQL, API and worker, started, watched, restarted, stopped in order.

The data directory holds all of it. `dev.json` there tells other commands how to reach the parts; it is written anew
when a part was restarted under another process id.
"""

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Protocol

from engine.errors import Misconfigured
from engine.ledger.migrations import migrate
from engine.members.model import Session
from engine.members.session import SessionTokens
from engine.runtime.connections import open_ledger
from engine.runtime.keyfile import ensure_keys
from engine.runtime.servers import (
    EmbeddedPostgres,
    EmbeddedValkey,
    ServerFailed,
    end_leftover,
    is_answering,
    is_ready,
    running_pid,
    stop_process,
)
from engine.runtime.settings import DEV_FILE, load_settings

WATCH_S = 0.5
OPERATOR_TOKEN_S = 30 * 86_400
API_START_S_MAX = 60.0


class Part(Protocol):
    """A server or a process of ours that is kept running."""

    @property
    def pid(self) -> int | None: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...


class CommandPart:
    """One of our own commands as a child process: `serve` or `worker`; its output goes to a log file."""

    def __init__(self, data_dir: Path, name: str, arguments: list[str]) -> None:
        self._data_dir = data_dir
        self._name = name
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return running_pid(self._process)

    def start(self) -> None:
        pid_file = self._data_dir / f"{self._name}.pid"
        end_leftover(pid_file, "cli", str(self._data_dir))
        with (self._data_dir / f"{self._name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cli", *self._arguments, "--data", str(self._data_dir)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        pid_file.write_text(str(self._process.pid))

    def stop(self) -> None:
        if self._process is not None:
            stop_process(self._process)
        (self._data_dir / f"{self._name}.pid").unlink(missing_ok=True)


class Instance:
    """A whole flashclaim in a data directory, listening on a loopback port.

    `say` is called with one line for each thing that happens.
    """

    def __init__(self, data_dir: Path, port: int, workers: int, say: Callable[[str], None]) -> None:
        self._dir = data_dir.resolve()
        self._port = port
        self._say = say
        self._valkey = EmbeddedValkey(self._dir)
        self._postgres = EmbeddedPostgres(self._dir)
        serve = ["serve", "--port", str(port), "--workers", str(workers)]
        self._parts: dict[str, Part] = {
            "valkey": self._valkey,
            "postgres": self._postgres,
            "worker": CommandPart(self._dir, "worker", ["worker", "--name", "dev"]),
            "api": CommandPart(self._dir, "api", serve),
        }
        self._written: dict[str, int | None] = {}
        self._stop_asked = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def run(self) -> None:
        """Start all parts and keep them running until SIGINT or SIGTERM; then stop them all."""
        with self._only_one():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._ask_stop)
            try:
                self._start()
                while not self._stop_asked:
                    self._watch()
                    time.sleep(WATCH_S)
            finally:
                self._stop()

    def _ask_stop(self, *_: object) -> None:
        self._stop_asked = True

    def _only_one(self) -> IO[str]:
        self._dir.mkdir(parents=True, exist_ok=True)
        lock = (self._dir / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise Misconfigured(f"a flashclaim runs in {self._dir} already: stop it, or name another --data") from None
        return lock

    def _start(self) -> None:
        ensure_keys(self._dir)
        # Leftovers of a killed instance hold the API's port and the worker's name: they go first.
        for name in ("api", "worker"):
            end_leftover(self._dir / f"{name}.pid", "cli", str(self._dir))
        if is_answering(self._port):
            raise Misconfigured(f"port {self._port} is taken by another program: choose one with --port")
        for name in ("valkey", "postgres"):
            self._say(f"starting {name}")
            self._parts[name].start()
        self._write_dev_file()
        self._say("migrating the ledger")
        asyncio.run(self._migrate())
        for name in ("worker", "api"):
            self._say(f"starting {name}")
            self._parts[name].start()
        deadline = time.monotonic() + API_START_S_MAX
        while not is_ready(self.url):
            if self._stop_asked:
                return
            if self._parts["api"].pid is None or time.monotonic() > deadline:
                raise ServerFailed(f"the API is not ready: see api.log and worker.log in {self._dir}")
            time.sleep(0.05)
        self._write_dev_file()
        self._say(f"ready {self.url}")

    async def _migrate(self) -> None:
        ledger = open_ledger(self._postgres.url)
        try:
            await migrate(ledger)
        finally:
            await ledger.dispose()

    def _watch(self) -> None:
        for name, part in self._parts.items():
            if part.pid is None and not self._stop_asked:
                self._say(f"{name} has ended: starting it again")
                try:
                    part.start()
                except ServerFailed as error:
                    self._say(f"{name}: {error.detail}")
        if {name: part.pid for name, part in self._parts.items()} != self._written:
            self._write_dev_file()

    def _stop(self) -> None:
        self._say("stopping")
        for part in reversed(self._parts.values()):
            part.stop()
        (self._dir / DEV_FILE).unlink(missing_ok=True)

    def _write_dev_file(self) -> None:
        """Write `dev.json` whole or not at all: others read it at any moment."""
        pids = {name: part.pid for name, part in self._parts.items()}
        told = {
            "url": self.url,
            "operator_token": self._operator_token(),
            "redis_url": self._valkey.url,
            "postgres_url": self._postgres.url,
            "pids": pids,
        }
        new = self._dir / f"{DEV_FILE}.new"
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump(told, file, indent=2)
        new.replace(self._dir / DEV_FILE)
        self._written = pids

    def _operator_token(self) -> str:
        settings = load_settings(self._dir, redis_url=self._valkey.url, postgres_url=self._postgres.url)
        return SessionTokens(settings).issue(Session("operator", "operator", "operator"), OPERATOR_TOKEN_S)
