"""The promise: keys are shown, rotated and retired by command, with or without a data directory; no secret is shown."""

import json
import os
import pwd
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from engine.ledger import actions, migrations
from engine.runtime import keyfile
from engine.runtime.settings import Settings

ROOT = Path(__file__).parents[2]


def run(*words: str, **env: str) -> "subprocess.CompletedProcess[str]":
    bare = {name: value for name, value in os.environ.items() if not name.startswith("FLASHCLAIM_")}
    return subprocess.run(
        [sys.executable, "-m", "cli", *words],
        cwd=ROOT,
        env={**bare, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def keys_dir(tmp_path: Path) -> Path:
    keyfile.ensure_keys(tmp_path)
    return tmp_path


def secrets_in(keys_dir: Path) -> set[str]:
    return set(re.findall(r"[0-9a-f]{64}", (keys_dir / "keys.json").read_text()))


def kept(keys_dir: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((keys_dir / "keys.json").read_text())
    return found


def test_keys_are_shown_rotated_and_retired_in_a_data_directory(keys_dir: Path) -> None:
    before = secrets_in(keys_dir)
    rotated = run("keys", "rotate", "ticket", "--data", str(keys_dir))
    assert rotated.returncode == 0, rotated.stderr
    shown = run("keys", "show", "--json", "--data", str(keys_dir))
    rows = [(row["kind"], row["id"], row["state"]) for row in json.loads(shown.stdout)]
    assert rows == [
        ("ticket", 1, "opens"),
        ("ticket", 2, "seals"),
        ("receipt", 1, "signs"),
        ("instant", 1, "commits"),
    ]
    assert all(re.fullmatch("[0-9a-f]{8}", row["fingerprint"]) for row in json.loads(shown.stdout))
    assert "seals" in run("keys", "show", "--data", str(keys_dir)).stdout
    unknown = run("keys", "retire", "ticket", "1", "--data", str(keys_dir))
    assert unknown.returncode == 2, "which tickets are good is not known: no instance runs"
    for words, status in (
        (("ticket", "2", "--force"), 1),
        (("receipt", "1", "--force"), 1),
        (("ticket", "9", "--force"), 1),
        (("ticket", "1", "--force"), 0),
    ):
        assert run("keys", "retire", *words, "--data", str(keys_dir)).returncode == status, words
    assert list(kept(keys_dir)["ticket_keys"]) == ["2"]
    said = rotated.stdout + rotated.stderr + shown.stdout + shown.stderr + unknown.stderr
    assert not {secret for secret in before | secrets_in(keys_dir) if secret in said}


@pytest.mark.usefixtures("ledger")  # an empty one
async def test_a_key_is_kept_while_the_ledger_has_a_drop_that_needs_it(keys_dir: Path, settings: Settings) -> None:
    keyfile.rotate(keys_dir, "ticket", settle_s=0)
    words = ("keys", "retire", "ticket", "1", "--data", str(keys_dir))
    away = {
        "FLASHCLAIM_REDIS_URL": "redis://127.0.0.1:1",
        "FLASHCLAIM_POSTGRES_URL": "postgresql://u:hunter22@127.0.0.1:1/x",
    }
    refused = run(*words, **away)
    assert refused.returncode == 1
    assert "the ledger does not answer" in refused.stderr
    assert "hunter22" not in refused.stderr + refused.stdout
    here = {"FLASHCLAIM_REDIS_URL": settings.redis_url, "FLASHCLAIM_POSTGRES_URL": settings.postgres_url}
    assert run("migrate", **here, **given(keys_dir)).returncode == 0
    assert run(*words, **here).returncode == 0


class TestTheRecord:
    """Each change of keys is a row of the chain, with ids and fingerprints; without a ledger that is said."""

    @pytest.fixture
    def here(self, settings: Settings) -> dict[str, str]:
        urls = {"REDIS_URL": settings.redis_url, "POSTGRES_URL": settings.postgres_url}
        forged = dict.fromkeys(("LOGNAME", "USER", "LNAME", "USERNAME"), "ann")  # whoever types it can set these
        return {**forged, **{f"FLASHCLAIM_{name}": url for name, url in urls.items()}}

    async def test_has_each_rotation_and_retirement(
        self, keys_dir: Path, here: dict[str, str], ledger: AsyncEngine
    ) -> None:
        for words in (("rotate", "ticket"), ("retire", "ticket", "1", "--force"), ("rotate", "session")):
            done = run("keys", *words, "--data", str(keys_dir), **here)
            assert done.returncode == 0, done.stderr
            assert "ROW" not in done.stderr
        ring = keyfile.ring_in(kept(keys_dir), "ticket")
        links = await _chain(ledger)
        rotated, retired, session = [link.action for link in links]
        assert [act.object for act in (rotated, retired, session)] == ["key:ticket", "key:ticket", "key:session"]
        assert [act.verb for act in (rotated, retired, session)] == ["rotate", "retire", "rotate"]
        login = pwd.getpwuid(os.getuid()).pw_name
        assert {act.actor for act in (rotated, retired, session)} == {login}, "the machine says who it was"
        assert rotated.before is not None
        first = rotated.before["keys"]["1"]
        assert rotated.before == {"current": 1, "keys": {"1": first}}
        assert rotated.after == {"current": 2, "keys": {"1": first, "2": ring.fingerprint(2)}}
        assert (retired.before, retired.after) == (rotated.after, ring.shown())
        assert retired.change == {"keys_of": str(keys_dir), "id": 1, "force": True}
        assert session.before != session.after
        told = json.dumps([[act.before, act.after] for act in (rotated, retired, session)])
        assert re.findall("[0-9a-f]{9,}", told) == [], "a fingerprint is eight digits, a secret 64"

    async def test_has_both_steps_of_a_rotation_in_the_environment(
        self, keys_dir: Path, here: dict[str, str], ledger: AsyncEngine
    ) -> None:
        env = {**given(keys_dir), **here}
        added = run("keys", "rotate", "ticket", "--env-file", "-", **env)
        env |= variables(added.stdout)
        assert run("keys", "rotate", "ticket", "--env-file", "-", **env).returncode == 0
        acts = [link.action for link in await _chain(ledger)]
        assert [(act.after["current"], list(act.after["keys"])) for act in acts] == [(1, ["1", "2"]), (2, ["1", "2"])]
        assert acts[0].after == acts[1].before
        assert {act.change["keys_of"] for act in acts} == {"environment"}

    async def test_is_missed_aloud_where_there_is_no_ledger(
        self, keys_dir: Path, here: dict[str, str], ledger: AsyncEngine
    ) -> None:
        """A leaked key waits for nothing: no ledger named, one that is away, one of another version."""
        nowhere = {**here, "FLASHCLAIM_POSTGRES_URL": "postgresql://u:hunter22@127.0.0.1:1/x"}
        for number, env in enumerate(({}, nowhere), start=2):
            rotated = run("keys", "rotate", "ticket", "--data", str(keys_dir), **env)
            assert rotated.returncode == 0, rotated.stderr
            assert f"ticket key {number} seals now" in rotated.stderr
            assert "NO ROW" in rotated.stderr
            assert "hunter22" not in rotated.stderr
            assert "Traceback" not in rotated.stderr
        await migrations.migrate(ledger, "0002", may_lose_data=True)
        try:
            retired = run("keys", "retire", "ticket", "1", "--force", "--data", str(keys_dir), **here)
        finally:
            await migrations.migrate(ledger)
        assert retired.returncode == 0
        assert "NO ROW" in retired.stderr
        assert "run `flashclaim migrate`" in retired.stderr
        assert list(kept(keys_dir)["ticket_keys"]) == ["2", "3"]
        assert await _chain(ledger) == []

    async def test_has_no_row_of_what_was_refused(
        self, keys_dir: Path, here: dict[str, str], ledger: AsyncEngine
    ) -> None:
        for words in (("retire", "ticket", "1", "--force"), ("retire", "receipt", "1")):
            assert run("keys", *words, "--data", str(keys_dir), **here).returncode == 1
        assert await _chain(ledger) == []


async def _chain(ledger: AsyncEngine) -> list[actions.Link]:
    async with ledger.connect() as connection:
        links = await actions.chain(connection)
    assert actions.broken_links(links) == []
    return links


def given(keys_dir: Path) -> dict[str, str]:
    found = kept(keys_dir)
    return {
        "FLASHCLAIM_TICKET_KEYS": json.dumps(found["ticket_keys"]),
        "FLASHCLAIM_TICKET_KEY_ID": str(found["ticket_key_id"]),
        "FLASHCLAIM_RECEIPT_KEYS": json.dumps(found["receipt_keys"]),
        "FLASHCLAIM_SESSION_SECRET": found["session_secret"],
    }


def variables(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())


def test_keys_of_the_environment_are_rotated_in_two_steps(keys_dir: Path, tmp_path: Path) -> None:
    env = given(keys_dir)
    refused = run("keys", "rotate", "ticket", **env)
    assert refused.returncode == 2
    assert "--env-file" in refused.stderr
    file = tmp_path / "new.env"
    added = run("keys", "rotate", "ticket", "--env-file", str(file), **env)
    assert added.returncode == 0, added.stderr
    assert added.stdout == ""
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    step = variables(file.read_text())
    assert step["FLASHCLAIM_TICKET_KEY_ID"] == "1", "no process seals with it before all have it"
    assert json.loads(step["FLASHCLAIM_TICKET_KEYS"]).keys() == {"1", "2"}
    turned = run("keys", "rotate", "ticket", "--env-file", "-", **{**env, **step})
    assert variables(turned.stdout) == {**step, "FLASHCLAIM_TICKET_KEY_ID": "2"}
    assert not {
        key for key in json.loads(step["FLASHCLAIM_TICKET_KEYS"]).values() if key in added.stderr + turned.stderr
    }
    dropped = run("keys", "retire", "ticket", "1", "--force", "--env-file", "-", **variables(turned.stdout))
    assert json.loads(variables(dropped.stdout)["FLASHCLAIM_TICKET_KEYS"]).keys() == {"2"}


def test_the_session_secret_is_changed_while_nothing_runs(keys_dir: Path) -> None:
    before = kept(keys_dir)
    assert run("keys", "rotate", "session", "--data", str(keys_dir)).returncode == 0
    after = kept(keys_dir)
    assert {name for name in before if before[name] != after[name]} == {"session_secret"}
    (keys_dir / "dev.json").write_text("{}")
    refused = run("keys", "rotate", "session", "--data", str(keys_dir))
    assert refused.returncode == 2
    assert "stop it first" in refused.stderr
    assert kept(keys_dir) == after


@pytest.mark.parametrize(
    ("name", "value"),
    [("TICKET_KEYS", "3f" * 32), ("TICKET_KEYS", '{"1": "%s"' % ("3f" * 32)), ("TICKET_KEY_ID", "3f" * 32)],
)
def test_what_is_wrong_with_keys_is_said_without_them(keys_dir: Path, name: str, value: str) -> None:
    wrong = {**given(keys_dir), f"FLASHCLAIM_{name}": value}
    for words in (("keys", "show"), ("keys", "rotate", "ticket", "--env-file", "-"), ("migrate",), ("doctor",)):
        refused = run(*words, **wrong)
        assert refused.returncode == 2, refused.stderr
        assert "ticket_key" in refused.stderr
        assert value[-40:] not in refused.stderr + refused.stdout
        assert "Traceback" not in refused.stderr
