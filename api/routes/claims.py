"""Tickets, claims and receipts: what a member's phone calls."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from api import claim as claim_path
from api import problems, scope
from api.deps import AskedSession, OperatorDep, PageLimit, ServicesDep, SessionDep, address_of, headers_of
from api.examples import CLAIM, CLIENT_KEY_HEADER, GIVEN, TICKET
from api.openapi import ASKED, BODY, BOUNDED, GATES, SIGNED_IN, declared, shown, taken
from api.scope import OwnClaim
from engine.claims import history
from engine.drops.model import NoSuchDrop
from engine.ids import ClaimId

router = APIRouter(prefix="/v1", tags=["claims"], responses=declared("invalid", "too-large"))
_ITEM = {"item": {"type": ["string", "null"]}, "quantity": {"type": ["integer", "null"]}}
_WISH = taken({"item": "box-5jin", "quantity": 1}, _ITEM, required=False)
_TEXT = {"type": ["string", "null"]}
_DEGREES = {"type": "number"}
_PLACE = {
    "type": ["object", "null"],
    "properties": {"lat": _DEGREES, "lon": _DEGREES},
    "required": ["lat", "lon"],
    "additionalProperties": False,
}
_TICKET_WISH = taken(
    {"item": "box-5jin", "quantity": 1, **GIVEN},
    {**_ITEM, "list": _TEXT, "location": _PLACE, "slogan": _TEXT, "quiz": _TEXT, "proof": _TEXT},
    required=False,
)
_TICKET_HEADER = {
    "name": "Authorization",
    "in": "header",
    "required": True,
    "schema": {"type": "string"},
    "example": "Ticket AQELbHljaGVlLTIwMjUBl2wF…",
}


@router.post(
    "/drops/{drop_id}/ticket",
    responses={
        200: shown(TICKET, "A ticket for one claim"),
        **declared(
            *SIGNED_IN, *BODY, *ASKED, *GATES, "claim-invalid", "no-award", "store-unavailable",
        ),
    },
    openapi_extra={**_TICKET_WISH, "parameters": [CLIENT_KEY_HEADER]},
)  # fmt: skip
async def issue_ticket(drop_id: str, request: Request, use: ServicesDep, session: AskedSession) -> Response:
    """Take a ticket, at any time up to the close, also before the opening. One ticket, one claim."""
    given, body = headers_of(request), await request.body()
    drop = await scope.shown(use, drop_id, session)
    known = await use.members.known(session, drop.spec.eligibility)
    offer = None
    if drop.spec.allocation == "grant":
        offer = await use.draws.awarding.offer_to(session.subject, drop, use.settings.ticket_ttl_s)
    return problems.response(claim_path.ticketed(use.claims, given, body, session, drop, known, offer))


@router.post(
    "/drops/{drop_id}/claims",
    status_code=201,
    responses={
        201: shown(CLAIM, "Accepted now"),
        200: shown(CLAIM, "This ticket was accepted before: the same claim again"),
        **declared(
            "limit-reached", "campaign-limit-reached", "sold-out", "not-open", "paused", "closed", "claim-released",
            "ticket-invalid", "ticket-expired", "no-such-drop", "method-not-allowed", *BODY, "claim-invalid",
            "slow-down", "denied", "overloaded", "outcome-unknown", "store-unavailable", "not-ready",
        ),
    },
    openapi_extra={**_WISH, "parameters": [_TICKET_HEADER, CLIENT_KEY_HEADER]},
)  # fmt: skip
async def claim(drop_id: str, request: Request, use: ServicesDep) -> Response:
    """Claim with a ticket. After any failure send the same ticket again: it answers the same claim."""
    address, given, body = address_of(request), headers_of(request), await request.body()
    ticket, wish = claim_path.admitted(use.claims, use.control, lambda: address, given, body)
    if use.control.shared is not None:
        await use.control.shared.spend(use.control.claims.wanted(address, given.get(b"x-client-key"), ticket.member))
    drop = await use.drops.shown(drop_id, to_operator=False)
    return problems.response(claim_path.rendered(await use.claims.claim(drop, ticket, wish.item, wish.quantity)))


@router.get("/claims", responses=declared(*SIGNED_IN, "invalid", "id-invalid", "not-ready"))
async def my_claims(
    use: ServicesDep, session: SessionDep, after: str | None = None, limit: PageLimit = 100
) -> dict[str, Any]:
    """The session's own claims, the newest first, as the ledger has them: a claim gets there within a second or so.

    `after` is the `next` of the page before.
    """
    last = None if after is None else ClaimId.parse(after)
    async with use.stores.ledger.connect() as connection:
        recorded = await history.of_member(connection, session.member_id, limit, last)
    page = [await _shown(use, row) for row in recorded]
    return {"claims": page, "next": page[-1]["claim_id"] if len(page) == limit else None}


@router.post(
    "/claims/{claim_id}/release",
    responses=declared(
        *BOUNDED, "no-such-claim", "already-released", "id-invalid", "not-ready", "outcome-unknown",
        "store-unavailable",
    ),
)  # fmt: skip
async def release(claim_id: OwnClaim, use: ServicesDep, operator: OperatorDep, reason: str = "") -> dict[str, Any]:
    """Give a claim's units back to its drop, exactly once. Its ticket never claims again."""
    released_at = await use.claims.release(claim_id, operator.member_id, reason[:200])
    return {"claim_id": str(claim_id), "released_at": released_at}


@router.post(
    "/receipts/verify",
    responses=declared(*BODY, "receipt-invalid", "not-ready"),
    openapi_extra=taken({"receipt": CLAIM["receipt"]}, {"receipt": {"type": "string"}}),
)
async def verify_receipt(request: Request, use: ServicesDep) -> dict[str, Any]:
    """What a receipt proves: `{"receipt": "…"}` in, the claim out."""
    text = claim_path.receipt_of(await request.body(), _header(request, "content-type"))
    body = use.claims.check_receipt(text)
    return {
        "claim_id": str(body.claim_id),
        "drop_id": body.claim_id.drop_id,
        "item": await _item(use, body.claim_id.drop_id, body.request.item),
        "quantity": body.request.quantity,
        "serial": body.claim_id.serial,
        "claimed_at": claim_path.instant(body.at_ms),
    }


def _header(request: Request, name: str) -> bytes | None:
    found = request.headers.get(name)
    return None if found is None else found.encode("latin-1")


async def _shown(use: ServicesDep, row: history.RecordedClaim) -> dict[str, Any]:
    return {
        "claim_id": str(row.claim_id),
        "drop_id": row.claim_id.drop_id,
        "item": await _item(use, row.claim_id.drop_id, row.item),
        "quantity": row.quantity,
        "serial": row.claim_id.serial,
        "claimed_at": row.claimed_at,
        "released_at": row.released_at,
    }


async def _item(use: ServicesDep, drop_id: str, number: int) -> str | None:
    try:
        return (await use.drops.get(drop_id)).spec.items[number - 1].id
    except NoSuchDrop:
        return None
