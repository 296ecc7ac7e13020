"""The promise: a backup is taken and restored by command; what is wrong with it is a sentence and an exit code."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from cli import app, backup
from engine.runtime import keyfile
from engine.runtime.backup import Restored
from engine.runtime.connections import Stores
from engine.runtime.settings import Settings
from tests.cli.test_keys import given, run
from tests.engine.ledger.test_persist import add, entry
from tests.factories.ledger import record_all
from tests.factories.rushed import BOSS, Rushed


@pytest.fixture
def instance(tmp_path: Path, settings: Settings) -> Path:
    """A data directory as `flashclaim dev` leaves it."""
    data = tmp_path / "data"
    keyfile.ensure_keys(data)
    urls = {"redis_url": settings.redis_url, "postgres_url": settings.postgres_url}
    (data / "dev.json").write_text(json.dumps(urls))
    return data


async def test_a_ledger_goes_into_a_backup_and_comes_back(instance: Path, stores: Stores, tmp_path: Path) -> None:
    await add(stores.redis, entry(1, 7))
    await record_all(stores)
    place = str(tmp_path / "backup")
    done = run("backup", place, "--data", str(instance))
    assert done.returncode == 0, done.stderr
    assert "7 claims" in done.stderr
    assert "who reads it can make tickets" in done.stderr
    assert run("backup", place, "--data", str(instance)).returncode == 1
    full = run("restore", place, "--data", str(instance))
    assert full.returncode == 1
    assert "7 rows in claims" in full.stderr
    back = run("restore", place, "--replace", "--take-keys", "--data", str(instance))
    assert back.returncode == 0, back.stderr
    assert "7 claims" in back.stderr
    (tmp_path / "backup" / "ledger.dump").write_bytes(b"")
    damaged = run("restore", place, "--replace", "--data", str(instance))
    assert damaged.returncode == 2
    assert "is damaged" in damaged.stderr


async def test_a_restore_says_what_the_store_knows_beyond_it(
    instance: Path, stores: Stores, settings: Settings, tmp_path: Path
) -> None:
    rushed = Rushed(stores, settings, tmp_path / "claims.jsonl")
    await rushed.rush()
    await rushed.record()
    place, data = str(tmp_path / "backup"), ("--data", str(instance))
    assert run("backup", place, *data).returncode == 0
    same = run("restore", place, "--replace", *data)
    assert "rebuild" not in same.stderr
    await rushed.claim("m-late")
    await rushed.drops.restock("trial", "box", 5, BOSS)
    await rushed.record()
    ahead = run("restore", place, "--replace", *data)
    assert "the store knows 1 serials and 1 acts of trial" in ahead.stderr
    assert "flashclaim rebuild trial --receipts FILE --forget-acts --apply" in ahead.stderr
    assert "do not empty the store" in ahead.stderr
    refused = run("rebuild", "trial", "--apply", *data)
    assert refused.returncode == 1
    assert "no receipt proves" in refused.stderr
    assert "--forget-acts" in refused.stderr
    await stores.redis.flushall()
    emptied = run("restore", place, "--replace", *data)
    assert "the store does not know the claims of trial: flashclaim rebuild trial --apply" in emptied.stderr
    assert "do not empty" not in emptied.stderr
    assert run("rebuild", "trial", "--apply", *data).returncode == 0
    away = run("restore", place, "--replace", *data, FLASHCLAIM_REDIS_URL="redis://127.0.0.1:1")
    assert away.returncode == 0, away.stderr
    assert "the store does not answer" in away.stderr


@pytest.mark.parametrize("host", ["127.0.0.1:1", "nothing.invalid"])
async def test_a_ledger_that_goes_away_right_after_the_restore_is_a_sentence(
    instance: Path,
    stores: Stores,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    host: str,
) -> None:
    """What was asked for is done then: neither a traceback nor "try again"."""
    await add(stores.redis, entry(1, 7))
    await record_all(stores)
    words = (str(tmp_path / "backup"), "--data", str(instance))
    assert run("backup", *words).returncode == 0
    restore = backup._restore

    async def restore_and_lose(*how: Any) -> Restored:
        done = await restore(*how)
        urls = json.loads((instance / "dev.json").read_text())
        away = {**urls, "postgres_url": f"postgresql://u:hunter22@{host}/x"}  # pragma: allowlist secret
        (instance / "dev.json").write_text(json.dumps(away))
        return done

    monkeypatch.setattr(backup, "_restore", restore_and_lose)
    await asyncio.to_thread(app, ["restore", *words, "--replace"], standalone_mode=False)
    said = capsys.readouterr().err
    assert "7 claims" in said
    assert "the ledger does not answer. When it does, ask" in said
    assert "hunter22" not in said


async def test_keys_of_the_environment_stay_there(instance: Path, stores: Stores, tmp_path: Path) -> None:
    await add(stores.redis, entry(1, 7))
    await record_all(stores)
    urls = json.loads((instance / "dev.json").read_text())
    env = given(instance) | {f"FLASHCLAIM_{name.upper()}": url for name, url in urls.items()}
    done = run("backup", str(tmp_path / "backup"), **env)
    assert done.returncode == 0, done.stderr
    assert "are not in it" in done.stderr
    assert sorted(path.name for path in (tmp_path / "backup").iterdir()) == [
        "ledger.dump",
        "manifest.json",
        "manifest.mac",
    ]
    assert run("restore", str(tmp_path / "backup"), "--replace", "--take-keys", **env).returncode == 1
    assert run("restore", str(tmp_path / "backup"), "--replace", **env).returncode == 0
    other = env | {"FLASHCLAIM_RECEIPT_KEYS": json.dumps({"1": "ab" * 32})}
    refused = run("restore", str(tmp_path / "backup"), "--replace", **other)
    assert refused.returncode == 1
    assert "other receipt keys" in refused.stderr
