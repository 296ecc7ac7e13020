"""Attackers use the same doors as everybody: the app in this process, and a real uvicorn with the gate and without."""

from asyncio import IncompleteReadError

from tests.api.conftest import api
from tests.contract.conftest import front, logs, start, store
from tests.contract.front import Front

__all__ = ["answers_to", "api", "front", "logs", "start", "store"]
SOON_S = 0.15  # within which a line that has more to say says it: these tests have one connection and no load


async def answers_to(front: Front, data: bytes, method: str = "POST") -> list[int]:
    """The statuses of all answers to what is sent on one connection; the server closes it, or says no more."""
    line = await front.line()
    line.send_unread(data)
    found = [(await line.read(method)).status]
    try:
        while True:
            found.append((await line.read(method, within_s=SOON_S)).status)
    except (TimeoutError, IncompleteReadError, ConnectionError):
        await line.close()
        return found
