"""Measures the import of members: seconds and memory of `flashclaim member import`, on a PostgreSQL of its own.

    python -m loadtests.intake members.csv

The file is brought in three times: as a dry run, in earnest, and again. loadtests/members_csv.py makes one.
"""

import asyncio
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from engine.ledger.migrations import migrate
from engine.runtime.connections import open_ledger
from engine.runtime.keyfile import ensure_keys
from engine.runtime.servers import EmbeddedPostgres

_NO_STORE = "redis://127.0.0.1:1/0"  # an import asks none


def main() -> None:
    file = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory(prefix="fc-intake-") as place:
        data_dir = Path(place)
        data_dir.chmod(0o755)
        ensure_keys(data_dir)
        postgres = EmbeddedPostgres(data_dir)
        postgres.start()
        try:
            asyncio.run(_migrate(postgres.url))
            for name, more in (("dry run", ["--dry-run"]), ("import", []), ("again", [])):
                _measure(name, file, data_dir, postgres.url, more)
        finally:
            postgres.stop()


async def _migrate(url: str) -> None:
    ledger = open_ledger(url)
    await migrate(ledger)
    await ledger.dispose()


def _measure(name: str, file: Path, data_dir: Path, url: str, more: list[str]) -> None:
    settings = {"FLASHCLAIM_POSTGRES_URL": url, "FLASHCLAIM_REDIS_URL": _NO_STORE}
    rejects = data_dir / "rejects.csv"
    command = [sys.executable, "-m", "cli", "member", "import", str(file), "--data", str(data_dir), "--json", *more]
    began_s, used = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [*command, "--rejects", str(rejects)],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    took_s, used_now = time.monotonic() - began_s, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = used_now.ru_utime + used_now.ru_stime - used.ru_utime - used.ru_stime
    lines = len(rejects.read_text(encoding="utf-8-sig").splitlines()) - 1
    print(f"{name}: {took_s:.1f} s, of it {cpu_s:.1f} s CPU here, {used_now.ru_maxrss / 1024:.0f} MB at most")
    print(f"  exit code {done.returncode}, {lines} lines of rejects, {' '.join(done.stdout.split())}")


if __name__ == "__main__":
    main()
