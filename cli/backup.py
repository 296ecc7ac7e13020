"""`flashclaim backup` and `flashclaim restore`: the ledger and the keys, whole and verified."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import DataDir, found_data_dir, operator, say

if TYPE_CHECKING:
    from engine.ledger.homecoming import Beside
    from engine.runtime.backup import Manifest, Restored

Place = Annotated[Path, typer.Argument(metavar="DIR", help="The backup's directory.")]


def register(app: typer.Typer) -> None:
    @app.command()
    def backup(place: Place, data: DataDir = None) -> None:
        """Back up the ledger as it is at this moment, and the keys of the data directory; claims go on.

        Keys that come from the environment are not in it: keep them in your secret store.

        Example:  flashclaim backup /var/backups/flashclaim-2026-07-01
        """
        manifest = asyncio.run(_back_up(place, data))
        say(f"{_counts(manifest)} at migration {manifest.migration} are in {place}")
        if len(manifest.files) == 1:
            say("keys come from the environment here and are not in it: your secret store must keep them")
        else:
            say("it holds the keys: who reads it can make tickets and receipts")

    @app.command()
    def restore(
        place: Place,
        replace: Annotated[bool, typer.Option("--replace", help="Though the ledger here has rows: they go.")] = False,
        take_keys: Annotated[
            bool,
            typer.Option("--take-keys", help="The backup's keys too; those here are kept beside them."),
        ] = False,
        data: DataDir = None,
    ) -> None:
        """Put a backup's ledger in the place of the one here, in one transaction. Stop `serve` and `worker` before.

        The store is left as it is. What it knows that the backup does not is told, with what to do about it.

        Example:  flashclaim restore /var/backups/flashclaim-2026-07-01 --take-keys
        """
        restored = asyncio.run(_restore(place, replace, take_keys, data))
        manifest = restored.manifest
        say(f"{_counts(manifest)} are restored, as they were at {manifest.made_at:%Y-%m-%d %H:%M:%S} UTC")
        if take_keys:
            aside = f"; those from before are in {restored.keys_aside}" if restored.keys_aside else ""
            say(f"the backup's keys are in place{aside}. Restart the instance: session tokens are made under them")
        _tell_store(restored.drops, asyncio.run(_beside(data)))


def _tell_store(started: list[str], beside: "dict[str, Beside] | str") -> None:
    """Say drop by drop what is to be done about the store, which is in no backup."""
    if isinstance(beside, str):
        say(f"{beside} does not answer. When it does, ask for each drop how the store has it: flashclaim rebuild DROP")
        return
    for drop in started:
        if beside[drop].is_missing:
            say(f"the store does not know the claims of {drop}: flashclaim rebuild {drop} --apply")
    ahead = {drop: found for drop, found in beside.items() if found.serials or found.acts}
    for drop, found in ahead.items():
        options = " --receipts FILE" * bool(found.serials) + " --forget-acts" * bool(found.acts)
        say(
            f"the store knows {found.serials} serials and {found.acts} acts of {drop} that this backup does not:"
            f" flashclaim rebuild {drop}{options} --apply"
        )
    if ahead:
        say(
            "Was the ledger lost? Then do not empty the store: it alone knows which serials were given. Is what came"
            " after the backup to go? Then empty the store (FLUSHDB) while serve and worker are stopped, and flashclaim"
            " rebuild DROP --apply. See `Back up and restore` in docs/how-to.md"
        )


async def _back_up(place: Path, data: Path | None) -> "Manifest":
    from engine.runtime.backup import back_up
    from engine.runtime.connections import open_stores
    from engine.runtime.settings import load_settings

    data_dir = found_data_dir(data)
    settings = load_settings(data_dir)
    async with open_stores(settings) as stores:
        return await back_up(settings, stores.ledger, _with_keys(data_dir), place)


async def _restore(place: Path, replace: bool, take_keys: bool, data: Path | None) -> "Restored":
    from engine.runtime import backup
    from engine.runtime.connections import open_stores
    from engine.runtime.settings import load_settings

    data_dir = found_data_dir(data)
    settings = load_settings(data_dir)
    async with open_stores(settings) as stores:
        where = settings, stores.ledger, _with_keys(data_dir), place
        return await backup.restore(*where, replace=replace, take_keys=take_keys, actor=operator())


async def _beside(data: Path | None) -> "dict[str, Beside] | str":
    """How the store stands to the ledger; or which of the two does not answer, for the restore is done all the same."""
    from engine.errors import FlashclaimError
    from engine.ledger.homecoming import beside
    from engine.runtime.connections import LEDGER_AWAY, open_stores
    from engine.runtime.settings import load_settings

    settings = load_settings(found_data_dir(data))
    async with open_stores(settings) as stores:
        try:
            return await beside(stores, settings.partitions)
        except FlashclaimError:
            return "the store"
        except LEDGER_AWAY:
            return "the ledger"


def _with_keys(data_dir: Path | None) -> Path | None:
    """The data directory, when the keys are its own."""
    from engine.runtime.settings import keys_given

    return None if "receipt_keys" in keys_given() else data_dir


def _counts(manifest: "Manifest") -> str:
    return ", ".join(f"{count} {table.replace('_', ' ')}" for table, count in manifest.rows.items())
