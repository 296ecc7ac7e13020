"""What other rooms call inside their own transactions (`plan`); what operators do to jobs, each act with its row."""

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from engine.bounds import LEDGER_LOCK_TIMEOUT
from engine.ledger import actions, migrations
from engine.schedule import store
from engine.schedule.model import Job, NoSuchJob, State, WrongState

plan = store.plan
_STARTS = {
    # where an act leads: where it may start from
    State.WAITING: (State.FAILED, State.CANCELLED),
    State.CANCELLED: (State.WAITING, State.FAILED),
}


async def read(connection: AsyncConnection, job_id: int) -> Job:
    """A job of the schedule; raises `NoSuchJob`."""
    found = await store.read(connection, job_id)
    if found is None:
        raise NoSuchJob(f"the schedule has no job {job_id}: one that was planned otherwise since is gone")
    return found


async def retry(ledger: AsyncEngine, job_id: int, actor: str) -> Job:
    """Try a job again now, that has failed or was cancelled; raises `NoSuchJob`, `WrongState`."""
    return await _decide(ledger, job_id, "retry", State.WAITING, actor)


async def cancel(ledger: AsyncEngine, job_id: int, actor: str) -> Job:
    """Do a job never, though it waits or has failed; raises `NoSuchJob`, `WrongState`."""
    return await _decide(ledger, job_id, "cancel", State.CANCELLED, actor)


async def _decide(ledger: AsyncEngine, job_id: int, verb: str, to: State, actor: str) -> Job:
    async with ledger.begin() as connection:
        await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
        job = await store.read(connection, job_id, for_update=True)
        if job is None:
            await read(connection, job_id)
            raise WrongState(f"job {job_id} is being done at this moment: look again", state="running")
        if job.state not in _STARTS[to]:
            needed = " or ".join(_STARTS[to])
            raise WrongState(f"job {job_id} is {job.state}: {verb} needs it to be {needed}", state=str(job.state))
        await store.decide(connection, job_id, to)
        what = {"kind": job.kind, "object": job.object, "name": job.name}
        before, after = {"state": str(job.state)}, {"state": str(to)}
        await actions.record(connection, f"job:{job_id}", verb, actor, change=what, before=before, after=after)
        return await read(connection, job_id)
