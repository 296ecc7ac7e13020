"""The ledger's side of quizzes: attempts, judged by the ledger's clock.

No lock is needed to keep to the number of attempts: whoever begins one writes the number after the last that they
saw, and the primary key lets only one of several do so.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.ledger.schema import quiz_attempts

_OF = quiz_attempts.c
_READ = (
    _OF.attempt,
    _OF.seed,
    _OF.started_at,
    _OF.expires_at,
    _OF.answered_at,
    _OF.answers,
    _OF.mark,
    _OF.passed,
    func.now().label("now"),  # when the transaction began: who waits here for a lock is not late for it
)


class Taker(NamedTuple):
    """Who takes which quiz: its drop, its version, the person."""

    drop_id: str
    quiz: str
    subject: str


class Attempt(NamedTuple):
    """An attempt as it was at the ledger's time `now`; `answers` and `mark` are None until it was answered."""

    number: int
    seed: bytes
    started_at: datetime
    expires_at: datetime
    answered_at: datetime | None
    answers: Mapping[str, Any] | None
    mark: int | None
    passed: bool | None
    now: datetime

    @property
    def is_over(self) -> bool:
        return self.now >= self.expires_at

    @property
    def is_open(self) -> bool:
        return self.answered_at is None and not self.is_over

    @property
    def is_late(self) -> bool:
        """Whether its answers came when its time was over."""
        return self.answered_at is not None and self.answered_at >= self.expires_at


async def attempts(connection: AsyncConnection, taker: Taker, *, for_update: bool = False) -> list[Attempt]:
    """The attempts of a person by their numbers (primary key); `for_update` holds them, so that each is marked once."""
    query = select(*_READ).where(_by(taker)).order_by(_OF.attempt)
    return [Attempt(*row) for row in await connection.execute(query.with_for_update() if for_update else query)]


async def begin(
    connection: AsyncConnection, taker: Taker, number: int, seed: bytes, time_limit_s: int
) -> Attempt | None:
    """A new attempt; None where somebody has just begun the one with this number."""
    times = {"started_at": func.now(), "expires_at": func.now() + timedelta(seconds=time_limit_s)}
    row = insert(quiz_attempts).values(**taker._asdict(), attempt=number, seed=seed, **times)
    found = (await connection.execute(row.on_conflict_do_nothing().returning(*_READ))).one_or_none()
    return None if found is None else Attempt(*found)


async def write_mark(
    connection: AsyncConnection,
    taker: Taker,
    number: int,
    answers: Mapping[str, Any] | None,
    mark: int,
    *,
    passed: bool,
) -> None:
    """Write down what the answers to a held attempt were worth."""
    row = update(quiz_attempts).where(_by(taker), _OF.attempt == number)
    await connection.execute(row.values(answered_at=func.now(), answers=answers, mark=mark, passed=passed))


def _by(taker: Taker) -> ColumnElement[bool]:
    return and_(_OF.drop_id == taker.drop_id, _OF.quiz == taker.quiz, _OF.subject == taker.subject)
