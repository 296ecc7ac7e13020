"""The promises hold in every world: slow networks, crashes, failovers, clocks that jump, hands in the store."""

import os
import subprocess
import sys
from collections import Counter

import pytest

from tests.simulation.plan import Kind
from tests.simulation.run import report
from tests.simulation.world import World, simulate

SEEDS, SHARES = 300, 6


@pytest.mark.parametrize("share", range(SHARES))
def test_nothing_is_broken_in_any_world(share: int) -> None:
    """A failing seed is told with its trace and the command that runs it again."""
    outcomes = [simulate(seed) for seed in range(share, SEEDS, SHARES)]
    assert [report(outcome) for outcome in outcomes if outcome.broken] == []
    assert sum(outcome.figures["claims"] for outcome in outcomes) > SEEDS // SHARES


def test_the_worlds_are_of_every_kind() -> None:
    kinds: Counter[Kind] = Counter()
    for seed in range(SEEDS):
        world = World(seed)
        kinds[world.plan.kind] += 1
        world.loop.close()
    assert set(kinds) == set(Kind)


def test_the_same_seed_is_the_same_run_byte_for_byte_in_any_process() -> None:
    """Also where Python's own order of sets and strings differs."""
    program = (
        "from tests.simulation.world import simulate\n"
        "for seed in range(40, 52):\n"
        "    outcome = simulate(seed, keeps_all=True)\n"
        "    print(outcome.digest, len(outcome.trace), outcome.figures)\n"
        "    print(*outcome.trace, sep='\\n')\n"
    )

    def traces(hash_seed: str) -> bytes:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        return subprocess.run(
            [sys.executable, "-c", program], env=environment, check=True, stdout=subprocess.PIPE
        ).stdout

    first = traces("1")
    assert len(first) > 10_000
    assert first == traces("2")


def test_another_seed_is_another_run() -> None:
    assert len({simulate(seed).digest for seed in range(20)}) == 20
