"""The machine under the stores: the disk of the append-only file is full, the wall clock jumps."""

import asyncio
import resource
import subprocess
import time
from email.utils import parsedate_to_datetime
from importlib.resources import files
from pathlib import Path

import httpx
import psutil

from engine.runtime.connections import open_stores
from engine.runtime.servers import ServerFailed
from tests.faults.patience import until
from tests.faults.scene import Act, Fault, Scene
from tests.faults.stack import Stack, Wish

DISK_BYTES = 4_000_000
ENDED_S_MAX = 30.0
JUMP_S, JUMPED_S = 3_600, 3.0


class SmallDiskStack(Stack):
    """Valkey's append-only file lies on a disk of its own, of 4 MB."""

    def __init__(self, place: Path) -> None:
        self.disk = place / "disk"
        self.disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=755", "flashclaim-fault", str(self.disk)]
        self.is_mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
        super().__init__(place, Wish(valkey_place=self.disk))

    def stop(self) -> None:
        super().stop()
        if self.is_mounted:
            subprocess.run(["umount", str(self.disk)], check=True)  # noqa: S607

    def fill(self) -> None:
        """Leave no room. Where we may not mount, a limit on the size of files says the same to Valkey alone."""
        if not self.is_mounted:
            size = max(path.stat().st_size for path in self.disk.rglob("*.aof"))
            assert self.valkey.server.pid is not None
            psutil.Process(self.valkey.server.pid).rlimit(resource.RLIMIT_FSIZE, (size + 1_000, size + 1_000))
            return
        with self._ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4_096))
            except OSError:
                return

    def make_room(self) -> None:
        self._ballast.unlink(missing_ok=True)

    @property
    def _ballast(self) -> Path:
        return self.disk / "ballast"


async def _disk_full(scene: Scene[SmallDiskStack]) -> None:
    """Valkey ends when it cannot write; while there is no room a start helps nobody; then there is room again."""
    stack = scene.stack
    await scene.moment()
    await asyncio.to_thread(stack.fill)
    await until(lambda: stack.valkey.server.pid is None, ENDED_S_MAX, "Valkey ended for want of room")
    if stack.is_mounted:
        await asyncio.to_thread(_start_in_vain, stack)
        await until(lambda: stack.valkey.server.pid is None, ENDED_S_MAX, "Valkey ended at the next write")
    stack.make_room()
    scene.heals()
    await asyncio.to_thread(stack.valkey.start)


def _start_in_vain(stack: SmallDiskStack) -> None:
    try:
        stack.valkey.start()
    except ServerFailed:
        return


class ClockStack(Stack):
    """API and Valkey live by a clock that can be moved; the monotonic one stays real."""

    def __init__(self, place: Path) -> None:
        self._offset = place / "clock"
        self.move(0)
        library = files("libfaketime") / "vendor" / "libfaketime" / "src" / "libfaketime.so.1"
        clock = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._offset),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DISABLE_SHM": "1",
        }
        super().__init__(place, Wish(clock=clock))

    def move(self, seconds: int) -> None:
        new = self._offset.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self._offset)


def _jump(seconds: int) -> Act:
    async def act(scene: Scene[ClockStack]) -> None:
        scene.clock_is_true = False
        # Tickets live for half an hour; a session that begins in an hour is not valid yet.
        scene.rush.may_refuse.add("ticket-expired" if seconds > 0 else "session-invalid")
        await scene.moment()
        scene.stack.move(seconds)
        await asyncio.sleep(JUMPED_S)
        off_s = await _off_s(scene.stack)
        assert all(abs(found - seconds) < JUMPED_S for found in off_s), f"the clocks are off by {off_s} s"
        scene.stack.move(0)
        scene.heals()

    return act


async def _off_s(stack: ClockStack) -> list[float]:
    """By how many seconds the clocks of Valkey and of the API differ from ours."""
    async with open_stores(stack.settings) as stores:
        valkey_s, _ = await stores.redis.time()
    async with httpx.AsyncClient() as client:
        api = parsedate_to_datetime((await client.get(f"{stack.url}/healthz")).headers["date"])
    return [valkey_s - time.time(), api.timestamp() - time.time()]


MACHINE = [
    Fault(
        "disk-full",
        "no room on the disk of Valkey's append-only file, until Valkey ended; then room",
        _disk_full,
        SmallDiskStack,
    ),
    Fault(
        "clock-forward",
        f"the wall clock of API and Valkey jumps an hour forward, and back after {JUMPED_S:.0f} s",
        _jump(JUMP_S),
        ClockStack,
    ),
    Fault(
        "clock-back",
        f"the wall clock of API and Valkey jumps an hour back, and forward after {JUMPED_S:.0f} s",
        _jump(-JUMP_S),
        ClockStack,
    ),
]
