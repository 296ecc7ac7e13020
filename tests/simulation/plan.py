"""What kind of world a seed makes: how large, how bad the network is, what will happen to it, and when."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

from tests.simulation.network import Weather

ACTIVE_S = 4.0  # of virtual time, from the launch to the last fault


class Kind(StrEnum):
    CALM = "calm"  # nothing happens but a slow network
    CRASHES = "crashes"  # processes and stores die, and come again with what they had
    FAILOVER = "failover"  # a replica takes the store's place, and lacks the newest writes
    EMPTIED = "emptied"  # a store without anything takes its place
    TAMPERED = "tampered"  # somebody changes the store by hand


class Event(NamedTuple):
    at_s: float
    what: str


@dataclass
class Plan:
    kind: Kind
    partitions: int
    apis: int
    workers: int
    people: int
    stocks: list[int]
    limit: int
    has_second_wave: bool
    closes_s: float
    weather: Weather
    sync_s_max: float
    replica_lag_s: float
    is_replicated: bool
    events: list[Event] = field(default_factory=list)


_WEIGHTS = {Kind.CALM: 8, Kind.CRASHES: 52, Kind.FAILOVER: 20, Kind.EMPTIED: 6, Kind.TAMPERED: 14}
_CRASHES = ("api", "api", "worker", "worker", "store", "store", "ledger", "lines", "store and ledger")
_ANY = ("store clock", "api clock", "store clock", "lines", "storm")
_OPERATOR = ("pause", "resume", "restock", "release", "release", "amend", "rebuild", "close")
_OPERATOR_WEIGHTS = (3, 3, 3, 5, 5, 2, 2, 0.3)
TAMPERINGS = ("forget a claim", "change a counter", "lose a row", "lower a serial")


def draw(chance: random.Random) -> Plan:
    kind = chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
    items = chance.choice((1, 1, 2))
    plan = Plan(
        kind=kind,
        partitions=chance.choice((1, 1, 2)),
        apis=chance.choice((1, 2, 2)),
        workers=chance.choice((1, 2)),
        people=chance.randint(6, 20),
        stocks=[chance.randint(2, 12) for _ in range(items)],
        limit=chance.choice((1, 1, 2, 3)),
        has_second_wave=chance.random() < 0.4,
        closes_s=chance.choice((3.0, 7_200.0, 7_200.0, 7_200.0)),
        weather=chance.choice((Weather(), Weather(0.02, 0.03, 0.01), Weather(0.05, 0.1, 0.03, 0.4))),
        sync_s_max=chance.choice((0.0, 0.003, 0.05)),
        replica_lag_s=0.0,
        is_replicated=False,
    )
    if kind is Kind.FAILOVER:
        plan.is_replicated = chance.random() < 0.3
        plan.replica_lag_s = chance.choice((0.0, 0.05, 0.5))
    plan.events = sorted(_events(chance, plan))
    return plan


def _events(chance: random.Random, plan: Plan) -> list[Event]:
    def at() -> float:
        return chance.random() * ACTIVE_S

    acts = chance.choices(_OPERATOR, _OPERATOR_WEIGHTS, k=chance.randint(0, 5))
    if plan.kind is Kind.TAMPERED:
        acts = [what for what in acts if what not in ("close", "rebuild")]  # a closed drop is compared by nobody
    found = [Event(at(), what) for what in acts]
    if plan.kind is Kind.CALM:
        return found
    found += [Event(at(), what) for what in chance.sample(_ANY, k=chance.choice((0, 0, 0, 1, 2)))]
    match plan.kind:
        case Kind.CRASHES:
            found += [Event(at(), what) for what in chance.choices(_CRASHES, k=chance.randint(1, 4))]
        case Kind.FAILOVER:
            found += _failovers(chance, at)
            found += [Event(at(), chance.choice(("worker", "ledger", "lines"))) for _ in range(chance.randint(0, 2))]
        case Kind.EMPTIED:
            found += [Event(at(), "emptied"), *[Event(at(), "worker")] * chance.randint(0, 1)]
        case Kind.TAMPERED:
            # A lowered serial is noticed by the process that was told more: with others beside it, or answers lost to
            # it, maybe too late.
            is_sure = plan.apis == 1 and plan.weather.broken == 0
            found += [Event(0.5 * ACTIVE_S + at() / 2, chance.choice(TAMPERINGS[: None if is_sure else 3]))]
    return found


def outlived(plan: Plan) -> Plan:
    """With a primary that outlives the failover: the ledger must be there to tell those who stay with it."""
    (moment_s,) = [event.at_s for event in plan.events if event.what == "failover"][:1]
    events = [event for event in plan.events if event.what not in ("failover", "ledger", "storm")]
    weather = Weather(plan.weather.delay_s)
    return replace(plan, weather=weather, events=sorted([*events, Event(moment_s, "outlived")]))


def _failovers(chance: random.Random, at: Callable[[], float]) -> Iterator[Event]:
    for _ in range(chance.choice((1, 1, 2))):
        moment_s = at()
        yield Event(moment_s, "failover")
        if chance.random() < 0.4:  # an operator in a hurry
            yield Event(moment_s + 1.8, "resume")
        if chance.random() < 0.6:  # what the replica lacks, the ledger lacks too
            yield Event(max(0.0, moment_s - 0.7), "workers")
