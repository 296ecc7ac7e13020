"""`flashclaim member …`: who the members are, which lists they are on, which segments they make up."""

import asyncio
import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.audit import harmless
from cli.client import Client
from cli.options import AsJson, DataDir, Token, Url, found_data_dir, operator, print_json, print_table, say

if TYPE_CHECKING:
    from engine.members.intake import Judge
    from engine.members.sheet import Reject
    from engine.members.staging import ListReport, Progress, Refuse, Report, Source, Tell
    from engine.runtime.connections import Stores

group = typer.Typer(no_args_is_help=True, help="Bring in members and lists of them, show them, save segments.")
lists = typer.Typer(no_args_is_help=True, help="Lists of members: what a drop's `eligibility: {list: NAME}` names.")
segments = typer.Typer(no_args_is_help=True, help="Predicates under a name: `eligibility: {segment: NAME}`.")
group.add_typer(lists, name="list")
group.add_typer(segments, name="segment")
CsvFile = Annotated[Path, typer.Argument(help="CSV with a heading, in UTF-8.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Judge every row and say what would change; change nothing.")]
RejectsFile = Annotated[
    Path | None,
    typer.Option("--rejects", help="File for the rows that are left out: field, what is wrong, advice."),
]
SegmentName = Annotated[str, typer.Argument(metavar="NAME", help="The segment's name.")]
MemberArgument = Annotated[str, typer.Argument(metavar="MEMBER", help="The member's id.")]
ExportFile = Annotated[Path, typer.Argument(metavar="FILE", help="Where the export goes, readable by you alone.")]
_SHOWN_MAX = 20  # rejects that the terminal shows
_STATEMENT_S_MAX = 600.0  # sorting a million rows by their ids on a small machine


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="member")


@group.command(name="import")
def import_(
    file: CsvFile, dry_run: DryRun = False, rejects: RejectsFile = None, as_json: AsJson = False, data: DataDir = None
) -> None:
    """Write members down from a CSV, of a million rows or more. Run it where the ledger is.

    Columns: member_id, and any of id_number, subject, town, sector, joined_at, verified_at, birthday,
    new_employment_form, tags (a;b), organisation. An empty cell leaves what is known. An ID number is kept nowhere: it
    becomes a keyed hash, by which limits know the person, and the birthday without its year. The same file again
    changes nothing, and one that was cut off is simply run again. Where rows are left out the exit code is 1.

    Example:  flashclaim member import members.csv --dry-run --rejects rejects.csv
              flashclaim member import members.csv --rejects rejects.csv
    """
    from engine.members.staging import bring_in_members

    async def bring(stores: "Stores", source: "Source", judge: "Judge", tell: "Tell", refuse: "Refuse") -> "Report":
        return await bring_in_members(stores.ledger, source, judge, tell, refuse, dry_run=dry_run)

    report = _brought(file, rejects, data, bring)
    _told(asdict(report), f"import of {file.name}", as_json, dry_run)
    if report.other_persons:
        say(f"{report.other_persons} members count as another person now: their limits on open drops begin anew")
    if report.rejected:
        raise typer.Exit(1)


@group.command()
def show(
    member: MemberArgument,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: DataDir = None,
) -> None:
    """Show what the ledger knows of a member.

    Example:  flashclaim member show m-1
    """
    found = Client(data, url, token).call("GET", f"/v1/members/{member}")
    if as_json:
        print_json(found)
        return
    rows: list[list[object]] = [["subject", found["subject"]], *([name, v] for name, v in found["attributes"].items())]
    print_table(member, ["what", "value"], [*rows, ["updated_at", found["updated_at"]]])


@group.command()
def export(
    member: MemberArgument, file: ExportFile, url: Url = None, token: Token = None, data: DataDir = None
) -> None:
    """Write all that is kept of a member into a file, as JSON: what is known, lists, changes, claims.

    Example:  flashclaim member export m-1 m-1.json
    """
    _exported(Client(data, url, token), member, file)
    say(f"all that is kept of {member} is in {file}, for you alone")


@group.command()
def erase(
    member: MemberArgument,
    file: ExportFile,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: DataDir = None,
) -> None:
    """Erase a member, after an export into a file; what they were given stays counted, under a pseudonym.

    While they hold claims on a drop that is not closed it waits, and is done by itself then; the exit code is 1.

    Example:  flashclaim member erase m-1 m-1.json
    """
    client = Client(data, url, token)
    digest = _exported(client, member, file)
    done = client.call("POST", f"/v1/members/{member}/erase", {"export": digest})
    if as_json:
        print_json(done)
    elif done["erased"]:
        say(f"{member} is erased; what was kept of them is in {file} alone: see to that too")
    else:
        for hold in done["waits_for"]:
            say(f"{hold['drop_id'] or 'now'}: {hold['reason']}")
        say(f"{member} will be erased by itself once nothing holds it back")
    if not done["erased"]:
        raise typer.Exit(1)


@lists.command(name="import")
def import_list(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The list's name: a to z, 0 to 9 and -.")],
    file: CsvFile,
    dry_run: DryRun = False,
    rejects: RejectsFile = None,
    as_json: AsJson = False,
    data: DataDir = None,
) -> None:
    """Let a list be those whom a CSV names, by the column member_id or id_number; no more and no less.

    Who is named by an ID number need not be a member yet.

    Example:  flashclaim member list import couriers couriers.csv
    """
    from engine import ids
    from engine.members.staging import bring_in_list

    checked = ids.name(name, "name")

    async def bring(stores: "Stores", source: "Source", judge: "Judge", tell: "Tell", refuse: "Refuse") -> "ListReport":
        return await bring_in_list(stores.ledger, checked, source, judge, tell, refuse, dry_run=dry_run)

    report = _brought(file, rejects, data, bring)
    _told(asdict(report), f"list {name}", as_json, dry_run)
    if report.rejected:
        raise typer.Exit(1)


@lists.command(name="show")
def show_lists(as_json: AsJson = False, url: Url = None, token: Token = None, data: DataDir = None) -> None:
    """Show the lists, with how many are on each.

    Example:  flashclaim member list show
    """
    found = Client(data, url, token).call("GET", "/v1/lists")["lists"]
    if as_json:
        print_json(found)
    else:
        print_table("lists", ["name", "members", "updated_at"], [list(row.values()) for row in found])


@segments.command()
def save(
    name: SegmentName,
    where: Annotated[str, typer.Option(help="The predicate, as YAML or JSON; @FILE reads it from a file.")],
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: DataDir = None,
) -> None:
    """Save a predicate under a name, or change it: drops that name it go by it at once.

    Example:  flashclaim member segment save locals --where "{town: {in: [大朗]}, joined_at: {before: 2025-01-01}}"
    """
    body = {"where": _where(where)}
    saved = Client(data, url, token).call("PUT", f"/v1/segments/{name}", body)
    if as_json:
        print_json(saved)
    else:
        say(f"segment {name} is saved; `flashclaim member segment show {name}` counts its members")


@segments.command(name="show")
def show_segments(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Count this one's members.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: DataDir = None,
) -> None:
    """Show the segments, or one and how many members it holds for today.

    Example:  flashclaim member segment show locals
    """
    client = Client(data, url, token)
    found = client.call("GET", f"/v1/segments/{name}") if name else client.call("GET", "/v1/segments")["segments"]
    if as_json:
        print_json(found)
    else:
        rows = [found] if name else found
        columns = ["name", "where", *(["members"] if name else [])]
        print_table("segments", columns, [[row[column] for column in columns] for row in rows])


def _exported(client: Client, member: str, file: Path) -> str:
    """Write the export for its owner alone; its digest."""
    from engine.runtime.keyfile import write_private

    found: dict[str, Any] = client.call("GET", f"/v1/members/{member}/export")
    write_private(file, json.dumps(found, ensure_ascii=False, indent=2) + "\n")
    return str(found["digest"])


def _where(text: str) -> Any:
    """A predicate from the command line, or from a file; dates as texts, for it goes on as JSON."""
    import yaml

    from engine.definitions import StrictLoader
    from engine.members.service import parsed

    try:
        text = Path(text[1:]).read_text(encoding="utf-8-sig") if text.startswith("@") else text
        data = yaml.load(text, Loader=StrictLoader)  # noqa: S506 (a subclass of SafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError) as error:
        raise typer.BadParameter(f"--where: {error}") from None
    return parsed(data, "where").model_dump(mode="json")


def _brought(file: Path, rejects: Path | None, data: Path | None, bring: Callable[..., Any]) -> Any:
    return asyncio.run(_bring(file, rejects, found_data_dir(data), bring))


async def _bring(file: Path, rejects: Path | None, data_dir: Path | None, bring: Callable[..., Any]) -> Any:
    from engine.members.intake import Judge
    from engine.members.staging import Source
    from engine.organisations.service import Organisations
    from engine.runtime.connections import open_stores
    from engine.runtime.settings import load_settings

    settings = load_settings(data_dir)
    today = datetime.now(UTC).astimezone(settings.zone).date()
    async with open_stores(settings, _STATEMENT_S_MAX) as stores:
        known = await Organisations(stores.ledger).ids()
        source = Source(file, _digest(file), operator())
        with _rejects_to(rejects) as refuse:
            return await bring(stores, source, Judge(settings.towns, known, settings.persons, today), _progress, refuse)


def _digest(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}") from None


@contextmanager
def _rejects_to(path: Path | None) -> "Iterator[Callable[[Reject], None]]":
    """What writes rows that are left out: the first to the terminal, all to a file that its owner alone can read."""
    shown = 0

    def show(reject: "Reject") -> None:
        nonlocal shown
        shown += 1
        if shown <= _SHOWN_MAX:
            say(f"row {reject.row}: {reject.field or 'the row'}: {reject.wrong}: {reject.advice}")
        if shown == _SHOWN_MAX + 1:
            say("… and more" + ("" if path else ": --rejects FILE writes all of them"))

    if path is None:
        yield show
        return
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow(("row", "field", "wrong", "advice"))

        def keep(reject: "Reject") -> None:
            writer.writerow((reject.row, *(harmless(text) for text in reject[1:])))
            show(reject)

        yield keep


def _progress(progress: "Progress") -> None:
    say(f"{progress.step} {progress.rows:,} rows, {progress.share:.0%}")


def _told(report: dict[str, Any], title: str, as_json: bool, dry_run: bool) -> None:
    if as_json:
        print_json({**report, "dry_run": dry_run})
    else:
        print_table(title, ["figure", "rows"], [[name, count] for name, count in report.items()])
    if dry_run:
        say("nothing was changed: this was a dry run")
