"""Draws: what anybody may check, what a member won, and what an operator does at each stage."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response

from api.claim import BodyInvalid
from api.deps import ActorDep, JsonBody, PageLimit, ServicesDep, SessionDep, only
from api.examples import AWARD, DRAW, PROOF
from api.openapi import BODY, BOUNDED, SIGNED_IN, declared, shown, taken
from api.scope import OwnDraw
from engine.bounds import STOCK_MAX
from engine.draws.model import Award, Draw, prizes_id
from engine.draws.publication import BeaconValue

router = APIRouter(prefix="/v1", tags=["draws"], responses=declared("invalid", "too-large"))
_PUBLIC: dict[str, Any] = {"security": [{}]}
_ACTS = (*BOUNDED, "no-such-draw", "no-such-drop", "wrong-stage", "draw-invalid", "store-unavailable", "not-ready")
_CHANGES = (*_ACTS, "duplicate-drop", "wrong-status", "stale-revision", "idempotency-key-reused")
_SHOWN: dict[int | str, dict[str, Any]] = {200: shown(DRAW, "The draw")}


@router.get(
    "/draws/{draw_id}",
    responses={**_SHOWN, **declared("no-such-draw", "ledger-unavailable")},
    openapi_extra=_PUBLIC,
)
async def read(
    draw_id: str,
    use: ServicesDep,
    after: Annotated[int, Query(ge=0, le=2 * STOCK_MAX)] = 0,
    limit: PageLimit = 100,
) -> dict[str, Any]:
    """Where a draw stands: what was published and when, how many entered, and, once revealed, who won what.

    `results` are in the order drawn, the waiting list behind the winners; `after` is the `next` of the page before.
    """
    draw, counts, awards = await use.draws.results(draw_id, after, limit)
    results = [
        {"place": award.place, "entrant": award.entrant, "prize": award.prize, "state": str(award.state)}
        for award in awards
    ]
    following = awards[-1].place if len(awards) == limit else None
    return {**_stage(draw), "awards": counts, "results": results, "next": following}


@router.get(
    "/draws/{draw_id}/document",
    responses={200: shown(DRAW, "What is published, as JSON"), **declared("no-such-draw", "ledger-unavailable")},
    openapi_extra=_PUBLIC,
)
async def document(draw_id: str, use: ServicesDep) -> Response:
    """The published file, which `verify.py` checks; gzipped in any case. Its ETag changes with the draw's stage."""
    draw, packed = await use.draws.document(draw_id)
    headers = {"ETag": f'"{draw.state}-{draw.commitment[:16]}"', "Content-Encoding": "gzip"}
    return Response(packed, headers=headers, media_type="application/json")


@router.get(
    "/draws/{draw_id}/proof",
    responses={
        200: shown(PROOF, "That the member's entry is among those that the root stands for"),
        **declared(*SIGNED_IN, "no-such-draw", "wrong-stage", "draw-invalid"),
    },
)
async def proof(draw_id: str, use: ServicesDep, session: SessionDep) -> dict[str, Any]:
    """The inclusion proof of the session's own entry, once entries are closed."""
    return await use.draws.proof_for(draw_id, session.member_id)


@router.get("/me/awards", responses={200: shown({"awards": [AWARD]}, "The newest draw first"), **declared(*SIGNED_IN)})
async def awards(use: ServicesDep, session: SessionDep) -> dict[str, Any]:
    """What the session's person won or waits for. Claim an offer by a ticket of the drop that is named."""
    return {"awards": [_award(award) for award in await use.draws.awarding.awards_to(session.subject)]}


@router.post(
    "/me/awards/{draw_id}/decline",
    responses={
        200: shown({**AWARD, "state": "declined"}, "Declined, now or before"),
        **declared(*SIGNED_IN, "no-such-draw", "no-award", "store-unavailable"),
    },
)
async def decline(draw_id: str, use: ServicesDep, session: SessionDep) -> dict[str, Any]:
    """Give up an offer, or a place on the waiting list: the next one gets it."""
    return _award(await use.draws.awarding.decline(draw_id, session.subject))


@router.post("/draws/{draw_id}/commit", responses={**_SHOWN, **declared(*_CHANGES)})
async def commit(draw_id: OwnDraw, use: ServicesDep, actor: ActorDep) -> dict[str, Any]:
    """Commit to a draft's rules, before its opening; it is launched after that."""
    return _stage(await use.draws.commit(draw_id, actor))


@router.post("/draws/{draw_id}/close", responses={**_SHOWN, **declared(*_CHANGES)})
async def close(draw_id: OwnDraw, use: ServicesDep, actor: ActorDep) -> dict[str, Any]:
    """Publish the entrants and their root, after the drop's close and before the beacon's first round is due."""
    return _stage(await use.draws.close(draw_id, actor))


@router.post(
    "/draws/{draw_id}/reveal",
    responses={**_SHOWN, **declared(*_CHANGES, *BODY, "draw-altered", "paused", "closed", "not-open", "sold-out")},
    openapi_extra=taken(
        {"round": 22310500, "value": "5a" * 16, "seen_at": "2025-09-20T13:00:04Z"},
        {"round": {"type": "integer"}, "value": {"type": "string"}, "seen_at": {"type": ["string", "null"]}},
    ),
)
async def reveal(draw_id: OwnDraw, actor: ActorDep, body: JsonBody, use: ServicesDep) -> dict[str, Any]:
    """Publish the result by the beacon's value; `seen_at` is now unless it is given. It is final."""
    given = only(body, "round", "value", "seen_at")
    number, value, seen_at = given.get("round"), given.get("value"), given.get("seen_at")
    if type(number) is not int or not isinstance(value, str):
        raise BodyInvalid("body: expected a whole number `round` and a text `value`", field="round")
    return _stage(await use.draws.reveal(draw_id, BeaconValue(number, value, _instant(seen_at)), actor))


@router.post("/draws/{draw_id}/lapse", responses=declared(*_ACTS))
async def lapse(draw_id: OwnDraw, use: ServicesDep, actor: ActorDep) -> dict[str, Any]:
    """Let offers lapse whose time is over, and offer their prizes to the next; how many places each step changed."""
    changed = await use.draws.awarding.lapse(draw_id, actor)
    return {name: len(places) for name, places in changed._asdict().items()}


@router.post(
    "/draws/{draw_id}/void",
    responses={**_SHOWN, **declared(*_ACTS, *BODY)},
    openapi_extra=taken({"reason": "no round had a value"}, {"reason": {"type": "string", "maxLength": 200}}),
)
async def void(draw_id: OwnDraw, actor: ActorDep, body: JsonBody, use: ServicesDep) -> dict[str, Any]:
    """End a draw that can have no result any more."""
    reason = only(body, "reason").get("reason")
    if not isinstance(reason, str) or not reason.isprintable() or not 0 < len(reason) <= 200:
        raise BodyInvalid("reason: expected a printable text of at most 200 characters", field="reason")
    return _stage(await use.draws.void(draw_id, actor, reason))


def _stage(draw: Draw) -> dict[str, Any]:
    return {
        "draw_id": draw.drop_id,
        "stage": str(draw.state),
        "commitment": draw.commitment,
        "root": draw.root,
        "entrants": draw.entrants,
        "committed_at": draw.committed_at,
        "closed_at": draw.closed_at,
        "revealed_at": draw.revealed_at,
    }


def _award(award: Award) -> dict[str, Any]:
    return {
        "draw_id": award.draw_id,
        "drop_id": prizes_id(award.draw_id),
        "entrant": award.entrant,
        "prize": award.prize,
        "state": str(award.state),
        "confirm_by": award.confirm_by,
    }


def _instant(text: object) -> datetime:
    if text is None:
        return datetime.now(UTC)
    wrong = BodyInvalid("seen_at: expected a time such as 2025-09-20T13:00:04Z", field="seen_at")
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        raise wrong from None
    if found.tzinfo is None:
        raise wrong
    return found
