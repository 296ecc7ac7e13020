"""The promise: a backup taken under traffic is whole, is restored whole or not at all, and a damaged one is refused."""

import json
import os
import shutil
import stat
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from api.app import create_app
from engine.claims import receipt
from engine.errors import Misconfigured
from engine.ledger import actions, migrations
from engine.members.session import SessionTokens
from engine.runtime import backup, keyfile, postgres_programs
from engine.runtime.backup import BackupInvalid, KeysDiffer, NotEmpty, Restored, RestoreUnfinished
from engine.runtime.connections import Stores, open_ledger
from engine.runtime.settings import Settings, load_settings
from tests.api.conftest import Api, running
from tests.engine.ledger.test_migrations import traffic
from tests.factories.ledger import record_all


@dataclass(frozen=True, slots=True)
class House:
    """A ledger with a data directory of its own."""

    data_dir: Path
    ledger: AsyncEngine

    @property
    def settings(self) -> Settings:
        return load_settings(self.data_dir)

    async def back_up(self, place: Path) -> backup.Manifest:
        return await backup.back_up(self.settings, self.ledger, self.data_dir, place)

    async def restore(self, place: Path, *, replace: bool = False, take_keys: bool = False) -> Restored:
        return await backup.restore(
            self.settings, self.ledger, self.data_dir, place, replace=replace, take_keys=take_keys, actor="boss"
        )


def house(data_dir: Path, ledger: AsyncEngine, settings: Settings, postgres_url: str) -> House:
    keyfile.ensure_keys(data_dir)
    urls = {"redis_url": settings.redis_url, "postgres_url": postgres_url}
    (data_dir / "dev.json").write_text(json.dumps(urls))
    return House(data_dir, ledger)


@pytest.fixture
async def here(tmp_path: Path, stores: Stores, settings: Settings) -> House:
    return house(tmp_path / "here", stores.ledger, settings, settings.postgres_url)


@pytest.fixture
async def there(tmp_path: Path, settings: Settings) -> AsyncIterator[House]:
    """Another machine: an empty database, keys of its own."""
    await _as_admin(settings, "drop database if exists restored with (force)", "create database restored")
    url = settings.postgres_url.replace("/flashclaim?", "/restored?")
    ledger = open_ledger(url)
    yield house(tmp_path / "there", ledger, settings, url)
    await ledger.dispose()
    await _as_admin(settings, "drop database restored with (force)")


async def _as_admin(settings: Settings, *statements: str) -> None:
    admin = open_ledger(settings.postgres_url)
    async with admin.connect() as connection:
        settled = await connection.execution_options(isolation_level="AUTOCOMMIT")
        for statement in statements:
            await settled.execute(text(statement))
    await admin.dispose()


async def contents(ledger: AsyncEngine) -> dict[str, list[str]]:
    """Every row of every table, as text."""
    async with ledger.connect() as connection:
        tables = list(await connection.scalars(text("select tablename from pg_tables where schemaname = 'public'")))
        return {
            table: sorted(await connection.scalars(text(f'select t::text from public."{table}" t'))) for table in tables
        }


async def without_the_restore(ledger: AsyncEngine) -> dict[str, list[str]]:
    """As `contents`, once the last act is seen to be a restore and taken away. It names no store that may decide."""
    async with ledger.begin() as connection:
        query = "delete from operator_actions where id = (select max(id) from operator_actions) returning verb"
        assert await connection.scalar(text(query)) == "restore"
    return await contents(ledger)


async def chain(ledger: AsyncEngine) -> list[actions.Link]:
    async with ledger.connect() as connection:
        links = await actions.chain(connection)
    assert actions.broken_links(links) == []
    return links


async def rush(here: House, stores: Stores, members: Iterable[int], drop_id: str = "trial") -> list[str]:
    """Members claim through the real API; their receipts."""
    async with running(create_app(here.settings)) as client:
        api = Api(client, SessionTokens(here.settings))
        await api.launched(drop_id, stock=1_000)
        return [
            (await api.claim(await api.ticket(f"m-{member}", drop_id), drop_id)).json()["receipt"] for member in members
        ]


class TestAWholeBackup:
    async def test_is_restored_on_another_machine_with_its_keys(
        self, here: House, there: House, stores: Stores, tmp_path: Path
    ) -> None:
        receipts = await rush(here, stores, range(20))
        await record_all(stores)
        manifest = await here.back_up(tmp_path / "backup")
        assert manifest.rows["claims"] == 20
        assert manifest.migration == migrations.newest()
        before = (there.data_dir / "keys.json").read_text()
        restored = await there.restore(tmp_path / "backup", take_keys=True)
        assert await without_the_restore(there.ledger) == {**await contents(here.ledger), "homes": []}
        assert restored.drops == ["trial"]
        assert (there.data_dir / "keys.json").read_text() == (here.data_dir / "keys.json").read_text()
        assert restored.keys_aside is not None
        assert restored.keys_aside.read_text() == before
        assert stat.S_IMODE(restored.keys_aside.stat().st_mode) == 0o600
        for proof in receipts:
            assert receipt.verify(there.settings.receipt_keyring, proof).claim_id.drop_id == "trial"

    async def test_is_for_its_owner_alone(self, here: House, tmp_path: Path) -> None:
        before = os.umask(0)
        try:
            await here.back_up(tmp_path / "backup")
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "backup").stat().st_mode) == 0o700
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "backup").iterdir()}
        assert modes == dict.fromkeys(("ledger.dump", "keys.json", "manifest.json", "manifest.mac"), 0o600)

    async def test_taken_under_traffic_is_one_moment(
        self, here: House, there: House, stores: Stores, tmp_path: Path
    ) -> None:
        """Claims are decided and written by a real worker all the while; serials tell what a moment must have."""
        async with traffic(stores.redis, stores.ledger) as claiming:
            counted = []
            for number in range(3):
                await claiming.goes_on()
                counted.append((await here.back_up(tmp_path / f"backup-{number}")).rows["claims"])
            await claiming.goes_on()
            await claiming.nothing_is_lost()
        assert 0 < counted[0] < counted[1] < counted[2]
        await there.restore(tmp_path / "backup-2", take_keys=True)
        async with there.ledger.connect() as connection:
            serials = list(await connection.scalars(text("select serial from claims order by serial")))
        assert serials == list(range(1, counted[2] + 1))

    async def test_of_an_older_migration_is_brought_to_this_one(
        self, here: House, there: House, stores: Stores, tmp_path: Path
    ) -> None:
        await migrations.migrate(stores.ledger, "0001", may_lose_data=True)
        try:
            await here.back_up(tmp_path / "backup")
        finally:
            await migrations.migrate(stores.ledger)
        await there.restore(tmp_path / "backup", take_keys=True)
        assert await migrations.current(there.ledger) == migrations.newest()

    async def test_replaces_a_ledger_only_when_told_so(self, here: House, stores: Stores, tmp_path: Path) -> None:
        await rush(here, stores, range(3))
        await record_all(stores)
        before = await contents(here.ledger)
        await here.back_up(tmp_path / "backup")
        await rush(here, stores, range(3), "later")
        await record_all(stores)
        with pytest.raises(NotEmpty, match="6 rows in claims"):
            await here.restore(tmp_path / "backup")
        restored = await here.restore(tmp_path / "backup", replace=True)
        assert await without_the_restore(here.ledger) == {**before, "homes": []}
        assert restored.keys_aside is None

    async def test_goes_on_after_a_rotation(self, here: House, stores: Stores, tmp_path: Path) -> None:
        await here.back_up(tmp_path / "backup")
        keyfile.rotate(here.data_dir, "receipt", settle_s=0)
        await here.restore(tmp_path / "backup", replace=True)

    async def test_of_keys_in_the_environment_has_none(self, here: House, stores: Stores, tmp_path: Path) -> None:
        manifest = await backup.back_up(here.settings, here.ledger, None, tmp_path / "backup")
        assert list(manifest.files) == ["ledger.dump"]
        assert not (tmp_path / "backup" / "keys.json").exists()
        where = here.settings, here.ledger, None, tmp_path / "backup"
        await backup.restore(*where, replace=True, take_keys=False, actor="boss")


class TestTheRow:
    async def test_says_who_restored_what_over_which_record(self, here: House, stores: Stores, tmp_path: Path) -> None:
        await rush(here, stores, range(3))
        await record_all(stores)
        manifest = await here.back_up(tmp_path / "backup")
        await rush(here, stores, range(3), "later")
        await record_all(stores)
        before = await chain(here.ledger)
        await here.restore(tmp_path / "backup", replace=True)
        *old, row = await chain(here.ledger)
        assert old == before[: len(old)]
        assert len(before) == len(old) + 2
        act = row.action
        assert (act.object, act.verb, act.actor) == ("ledger:flashclaim", "restore", "boss")
        assert act.change == {
            "backup": str(tmp_path / "backup"),
            "made_at": manifest.made_at.isoformat(),
            "migration": migrations.newest(),
            "sha256": manifest.files["ledger.dump"].sha256,
        }
        assert act.before is not None
        assert act.before["last_link"] == {"row": before[-1].id, "hash": before[-1].hash.hex()}
        assert (act.before["rows"]["claims"], act.after["rows"]["claims"]) == (6, 3)

    async def test_has_the_keys_that_came_by_their_fingerprints(
        self, here: House, there: House, stores: Stores, tmp_path: Path
    ) -> None:
        await here.back_up(tmp_path / "backup")
        keys = [keyfile.shown(keyfile.read(house.data_dir)) for house in (there, here)]
        await there.restore(tmp_path / "backup", take_keys=True)
        (row,) = await chain(there.ledger)
        assert row.action.before is not None
        assert [row.action.before["keys"], row.action.after["keys"]] == keys
        assert row.action.before["last_link"] is None
        assert row.action.before["migration"] is None

    async def test_of_an_older_backup_begins_the_chain(
        self, here: House, there: House, stores: Stores, tmp_path: Path
    ) -> None:
        await migrations.migrate(stores.ledger, "0002", may_lose_data=True)
        try:
            await here.back_up(tmp_path / "backup")
        finally:
            await migrations.migrate(stores.ledger)
        await there.restore(tmp_path / "backup", take_keys=True)
        (row,) = await chain(there.ledger)
        assert (row.action.change["migration"], row.action.after["migration"]) == ("0002", migrations.newest())

    async def test_that_cannot_be_written_is_told_with_where_the_old_record_ended(
        self, here: House, stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Somebody holds the end of the chain. The ledger is restored by then: a second restore writes the row."""
        monkeypatch.setattr(backup, "LEDGER_LOCK_TIMEOUT", "200ms")
        await rush(here, stores, range(3))
        await record_all(stores)
        *_, last = await chain(here.ledger)
        await here.back_up(tmp_path / "backup")
        other = open_ledger(here.settings.postgres_url)
        async with other.begin() as connection:
            await connection.execute(text(f"select pg_advisory_xact_lock({actions._ADVISORY_LOCK})"))
            with pytest.raises(RestoreUnfinished, match=f"no row of the act.*'row': {last.id}.*{last.hash.hex()}"):
                await here.restore(tmp_path / "backup", replace=True)
        await other.dispose()
        assert (await chain(here.ledger))[-1] == last
        await here.restore(tmp_path / "backup", replace=True)
        assert (await chain(here.ledger))[-1].action.verb == "restore"


async def test_a_backup_is_never_written_over(here: House, tmp_path: Path) -> None:
    await here.back_up(tmp_path / "backup")
    with pytest.raises(NotEmpty, match="not empty"):
        await here.back_up(tmp_path / "backup")


class TestABadBackup:
    @pytest.fixture
    async def place(self, here: House, stores: Stores, tmp_path: Path) -> Path:
        await rush(here, stores, range(3))
        await record_all(stores)
        await here.back_up(tmp_path / "backup")
        return tmp_path / "backup"

    @pytest.mark.parametrize("name", ["ledger.dump", "keys.json", "manifest.json", "manifest.mac"])
    @pytest.mark.parametrize("fault", ["missing", "empty", "cut off", "one bit", "longer", "link"])
    async def test_is_refused_and_changes_nothing(
        self, place: Path, here: House, there: House, name: str, fault: str
    ) -> None:
        file = place / name
        whole = file.read_bytes()
        middle = len(whole) // 2
        file.unlink()
        if fault == "link":
            shutil.copy(here.data_dir / "keys.json", place.parent / "elsewhere")
            (place.parent / "elsewhere").write_bytes(whole)
            if name in ("manifest.json", "manifest.mac"):
                (place.parent / "elsewhere").write_bytes(whole[:-3])
            file.symlink_to(place.parent / "elsewhere")
        elif fault != "missing":
            broken = {
                "empty": b"",
                "cut off": whole[:middle],
                "one bit": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
                "longer": whole + b"x",
            }
            file.touch(0o600)
            file.write_bytes(broken[fault])
        before = await contents(here.ledger), (here.data_dir / "keys.json").read_text()
        for target, take in ((here, False), (here, True), (there, True)):
            with pytest.raises((BackupInvalid, KeysDiffer)) as refused:
                await target.restore(place, replace=True, take_keys=take)
            assert str(place) in refused.value.detail or "brings no keys" in refused.value.detail
        assert (await contents(here.ledger), (here.data_dir / "keys.json").read_text()) == before
        assert await contents(there.ledger) == {}

    async def test_that_somebody_else_made_is_refused(self, place: Path, here: House, there: House) -> None:
        """A forger writes a manifest that fits his dump, and seals it with keys of his own."""
        await there.restore(place, take_keys=True)
        keyfile.put(there.data_dir, {**keyfile.read(there.data_dir), **_other_keys()})
        async with there.ledger.begin() as connection:
            await connection.execute(text("update claims set member_id = 'forger'"))
        forged = place.parent / "forged"
        await there.back_up(forged)
        with pytest.raises(KeysDiffer, match="If you trust where it comes from"):
            await here.restore(forged, replace=True)

    async def test_whose_dump_does_not_hold_what_the_manifest_counts_is_undone(
        self, place: Path, here: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever has the keys may still have made a mistake: the counts are compared before the commit."""
        written = json.loads((place / "manifest.json").read_text())
        written["rows"]["claims"] += 1
        manifest = msgspec.json.decode(json.dumps(written), type=backup.Manifest)
        backup._seal(manifest, here.settings.receipt_keyring, place)
        before = await contents(here.ledger)
        with pytest.raises(postgres_programs.ProgramFailed, match="other rows than the manifest says"):
            await here.restore(place, replace=True)
        assert await contents(here.ledger) == before

    @pytest.mark.parametrize(
        ("change", "words"), [({"format": 2}, "format 2"), ({"migration": "9999"}, "newer version")]
    )
    async def test_of_a_newer_version_is_refused(
        self, place: Path, here: House, change: dict[str, Any], words: str
    ) -> None:
        written = json.loads((place / "manifest.json").read_text()) | change
        manifest = msgspec.json.decode(json.dumps(written), type=backup.Manifest)
        backup._seal(manifest, here.settings.receipt_keyring, place)
        with pytest.raises(BackupInvalid, match=words):
            await here.restore(place, replace=True)


def _other_keys() -> dict[str, object]:
    return {"receipt_keys": {"1": "ab" * 32}, "receipt_key_id": 1}


class TestPrograms:
    async def test_that_fail_say_why_without_the_password(self, tmp_path: Path) -> None:
        programs = postgres_programs.PostgresPrograms("postgresql://u:hunter22@127.0.0.1:1/x", 14)
        with pytest.raises(postgres_programs.ProgramFailed, match="pg_dump failed") as failed:
            await programs.dump(tmp_path / "dump", "1")
        assert "hunter22" not in failed.value.detail

    def test_that_are_too_old_are_named(self) -> None:
        with pytest.raises(Misconfigured, match="version 99 or newer"):
            postgres_programs.PostgresPrograms("postgresql://x/x", 99)
