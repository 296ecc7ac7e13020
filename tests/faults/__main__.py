"""`python -m tests.faults`: play faults one after the other, print what they showed, keep it for the docs.

python -m tests.faults                          every fault, five rounds each, with random seeds
python -m tests.faults kill-api --seed 7        one round again, as it was
python -m tests.faults --table FILE             the table of docs/faults.md, from what a run wrote
"""

import argparse
import asyncio
import json
import random
import sys
import traceback
from dataclasses import asdict
from pathlib import Path

from tests.faults.faults import FAULTS
from tests.faults.scene import Fault, Round, play
from tests.faults.stage import Stage
from tests.faults.table import markdown

RESULTS = Path(".flashclaim") / "faults.json"


def main() -> int:
    """Play what the command line asks for; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("names", nargs="*", metavar="FAULT", help=", ".join(FAULTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, help="play one round with this seed")
    parser.add_argument("--table", type=Path, help="print the table of a run, as markdown, and end")
    given = parser.parse_args()
    if given.table is not None:
        print(markdown([Round(**row) for row in json.loads(given.table.read_text())]))
        return 0
    unknown = [name for name in given.names if name not in FAULTS]
    if unknown:
        parser.error(f"no fault is called {', '.join(unknown)}")
    plan = [
        (FAULTS[name], given.seed if given.seed is not None else random.randrange(1_000_000))
        for name in given.names or FAULTS
        for _ in range(given.rounds if given.seed is None else 1)
    ]
    played, failed = _play(plan)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps([asdict(found) for found in played], indent=1))
    print(markdown(played))
    for name in failed:
        print(f"FAILED {name}")
    return 1 if failed else 0


def _play(plan: list[tuple[Fault, int]]) -> tuple[list[Round], list[str]]:
    """Play faults by their seeds; the rounds that were well, and how to play those again that were not."""
    played: list[Round] = []
    failed: list[str] = []
    with Stage() as stage:
        for fault, seed in plan:
            print(f"{fault.name} seed {seed} ", end="", flush=True)
            try:
                found = asyncio.run(play(fault, stage.stack(fault), seed))
            except Exception:  # noqa: BLE001 (what one fault broke must not keep the others from being played)
                failed.append(f"{fault.name} --seed {seed}; logs are kept in {stage.keep()}")
                traceback.print_exc()
                continue
            played.append(found)
            print(f"{found.seconds} s: recovered in {found.recovery_s} s, {found.claims} claims checked", flush=True)
    return played, failed


if __name__ == "__main__":
    sys.exit(main())
