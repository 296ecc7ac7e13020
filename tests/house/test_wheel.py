"""The promise: a wheel built from the tree, installed alone, has its scripts and migrations and works."""

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
_PROGRAM = """
import asyncio, sys
import lua
import api.app
from engine.ledger import migrations
from engine.runtime.connections import open_ledger
for name in ("claim", "release", "control"):
    assert lua.load(name).sha
async def run():
    ledger = open_ledger(sys.argv[1])
    async with ledger.begin() as connection:
        await connection.exec_driver_sql("drop schema public cascade")
        await connection.exec_driver_sql("create schema public")
    await migrations.migrate(ledger)
    assert await migrations.current(ledger) == migrations.newest()
    await ledger.dispose()
asyncio.run(run())
"""


def test_the_wheel_works_alone(tmp_path: Path, postgres_url: str) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("flashclaim-*.whl")
    home = tmp_path / "empty"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    # What the image installs, and nothing of the environment that the tests run in: a missing dependency shows here.
    subprocess.run([*pip, "--require-hashes", "-r", str(ROOT / "deploy" / "requirements.lock")], check=True)
    subprocess.run([*pip, str(wheel)], check=True)
    environment = {"PATH": "/usr/bin:/bin"}
    subprocess.run(
        [str(python), "-W", "error", "-c", _PROGRAM, postgres_url], check=True, cwd=tmp_path, env=environment
    )
    command = [str(home / "bin" / "flashclaim"), "--help"]
    found = subprocess.run(command, check=True, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "rush" in found.stdout
    dev = subprocess.run(
        [*command[:1], "dev", "--data", "d"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert dev.returncode == 2
    assert "pip install 'flashclaim[embedded]'" in dev.stderr
