"""Attackers use the same doors as everybody: the app in this process, and a real uvicorn with the gate and without."""

from tests.api.conftest import api
from tests.contract.conftest import front, logs, start, store

__all__ = ["api", "front", "logs", "start", "store"]
