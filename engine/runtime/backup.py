"""Backs up the ledger and the keys while claims go on, and restores them: whole and verified, or not at all.

A backup is a directory for its owner alone:

    ledger.dump    all tables at one moment, as pg_dump's custom format
    keys.json      the data directory's secrets; not there when keys come from the environment
    manifest.json  versions, migration, rows of each table, size and SHA-256 of each file
    manifest.mac   the manifest's MAC under a receipt key

The manifest is written last, so a backup that was cut off has none. The MAC says that the manifest was made by somebody
who has the key: a dump is SQL, and a forged one could do anything to the database that it is restored in.
"""

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import file_digest
from hmac import compare_digest
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import msgspec
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from engine.bounds import LEDGER_LOCK_TIMEOUT
from engine.claims.keyring import Keyring
from engine.errors import FlashclaimError, Invalid, Refused, Unavailable
from engine.ledger import actions, homes, migrations
from engine.ledger.schema import metadata
from engine.runtime import keyfile
from engine.runtime.keyfile import KEYS_FILE, write_private
from engine.runtime.postgres_programs import PostgresPrograms
from engine.runtime.settings import Settings, keyring_of

DUMP_FILE, MANIFEST_FILE, MAC_FILE = "ledger.dump", "manifest.json", "manifest.mac"
FORMAT = 1
_PURPOSE = b"flashclaim.bkup"
_LOCK_TIMEOUT = "10s"
_ERROR_CHARS_MAX = 300
_STARTED = "select id from drops where status not in ('draft', 'closed') order by id"


class BackupInvalid(Invalid):
    """A backup is damaged, cut off, forged, or of a newer version."""

    code: ClassVar[str] = "backup-invalid"


class NotEmpty(Refused):
    """What would be written over was not given up."""

    code: ClassVar[str] = "not-empty"


class KeysDiffer(Refused):
    """A backup was sealed under a key that is not kept here."""

    code: ClassVar[str] = "keys-differ"


class RestoreUnfinished(Unavailable):
    """A ledger is restored, and what has to follow was not done: the act has no row."""

    code: ClassVar[str] = "restore-unfinished"


class FileSum(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    size_bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a backup says of itself."""

    format: int
    made_at: datetime
    flashclaim: str
    postgres: int  # the server's major version
    migration: str
    rows: dict[str, int]
    files: dict[str, FileSum]


class Mac(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key_id: int
    mac: str


@dataclass(frozen=True, slots=True)
class Restored:
    """What came of a restore: `keys_aside` holds the keys that were here before, `drops` those to be rebuilt."""

    manifest: Manifest
    keys_aside: Path | None
    drops: list[str]


async def back_up(settings: Settings, ledger: AsyncEngine, data_dir: Path | None, place: Path) -> Manifest:
    """Write a backup into a new or empty directory; its manifest."""
    _make(place)
    async with ledger.connect() as connection:
        await connection.execute(text("set transaction isolation level repeatable read, read only"))
        migration = await migrations.at(connection)
        if migration is None:
            raise Refused("the ledger has no tables: there is nothing to back up")
        postgres = await _server_version(connection)
        rows = await _rows(connection)
        snapshot = await connection.scalar(text("select pg_export_snapshot()"))
        # The snapshot lives as long as this transaction: what is dumped is what was counted, whatever is written now.
        await PostgresPrograms(settings.postgres_url, postgres).dump(place / DUMP_FILE, str(snapshot))
    files = [DUMP_FILE, *_copied_keys(data_dir, place)]
    sums = {name: _sum(place / name) for name in files}
    manifest = Manifest(FORMAT, datetime.now(UTC), version("flashclaim"), postgres, migration, rows, sums)
    _seal(manifest, settings.receipt_keyring, place)
    return manifest


def _make(place: Path) -> None:
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(place.iterdir()):
        raise NotEmpty(f"{place} is not empty: name a new directory")
    place.chmod(0o700)


def _copied_keys(data_dir: Path | None, place: Path) -> list[str]:
    """The name of the keys file in a backup; none when keys come from the environment."""
    if data_dir is None:
        return []
    write_private(place / KEYS_FILE, json.dumps(keyfile.required(data_dir), indent=2) + "\n")
    return [KEYS_FILE]


def _seal(manifest: Manifest, keyring: Keyring, place: Path) -> None:
    written = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    mac = Mac(keyring.current, keyring.mac(keyring.current, _PURPOSE, written).hex())
    write_private(place / MAC_FILE, msgspec.json.encode(mac).decode())
    write_private(place / MANIFEST_FILE, written.decode())


async def restore(
    settings: Settings,
    ledger: AsyncEngine,
    data_dir: Path | None,
    place: Path,
    *,
    replace: bool,
    take_keys: bool,
    actor: str,
) -> Restored:
    """Put a backup's ledger, and its keys when told so, in the place of what is here.

    The act is the last row of the restored record: who, from which backup, and where the record here had ended.

    Raises `BackupInvalid`; `KeysDiffer` when another machine's keys sealed it, unless its keys are taken; `NotEmpty`
    when the ledger here has rows, unless they may go; `RestoreUnfinished` when the ledger goes away in between.
    """
    if take_keys and data_dir is None:
        raise Refused("keys come from the environment here: bring those of the backup into your secret store instead")
    manifest = verify(place, _backup_keyring(place) if take_keys else settings.receipt_keyring)
    if not migrations.is_known(manifest.migration):
        raise BackupInvalid(f"{place} has migration {manifest.migration}, which a newer version made: use that version")
    here = await _look(ledger)
    if any(here.rows.values()) and not replace:
        filled = ", ".join(f"{count} rows in {table}" for table, count in here.rows.items() if count)
        raise NotEmpty(f"the ledger here is not empty ({filled}): back it up, then allow it to be replaced")
    programs = PostgresPrograms(settings.postgres_url, max(here.postgres, manifest.postgres))
    await programs.restore(place / DUMP_FILE, before=_clearing(list(here.rows)), after=_counting(manifest.rows))
    try:
        keys_of = data_dir if take_keys else None
        return await _finish(ledger, keys_of, place, manifest, here, actor)
    except (SQLAlchemyError, OSError, FlashclaimError) as error:
        why = str(error).partition("\n")[0][:_ERROR_CHARS_MAX]
        raise RestoreUnfinished(
            f"the ledger is restored, but no row of the act was written, and its tables may be old: {why}. Restore"
            f" again with --replace, and keep this: the record of acts that was here ended at {here.last_link}"
        ) from error


class _Here(NamedTuple):
    """The ledger that is about to be replaced; `last_link` is where its record of acts ends."""

    migration: str | None
    rows: dict[str, int]
    postgres: int
    last_link: dict[str, Any] | None


async def _look(ledger: AsyncEngine) -> _Here:
    async with ledger.connect() as connection:
        found = await migrations.at(connection)
        if not migrations.is_known(found):
            raise Refused(f"the ledger here is at migration {found}, which a newer version made: use that version")
        last = await actions.last(connection) if migrations.is_chained(found) else None
        link = {"row": last[0], "hash": last[1].hex()} if last else None
        return _Here(found, await _rows(connection), await _server_version(connection), link)


async def _finish(
    ledger: AsyncEngine, keys_of: Path | None, place: Path, manifest: Manifest, here: _Here, actor: str
) -> Restored:
    """What follows once the dump is in: the keys of a data directory, newer tables, and the row of the act."""
    before: dict[str, Any] = {"migration": here.migration, "rows": here.rows, "last_link": here.last_link}
    after: dict[str, Any] = {"migration": migrations.newest(), "rows": manifest.rows}
    aside = None
    if keys_of is not None:
        before["keys"] = keyfile.shown(keyfile.read(keys_of))
        aside = keyfile.put(keys_of, keyfile.read(place))
        after["keys"] = keyfile.shown(keyfile.read(keys_of))
    await migrations.migrate(ledger)
    async with ledger.begin() as connection:
        await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
        await homes.forget(connection)  # that of another ledger, or of this one at another time
        drops = list(await connection.scalars(text(_STARTED)))
        ledger_name = f"ledger:{await connection.scalar(text('select current_database()'))}"
        change = _from(place, manifest)
        await actions.record(connection, ledger_name, "restore", actor, change=change, before=before, after=after)
    return Restored(manifest, aside, drops)


def _from(place: Path, manifest: Manifest) -> dict[str, str]:
    return {
        "backup": str(place.resolve()),
        "made_at": manifest.made_at.isoformat(),
        "migration": manifest.migration,
        "sha256": manifest.files[DUMP_FILE].sha256,
    }


def verify(place: Path, keyring: Keyring) -> Manifest:
    """The manifest of a backup whose every byte is as it was made; raises `BackupInvalid`, `KeysDiffer`."""
    try:
        written, mac_text = ((place / name).read_bytes() for name in (MANIFEST_FILE, MAC_FILE))
        mac = msgspec.json.decode(mac_text, type=Mac)
        claimed = bytes.fromhex(mac.mac)
        manifest = msgspec.json.decode(written, type=Manifest)
    except OSError as error:
        raise BackupInvalid(f"{place} is no whole backup: {error.filename} cannot be read") from None
    except (msgspec.MsgspecError, ValueError):
        raise BackupInvalid(f"{place} is damaged: its manifest cannot be read") from None
    if manifest.format != FORMAT:
        raise BackupInvalid(f"{place} has format {manifest.format}, this version reads {FORMAT}")
    if mac.key_id not in keyring.keys or not compare_digest(claimed, keyring.mac(mac.key_id, _PURPOSE, written)):
        raise KeysDiffer(
            f"{place} was altered, or made under other receipt keys than those here. If you trust where it comes from,"
            " take its keys too"
        )
    for name in {*manifest.files, DUMP_FILE}:
        path = place / name
        if name not in (DUMP_FILE, KEYS_FILE) or path.is_symlink() or not path.is_file():
            raise BackupInvalid(f"{place} is no whole backup: {name} is missing or does not belong there")
        if name not in manifest.files or _sum(path) != manifest.files[name]:
            raise BackupInvalid(f"{path} is damaged: it is not what the manifest says")
    return manifest


def _backup_keyring(place: Path) -> Keyring:
    """The receipt keys that a backup brings: by them damage is seen, but a forger brings his own."""
    try:
        ring = keyfile.ring_in(keyfile.required(place), "receipt")
        return keyring_of("receipt", ring.current, ring.keys)
    except FlashclaimError as error:
        raise BackupInvalid(f"the backup brings no keys that can be taken: {error.detail}") from None


def _sum(path: Path) -> FileSum:
    with path.open("rb") as file:
        digest = file_digest(file, "sha256").hexdigest()
        return FileSum(os.fstat(file.fileno()).st_size, digest)


async def _server_version(connection: AsyncConnection) -> int:
    return int(await connection.scalar(text("show server_version_num"))) // 10_000


async def _rows(connection: AsyncConnection) -> dict[str, int]:
    """The rows of each of our tables; none where there are no tables yet."""
    listed = text("select tablename from pg_tables where schemaname = 'public' and tablename = any(:ours)")
    tables = sorted(await connection.scalars(listed, {"ours": list(metadata.tables)}))
    counts = {table: text(f'select count(*) from public."{table}"') for table in tables}
    return {table: int(await connection.scalar(count) or 0) for table, count in counts.items()}


def _clearing(tables: list[str]) -> str:
    """SQL that keeps workers out and takes away what is here, in the transaction of the restore."""
    names = ", ".join(f'public."{table}"' for table in (*tables, "alembic_version"))
    return f"set lock_timeout = '{_LOCK_TIMEOUT}'; {migrations.KEEP_OUT}; drop table if exists {names}"


def _counting(rows: dict[str, int]) -> str:
    """SQL that undoes the restore when a table has other rows than the manifest says."""
    checks = " or ".join(f'(select count(*) from public."{table}") <> {int(count)}' for table, count in rows.items())
    return f"do $$ begin if {checks} then raise 'the dump has other rows than the manifest says'; end if; end $$"
