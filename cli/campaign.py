"""`flashclaim campaign …`: what an operator does to campaigns."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.client import Client
from cli.options import AsJson, DataDir, Token, Url, print_json, print_table, say

group = typer.Typer(no_args_is_help=True, help="Create, launch, amend and copy campaigns over several drops.")
CampaignArgument = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="The campaign's id.")]
FileArgument = Annotated[Path, typer.Argument(help="The campaign as YAML, as in examples/mid-autumn.yaml.")]


@group.command()
def create(
    file: FileArgument, as_json: AsJson = False, url: Url = None, token: Token = None, data: DataDir = None
) -> None:
    """Create a campaign with its drops, as drafts, from a YAML file.

    Example:  flashclaim campaign create examples/mid-autumn.yaml
    """
    _show(Client(data, url, token).call("POST", "/v1/campaigns", _defined(file)), as_json)


@group.command()
def show(
    campaign: CampaignArgument, as_json: AsJson = False, url: Url = None, token: Token = None, data: DataDir = None
) -> None:
    """Show a campaign: its definition with --json, else where each of its drops stands.

    Example:  flashclaim campaign show mid-autumn
    """
    found = Client(data, url, token).call("GET", f"/v1/campaigns/{campaign}")
    if as_json:
        print_json(found)
        return
    rows: list[list[object]] = [[drop["drop_id"], drop["status"], drop["revision"]] for drop in found["standing"]]
    print_table(f"{campaign}: {found['status']}, revision {found['revision']}", ["drop", "status", "revision"], rows)


@group.command(name="list")
def list_(as_json: AsJson = False, url: Url = None, token: Token = None, data: DataDir = None) -> None:
    """List the campaigns.

    Example:  flashclaim campaign list
    """
    client = Client(data, url, token)
    found: list[dict[str, Any]] = []
    query = ""
    while True:
        page = client.call("GET", f"/v1/campaigns{query}")
        found += page["campaigns"]
        if page["next"] is None:
            break
        query = f"?after={page['next']}"
    if as_json:
        print_json(found)
        return
    columns = ["id", "status", "opens_at", "closes_at", "revision"]
    print_table("campaigns", columns, [[campaign[name] for name in columns] for campaign in found])


@group.command()
def review(
    campaign: CampaignArgument,
    file: FileArgument,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: DataDir = None,
) -> None:
    """Say what an amendment to a file's definition would change, and for whom; nothing is done.

    Example:  flashclaim campaign review mid-autumn examples/mid-autumn.yaml
    """
    found, _, _ = _reviewed(Client(data, url, token), campaign, file)
    if as_json:
        print_json(found)
        return
    _tell(found)


@group.command()
def amend(
    campaign: CampaignArgument,
    file: FileArgument,
    reviewed: Annotated[
        str | None, typer.Option("--review", help="The token of the review that you read; without it you are asked.")
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: DataDir = None,
) -> None:
    """Amend a campaign to a file's definition, after its review.

    Example:  flashclaim campaign amend mid-autumn examples/mid-autumn.yaml
    Script:   flashclaim campaign amend mid-autumn examples/mid-autumn.yaml --review 5b1d0c5f0a0d4b7f9d7c2f1e3a4b5c6d
    """
    client = Client(data, url, token)
    found, change, seen = _reviewed(client, campaign, file)
    if reviewed is None:
        _tell(found)
        if not sys.stdin.isatty():
            raise typer.BadParameter("read the review, then send its token with --review")
        typer.confirm("Do it?", abort=True, err=True)
    path = f"/v1/campaigns/{campaign}/amendments?review={reviewed or found['review']}"
    _show(client.call("POST", path, change, {"If-Match": f'"{seen}"'}), as_json)


@group.command()
def copy(
    campaign: CampaignArgument,
    new_id: Annotated[str, typer.Argument(metavar="NEW", help="The copy's id.")],
    opens_on: Annotated[str, typer.Option("--opens-on", help="The day on which it opens, such as 2027-09-08.")],
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: DataDir = None,
) -> None:
    """Copy a campaign to a new id and other days; all times of day stay as they are.

    Example:  flashclaim campaign copy mid-autumn mid-autumn-2027 --opens-on 2027-09-08
    """
    body = {"id": new_id, "opens_on": opens_on}
    _show(Client(data, url, token).call("POST", f"/v1/campaigns/{campaign}/copies", body), as_json)


@group.command(name="dry-run")
def dry_run(
    campaign: CampaignArgument,
    member: Annotated[str, typer.Option("--member", help="The member's id.")],
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: DataDir = None,
) -> None:
    """Say whether a member would get a ticket now, and if not, why; nothing is used up.

    Example:  flashclaim campaign dry-run mid-autumn --member m-1
    """
    from urllib.parse import quote

    found = Client(data, url, token).call("GET", f"/v1/campaigns/{campaign}/dry-run?member={quote(member, safe='')}")
    if as_json:
        print_json(found)
        return
    rows: list[list[object]] = [
        [
            drop["drop_id"],
            _yes(drop["ticket"]),
            _yes(drop["claim"]),
            "; ".join(why["detail"] for why in drop["reasons"]),
        ]
        for drop in found["drops"]
    ]
    print_table(f"{member} on {campaign}", ["drop", "ticket", "claim", "why not"], rows)


def _register_act(group: typer.Typer, verb: str, meaning: str) -> None:
    @group.command(name=verb, help=f"{meaning}\n\nExample:  flashclaim campaign {verb} mid-autumn")
    def act(
        campaign: CampaignArgument, as_json: AsJson = False, url: Url = None, token: Token = None, data: DataDir = None
    ) -> None:
        _show(Client(data, url, token).call("POST", f"/v1/campaigns/{campaign}/{verb}"), as_json)


for verb, meaning in (
    ("launch", "Launch all drops of a campaign; again, where it was cut off."),
    ("pause", "Stop giving out on all drops; tickets stay good."),
    ("resume", "Go on giving out on all drops, also on one that was paused alone."),
    ("close", "End all drops for good."),
):
    _register_act(group, verb, meaning)


def _defined(file: Path) -> dict[str, Any]:
    from engine.campaigns.spec import parse_yaml

    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file}: {error}") from None
    return parse_yaml(text, str(file)).stated()


def _reviewed(client: Client, campaign: str, file: Path) -> tuple[dict[str, Any], dict[str, Any], int]:
    """The review, the change and the revision that it is of: what the file says otherwise than the campaign."""
    wanted, known = _defined(file), client.call("GET", f"/v1/campaigns/{campaign}")
    change = {name: value for name, value in wanted.items() if name != "id" and value != known.get(name)}
    seen: int = known["revision"]
    path = f"/v1/campaigns/{campaign}/amendments?dry_run=true"
    found: dict[str, Any] = client.call("POST", path, change, {"If-Match": f'"{seen}"'})
    return found, change, seen


def _tell(found: dict[str, Any]) -> None:
    """A review for people: the fields as a table, whom it concerns in sentences."""
    rows: list[list[object]] = [[field["field"], field["before"], field["after"]] for field in found["fields"]]
    print_table("what changes", ["field", "before", "after"], rows)
    for limit in found["limits"]:
        say(f"{limit['persons_over']} persons hold more than {limit['after']} ({limit['limit']}) already, and keep it")
    for window in found["windows"]:
        say(f"{window['drop_id']}: {window['claims_held']} claims are held; tickets of before keep their window")
    for change in found["eligibility"]:
        gaining, losing = change["members_gaining"], change["members_losing"]
        say(f"{change['drop_id']}: {gaining} members become eligible, {losing} are so no more")
    say(f"review {found['review']}")


def _sentences(reasons: list[dict[str, Any]]) -> str:
    return "; ".join(reason["detail"] for reason in reasons)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _show(campaign: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(campaign)
    else:
        say(f"{campaign['id']} is {campaign['status']}, revision {campaign['revision']}; opens {campaign['opens_at']}")


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="campaign")
