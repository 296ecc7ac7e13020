"""A job of the schedule, and how long it waits after it has failed: pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple

from engine.bounds import JOB_ATTEMPTS_MAX, JOB_PAUSE_S_MAX
from engine.errors import Refused


class State(StrEnum):
    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"  # as often as it is tried: an operator has to look
    CANCELLED = "cancelled"


class NoSuchJob(Refused):
    code: ClassVar[str] = "no-such-job"


class WrongState(Refused):
    """The act does not fit the job's state: what is done cannot be cancelled."""

    code: ClassVar[str] = "wrong-state"


class Later(Exception):
    """Raised by a handler: look at the job again in so many seconds; it has not failed."""

    def __init__(self, wait_s: float, why: str) -> None:
        super().__init__(why)
        self.wait_s = wait_s


class Planned(NamedTuple):
    """A job to be done. Of one kind on one object each has a name of its own, by which it is planned once."""

    kind: str
    name: str
    at: datetime
    payload: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Job:
    """A row of the schedule.

    `due_at` is when it was to be done, or when it was planned where that was later; `next_at` is when it is tried next.
    """

    id: int
    kind: str
    object: str
    name: str
    due_at: datetime
    next_at: datetime
    payload: Mapping[str, Any]
    state: State
    attempts: int
    done_at: datetime | None
    error: str | None
    created_at: datetime

    @property
    def key(self) -> str:
        """The idempotency key of what the job does: however often it is tried, it is the same act."""
        return f"job:{self.id}"


def pause_s(attempts: int) -> float:
    """How long a job waits that has failed so many times: 1, 2, 4, … seconds, five minutes at the most."""
    return min(JOB_PAUSE_S_MAX, 2.0 ** (min(attempts, JOB_ATTEMPTS_MAX) - 1))
