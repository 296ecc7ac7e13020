"""`flashclaim audit` and `flashclaim export`: the truth about a drop."""

import asyncio
import csv
import gc
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.options import AsJson, DataDir, DropArgument, found_data_dir, print_json, print_table, say

if TYPE_CHECKING:
    from engine.ledger.audit import AuditReport


_FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")


def register(app: typer.Typer) -> None:
    @app.command()
    def audit(
        drop: DropArgument,
        client_log: Annotated[
            Path | None, typer.Option(help="What clients were told: JSON lines, as `flashclaim rush` writes them.")
        ] = None,
        wait_s: Annotated[
            float, typer.Option("--wait", help="Seconds to wait for the ledger to catch up.", min=0)
        ] = 30.0,
        as_json: AsJson = False,
        data: DataDir = None,
    ) -> None:
        """Compare client log, store, outbox and ledger claim by claim; exit 1 when anything differs.

        Example:  flashclaim audit lychee-2025 --client-log .flashclaim/rush/claims.jsonl
        """
        gc.disable()  # millions of small facts, none of them in a cycle: walking them takes a third of the time
        report = asyncio.run(_audit(drop, client_log, wait_s, data))
        if as_json:
            print_json(asdict(report))
        else:
            figures = {name: value for name, value in asdict(report).items() if name not in ("items", "details")}
            print_table(f"audit of {drop}", ["figure", "value"], [[name, value] for name, value in figures.items()])
            for detail in report.details:
                say(detail)
        if report.differences:
            raise typer.Exit(1)

    @app.command()
    def export(
        drop: DropArgument,
        layout: Annotated[Literal["csv", "jsonl"], typer.Option("--format", help="csv or jsonl.")] = "csv",
        data: DataDir = None,
    ) -> None:
        """Print a drop's claims as the ledger has them.

        Example:  flashclaim export lychee-2025 > claims.csv
        """
        asyncio.run(_export(drop, layout, data))


async def _audit(drop: str, client_log: Path | None, wait_s: float, data: Path | None) -> "AuditReport":
    from engine.ledger import audit as auditing
    from engine.runtime.connections import open_stores
    from engine.runtime.settings import load_settings

    settings = load_settings(found_data_dir(data))
    async with open_stores(settings) as stores:
        if not await auditing.wait_until_recorded(stores.redis, settings.partitions, wait_s):
            say("the ledger has not caught up: is a worker running? claims on their way are counted as waiting")
        return await auditing.audit(stores, settings.partitions, settings.receipt_keyring, drop, client_log)


def harmless(cell: object) -> object:
    """A cell that no spreadsheet takes for a formula, by a single quote before it.

    Source: https://owasp.org/www-community/attacks/CSV_Injection
    """
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA_SIGNS) else cell


async def _export(drop: str, layout: str, data: Path | None) -> None:
    from engine.claims import history
    from engine.drops import store
    from engine.drops.model import NoSuchDrop
    from engine.runtime.connections import open_stores
    from engine.runtime.settings import load_settings

    columns = ["claim_id", "item", "quantity", "member_id", "claimed_at", "released_at"]
    table = csv.writer(sys.stdout)
    async with open_stores(load_settings(found_data_dir(data))) as stores, stores.ledger.connect() as connection:
        found = await store.read(connection, drop)
        if found is None:
            raise NoSuchDrop(f"there is no drop {drop!r}")
        if layout == "csv":
            table.writerow(columns)
        async for page in history.of_drop(connection, drop):
            for row in page:
                item = found.spec.items[row.item - 1].id
                released = row.released_at.isoformat() if row.released_at else ""
                values = [str(row.claim_id), item, row.quantity, row.member_id, row.claimed_at.isoformat(), released]
                if layout == "csv":
                    table.writerow(map(harmless, values))
                else:
                    print(json.dumps(dict(zip(columns, values, strict=True)), ensure_ascii=False))
