"""Attackers use the same doors as everybody: the app in this process, and a real uvicorn with the gate and without."""

from asyncio import IncompleteReadError

from tests.api.conftest import api
from tests.contract.conftest import front, logs, start, store
from tests.contract.front import Front

__all__ = ["answers_to", "api", "front", "logs", "start", "store"]
SOON_S = 0.15  # within which a line that has more to say says it


async def answers_to(front: Front, data: bytes, method: str = "POST", at_least: int = 1) -> list[int]:
    """The statuses of all answers to what is sent on one connection, until the server closes it or says no more.

    Whether more come than `at_least` is waited for only shortly; how many units were taken shows it as well.
    """
    line = await front.line()
    line.send_unread(data)
    found = [(await line.read(method)).status for _ in range(at_least)]
    try:
        while True:
            found.append((await line.read(method, within_s=SOON_S)).status)
    except (TimeoutError, IncompleteReadError, ConnectionError):
        await line.close()
        return found
