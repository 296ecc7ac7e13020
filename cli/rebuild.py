"""`flashclaim rebuild`: the store's state of a drop, made anew from the ledger and from receipts."""

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import AsJson, DataDir, DropArgument, found_data_dir, operator, print_json, print_table, say

if TYPE_CHECKING:
    from engine.ledger.plan import Report

_NAMED_MAX = 20  # claims of one kind that the table names; --json names all


def register(app: typer.Typer) -> None:
    @app.command()
    def rebuild(
        drop: DropArgument,
        receipts: Annotated[
            Path | None, typer.Option(help="Receipts that members bring: one a line, or a client log.")
        ] = None,
        apply: Annotated[
            bool, typer.Option("--apply", help="Do it; without this only the differences are told.")
        ] = False,
        forget_acts: Annotated[
            bool,
            typer.Option(
                "--forget-acts",
                help="Give up acts that the store has and the ledger has not; the drop is left paused.",
            ),
        ] = False,
        pause: Annotated[bool, typer.Option("--pause", help="Leave the drop paused.")] = False,
        reason: Annotated[str, typer.Option(help="Why, for the record of acts.")] = "",
        as_json: AsJson = False,
        data: DataDir = None,
    ) -> None:
        """Make the store's state of a drop anew from the ledger, under a new epoch.

        For a store that was lost, emptied or set back. Nothing is decided for the drop while it runs; the old state is
        fenced. Without --apply it changes nothing and tells what would differ. Where receipts bring back more than
        there is, it is done, the drop is left paused, and the exit code is 1.

        After `flashclaim restore` the store may have claims and acts that the backup has not. It refuses to forget
        them: bring receipts of the claims; --forget-acts gives up the acts, which you then repeat.

        Example:  flashclaim rebuild lychee-2025
                  flashclaim rebuild lychee-2025 --receipts receipts.txt --apply --reason "the store's disk was lost"
        """
        report, faults = asyncio.run(_rebuild(drop, receipts, apply, forget_acts, pause, reason, found_data_dir(data)))
        for fault in faults:
            say(fault)
        if as_json:
            print_json(asdict(report))
        else:
            _show(report)
        for advice in _advice(report):
            say(advice)
        if report.conflicts or faults or report.over_stock or report.over_limit:
            raise typer.Exit(1)


async def _rebuild(
    drop: str,
    receipts: Path | None,
    apply: bool,
    forget_acts: bool,
    pause: bool,
    reason: str,
    data_dir: Path | None,
) -> "tuple[Report, list[str]]":
    from engine.drops.model import Actor
    from engine.ledger.client_log import ClientLogInvalid, read_receipts
    from engine.ledger.rebuild import Rebuild
    from engine.runtime.connections import open_stores
    from engine.runtime.settings import load_settings

    settings = load_settings(data_dir)
    brought, faults = read_receipts(receipts, settings.receipt_keyring) if receipts else ([], [])
    if faults and apply:
        raise ClientLogInvalid("\n".join([*faults, "nothing was changed: take these lines out, then try again"]))
    async with open_stores(settings) as stores:
        work = Rebuild(stores, settings.partitions, drop, brought, forgets_acts=forget_acts)
        if not apply:
            return await work.report(), faults
        return await work.apply(Actor(operator()), reason, pause=pause), faults


def _show(report: "Report") -> None:
    figures = asdict(report)
    for name in ("superseded", "only_in_store", "only_in_ledger", "other"):
        ids = figures[name]
        figures[name] = f"{len(ids)} claims" + (f": {', '.join(ids[:_NAMED_MAX])}" if ids else "")
    conflicts = figures.pop("conflicts")
    print_table(f"rebuild of {report.drop_id}", ["figure", "value"], [[name, value] for name, value in figures.items()])
    for conflict in conflicts:
        say(conflict)
    if not report.is_applied:
        say("nothing was changed: add --apply to do it")


def _advice(report: "Report") -> list[str]:
    """What the operator has to see to: whoever was told of a claim keeps it, also where its unit has gone to others."""
    partitions = len(report.serials)  # a restock is shared out among them
    found = [
        f"{item}: members hold {units} units more than were released, and keep what they were told."
        f" Before the drop goes on: flashclaim drop restock {report.drop_id} {item} {units * partitions}"
        for item, units in report.over_stock.items()
    ]
    found += [
        f"{other}: the store has no whole state of it, and the limits of the campaign count its claims."
        f" Until it is rebuilt too, {report.drop_id} is not ready: flashclaim rebuild {other} --apply"
        for other in report.waits_for
    ]
    if report.over_limit:
        found.append(f"{report.over_limit} members hold more than the limit: they keep it, and the audit names them")
    return found
