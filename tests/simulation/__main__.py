"""`python -m tests.simulation --seeds 10000`: runs seeds; with `--mutants` breaks the engine and looks who notices."""

import argparse
import os
import sys

from tests.simulation.run import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000, help="how many worlds to run")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--mutants", action="store_true", help="the table of faults that are noticed")
    chosen = parser.parse_args()
    if chosen.mutants:
        from tests.simulation.mutants import table

        return table()
    return 1 if run(chosen.first, chosen.seeds, chosen.processes).failed else 0


if __name__ == "__main__":
    sys.exit(main())
