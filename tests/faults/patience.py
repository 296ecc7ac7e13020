"""Waiting for what nobody tells: processes, logs of answers, other people's files."""

import asyncio
import time
from collections.abc import Callable


async def until(is_so: Callable[[], bool], within_s: float, what: str, every_s: float = 0.02) -> None:
    """Look again and again until something is so; `what` names it where it does not come within the time."""
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, f"not within {within_s:.0f} s: {what}"
        await asyncio.sleep(every_s)
