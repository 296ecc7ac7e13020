"""Organisations: the tree of union bodies, for operators."""

from typing import Any

from fastapi import APIRouter

from api.deps import JsonBody, OperatorDep, PageLimit, ServicesDep, only
from api.openapi import BODY, BOUNDED, OPERATORS, declared, shown, taken
from engine import ids
from engine.organisations.model import invalid, parsed

router = APIRouter(prefix="/v1/organisations", tags=["organisations"], responses=declared("invalid", "too-large"))
_FIELDS: dict[str, Any] = {
    "kind": {"type": "string"},
    "title": {"type": "object", "additionalProperties": {"type": "string"}},
    "parent": {"type": "string"},
    "town": {"type": "string"},
}
_DALANG = {"kind": "town", "title": {"zh": "东莞市大朗镇总工会"}, "parent": "dongguan", "town": "大朗"}
_SHOWN: dict[int | str, Any] = {200: shown({"id": "dalang", **_DALANG}, "The organisation")}


@router.get("", responses=declared(*OPERATORS, "id-invalid"))
async def listed(
    use: ServicesDep, operator: OperatorDep, after: str | None = None, limit: PageLimit = 100
) -> dict[str, Any]:
    """Organisations by id, the operator's and those under it; `after` is the `next` of the page before."""
    if after is not None:
        ids.name(after, "after")
    page = [found.shown() for found in await use.organisations.listed(after, limit, operator.organisation)]
    return {"organisations": page, "next": page[-1]["id"] if len(page) == limit else None}


@router.get(
    "/{organisation_id}",
    responses={**_SHOWN, **declared(*BOUNDED, "no-such-organisation")},
)
async def read(organisation_id: str, use: ServicesDep, operator: OperatorDep) -> dict[str, Any]:
    """One organisation."""
    what = f"organisation {organisation_id[:80]!r}"
    await use.organisations.check_own(operator.organisation, organisation_id, what)
    return (await use.organisations.read(organisation_id)).shown()


@router.put(
    "/{organisation_id}",
    responses={**_SHOWN, **declared(*BOUNDED, *BODY, "organisation-invalid")},
    openapi_extra=taken(_DALANG, _FIELDS),
)
async def put(organisation_id: str, operator: OperatorDep, body: JsonBody, use: ServicesDep) -> dict[str, Any]:
    """Write an organisation down: `{"kind", "title", "parent", "town"}`. An operator of one makes those under it."""
    data = {**only(body, *_FIELDS), "id": organisation_id}
    found, faults = parsed(data, "body", use.settings.towns)
    if found is None:
        raise invalid("organisation", faults)
    return (await use.organisations.put(found, operator.member_id, operator.organisation)).shown()
