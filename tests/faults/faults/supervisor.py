"""A whole `flashclaim dev`: its parts are killed under it, it is killed itself, or both at once."""

import asyncio
import os
import signal

from engine.runtime.servers import is_running
from tests.faults.patience import until
from tests.faults.scene import Fault, Scene
from tests.faults.stack import DevStack

RESTARTED_S_MAX = 60.0
_PROGRAMS = {"valkey": "valkey-server", "postgres": "postgres", "worker": "cli", "api": "cli"}


async def _parts_killed(scene: Scene[DevStack]) -> None:
    """One part after the other, in any order; the supervisor starts each of them again."""
    await scene.moment()
    names = list(_PROGRAMS)
    scene.chance.shuffle(names)
    for name in names:
        pids = await _all_running(scene.stack)
        scene.heals()
        os.kill(pids[name], signal.SIGKILL)
        await _replaced(scene.stack, {name: pids[name]})
        await asyncio.sleep(scene.chance.random())


async def _parent_killed(scene: Scene[DevStack]) -> None:
    await scene.moment()
    await _orphaned(scene, [])


async def _parent_and_servers_killed(scene: Scene[DevStack]) -> None:
    await scene.moment()
    await _orphaned(scene, scene.chance.sample(sorted(_PROGRAMS), scene.chance.randint(1, 4)))


async def _orphaned(scene: Scene[DevStack], also: list[str]) -> None:
    """Kill the parent, and some of its children with it; the others are orphans until the next start ends them."""
    stack = scene.stack
    pids = await _all_running(stack)
    stack.kill_supervisor()
    for name in also:
        os.kill(pids[name], signal.SIGKILL)
    await asyncio.sleep(scene.chance.random())
    scene.heals()
    await asyncio.to_thread(stack.supervisor.start)
    await _replaced(stack, pids)
    left = [name for name, pid in pids.items() if is_running(pid, _PROGRAMS[name])]
    assert left == [], f"orphans still run: {left}"


async def _all_running(stack: DevStack) -> dict[str, int]:
    """The parts' process ids, once all of them run."""
    await until(
        lambda: all(pid is not None and is_running(pid, _PROGRAMS[name]) for name, pid in stack.pids.items()),
        RESTARTED_S_MAX,
        "all parts run",
    )
    return {name: pid for name, pid in stack.pids.items() if pid is not None}


async def _replaced(stack: DevStack, old: dict[str, int]) -> None:
    """Wait until each of these parts runs under another process id."""
    await until(
        lambda: all(stack.pids[name] not in (None, pid) for name, pid in old.items()),
        RESTARTED_S_MAX,
        f"{', '.join(old)} started again",
    )


SUPERVISOR = [
    Fault("dev-parts", "SIGKILL of each part of `flashclaim dev`, one after the other", _parts_killed, DevStack),
    Fault(
        "dev-orphans",
        "SIGKILL of `flashclaim dev`: its parts are orphans; then it is started again",
        _parent_killed,
        DevStack,
    ),
    Fault(
        "dev-together",
        "SIGKILL of `flashclaim dev` and of some of its parts at once; then it is started again",
        _parent_and_servers_killed,
        DevStack,
    ),
]
