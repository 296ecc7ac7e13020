"""The promise: a wheel built from the tree, installed alone, has its scripts and migrations and works."""

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
_PROGRAM = """
import asyncio, sys
import lua
from engine.ledger import migrations
from engine.runtime.connections import open_ledger
assert "{root}" not in lua.__file__, lua.__file__
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
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    # Everything but flashclaim itself comes from this environment; its own editable entry must not.
    site = next(path for path in sys.path if path.endswith("site-packages"))
    environment = {"PATH": "/usr/bin:/bin"}
    program = f"import sys; sys.path.append({site!r})\n" + _PROGRAM.replace("{root}", str(ROOT))
    subprocess.run(
        [str(python), "-c", program, postgres_url], check=True, cwd=tmp_path, env=environment, capture_output=True
    )
    found = subprocess.run(
        [str(home / "bin" / "flashclaim"), "--help"],
        check=True,
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": site},
        capture_output=True,
        text=True,
    )
    assert "rush" in found.stdout
