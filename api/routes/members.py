"""Members: what an identity provider does not say of them, written by operators."""

from typing import Any

from fastapi import APIRouter

from api.claim import BodyInvalid
from api.deps import JsonBody, OperatorDep, ServicesDep, only
from api.examples import BODY, OPERATORS, declared, taken
from engine import ids
from engine.bounds import LEDGER_LOCK_TIMEOUT
from engine.ledger import migrations
from engine.members import store

router = APIRouter(prefix="/v1/members", tags=["members"], responses=declared("too-large"))
ATTRIBUTES_MAX = 50


@router.put(
    "/{member_id}",
    responses=declared(*OPERATORS, *BODY, "id-invalid"),
    openapi_extra=taken(
        {"attributes": {"town": "大朗"}, "subject": "person-1"},
        {
            "attributes": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 200}},
            "subject": {"type": "string"},
        },
    ),
)
async def put(member_id: str, operator: OperatorDep, body: JsonBody, use: ServicesDep) -> dict[str, Any]:
    """Write a member's attributes: `{"attributes": {"town": "大朗"}, "subject": "…"}`; `subject` may be left out."""
    checked = ids.member_id(member_id)
    given = only(body, "attributes", "subject")
    attributes, subject = given.get("attributes", {}), given.get("subject", checked)
    if not isinstance(attributes, dict) or len(attributes) > ATTRIBUTES_MAX:
        raise BodyInvalid("attributes: expected texts by name, at most 50", field="attributes")
    if not all(_is_printable(text) for pair in attributes.items() for text in pair):
        raise BodyInvalid(
            "attributes: each name and value is a printable text of at most 200 characters", field="attributes"
        )
    if not isinstance(subject, str):
        raise BodyInvalid("subject: expected the id of a person", field="subject")
    subject = ids.member_id(subject)
    async with use.stores.ledger.begin() as connection:
        await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
        await store.put(connection, checked, subject, attributes, operator.member_id)
    return {"member_id": checked, "subject": subject, "attributes": attributes}


def _is_printable(text: object) -> bool:
    return isinstance(text, str) and text.isprintable() and len(text) <= 200
