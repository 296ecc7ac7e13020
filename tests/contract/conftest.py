"""The app behind a real uvicorn, once with the gate's protocol and once with uvicorn's own (the twin route answers).

`front` and `start` have both as parameters, so a test says once what both must do. `start_pair` has both at the same
time, on the same stores, for tests that send both the same bytes and compare.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
from structlog.testing import capture_logs

from api.claim import Told
from api.exchange import Exchange
from engine.claims.service import Claims
from engine.claims.store import RedisStore
from engine.runtime.connections import Stores
from engine.runtime.settings import Settings
from lua import Script
from tests.contract.front import Front, Kind


class _Broken(logging.Handler):
    """Collects what uvicorn logs as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


class Store:
    """The way to the store, in a test's hand: it can be held, and it can fail."""

    def __init__(self) -> None:
        self._go = asyncio.Event()
        self._go.set()
        self.waiting = 0
        self.claims = 0  # that were handed to the batchers
        self.failures: list[Exception] = []

    def hold(self) -> None:
        self._go.clear()

    def release(self) -> None:
        self._go.set()

    @staticmethod
    async def _moved() -> None:
        await asyncio.sleep(0.001)

    async def until_asked(self, times: int = 1) -> None:
        """Wait until so many batches have got here."""
        async with asyncio.timeout(5):
            while self.waiting < times:
                await self._moved()

    async def until_gathered(self, claims: int) -> None:
        """Wait until so many claims were handed to the batchers, whether or not a batch has taken them along."""
        async with asyncio.timeout(5):
            while self.claims < claims:
                await self._moved()

    async def passed(self) -> None:
        self.waiting += 1
        await self._go.wait()
        self.waiting -= 1
        if self.failures:
            raise self.failures.pop(0)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    """Stands before the real store; until it is held or fails, everything passes."""
    found, run = Store(), RedisStore.run

    async def passing(
        store: RedisStore, script: Script, keys: Sequence[str], arguments: Sequence[bytes | str | int]
    ) -> Any:
        await found.passed()
        return await run(store, script, keys, arguments)

    submit = Claims.submit

    def counting(claims: Claims, *asked: Any) -> None:
        submit(claims, *asked)
        found.claims += 1

    monkeypatch.setattr(RedisStore, "run", passing)
    monkeypatch.setattr(Claims, "submit", counting)
    return found


Start = Callable[..., Awaitable[Front]]


@asynccontextmanager
async def _starting(settings: Settings, monkeypatch: pytest.MonkeyPatch, store: Store) -> AsyncIterator[Start]:
    """What starts fronts; at the end nothing may have broken where no client sees it."""
    fronts: list[Front] = []
    broken = _Broken()
    lost: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context))
    logging.getLogger("uvicorn.error").addHandler(broken)
    write = Exchange.write

    def counted(exchange: Exchange, told: Told) -> None:
        for front in fronts:
            front.by_gate += front.gate is exchange._gate
        write(exchange, told)

    monkeypatch.setattr(Exchange, "write", counted)

    async def start(kind: Kind, config: dict[str, Any] | None = None, **changes: Any) -> Front:
        front = Front(kind, settings.model_copy(update=changes), config or {})
        fronts.append(front)
        await front.begin()
        return front

    try:
        yield start
        store.release()  # or the end would wait for it
        for front in reversed(fronts):
            await front.end()
        assert lost == []
        assert broken.messages == [] or any(front.may_break for front in fronts)
    finally:
        logging.getLogger("uvicorn.error").removeHandler(broken)


@pytest.fixture
def logs() -> Iterator[Any]:
    """What was logged during the test."""
    with capture_logs() as captured:
        yield captured


Log = list[MutableMapping[str, Any]]


@pytest.fixture(params=["gate", "twin"])
async def start(
    request: pytest.FixtureRequest,
    settings: Settings,
    stores: Stores,
    monkeypatch: pytest.MonkeyPatch,
    logs: Log,
    store: Store,
) -> AsyncIterator[Start]:
    """Starts a front: `await start(config={…uvicorn's…}, setting=…)`."""
    async with _starting(settings, monkeypatch, store) as starting:

        async def start(**changes: Any) -> Front:
            return await starting(request.param, **changes)

        yield start


@pytest.fixture
async def front(start: Start) -> Front:
    return await start()


class Pair(NamedTuple):
    gate: Front
    twin: Front


@pytest.fixture
async def start_pair(
    settings: Settings, stores: Stores, monkeypatch: pytest.MonkeyPatch, logs: Log, store: Store
) -> AsyncIterator[Callable[..., Awaitable[Pair]]]:
    """Starts both, on the same stores."""
    async with _starting(settings, monkeypatch, store) as starting:

        async def start(**changes: Any) -> Pair:
            return Pair(await starting("gate", **changes), await starting("twin", **changes))

        yield start
