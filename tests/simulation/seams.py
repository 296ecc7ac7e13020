"""The names in the engine that lead to clocks, randomness, logs and SQL, given to the run while it lasts."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from engine.claims import batcher
from engine.claims import service as claims_service
from engine.drops import model as drops_model
from engine.drops import service as drops_service
from engine.ledger import audit, homecoming, persist, rebuild, reconcile
from tests.simulation import ledger, queries


class Clock:
    """In the place of the module `time`."""

    def __init__(self, monotonic_s: Callable[[], float], wall_s: Callable[[], float]) -> None:
        self.monotonic = monotonic_s
        self.time = wall_s


class Secrets:
    """In the place of the module `secrets`."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def token_bytes(self, size: int) -> bytes:
        return self._chance.randbytes(size)

    def token_hex(self, size: int) -> str:
        return self._chance.randbytes(size).hex()


class Log:
    """In the place of a structlog logger: what the engine says goes into the trace."""

    def __init__(self, say: Callable[[str, dict[str, Any]], None]) -> None:
        self._say = say

    def info(self, event: str, **facts: Any) -> None:
        self._say(event, facts)

    warning = error = exception = info


@contextmanager
def swapped(
    loop_s: Callable[[], float], wall_s: Callable[[], float], chance: random.Random, log: Log
) -> Iterator[None]:
    """Everything that the engine would read from outside comes from the run."""
    clock, secrets = Clock(loop_s, wall_s), Secrets(chance)
    seams: list[tuple[Any, str, Any]] = [
        (batcher, "perf_counter", loop_s),
        (claims_service, "time", clock),
        (claims_service, "secrets", secrets),
        (claims_service, "history", queries.Claims),
        (drops_service, "time", clock),
        (drops_service, "store", queries.Drops),
        (drops_service, "actions", queries.Actions),
        (drops_model, "secrets", secrets),
        (persist, "time", clock),
        (audit, "time", clock),
        *((module, "homes", queries.Homes) for module in (claims_service, homecoming)),
        (rebuild, "history", queries.Claims),
        (rebuild, "drops_store", queries.Drops),
        (rebuild, "actions", queries.Actions),
        (rebuild, "writer_of", ledger.writer_of),
        (rebuild, "insert", ledger.Insertion),
        (reconcile, "history", queries.Claims),
        (reconcile, "Vigil", queries.Vigil),
        *((module, "migrations", queries.Migrations) for module in (drops_service, homecoming, rebuild, reconcile)),
        *((module, "_log", log) for module in (batcher, claims_service, drops_service, persist, homecoming, reconcile)),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in seams]
    for module, name, value in seams:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
