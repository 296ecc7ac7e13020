"""An event loop whose time and order come from a seed alone: it waits for nothing and reads no clock.

Time jumps to the next timer when nothing is ready. Callbacks of different processes that are ready at the same moment
run in an order that the seed draws; those of one process keep the order that asyncio gives them. Tasks belong to the
process (`PROCESS`) in which they were made, so that a process can be killed as a whole.
"""

import asyncio
import random
from asyncio.base_events import BaseEventLoop
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from typing import Any, Protocol

TURNS_MAX = 100_000  # of one run: past it something turns for ever without time going on


class Owner(Protocol):
    """Who owns the tasks made while it is the current process."""

    def adopt(self, task: "asyncio.Task[Any]") -> None: ...


PROCESS: ContextVar[Owner | None] = ContextVar("process", default=None)


class Stuck(AssertionError):
    """The run does not come to an end."""


class _Task(asyncio.Task[Any]):
    """A task whose hash is its number, so that a set of tasks has the same order in every run."""

    _number = 0

    def __hash__(self) -> int:
        return self._number


class _NoSockets:
    """Takes the place of the selector: nothing ever comes from outside, and waiting moves the time on."""

    def __init__(self, wait: Callable[[float | None], None]) -> None:
        self._wait = wait

    def select(self, timeout: float | None) -> list[Any]:
        self._wait(timeout)
        return []


class SimulatedLoop(BaseEventLoop):
    """One run's loop: `turns` counts what was done."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._chance = chance
        self._now_s = 0.0
        self._selector = _NoSockets(self._pass)
        self._clock_resolution = 1e-9
        self._tasks_made = 0
        self.turns = 0
        self.events = 0
        self.faults: list[str] = []  # errors that nobody caught
        self.set_task_factory(self._make_task)  # type: ignore[arg-type]  # its stub wants a generic function
        self.set_exception_handler(self._note)

    def time(self) -> float:
        return self._now_s

    def _pass(self, timeout: float | None) -> None:
        if timeout is None:
            raise Stuck("everything waits, and nothing will ever happen")
        self._now_s += timeout
        self.turns += 1
        if self.turns > TURNS_MAX:
            raise Stuck(f"not at an end after {TURNS_MAX} turns")

    def _process_events(self, event_list: list[Any]) -> None:
        """Called before the callbacks are: what is ready of different processes comes in an order that is drawn."""
        ready: deque[asyncio.Handle] = self._ready  # type: ignore[attr-defined]
        self.events += len(ready)
        if len(ready) > 1:
            places: dict[Owner | None, float] = {}
            draw = self._chance.random
            order = sorted(ready, key=lambda handle: places.setdefault(_owner(handle), draw()))
            ready.clear()
            ready.extend(order)

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], *, context: Context | None = None
    ) -> "asyncio.Task[Any]":
        task = _Task(coro, loop=loop, context=context)
        self._tasks_made += 1
        task._number = self._tasks_made
        owner = PROCESS.get()
        if owner is not None:
            owner.adopt(task)
        return task

    def _note(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.faults.append(f"{context['message']}: {context.get('exception')!r}")

    def _write_to_self(self) -> None:
        """Nobody calls from another thread."""


def _owner(handle: asyncio.Handle) -> Owner | None:
    context: Context = handle._context  # type: ignore[attr-defined]
    return context.get(PROCESS)
