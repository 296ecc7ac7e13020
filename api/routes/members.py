"""Members: what an identity provider does not say of them, written and read by operators."""

from typing import Any

from fastapi import APIRouter

from api.claim import BodyInvalid
from api.deps import JsonBody, OperatorDep, PageLimit, Services, ServicesDep, only
from api.openapi import BODY, BOUNDED, OPERATORS, declared, shown, taken
from engine import ids
from engine.members.model import Session
from engine.members.store import Member

router = APIRouter(prefix="/v1/members", tags=["members"], responses=declared("invalid", "too-large"))
_WRITTEN = {"attributes": {"town": "大朗", "joined_at": "2020-05-01", "tags": ["courier"]}, "subject": "person-1"}
_MEMBER = {"member_id": "m-1", **_WRITTEN, "updated_at": "2025-06-01T02:00:00+00:00"}
_EXPORT = {
    "member_id": "m-1",
    "known": _WRITTEN,
    "lists": ["couriers"],
    "changes": [],
    "claims": [],
    "digest": "9f86d081884c7d65…",
}
_WAITS = "their limit counts on it until it is closed; it ends at 2025-06-14T14:00:00+00:00"
_ON_ONE = (*BOUNDED, "id-invalid", "no-such-member")
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
    responses={**_SHOWN, **declared(*_ON_ONE)},
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


@router.get(
    "/{member_id}/export",
    responses={200: shown(_EXPORT, "All that is kept"), **declared(*_ON_ONE, "ledger-foreign")},
)
async def export(member_id: str, use: ServicesDep, operator: OperatorDep) -> dict[str, Any]:
    """All that is kept of a member: what is known, lists, changes, claims; and the `digest` that `erase` asks for."""
    await _check_own(use, operator, member_id)
    return await use.erasures.export(ids.member_id(member_id), operator.member_id)


@router.post(
    "/{member_id}/erase",
    responses={
        200: shown(
            {"erased": False, "waits_for": [{"drop_id": "lychee-2025", "reason": _WAITS}]}, "Done, or to be done"
        ),
        **declared(*_ON_ONE, *BODY, "export-required", "ledger-foreign"),
    },
    openapi_extra=taken({"export": "9f86d081884c7d65…"}, {"export": {"type": "string"}}),
)
async def erase(member_id: str, operator: OperatorDep, body: JsonBody, use: ServicesDep) -> dict[str, Any]:
    """Erase a member: `{"export": "<digest>"}`. What they were given stays counted, under a pseudonym that is nobody's.

    Where something holds it back, such as a drop that is open, it is done by itself once that is over.
    """
    await _check_own(use, operator, member_id)
    digest = str(only(body, "export").get("export", ""))
    waits = await use.erasures.ask(ids.member_id(member_id), digest, operator.member_id)
    return {"erased": not waits, "waits_for": [hold._asdict() for hold in waits]}


async def _check_own(use: Services, operator: Session, member_id: str) -> None:
    """One that is bounded asks for members of theirs alone; those without a row are nobody's."""
    if operator.organisation is not None:
        await use.members.read(member_id, operator.organisation)


def _shown(member: Member) -> dict[str, Any]:
    return {"member_id": member.id, **member.content(), "updated_at": member.updated_at}
