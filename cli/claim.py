"""`flashclaim ticket` and `flashclaim claim`: one member's way by hand."""

from typing import Annotated

import typer

from cli.client import Client
from cli.gates import Answers, Location, Means, MemberToken, Slogan, passed
from cli.options import AsJson, DataDir, DropArgument, Url, print_json

Item = Annotated[str | None, typer.Option(help="The item's id.")]
Quantity = Annotated[int | None, typer.Option(help="How many units.")]


def register(app: typer.Typer) -> None:
    @app.command()
    def ticket(
        drop: DropArgument,
        token: MemberToken,
        item: Item = None,
        quantity: Quantity = None,
        location: Location = None,
        slogan: Slogan = None,
        answers: Answers = None,
        as_json: AsJson = False,
        url: Url = None,
        data: DataDir = None,
    ) -> None:
        """Take a ticket for one claim, and pass what the drop asks before it: see `flashclaim gates`.

        At a terminal you are asked for what no option says. A proof of work is worked out.

        Example:  flashclaim ticket lychee-2025 --token "$(flashclaim token member m-1)" --item box-5jin
        Example:  flashclaim ticket moon --token "$T" --location 22.9,113.93 --slogan light --answer q1=2 --answer q3=1
        """
        client = Client(data, url, token)
        given = passed(client, drop, Means(location, slogan, answers or ()))
        answer = client.call("POST", f"/v1/drops/{drop}/ticket", _wish(item, quantity) | given)
        print_json(answer) if as_json else print(answer["ticket"])

    @app.command()
    def claim(
        drop: DropArgument,
        ticket: Annotated[str, typer.Option(help="The ticket.")],
        item: Item = None,
        quantity: Quantity = None,
        as_json: AsJson = False,
        url: Url = None,
        data: DataDir = None,
    ) -> None:
        """Claim with a ticket. The same ticket again shows the same claim.

        Example:  flashclaim claim lychee-2025 --ticket "$TICKET"
        """
        headers = {"Authorization": f"Ticket {ticket}"}
        answer = Client(data, url, None).call("POST", f"/v1/drops/{drop}/claims", _wish(item, quantity), headers)
        if as_json:
            print_json(answer)
        else:
            print(f"{answer['claim_id']}\t{answer['quantity']} × {answer['item']}\t{answer['claimed_at']}")


def _wish(item: str | None, quantity: int | None) -> dict[str, object]:
    return {name: value for name, value in (("item", item), ("quantity", quantity)) if value is not None}
