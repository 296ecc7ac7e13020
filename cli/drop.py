"""`flashclaim drop …`: what an operator does to drops."""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.city_map import picture
from cli.client import Client
from cli.options import AsJson, DataDir, DropArgument, Token, Url, print_json, print_table, say

group = typer.Typer(no_args_is_help=True, help="Create, launch and steer drops.")


@group.command()
def create(
    file: Annotated[Path, typer.Argument(help="The drop as YAML, as in examples/lychee-2025.yaml.")],
    id_: Annotated[str | None, typer.Option("--id", help="Another id than the file's.")] = None,
    opens_in_s: Annotated[
        float | None, typer.Option("--opens-in", help="Rehearsal: open so many seconds from now.")
    ] = None,
    speed: Annotated[float, typer.Option(help="Rehearsal: divide all gaps by this.")] = 1.0,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: DataDir = None,
) -> None:
    """Create a drop as a draft, from a YAML file.

    Example:  flashclaim drop create examples/lychee-2025.yaml
    Rehearse: flashclaim drop create examples/lychee-2025.yaml --id trial-1 --opens-in 10 --speed 1000
    """
    from engine.drops.spec import parse_yaml, rescheduled

    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file}: {error}") from None
    spec = parse_yaml(text, str(file))
    if opens_in_s is not None:
        spec = rescheduled(spec, datetime.now(UTC) + timedelta(seconds=opens_in_s), speed)
    body = spec.model_dump(mode="json", by_alias=True) | ({"id": id_} if id_ else {})
    _show(Client(data, url, token).call("POST", "/v1/drops", body), as_json)


@group.command()
def restock(
    drop: DropArgument,
    item: Annotated[str, typer.Argument(help="The item's id.")],
    quantity: Annotated[int, typer.Argument(help="Units to add.")],
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: DataDir = None,
) -> None:
    """Add units of an item.

    Example:  flashclaim drop restock lychee-2025 box-5jin 100
    """
    body = {"item": item, "quantity": quantity}
    _show(Client(data, url, token).call("POST", f"/v1/drops/{drop}/restock", body), as_json)


@group.command()
def show(
    drop: DropArgument, as_json: AsJson = False, url: Url = None, token: Token = None, data: DataDir = None
) -> None:
    """Show a drop: its definition with --json, else what was given out so far."""
    client = Client(data, url, token)
    if as_json:
        print_json(client.call("GET", f"/v1/drops/{drop}"))
        return
    report = client.call("GET", f"/v1/drops/{drop}/report")
    rows: list[list[object]] = [
        [item["id"], item["stock"], item["store"]["released"], item["store"]["taken"], item["store"]["left"]]
        for item in report["items"]
    ]
    print_table(f"{drop}: {report['status']}", ["item", "stock", "released", "taken", "left"], rows)


@group.command(name="list")
def list_(as_json: AsJson = False, url: Url = None, token: Token = None, data: DataDir = None) -> None:
    """List the drops."""
    drops = Client(data, url, token).pages("/v1/drops", "drops", "id")
    if as_json:
        print_json(drops)
        return
    columns = ["id", "status", "opens_at", "closes_at", "revision"]
    print_table("drops", columns, [[drop[name] for name in columns] for drop in drops])


@group.command(name="map")
def map_(
    drop: DropArgument, as_json: AsJson = False, url: Url = None, token: Token = None, data: DataDir = None
) -> None:
    """Show which towns are lit, by units that count for each: as a picture on a terminal, else as a table.

    Example:  flashclaim drop map lychee-2025
    """
    found = Client(data, url, token).call("GET", f"/v1/drops/{drop}/map")
    if as_json:
        print_json(found)
        return
    if sys.stdout.isatty():
        print(picture(found["towns"]))
    else:
        rows = [[town["number"], town["zh"], town["en"], town["units"]] for town in found["towns"]]
        print_table(drop, ["number", "zh", "en", "units"], rows)
    told = f"{found['lit']} of {len(found['towns'])} towns are lit, {found['units']} units"
    say(told + ("" if found["is_ready"] else "; the store has not all of the drop's state"))


def _register_act(group: typer.Typer, verb: str, meaning: str) -> None:
    @group.command(name=verb, help=f"{meaning}\n\nExample:  flashclaim drop {verb} lychee-2025")
    def act(
        drop: DropArgument, as_json: AsJson = False, url: Url = None, token: Token = None, data: DataDir = None
    ) -> None:
        _show(Client(data, url, token).call("POST", f"/v1/drops/{drop}/{verb}"), as_json)


def _show(drop: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(drop)
    else:
        say(f"{drop['id']} is {drop['status']}, revision {drop['revision']}; opens {drop['opens_at']}")


for verb, meaning in (
    ("launch", "Make a draft claimable from its opening on."),
    ("pause", "Stop giving out; tickets stay good."),
    ("resume", "Go on giving out."),
    ("close", "End a drop for good."),
):
    _register_act(group, verb, meaning)


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="drop")
