"""Options that several commands share, how they print, and who runs them."""

import json
import os
import pwd
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

DataDir = Annotated[
    Path | None,
    typer.Option("--data", envvar="FLASHCLAIM_DATA", help="Data directory of a `flashclaim dev` instance."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Url = Annotated[str | None, typer.Option("--url", envvar="FLASHCLAIM_URL", help="The API's address.")]
Token = Annotated[str | None, typer.Option("--token", envvar="FLASHCLAIM_TOKEN", help="An operator's session token.")]
DropArgument = Annotated[str, typer.Argument(metavar="DROP", help="The drop's id.")]

DEFAULT_DATA_DIR = Path(".flashclaim")


def found_data_dir(data: Path | None) -> Path | None:
    """The named data directory; else `.flashclaim` here, where an instance runs in it and nothing else is set."""
    if data is None and "FLASHCLAIM_REDIS_URL" not in os.environ and (DEFAULT_DATA_DIR / "dev.json").exists():
        return DEFAULT_DATA_DIR
    return data


def operator() -> str:
    """Who runs this command, for the record of acts: the login's name; in a bare container its number.

    By the process's user id: LOGNAME and its like are the words of whoever types the command.
    """
    user_id = os.getuid()
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return f"uid-{user_id}"


def say(message: str) -> None:
    """A message for the person at the terminal; never mixed with data."""
    print(message, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def print_table(title: str, columns: list[str], rows: list[list[object]]) -> None:
    """A table on a terminal; tab-separated lines, with a heading, anywhere else."""
    if not sys.stdout.isatty():
        print("\t".join(columns))
        for row in rows:
            print("\t".join(str(value) for value in row))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(str(value) for value in row))
    Console().print(table)
