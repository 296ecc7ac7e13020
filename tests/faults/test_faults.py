"""The promise: whoever was told "you got it" has it, whatever is killed, frozen, cut off, full or wrong in mid-rush.

Each fault of the registry is played on real processes, for FAULT_ROUNDS rounds (one by default); what is checked after
a round is in checks.py. `make faults` plays five rounds of each and prints how long it took to recover.
"""

import asyncio
import os
import random
from collections.abc import Iterator

import pytest

from tests.faults.faults import FAULTS
from tests.faults.scene import ROUND_S_MAX, play
from tests.faults.stage import Stage

ROUNDS = int(os.environ.get("FAULT_ROUNDS", "1"))
START_S_MAX = 60.0


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    with Stage() as stage:
        yield stage


@pytest.mark.timeout(START_S_MAX + ROUNDS * ROUND_S_MAX)
@pytest.mark.parametrize("name", FAULTS)
def test_every_promise_holds_after(stage: Stage, name: str) -> None:
    for _ in range(ROUNDS):
        seed = random.randrange(1_000_000)
        print(f"again: python -m tests.faults {name} --seed {seed}")
        try:
            asyncio.run(play(FAULTS[name], stage.stack(FAULTS[name]), seed))
        except BaseException:
            print(f"logs are in {stage.keep()}")
            raise
