"""`flashclaim schedule …`: what is to be done at a stated time."""

from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from cli.client import Client
from cli.options import AsJson, DataDir, Token, Url, print_json, print_table, say

group = typer.Typer(no_args_is_help=True, help="See what is due when, try again what failed, cancel what waits.")
JobArgument = Annotated[int, typer.Argument(metavar="JOB", help="The job's number.", min=1)]
_COLUMNS = ["id", "state", "due_at", "kind", "object", "attempts", "error"]


@group.command(name="list")
def list_(
    state: Annotated[str | None, typer.Option(help="waiting, done, failed or cancelled; without it all.")] = None,
    of: Annotated[str | None, typer.Option("--of", help="Of one object, such as drop:lychee-2025.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    data: DataDir = None,
) -> None:
    """List jobs by their time.

    Example:  flashclaim schedule list --state waiting --of drop:lychee-2025
    """
    client, jobs = Client(data, url, token), list[dict[str, Any]]()
    asked = {name: value for name, value in (("state", state), ("of", of), ("limit", 500)) if value is not None}
    page: dict[str, Any] = {"next": 0}
    while page["next"] is not None:
        page = client.call("GET", f"/v1/schedule?{urlencode({**asked, 'after': page['next']})}")
        jobs += page["jobs"]
    jobs.sort(key=lambda job: (str(job["due_at"]), int(job["id"])))
    if as_json:
        print_json(jobs)
    else:
        print_table("schedule", _COLUMNS, [[job[name] or "" for name in _COLUMNS] for job in jobs])


@group.command()
def show(job: JobArgument, as_json: AsJson = False, url: Url = None, token: Token = None, data: DataDir = None) -> None:
    """Show a job: when it is due, how often it was tried, why it is not done.

    Example:  flashclaim schedule show 12
    """
    found = Client(data, url, token).call("GET", f"/v1/schedule/{job}")
    if as_json:
        print_json(found)
    else:
        print_table(f"job {job}", ["name", "value"], [[name, value] for name, value in found.items()])


def _register_act(group: typer.Typer, verb: str, meaning: str) -> None:
    @group.command(name=verb, help=f"{meaning}\n\nExample:  flashclaim schedule {verb} 12")
    def act(
        job: JobArgument, as_json: AsJson = False, url: Url = None, token: Token = None, data: DataDir = None
    ) -> None:
        found = Client(data, url, token).call("POST", f"/v1/schedule/{job}/{verb}")
        if as_json:
            print_json(found)
        else:
            say(f"job {job} ({found['kind']} of {found['object']}) is {found['state']}")


for verb, meaning in (
    ("retry", "Try a job again now, that has failed or was cancelled."),
    ("cancel", "Do a job never, though it waits or has failed."),
):
    _register_act(group, verb, meaning)


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="schedule")
