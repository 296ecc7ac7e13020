"""Lists and segments: names for some of the members. They speak of members everywhere: for operators of the city."""

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter

from api.deps import JsonBody, ServicesDep, only
from api.openapi import BODY, BOUNDED, declared, shown, taken
from api.scope import CityDep
from engine import ids

router = APIRouter(prefix="/v1", tags=["members"], responses=declared("invalid", "too-large"))
_LOCALS = {"where": {"town": {"in": ["大朗"]}, "joined_at": {"before": "2025-01-01"}}}


@router.get(
    "/lists",
    responses={
        200: shown({"lists": [{"name": "couriers", "members": 20_000, "updated_at": "2025-06-01T02:00:00Z"}]}, "All"),
        **declared(*BOUNDED),
    },
)
async def lists(use: ServicesDep, _: CityDep) -> dict[str, Any]:
    """The lists, with how many stand on each. `flashclaim member list import` brings one in."""
    return {"lists": [found._asdict() for found in await use.members.lists()]}


@router.get(
    "/segments",
    responses={200: shown({"segments": [{"name": "locals", **_LOCALS}]}, "All"), **declared(*BOUNDED)},
)
async def segments(use: ServicesDep, _: CityDep) -> dict[str, Any]:
    """The saved segments, each with what it says."""
    found = await use.members.segments()
    return {"segments": [{"name": name, "where": where.model_dump(mode="json")} for name, where in found.items()]}


@router.get(
    "/segments/{name}",
    responses={
        200: shown({"name": "locals", **_LOCALS, "members": 61_240}, "The segment"),
        **declared(*BOUNDED, "no-such-segment"),
    },
)
async def segment(name: str, use: ServicesDep, _: CityDep) -> dict[str, Any]:
    """A segment, and how many of the members that the ledger knows it holds for today."""
    where, members = await use.members.segment(name, datetime.now(UTC).astimezone(use.settings.zone).date())
    return {"name": name, "where": where.model_dump(mode="json"), "members": members}


@router.put(
    "/segments/{name}",
    responses={
        200: shown({"name": "locals", **_LOCALS}, "Saved"),
        **declared(*BOUNDED, *BODY, "id-invalid", "predicate-invalid"),
    },
    openapi_extra=taken(_LOCALS, {"where": {"type": "object"}}),
)
async def save(name: str, operator: CityDep, body: JsonBody, use: ServicesDep) -> dict[str, Any]:
    """Keep a predicate under a name, or change it: drops that name it go by it within a second."""
    given = only(body, "where")
    where = await use.members.save_segment(ids.name(name, "name"), given.get("where"), operator.member_id)
    return {"name": name, "where": where.model_dump(mode="json")}
