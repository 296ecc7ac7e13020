"""Members: what an identity provider does not say of them, written by operators."""

from typing import Any

from fastapi import APIRouter

from api.claim import BodyInvalid
from api.deps import JsonBody, OperatorDep, ServicesDep
from api.examples import declared
from engine import ids
from engine.members import store

router = APIRouter(prefix="/v1/members", tags=["members"])
ATTRIBUTES_MAX = 50


@router.put(
    "/{member_id}",
    responses=declared("session-invalid", "operators-only", "id-invalid", "invalid", "ledger-unavailable"),
)
async def put(member_id: str, body: JsonBody, use: ServicesDep, operator: OperatorDep) -> dict[str, Any]:
    """Write a member's attributes: `{"attributes": {"town": "大朗"}, "subject": "…"}`; `subject` may be left out."""
    checked = ids.member_id(member_id)
    attributes = body.get("attributes", {}) if isinstance(body, dict) else None
    if not isinstance(attributes, dict) or len(attributes) > ATTRIBUTES_MAX:
        raise BodyInvalid("attributes: expected texts by name, at most 50", field="attributes")
    if not all(isinstance(value, str) and value.isprintable() and len(value) <= 200 for value in attributes.values()):
        raise BodyInvalid("attributes: each value is a printable text of at most 200 characters", field="attributes")
    subject = ids.member_id(str(body.get("subject", checked)))
    async with use.stores.ledger.begin() as connection:
        await store.put(connection, checked, subject, attributes, operator.member_id)
    return {"member_id": checked, "subject": subject, "attributes": attributes}
