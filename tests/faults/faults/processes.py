"""Processes are killed, or stand still for longer than anybody waits for a store; alone and together."""

import asyncio

from engine.bounds import STORE_TIMEOUT_S
from tests.faults.scene import Act, Fault, Scene
from tests.faults.stack import Part, Stack

FROZEN_S = STORE_TIMEOUT_S + 1.5
_TOGETHER = (
    ("api",), ("worker",), ("valkey",), ("postgres",), ("api", "valkey"), ("worker", "postgres"),
    ("valkey", "postgres", "worker", "api"),
)  # fmt: skip
_TITLES = {"api": "the API", "worker": "the worker", "valkey": "Valkey", "postgres": "PostgreSQL"}
_GO_ON = {("worker",), ("postgres",), ("worker", "postgres")}


def _parts(scene: Scene[Stack], names: tuple[str, ...]) -> list[Part]:
    return [scene.stack.parts[name] for name in names]


def _killing(names: tuple[str, ...]) -> Act:
    async def kill(scene: Scene[Stack]) -> None:
        await scene.moment()
        for part in _parts(scene, names):
            await asyncio.to_thread(part.kill)
        await asyncio.sleep(scene.chance.random())
        scene.heals()
        for part in _parts(scene, names):
            await asyncio.to_thread(part.start)

    return kill


def _freezing(names: tuple[str, ...]) -> Act:
    async def freeze(scene: Scene[Stack]) -> None:
        scene.rush.frozen_s = FROZEN_S if "api" in names else 0.0
        await scene.moment()
        for part in _parts(scene, names):
            part.freeze()
        await asyncio.sleep(FROZEN_S)
        for part in _parts(scene, names):
            part.thaw()
        scene.heals()

    return freeze


def _called(names: tuple[str, ...]) -> str:
    if len(names) == len(_TITLES):
        return "all four"
    return " and ".join(_TITLES[name] for name in names)


def _short(names: tuple[str, ...]) -> str:
    return "all" if len(names) == len(_TITLES) else "-".join(names)


PROCESSES = [
    *(
        Fault(
            f"kill-{_short(names)}",
            f"SIGKILL of {_called(names)}, started again within a second",
            _killing(names),
            goes_on=names in _GO_ON,
        )
        for names in _TOGETHER
    ),
    *(
        Fault(
            f"freeze-{_short(names)}",
            f"SIGSTOP of {_called(names)} for {FROZEN_S} s, then SIGCONT",
            _freezing(names),
            goes_on=names in _GO_ON,
        )
        for names in _TOGETHER
    ),
]
