"""`flashclaim rush`: many members at once, by locust."""

from pathlib import Path
from typing import Annotated

import typer

from cli.client import Client
from cli.options import (
    DEFAULT_DATA_DIR,
    AsJson,
    DataDir,
    DropArgument,
    Url,
    found_data_dir,
    print_json,
    print_table,
    say,
)


def register(app: typer.Typer) -> None:
    @app.command()
    def rush(
        drop: DropArgument,
        members: Annotated[int, typer.Option(help="How many people come.", min=1)] = 2_000,
        users: Annotated[int, typer.Option(help="How many of them are there at the same time.", min=1)] = 500,
        seed: Annotated[int, typer.Option(help="Who they are and how they behave follows from it.")] = 1,
        time_max_s: Annotated[float, typer.Option("--time", help="End at the latest after so many seconds.")] = 170,
        out: Annotated[Path | None, typer.Option(help="Directory for client log, summary and HTML report.")] = None,
        as_json: AsJson = False,
        url: Url = None,
        data: DataDir = None,
    ) -> None:
        """Rush a launched drop as people do, and count what they were told.

        Writes claims.jsonl (each claim with its receipt, for `flashclaim audit`), summary.json and report.html.

        Example:  flashclaim rush trial-1 --members 20000 --users 1000
        """
        from loadtests.config import RushConfig
        from loadtests.runner import run_rush

        data_dir = found_data_dir(data)
        client = Client(data, url, None)
        client.call("GET", f"/v1/drops/{drop}")
        out_dir = out or (data_dir or DEFAULT_DATA_DIR) / "rush" / drop
        say(f"seed {seed}; files go to {out_dir}")
        found = run_rush(RushConfig(drop, members, users, seed, time_max_s, out_dir, data_dir), str(client.url))
        if as_json:
            print_json(found)
        else:
            print_table(
                f"rush on {drop}", ["figure", "value"], [[name, _shown(value)] for name, value in found.items()]
            )
        if found["broken"]:
            raise typer.Exit(1)


def _shown(value: object) -> object:
    """A figure in a table's cell; counts by name in words."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in value.items()) or "none"
    return value or 0 if isinstance(value, list) else value
