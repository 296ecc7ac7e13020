"""What happens to a world: crashes, failovers, jumps of clocks, operators, hands in the store."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from engine.claims.decide import PartitionState
from engine.drops.model import Actor
from engine.errors import FlashclaimError
from engine.ledger.rebuild import Rebuild
from tests.simulation.network import Weather
from tests.simulation.parts import Api, Worker, stay_with
from tests.simulation.people import DROP_ID, Operator
from tests.simulation.plan import TAMPERINGS

if TYPE_CHECKING:
    from tests.simulation.world import World

HOUR_MS = 3_600_000


async def happen(world: "World", operator: Operator, what: str) -> None:
    """One event; it ends when what it broke may come again."""
    world.say(f"--- {what}")
    down_s = world.chance.choice((0.05, 0.3, 1.5))
    if what in _EVENTS:
        await _EVENTS[what](world, down_s)
    elif what in TAMPERINGS:
        await _tamper(world, what)
    else:
        await operator.act(what, tries=world.chance.choice((1, 3)))


async def _failover(world: "World", _down_s: float) -> None:
    world.counts["failovers"] += 1
    world.counts["lost writes"] += world.store.promote_replica()
    world.told.released.clear()  # what was given back may be so no more
    if world.chance.random() < 0.3:
        await _without(world, world.chance.choice(world.apis))


async def _outlived(world: "World", down_s: float) -> None:
    """A failover that the primary outlives, with one or two processes that still reach it."""
    primary = world.store.twin()
    parts: list[Api | Worker] = [*world.apis, *world.workers]
    stays = world.chance.choices(parts, k=2)
    failover = asyncio.create_task(_failover(world, down_s))
    await asyncio.sleep(0)
    world.counts["lost writes"] += 1  # whatever the primary goes on to give out
    for part in stays if primary.is_up else ():
        if part.process.is_alive:
            stay_with(part, primary)
    await failover


async def _emptied(world: "World", _down_s: float) -> None:
    world.counts["crashes"] += 1
    world.store.lose_everything()
    world.told.released.clear()


async def _lines(world: "World", _down_s: float) -> None:
    world.store.break_lines()


async def _storm(world: "World", down_s: float) -> None:
    before, world.network.weather = world.network.weather, Weather(0.1, 0.3, 0.1, 0.2)
    await asyncio.sleep(down_s)
    world.network.weather = before


async def _store_clock(world: "World", _down_s: float) -> None:
    world.store.skew_ms += world.chance.choice((-HOUR_MS, HOUR_MS, -2_000, 2_000))


async def _api_clock(world: "World", _down_s: float) -> None:
    world.api_skew_s += world.chance.choice((-3_600.0, 3_600.0))


async def _any_worker(world: "World", down_s: float) -> None:
    await _worker(world, world.chance.choice(world.workers), down_s)


async def _workers(world: "World", _down_s: float) -> None:
    await asyncio.gather(*(_worker(world, worker, 1.0) for worker in world.workers))


async def _without(world: "World", api: Api) -> None:
    """Nobody asks this process for a while: it says nothing of what it was told."""
    world.quiet.append(api)
    await asyncio.sleep(2.5)
    world.quiet.remove(api)


def start_all(world: "World") -> None:
    for server in (world.store, world.ledger):
        if not server.is_up:
            _start(world, server.name)
    for api in world.apis:
        if not api.process.is_alive:
            api.start()
    for worker in world.workers:
        if not worker.process.is_alive:
            worker.start(worker.name)


async def _api(world: "World", down_s: float) -> None:
    api = world.chance.choice(world.apis)
    world.counts["crashes"] += 1
    api.kill()
    await asyncio.sleep(down_s)
    if not api.process.is_alive:
        api.start()


async def _worker(world: "World", worker: Worker, down_s: float) -> None:
    world.counts["crashes"] += 1
    worker.kill()
    await asyncio.sleep(down_s)
    if not worker.process.is_alive:
        # A new name leaves what the dead one had read to be taken over; another's name is a clumsy operator's.
        names = [worker.name, worker.name, f"{worker.name}+", world.workers[0].name]
        worker.start(world.chance.choice(names))


async def _servers(names: Sequence[str], world: "World", down_s: float) -> None:
    world.counts["crashes"] += len(names)
    for name in names:
        _stop(world, name)
    await asyncio.sleep(down_s)
    for name in names:
        _start(world, name)


def _stop(world: "World", name: str) -> None:
    if name == "store" and world.store.is_up:
        world.store.crash()
    if name == "ledger" and world.ledger.is_up:
        world.ledger.is_up = False
        world.ledger.break_lines()


def _start(world: "World", name: str) -> None:
    if name == "store" and not world.store.is_up:
        world.store.start()
    if name == "ledger" and not world.ledger.is_up:
        world.ledger.life += 1
        world.ledger.is_up = True


async def _rebuild(world: "World", _down_s: float) -> None:
    """An operator rebuilds a drop that needs none."""

    async def rebuild() -> None:
        stores = world.site.stores(api.process)
        try:
            report = await Rebuild(stores, world.plan.partitions, DROP_ID).apply(Actor("boss"), "to be sure")
            world.say(f"rebuilt: epoch {report.epoch}, {report.claims} claims")
        except (FlashclaimError, OSError) as error:
            world.say(f"rebuild: {error!r}"[:300])

    api = world.chance.choice(world.apis)
    await asyncio.wait({api.process.spawn(rebuild())})


async def _tamper(world: "World", what: str) -> None:
    """Somebody changes the store by hand, when there is something to change."""
    partition = world.chance.randrange(world.plan.partitions)
    for _ in range(20):
        state = world.store.parts[partition].state.drops.get(DROP_ID)
        if world.store.is_up and state is not None and state.claims:
            break
        await asyncio.sleep(0.1)
    else:
        return
    world.tampered.append(what)
    if what == "lose a row":
        await _lose_a_row(world)
        return
    subject = world.chance.choice(sorted(state.claims))
    change: Callable[[PartitionState], None]
    if what == "forget a claim":
        change = lambda found: _forget(found, subject)  # noqa: E731
    elif what == "change a counter":
        by = world.chance.choice((-1, 1, 2))
        change = lambda found: _count(found, by)  # noqa: E731
    else:
        change = _lower
    world.store.write(("tamper", partition, change))


async def _lose_a_row(world: "World") -> None:
    """In the ledger. A worker sums up each row once: the one that starts next sees that one is gone."""
    rows = [row for rows in world.ledger.claims.values() for row in rows.values()]
    if rows:
        world.ledger.lose(world.chance.choice(rows).claim_id)
        await _workers(world, 0.0)


def _forget(found: PartitionState, subject: str) -> None:
    found.drops[DROP_ID].claims.pop(subject, None)


def _count(found: PartitionState, by: int) -> None:
    found.drops[DROP_ID].taken[1] += by


def _lower(found: PartitionState) -> None:
    found.drops[DROP_ID].serial -= 1


_EVENTS: Mapping[str, Callable[["World", float], Awaitable[None]]] = {
    "api": _api,
    "worker": _any_worker,
    "workers": _workers,
    "store": partial(_servers, ("store",)),
    "ledger": partial(_servers, ("ledger",)),
    "store and ledger": partial(_servers, ("store", "ledger")),
    "failover": _failover,
    "outlived": _outlived,
    "emptied": _emptied,
    "lines": _lines,
    "storm": _storm,
    "store clock": _store_clock,
    "api clock": _api_clock,
    "rebuild": _rebuild,
}
