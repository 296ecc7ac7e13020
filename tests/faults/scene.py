"""One round: a rush runs, a fault happens at a random moment, everything recovers, the promises are checked."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from redis.exceptions import RedisError

from engine.drops.model import Verb
from engine.ledger.audit import wait_until_recorded
from engine.runtime.connections import Stores, open_stores
from tests.faults.checks import check
from tests.faults.patience import until
from tests.faults.rush import STOCK, Rush
from tests.faults.stack import Running, Stack

ROUND_S_MAX = 150.0
RECOVERY_S_MAX = 60.0

R = TypeVar("R", bound=Running)


class Scene(Generic[R]):
    """What a fault acts on: a stack, and the rush that runs on it."""

    def __init__(self, stack: R, rush: Rush, chance: random.Random) -> None:
        self.stack = stack
        self.rush = rush
        self.chance = chance
        self.began_s = 0.0
        self.healed_s = 0.0
        self.expected: list[Verb] = []  # acts that the fault itself brings about
        self.clock_is_true = True  # whether the store's clock was this machine's throughout

    async def moment(self) -> None:
        """Wait for a random moment in the middle of the rush: then the fault begins."""
        await self.rush.until_told(self.chance.randrange(STOCK // 10, STOCK // 2))
        self.began_s = time.time()

    def heals(self) -> None:
        """From now on the fault is over, and the time until everything is well again counts."""
        self.healed_s = time.time()

    async def recovered(self, stores: Stores) -> float:
        """Wait until claims are accepted again and the ledger has caught up; how many seconds that took."""
        assert self.healed_s, "a fault tells when it heals"
        told, healed_s = self.rush.told, self.healed_s
        await until(lambda: bool(told.accepted(healed_s)), RECOVERY_S_MAX, "claims accepted again")
        while not await _is_recorded(stores):
            assert time.time() < healed_s + RECOVERY_S_MAX, "the ledger does not catch up"
            await asyncio.sleep(0.05)
        return max(told.accepted(healed_s)[0].answered_s, time.time()) - healed_s

    def went_on(self) -> None:
        """Claims were accepted while the fault lasted: Redis decides, and the ledger is not asked."""
        lasted_s = self.healed_s - self.began_s
        accepted = len(self.rush.told.accepted(self.began_s, self.healed_s))
        assert accepted >= int(lasted_s), f"{accepted} claims were accepted in the {lasted_s:.1f} s of the fault"


Act = Callable[[Scene[Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault: what happens, and how it is healed. `goes_on`: claims are accepted while it lasts."""

    name: str
    what: str
    act: Act
    stack: Callable[[Path], Running] = Stack
    goes_on: bool = False


@dataclass(frozen=True, slots=True)
class Round:
    """What one round showed; `claims` were told to members, and each of them was found where it belongs."""

    fault: str
    seed: int
    recovery_s: float
    claims: int
    waited_s_max: float
    seconds: float


async def play(fault: Fault, stack: Running, seed: int) -> Round:
    """Play one round on a stack that is well; raises when a promise is broken."""
    started_s = time.monotonic()
    chance = random.Random(seed)
    rush = Rush(stack, f"{fault.name}-{seed}", seed)
    scene = Scene(stack, rush, chance)
    async with asyncio.timeout(ROUND_S_MAX):
        recovery_s = await live_through(fault, scene)
        async with open_stores(stack.settings) as stores:
            claims = await check(scene, stores)
    waited_s = max(found.answered_s - found.sent_s for found in rush.told.exchanges if found.what == "claim")
    return Round(
        fault.name, seed, round(recovery_s, 2), claims, round(waited_s, 2), round(time.monotonic() - started_s, 1)
    )


async def live_through(fault: Fault, scene: Scene[Any]) -> float:
    """Let a rush live through a fault until all is well and everybody knows what they got; the seconds of recovery."""
    rush, pause_at = scene.rush, asyncio.Event()
    await rush.prepare()
    if not fault.goes_on and scene.chance.random() < 0.5:
        pause_at.set()
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(rush.run())
            operating = group.create_task(rush.operate(pause_at))
            await fault.act(scene)
            if fault.goes_on:
                scene.went_on()
            async with open_stores(scene.stack.settings) as stores:  # now: it may be another store
                recovery_s = await scene.recovered(stores)
            pause_at.set()
            await operating
            rush.end()
    finally:
        rush.close()
    return recovery_s


async def _is_recorded(stores: Stores) -> bool:
    try:
        return await wait_until_recorded(stores.redis, 1, 0)
    except (RedisError, OSError):
        return False
