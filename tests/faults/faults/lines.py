"""The lines to a store are slow, half-open, reset or refused; or one is cut in the middle of a certain exchange."""

import asyncio
from collections.abc import Callable

from engine.bounds import STORE_TIMEOUT_S
from tests.faults.proxy import GOOD, SLOW, STALLED, Proxy, Trap
from tests.faults.scene import Act, Fault, Scene
from tests.faults.stack import Stack

BAD_S = 3.0
STALLED_S = STORE_TIMEOUT_S + 1.0
SPRUNG_S_MAX = 20.0
_STORES = {"valkey": "Valkey", "postgres": "PostgreSQL"}


def _lines(scene: Scene[Stack], store: str) -> list[Proxy]:
    return [scene.stack.lines[user, store] for user in ("api", "worker")]


def _bad(store: str, seconds: float, spoil: Callable[[Proxy], None], mend: Callable[[Proxy], None]) -> Act:
    async def act(scene: Scene[Stack]) -> None:
        await scene.moment()
        for line in _lines(scene, store):
            spoil(line)
        await asyncio.sleep(seconds)
        for line in _lines(scene, store):
            mend(line)
        scene.heals()

    return act


def _slow(store: str) -> Act:
    return _bad(store, BAD_S, lambda line: line.carry(SLOW), lambda line: line.carry(GOOD))


def _stalled(store: str) -> Act:
    return _bad(store, STALLED_S, lambda line: line.carry(STALLED), lambda line: line.carry(GOOD))


def _refused(store: str) -> Act:
    return _bad(store, BAD_S, _hang_up, lambda line: line.listen())


def _hang_up(line: Proxy) -> None:
    line.refuse()
    line.reset()


def _reset(store: str) -> Act:
    async def act(scene: Scene[Stack]) -> None:
        await scene.moment()
        for _ in range(8):
            for line in _lines(scene, store):
                line.reset()
            await asyncio.sleep(scene.chance.random() * BAD_S / 4)
        scene.heals()

    return act


async def _sprung(
    scene: Scene[Stack], line: tuple[str, str], needle: bytes, *, at_reply: bool, then: Callable[[], object]
) -> None:
    """Set a trap at a random moment, and wait until somebody has stepped into it."""
    await scene.moment()
    trap = Trap(needle, at_reply, then)
    scene.stack.lines[line].set_trap(trap)
    assert await asyncio.to_thread(trap.sprung.wait, SPRUNG_S_MAX), f"nobody sent {needle!r}"


async def _script_and_cut(scene: Scene[Stack]) -> None:
    await _sprung(scene, ("api", "valkey"), b"EVALSHA", at_reply=True, then=lambda: None)
    scene.heals()


def _script_and_kill(name: str) -> Act:
    async def act(scene: Scene[Stack]) -> None:
        part = scene.stack.parts[name]
        await _sprung(scene, ("api", "valkey"), b"EVALSHA", at_reply=True, then=part.kill)
        scene.heals()
        await asyncio.to_thread(part.start)

    return act


async def _commit_and_cut(scene: Scene[Stack]) -> None:
    await _sprung(scene, ("worker", "valkey"), b"XACK", at_reply=False, then=lambda: None)
    scene.heals()


async def _commit_and_kill(scene: Scene[Stack]) -> None:
    await _sprung(scene, ("worker", "valkey"), b"XACK", at_reply=False, then=scene.stack.worker.kill)
    scene.heals()
    await asyncio.to_thread(scene.stack.worker.start)


LINES = [
    *(
        fault
        for store, title in _STORES.items()
        for fault in (
            Fault(
                f"slow-{store}",
                f"each piece of 512 bytes to and from {title} takes 50 ms more, for {BAD_S:.0f} s",
                _slow(store),
            ),
            Fault(
                f"stall-{store}",
                f"connections to {title} carry nothing for {STALLED_S:.0f} s, then deliver what they held",
                _stalled(store),
                goes_on=store == "postgres",
            ),
            Fault(f"reset-{store}", f"all connections to {title} are reset, eight times", _reset(store)),
            Fault(
                f"refuse-{store}",
                f"connections to {title} are refused for {BAD_S:.0f} s",
                _refused(store),
                goes_on=store == "postgres",
            ),
        )
    ),
    Fault("script-cut", "the line is reset when the script has run and its reply is on the way", _script_and_cut),
    Fault("script-kill-api", "SIGKILL of the API between script and reply", _script_and_kill("api")),
    Fault("script-kill-valkey", "SIGKILL of Valkey between script and reply", _script_and_kill("valkey")),
    Fault("commit-cut", "the worker's line is reset between commit and acknowledge", _commit_and_cut, goes_on=True),
    Fault("commit-kill-worker", "SIGKILL of the worker between commit and acknowledge", _commit_and_kill, goes_on=True),
]
