"""Keeps a stack from round to round, while it is well and the next fault wants the same kind."""

import resource
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.faults.scene import Fault
from tests.faults.stack import Running


class Stage:
    """Where faults are played: one stack at a time, ended with all its processes."""

    def __init__(self) -> None:
        self._build: Callable[[Path], Running] | None = None
        self._stack: Running | None = None

    def stack(self, fault: Fault) -> Running:
        """A running stack of the kind that a fault wants."""
        if self._stack is not None and self._build is fault.stack:
            return self._stack
        self.clear()
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # both ends of 5,000 connections are here
        place = Path(tempfile.mkdtemp(prefix="fc-fault-"))
        place.chmod(0o755)  # PostgreSQL runs as another user when we are root
        self._build, self._stack = fault.stack, fault.stack(place)
        self._stack.start()
        return self._stack

    def clear(self) -> None:
        """End the stack and all that it left."""
        if self._stack is not None:
            shutil.rmtree(self.keep(), ignore_errors=True)

    def keep(self) -> Path:
        """End the stack, for a fault that failed leaves nothing for the next one; where its logs are."""
        stack, self._stack = self._stack, None
        assert stack is not None
        stack.stop()
        survivors = stack.survivors()
        assert survivors == [], f"processes outlive the stack: {survivors}"
        return stack.place

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.clear()
