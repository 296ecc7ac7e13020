"""`flashclaim doctor`: what runs, what is unsafe, what to do."""

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cli.options import AsJson, DataDir, found_data_dir, print_json, print_table

if TYPE_CHECKING:
    from engine.runtime.doctor import Finding


def register(app: typer.Typer) -> None:
    @app.command()
    def doctor(as_json: AsJson = False, data: DataDir = None) -> None:
        """Look at the stores, the ledger and this machine; exit 1 when something is wrong.

        Example:  flashclaim doctor --data .flashclaim
        """
        findings = asyncio.run(_diagnose(found_data_dir(data)))
        if as_json:
            print_json([asdict(finding) for finding in findings])
        else:
            rows: list[list[object]] = [[finding.level, finding.what, finding.advice] for finding in findings]
            print_table("doctor", ["level", "what", "advice"], rows)
        if any(finding.level == "error" for finding in findings):
            raise typer.Exit(1)


async def _diagnose(data_dir: Path | None) -> "list[Finding]":
    from engine.runtime.connections import open_stores
    from engine.runtime.doctor import diagnose
    from engine.runtime.settings import load_settings

    settings = load_settings(data_dir)
    async with open_stores(settings) as stores:
        return await diagnose(settings, stores, data_dir)
