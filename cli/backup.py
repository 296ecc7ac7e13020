"""`flashclaim backup` and `flashclaim restore`: the ledger and the keys, whole and verified."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import DataDir, found_data_dir, say

if TYPE_CHECKING:
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

        Example:  flashclaim restore /var/backups/flashclaim-2026-07-01 --take-keys
        """
        restored = asyncio.run(_restore(place, replace, take_keys, data))
        manifest = restored.manifest
        say(f"{_counts(manifest)} are restored, as they were at {manifest.made_at:%Y-%m-%d %H:%M:%S} UTC")
        if take_keys:
            aside = f"; those from before are in {restored.keys_aside}" if restored.keys_aside else ""
            say(f"the backup's keys are in place{aside}. Restart the instance: session tokens are made under them")
        for drop in restored.drops:
            say(f"the store does not know the claims of {drop} yet: flashclaim rebuild {drop} --apply")


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
        return await backup.restore(
            settings, stores.ledger, _with_keys(data_dir), place, replace=replace, take_keys=take_keys
        )


def _with_keys(data_dir: Path | None) -> Path | None:
    """The data directory, when the keys are its own."""
    from engine.runtime.settings import keys_given

    return None if "receipt_keys" in keys_given() else data_dir


def _counts(manifest: "Manifest") -> str:
    return ", ".join(f"{count} {table.replace('_', ' ')}" for table, count in manifest.rows.items())
