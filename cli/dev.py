"""`flashclaim dev`: everything on one machine."""

from pathlib import Path
from typing import Annotated

import typer

from cli.options import DEFAULT_DATA_DIR


def register(app: typer.Typer) -> None:
    @app.command()
    def dev(
        port: Annotated[int, typer.Option(help="Port of the API on 127.0.0.1.", min=1, max=65_535)] = 8000,
        data: Annotated[
            Path, typer.Option(envvar="FLASHCLAIM_DATA", help="Where data, keys and logs are kept.")
        ] = DEFAULT_DATA_DIR,
        workers: Annotated[int, typer.Option(help="API processes on the port.", min=1, max=64)] = 1,
    ) -> None:
        """Run Valkey, PostgreSQL, the API and the worker on this machine, until Ctrl-C.

        Prints `ready URL` when it can be used, and writes DIR/dev.json for other commands. Data stays in DIR.

        Example:  flashclaim dev --port 8000 --data .flashclaim
        """
        from engine.runtime.instance import Instance

        Instance(data, port, workers, say=lambda line: print(line, flush=True)).run()
