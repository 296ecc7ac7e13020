"""The promise: the ledger is brought forward and back by command; a step back must be allowed."""

import json
import os
import pwd
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine

from engine.ledger import actions, migrations
from engine.runtime import keyfile
from engine.runtime.settings import Settings
from tests.cli.test_keys import given, run


async def test_the_ledger_goes_back_and_forth(ledger: AsyncEngine, settings: Settings, tmp_path: Path) -> None:
    keyfile.ensure_keys(tmp_path)
    env = given(tmp_path) | {
        "FLASHCLAIM_REDIS_URL": settings.redis_url,
        "FLASHCLAIM_POSTGRES_URL": settings.postgres_url,
    }
    refused = run("migrate", "--to", "0001", **env)
    assert refused.returncode == 1
    assert "take a backup" in refused.stderr
    assert run("migrate", "--to", "nowhere", **env).returncode == 2
    assert await migrations.current(ledger) == migrations.newest()
    back = run("migrate", "--to", "0001", "--lose-data", **env)
    assert "at migration 0001" in back.stderr
    assert "no row was written" in back.stderr
    sick = run("doctor", "--json", **env)
    assert sick.returncode == 1
    assert "run `flashclaim migrate`" in {finding["advice"] for finding in json.loads(sick.stdout)}
    for _ in range(2):
        forward = run("migrate", **env, LOGNAME="ann")
        assert f"at migration {migrations.newest()}" in forward.stderr
        assert "no row" not in forward.stderr
    assert await migrations.current(ledger) == migrations.newest()
    async with ledger.connect() as connection:
        (link,) = await actions.chain(connection)
    assert actions.broken_links([link]) == []
    login = pwd.getpwuid(os.getuid()).pw_name  # not the environment's, which anybody sets
    assert (link.action.object, link.action.verb, link.action.actor) == ("ledger:flashclaim", "migrate", login)
    assert (link.action.before, link.action.after) == ({"migration": "0001"}, {"migration": migrations.newest()})
