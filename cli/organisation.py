"""`flashclaim organisation …`: the tree of union bodies."""

import asyncio
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.client import Client
from cli.options import AsJson, DataDir, Token, Url, found_data_dir, operator, print_json, print_table, say

if TYPE_CHECKING:
    from engine.organisations.service import Imported

group = typer.Typer(no_args_is_help=True, help="Bring in and show the tree: the city, its towns, enterprises.")
_COLUMNS = ["id", "kind", "parent", "town", "title"]


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="organisation")


@group.command(name="import")
def import_(
    file: Annotated[
        Path | None, typer.Argument(help="YAML or CSV (id, parent, kind, zh, en, town); none: Dongguan and its towns.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    as_json: AsJson = False,
    data: DataDir = None,
) -> None:
    """Write organisations down, all of a file or none. What is not in the file stays. Run it where the ledger is.

    Example:  flashclaim organisation import
              flashclaim organisation import enterprises.csv --dry-run
    """
    from engine.organisations.reading import DONGGUAN

    path = file or DONGGUAN
    try:
        digest = sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}") from None
    done = asyncio.run(_bring_in(path, digest, dry_run, data))
    if as_json:
        print_json(done._asdict())
    else:
        say(f"{done.given} organisations: {done.new} new, {done.changed} changed{', if it were done' * dry_run}")


@group.command(name="list")
def list_(as_json: AsJson = False, url: Url = None, token: Token = None, data: DataDir = None) -> None:
    """List the organisations that you may see.

    Example:  flashclaim organisation list
    """
    found = Client(data, url, token).pages("/v1/organisations", "organisations", "id")
    if as_json:
        print_json(found)
    else:
        print_table("organisations", _COLUMNS, [_row(organisation) for organisation in found])


@group.command()
def show(
    organisation: Annotated[str, typer.Argument(help="The organisation's id.")],
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: DataDir = None,
) -> None:
    """Show one organisation.

    Example:  flashclaim organisation show dalang
    """
    found = Client(data, url, token).call("GET", f"/v1/organisations/{organisation}")
    if as_json:
        print_json(found)
    else:
        print_table(organisation, _COLUMNS, [_row(found)])


async def _bring_in(file: Path, digest: str, dry_run: bool, data: Path | None) -> "Imported":
    from engine.organisations.reading import read
    from engine.organisations.service import Organisations
    from engine.runtime.connections import open_stores
    from engine.runtime.settings import load_settings

    settings = load_settings(found_data_dir(data))
    given = read(file, settings.towns)
    source = {"file": file.name, "sha256": digest}
    async with open_stores(settings) as stores:
        return await Organisations(stores.ledger).bring_in(given, source, operator(), dry_run=dry_run)


def _row(organisation: dict[str, Any]) -> list[object]:
    title = organisation["title"]
    shown = {**organisation, "title": title.get("zh") or title.get("en")}
    return [shown.get(name, "") for name in _COLUMNS]
