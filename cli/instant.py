"""`flashclaim instant …`: publish what an instant win was committed to, and reveal it after the close."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.client import Client
from cli.options import DataDir, DropArgument, Token, Url, print_json, say

group = typer.Typer(no_args_is_help=True, help="Publish the commitment of an instant win; reveal it after the close.")


@group.command()
def commitment(drop: DropArgument, url: Url = None, token: Token = None, data: DataDir = None) -> None:
    """Print what an instant win was committed to at its launch: publish it before the opening.

    Example:  flashclaim instant commitment wheel-2026
    """
    print_json(Client(data, url, token).call("GET", f"/v1/drops/{drop}/commitment"))


@group.command()
def reveal(
    drop: DropArgument,
    out: Annotated[Path, typer.Option(help="The file to publish; one that is there is written over.")],
    url: Url = None,
    token: Token = None,
    data: DataDir = None,
) -> None:
    """Write the document of a closed instant win: the secret, every play, the odds; and check it as everybody can.

    The file is written also where it does not verify; then the exit code is 1, and each difference is named.

    Example:  flashclaim instant reveal wheel-2026 --out wheel-2026.json
    """
    from engine.draws.verify import check

    document: dict[str, Any] = Client(data, url, token).call("GET", f"/v1/drops/{drop}/instant-document")
    try:
        out.write_text(json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{out}: {error.strerror}") from None
    found = check(document)
    for line in found.lines():
        say(line)
    if found.differences:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="instant")
