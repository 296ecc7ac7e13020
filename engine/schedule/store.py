"""The ledger's side of the schedule: its rows are planned, taken by one worker at a time, and marked.

All times are judged by PostgreSQL's clock, so that all workers have the same one.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import Row, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.bounds import JOB_S_MAX, JOBS_PLANNED_MAX
from engine.ledger.schema import schedule
from engine.schedule.model import Job, Planned, State

_COLUMNS = schedule.c
# A job whose time is over already is due now: it is not late before it was planned.
_PLAN = """
    insert into schedule (kind, object, name, due_at, next_at, payload)
    select kind, :object, name, greatest(at, now()), greatest(at, now()), payload::jsonb
    from unnest(
        cast(:kinds as text[]), cast(:names as text[]), cast(:times as timestamptz[]), cast(:payloads as text[])
    ) as t (kind, name, at, payload)
    on conflict (object, kind, name) do nothing
"""
# One that runs at this moment is left alone: it finds for itself that there is nothing to do any more.
_UNPLAN = """
    delete from schedule where id in (
        select id from schedule
        where object = :object and kind = any(cast(:ours as text[])) and state in ('waiting', 'failed')
            and (kind, name) not in (select * from unnest(cast(:kinds as text[]), cast(:names as text[])))
        for update skip locked
    )
"""
_TAKE = """
    select *, extract(epoch from statement_timestamp() - next_at) as late_s from schedule
    where state = 'waiting' and next_at <= statement_timestamp() and kind = any(cast(:kinds as text[]))
    order by next_at, id limit 1 for update skip locked
"""
_TAKE_MORE = """
    select *, extract(epoch from statement_timestamp() - next_at) as late_s from schedule
    where state = 'waiting' and next_at <= statement_timestamp() and kind = :kind
    order by next_at, id limit :limit for update skip locked
"""
_OUTLOOK = """
    select
        (select extract(epoch from next_at - statement_timestamp()) from schedule
            where state = 'waiting' and next_at > statement_timestamp() order by next_at, id limit 1) as next_s,
        (select extract(epoch from statement_timestamp() - next_at) from schedule
            where state = 'waiting' and next_at <= statement_timestamp() order by next_at, id limit 1) as late_s,
        (select count(*) from schedule where state = 'failed') as failed
"""


class Outlook(NamedTuple):
    """When the next job is due (None: none waits), how late the latest of those is that are due, how many failed."""

    next_s: float | None
    late_s: float
    failed: int


async def plan(connection: AsyncConnection, object_: str, kinds: Sequence[str], jobs: Sequence[Planned]) -> None:
    """Make these the jobs of some kinds on an object: what is there stays, what waits and is not among them goes."""
    assert len(jobs) <= JOBS_PLANNED_MAX
    rows = {
        "object": object_,
        "kinds": [job.kind for job in jobs],
        "names": [job.name for job in jobs],
        "times": [job.at for job in jobs],
        "payloads": [json.dumps(job.payload, ensure_ascii=False) for job in jobs],
    }
    if jobs:
        await connection.execute(text(_PLAN), rows)
    names = {name: rows[name] for name in ("object", "kinds", "names")}
    await connection.execute(text(_UNPLAN), names | {"ours": list(kinds)})


async def take(connection: AsyncConnection, at_once: Mapping[str, int]) -> list[tuple[Job, float]]:
    """The jobs that are due next, of one of the kinds that the caller knows, and how late each is in seconds.

    `at_once` says how many of a kind. They are the caller's until the transaction ends. Where the caller's machine
    vanishes, it ends by itself after the time that a job may take.
    """
    rows = (await connection.execute(text(_TAKE), {"kinds": list(at_once)})).all()
    if not rows:
        return []
    if (limit := at_once[rows[0].kind]) > 1:  # those that the transaction has are not skipped
        rows = (await connection.execute(text(_TAKE_MORE), {"kind": rows[0].kind, "limit": limit})).all()
    idle = f"{JOB_S_MAX:.0f}s"
    await connection.execute(select(func.set_config("idle_in_transaction_session_timeout", idle, True)))  # noqa: FBT003
    return [(_job(row), float(row.late_s)) for row in rows]


async def outlook(connection: AsyncConnection) -> Outlook:
    """How the schedule stands (index on what waits, index on what has failed)."""
    row = (await connection.execute(text(_OUTLOOK))).one()
    return Outlook(None if row.next_s is None else float(row.next_s), float(row.late_s or 0), row.failed)


async def done(connection: AsyncConnection, jobs: Sequence[Job]) -> None:
    values = {"state": State.DONE, "attempts": _COLUMNS.attempts + 1, "done_at": func.clock_timestamp(), "error": None}
    await connection.execute(update(schedule).where(_COLUMNS.id.in_([job.id for job in jobs])).values(values))


async def put_off(connection: AsyncConnection, job: Job, wait_s: float, why: str) -> None:
    """Try a job again after a while; it has not failed."""
    await _mark(connection, job, next_at=func.clock_timestamp() + timedelta(seconds=wait_s), error=why)


async def failed(connection: AsyncConnection, job: Job, why: str, wait_s: float | None) -> None:
    """Note that an attempt has failed; the next one is after a while, or never."""
    more = (
        {"state": State.FAILED} if wait_s is None else {"next_at": func.clock_timestamp() + timedelta(seconds=wait_s)}
    )
    await _mark(connection, job, attempts=job.attempts + 1, error=why, **more)


async def _mark(connection: AsyncConnection, job: Job, **values: Any) -> None:
    """Mark a job that was let go of, unless somebody else has taken it further since."""
    is_as_it_was = (_COLUMNS.state == State.WAITING, _COLUMNS.attempts == job.attempts)
    await connection.execute(update(schedule).where(_COLUMNS.id == job.id, *is_as_it_was).values(values))


async def read(connection: AsyncConnection, job_id: int, *, for_update: bool = False) -> Job | None:
    """A job, or None; with `for_update` None also where a worker has it at this moment."""
    query = select(schedule).where(_COLUMNS.id == job_id)
    row = (await connection.execute(query.with_for_update(skip_locked=True) if for_update else query)).one_or_none()
    return None if row is None else _job(row)


async def decide(connection: AsyncConnection, job_id: int, state: State) -> None:
    """An operator's word: wait again, from the beginning, or be cancelled."""
    anew = {"attempts": 0, "next_at": func.clock_timestamp()} if state is State.WAITING else {}
    await connection.execute(update(schedule).where(_COLUMNS.id == job_id).values(state=state, **anew))


async def listed(
    connection: AsyncConnection, state: State | None, object_: str | None, after_id: int, limit: int
) -> list[Job]:
    """Jobs by id, from the one behind `after_id` on; those in a state, those of an object."""
    query = select(schedule).where(_COLUMNS.id > after_id).order_by(_COLUMNS.id).limit(limit)
    if state is not None:
        query = query.where(_COLUMNS.state == state)
    if object_ is not None:
        query = query.where(_COLUMNS.object == object_)
    return [_job(row) for row in await connection.execute(query)]


def _job(row: Row[Any]) -> Job:
    found = {name: getattr(row, name) for name in Job.__slots__}
    return Job(**{**found, "state": State(row.state)})
