"""The schedule: what is to be done at a stated time, for operators to see, to try again and to cancel."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from api.deps import PageLimit, ServicesDep
from api.examples import JOB
from api.openapi import BOUNDED, declared, shown
from api.scope import CityDep
from engine.schedule import service, store
from engine.schedule.model import Job, State

router = APIRouter(prefix="/v1/schedule", tags=["schedule"], responses=declared(*BOUNDED, "invalid"))
JobId = Annotated[int, Path(ge=1, le=2**63 - 1)]
_JOB = {200: shown(JOB, "The job"), **declared("no-such-job")}
_DECIDED = {**_JOB, **declared("wrong-state", "ledger-foreign")}


@router.get("", responses={200: shown({"jobs": [JOB], "next": None}, "A page of jobs, by id")})
async def listed(
    use: ServicesDep,
    _: CityDep,
    state: State | None = None,
    of: Annotated[
        str | None, Query(max_length=200, pattern="^[a-z]+:[A-Za-z0-9._-]+$", description="Such as drop:lychee-2025")
    ] = None,
    after: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
    limit: PageLimit = 100,
) -> dict[str, Any]:
    """Jobs by id, those in a state and those of an object; `after` is the `next` of the page before."""
    async with use.stores.ledger.connect() as connection:
        found = await store.listed(connection, state, of, after, limit)
    return {"jobs": [_shown(job) for job in found], "next": found[-1].id if len(found) == limit else None}


@router.get("/{job_id}", responses=_JOB)
async def read(job_id: JobId, use: ServicesDep, _: CityDep) -> dict[str, Any]:
    """One job: when it is due, how often it was tried, and why it is not done."""
    async with use.stores.ledger.connect() as connection:
        return _shown(await service.read(connection, job_id))


@router.post("/{job_id}/retry", responses=_DECIDED)
async def retry(job_id: JobId, use: ServicesDep, operator: CityDep) -> dict[str, Any]:
    """Try a job again now, that has failed or was cancelled."""
    return _shown(await service.retry(use.stores.ledger, job_id, operator.member_id))


@router.post("/{job_id}/cancel", responses=_DECIDED)
async def cancel(job_id: JobId, use: ServicesDep, operator: CityDep) -> dict[str, Any]:
    """Do a job never, though it waits or has failed."""
    return _shown(await service.cancel(use.stores.ledger, job_id, operator.member_id))


def _shown(job: Job) -> dict[str, Any]:
    return asdict(job)
