"""Members: what an identity provider does not say of them, written and read by operators."""

from typing import Any

from fastapi import APIRouter

from api.claim import BodyInvalid
from api.deps import JsonBody, OperatorDep, PageLimit, ServicesDep, only
from api.examples import BODY, BOUNDED, OPERATORS, declared, shown, taken
from engine import ids
from engine.members.store import Member

router = APIRouter(prefix="/v1/members", tags=["members"], responses=declared("invalid", "too-large"))
_WRITTEN = {"attributes": {"town": "大朗", "joined_at": "2020-05-01", "tags": ["courier"]}, "subject": "person-1"}
_MEMBER = {"member_id": "m-1", **_WRITTEN, "updated_at": "2025-06-01T02:00:00+00:00"}
_SHOWN: dict[int | str, Any] = {200: shown(_MEMBER, "The member")}


@router.get("", responses=declared(*OPERATORS, "id-invalid"))
async def listed(
    use: ServicesDep, operator: OperatorDep, after: str | None = None, limit: PageLimit = 100
) -> dict[str, Any]:
    """Members by id, those of the operator's organisation; `after` is the `next` of the page before."""
    if after is not None:
        ids.member_id(after)
    page = [_shown(member) for member in await use.members.listed(after, limit, operator.organisation)]
    return {"members": page, "next": page[-1]["member_id"] if len(page) == limit else None}


@router.get(
    "/{member_id}",
    responses={**_SHOWN, **declared(*BOUNDED, "id-invalid", "no-such-member")},
)
async def read(member_id: str, use: ServicesDep, operator: OperatorDep) -> dict[str, Any]:
    """What the ledger knows of a member."""
    return _shown(await use.members.read(member_id, operator.organisation))


@router.put(
    "/{member_id}",
    responses={**_SHOWN, **declared(*BOUNDED, *BODY, "id-invalid", "member-invalid")},
    openapi_extra=taken(_WRITTEN, {"attributes": {"type": "object"}, "subject": {"type": "string"}}),
)
async def put(member_id: str, operator: OperatorDep, body: JsonBody, use: ServicesDep) -> dict[str, Any]:
    """Write a member's attributes, over all that were known; `subject`, left out, is the member."""
    checked = ids.member_id(member_id)
    given = only(body, "attributes", "subject")
    attributes, subject = given.get("attributes", {}), given.get("subject", checked)
    if not isinstance(attributes, dict):
        raise BodyInvalid("attributes: expected values by name", field="attributes")
    if not isinstance(subject, str):
        raise BodyInvalid("subject: expected the id of a person", field="subject")
    subject = ids.member_id(subject)
    told = await use.members.put(checked, subject, attributes, operator.member_id, operator.organisation)
    return _shown(told)


def _shown(member: Member) -> dict[str, Any]:
    return {"member_id": member.id, **member.content(), "updated_at": member.updated_at}
