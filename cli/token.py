"""`flashclaim token member|operator`: session tokens of the dev identity."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.options import DataDir, found_data_dir

Ttl = Annotated[int, typer.Option("--ttl", help="Seconds that a token is good for.", min=1)]


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Make session tokens for local use.")
    app.add_typer(group, name="token")

    @group.command()
    def member(
        ids: Annotated[list[str] | None, typer.Argument(metavar="MEMBER…", help="Member ids.")] = None,
        source: Annotated[
            Path | None, typer.Option("--from", help="File with a member id on each line; - for standard input.")
        ] = None,
        town: Annotated[str | None, typer.Option(help="Home town; otherwise one follows from the id.")] = None,
        ttl_s: Ttl = 86_400,
        data: DataDir = None,
    ) -> None:
        """Print one session token a line, for members by id.

        Example:  flashclaim token member --from members.txt --data .flashclaim
        """
        from engine import ids as identifiers
        from engine.members.model import Session
        from engine.members.session import SessionTokens
        from engine.runtime.settings import load_settings

        names = [identifiers.member_id(name) for name in [*(ids or []), *_lines(source)]]
        tokens = SessionTokens(load_settings(found_data_dir(data)))
        attributes = {"town": town} if town else {}
        for name in names:
            print(tokens.issue(Session(name, name, "member", attributes), ttl_s))

    @group.command()
    def operator(
        name: Annotated[str, typer.Argument(help="The operator's name, for the record of acts.")] = "operator",
        organisation: Annotated[
            str | None, typer.Option(help="Bound them to this organisation and those under it; otherwise the city's.")
        ] = None,
        ttl_s: Ttl = 86_400,
        data: DataDir = None,
    ) -> None:
        """Print an operator's session token.

        Example:  flashclaim token operator li --organisation dalang
        """
        from engine import ids as identifiers
        from engine.members.model import Session
        from engine.members.session import SessionTokens
        from engine.runtime.settings import load_settings

        checked = identifiers.member_id(name)
        bound = None if organisation is None else identifiers.name(organisation, "organisation")
        session = Session(checked, checked, "operator", organisation=bound)
        print(SessionTokens(load_settings(found_data_dir(data))).issue(session, ttl_s))


def _lines(source: Path | None) -> list[str]:
    if source is None:
        return []
    try:
        text = sys.stdin.read() if str(source) == "-" else source.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{source}: {error}") from None
    return [line.strip() for line in text.splitlines() if line.strip()]
