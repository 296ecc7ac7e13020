"""Drops: what an operator does to them, what anyone may read of them, and the live figures."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api import scope
from api.deps import ActorDep, AskerDep, JsonBody, OperatorDep, PageLimit, Services, ServicesDep, only
from api.examples import DROP
from api.openapi import BODY, BOUNDED, OPERATORS, declared, shown, taken
from api.scope import OwnDrop
from engine import ids
from engine.claims import history
from engine.drops.figures import LiveFigures
from engine.drops.model import Drop, NoSuchDrop
from engine.drops.spec import SpecInvalid, located, parse
from engine.errors import Invalid, Unavailable
from engine.members.model import Session
from engine.members.predicate import Predicate
from engine.members.service import PredicateInvalid, parsed

router = APIRouter(prefix="/v1/drops", tags=["drops"], responses=declared("invalid", "too-large"))
LIVE_EVERY_S = 1.0
Responses = dict[int | str, dict[str, Any]]
_DROP: Responses = {200: shown({**DROP, "status": "launched", "revision": 2}, "The drop")}
SHOWN: Responses = declared("no-such-drop", "session-invalid", "identity-unavailable", "not-ready")
_PROBLEMS = (
    *BOUNDED,
    "no-such-drop",
    "wrong-status",
    "stale-revision",
    "store-unavailable",
    "not-ready",
    "invalid",
)


def _act(*more: str) -> Responses:
    return {**_DROP, **declared(*_PROBLEMS, "idempotency-key-reused", *more)}


async def shown_drop(drop_id: str, use: ServicesDep, asker: AskerDep) -> Drop:
    """The drop of a path, looked up before an event stream begins: a stream cannot answer 404 any more.

    An operator whose session does not hold is told that, for the draft may be there. So is whoever asks for an id that
    nobody has, or the answers would tell which drafts there are.
    """
    try:
        return await scope.shown(use, drop_id, asker.session)
    except NoSuchDrop:
        if asker.failure is not None:
            raise asker.failure from None
        raise


ShownDrop = Annotated[Drop, Depends(shown_drop)]
PUBLIC: dict[str, Any] = {"security": [{}]}  # beside the session that FastAPI declares: none will do


_BY_CAMPAIGN = "a campaign says which drops are its own: name the drop in the campaign (`flashclaim campaign`)"


class RevisionRequired(Invalid):
    code: ClassVar[str] = "revision-required"


@router.post(
    "",
    status_code=201,
    responses={
        201: shown({**DROP, "status": "draft", "revision": 1}, "Created as a draft"),
        **declared(
            *BOUNDED, *BODY, "spec-invalid", "duplicate-drop", "idempotency-key-reused", "store-unavailable",
            "not-ready",
        ),
    },
    openapi_extra=taken(DROP),
)  # fmt: skip
async def create(
    actor: ActorDep, operator: OperatorDep, body: JsonBody, use: ServicesDep, response: Response
) -> dict[str, Any]:
    """Create a drop as a draft; the body is the drop as in examples/lychee-2025.yaml, in JSON."""
    if isinstance(body, dict) and body.get("campaign") is not None:
        raise SpecInvalid.of("body", [("campaign", _BY_CAMPAIGN)])
    spec = parse(body, "body", use.settings.towns)
    await _check_names(use, operator, spec.organisation, spec.eligibility)
    return _answer(await use.drops.create(spec, actor), response)


@router.get("", responses=declared(*OPERATORS, "invalid", "id-invalid"))
async def listed(
    use: ServicesDep,
    operator: OperatorDep,
    after: str | None = None,
    limit: PageLimit = 100,
) -> dict[str, Any]:
    """Drops by id, those of the operator's organisation; `after` is the `next` of the page before."""
    if after is not None:
        ids.name(after, "after")
    among = await use.organisations.within(operator.organisation)
    page = [_shown(drop) for drop in await use.drops.listed(after, limit, among)]
    return {"drops": page, "next": page[-1]["id"] if len(page) == limit else None}


@router.get("/{drop_id}", responses={**_DROP, **SHOWN}, openapi_extra=PUBLIC)
async def read(drop: ShownDrop, asker: AskerDep, response: Response) -> dict[str, Any]:
    """One drop, with its revision as ETag. Anybody may read it, once it was launched; a draft is for operators.

    Only an operator sees a quiz's bank of questions, with the answers, and which list a drop is for.
    A session token that does not hold is told only where without one the answer would be 404.
    """
    shown = _answer(drop, response)
    is_operator = asker.session is not None and asker.session.role == "operator"
    return shown if is_operator else {**shown, "gates": drop.spec.gates.public()}


@router.patch(
    "/{drop_id}",
    responses=_act(*BODY, "revision-required", "spec-invalid", "already-committed"),
    openapi_extra=taken({"limit_per_member": 2}),
)
async def amend(
    drop_id: OwnDrop,
    actor: ActorDep,
    operator: OperatorDep,
    body: JsonBody,
    use: ServicesDep,
    response: Response,
    if_match: Annotated[str | None, Header(description='The ETag that you saw, such as "3"')] = None,
) -> dict[str, Any]:
    """Amend a drop: the body holds the names to change. `If-Match` must name the revision that the operator saw."""
    seen = revision_seen(if_match)
    if not isinstance(body, dict):
        raise SpecInvalid("amendment: expected names and values", errors=[])
    await _check_change(use, operator, body)
    change = located(body, use.settings.towns)
    await _refuse_of_campaign(use, drop_id, body)
    return _answer(await use.drops.amend(drop_id, change, seen, actor), response)


def revision_seen(if_match: str | None) -> int:
    """The revision that a caller has seen, by the header `If-Match`; raises `RevisionRequired`."""
    if if_match is None:
        raise RevisionRequired('send the ETag that you saw in the header `If-Match: "…"`')
    text = if_match.removeprefix("W/").strip('"')
    if not (text.isascii() and text.isdecimal()) or len(text) > 9:
        raise RevisionRequired(f"If-Match: {if_match[:40]!r} is not an ETag of ours")
    return int(text)


@router.post("/{drop_id}/launch", responses=_act("spec-invalid", "not-committed"))
async def launch(drop_id: OwnDrop, use: ServicesDep, actor: ActorDep, response: Response) -> dict[str, Any]:
    """Make a draft claimable from its opening on."""
    await _refuse_of_campaign(use, drop_id)
    return _answer(await use.drops.launch(drop_id, actor), response)


@router.post("/{drop_id}/pause", responses=_act())
async def pause(drop_id: OwnDrop, use: ServicesDep, actor: ActorDep, response: Response) -> dict[str, Any]:
    """Stop giving out; tickets stay good."""
    return _answer(await use.drops.pause(drop_id, actor), response)


@router.post("/{drop_id}/resume", responses=_act())
async def resume(drop_id: OwnDrop, use: ServicesDep, actor: ActorDep, response: Response) -> dict[str, Any]:
    """Go on giving out."""
    return _answer(await use.drops.resume(drop_id, actor), response)


@router.post("/{drop_id}/close", responses=_act())
async def close(drop_id: OwnDrop, use: ServicesDep, actor: ActorDep, response: Response) -> dict[str, Any]:
    """End a drop for good."""
    return _answer(await use.drops.close(drop_id, actor), response)


@router.post(
    "/{drop_id}/restock",
    responses=_act(*BODY, "restock-invalid"),
    openapi_extra=taken(
        {"item": "box-5jin", "quantity": 100}, {"item": {"type": "string"}, "quantity": {"type": "integer"}}
    ),
)
async def restock(
    drop_id: OwnDrop, actor: ActorDep, body: JsonBody, use: ServicesDep, response: Response
) -> dict[str, Any]:
    """Add units of an item: `{"item": "box-5jin", "quantity": 100}`."""
    given = only(body if isinstance(body, dict) else {}, "item", "quantity")
    change = await use.drops.restock(drop_id, str(given.get("item", ""))[:80], given.get("quantity", 0), actor)
    return _answer(change, response)


@router.get(
    "/{drop_id}/report",
    responses=declared(*BOUNDED, "no-such-drop", "store-unavailable", "not-ready"),
)
async def report(drop_id: OwnDrop, use: ServicesDep) -> dict[str, Any]:
    """What was given out, counted in the ledger, beside what the store says."""
    drop, live = await use.drops.read(drop_id), await use.drops.live(drop_id)
    async with use.stores.ledger.connect() as connection:
        totals = await history.totals(connection, drop_id)
    items = []
    for number, figures in enumerate(live.items, start=1):
        claims, units, released = totals.get(number, (0, 0, 0))
        counted = {"claims": claims, "claimed": units, "released": released}
        items.append({"id": figures.id, "stock": figures.stock, "ledger": counted, "store": asdict(figures)})
    return {
        "drop_id": drop_id,
        "status": str(drop.status),
        "at": live.now,
        "claims_in_ledger": sum(claims for claims, _, _ in totals.values()),
        "claims_in_store": live.claims,
        "outbox_entries": live.outbox_entries,
        "items": items,
    }


@router.get(
    "/{drop_id}/live",
    response_class=EventSourceResponse,
    responses=SHOWN,
    openapi_extra=PUBLIC,
)
async def live(drop: ShownDrop, request: Request, use: ServicesDep) -> AsyncIterator[ServerSentEvent]:
    """Live figures as server-sent events, one a second: stock, released, taken, left for each item."""
    feed: LiveFeed = request.app.state.live
    while not use.ending.is_set():
        try:
            yield ServerSentEvent(event="figures", data=asdict(await feed.figures(use, drop.id)))
        except Unavailable as error:
            yield ServerSentEvent(event="unavailable", data={"code": error.code, "detail": error.detail})
        with suppress(TimeoutError):
            await asyncio.wait_for(use.ending.wait(), LIVE_EVERY_S)


class LiveFeed:
    """The figures of each drop, read from the store once a second however many listen."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, asyncio.Future[LiveFigures]]] = {}

    async def figures(self, use: Services, drop_id: str) -> LiveFigures:
        """The newest figures, at most half a second old; raises `StoreUnavailable`."""
        seen = self._seen.get(drop_id)
        if seen is None or time.monotonic() - seen[0] > LIVE_EVERY_S / 2:
            seen = (time.monotonic(), asyncio.ensure_future(use.drops.live(drop_id)))
            self._seen[drop_id] = seen
        return await asyncio.shield(seen[1])


async def _refuse_of_campaign(use: Services, drop_id: str, change: Mapping[str, Any] = MappingProxyType({})) -> None:
    """A drop of a campaign is defined and launched by it: what the others know of it would not be so any more."""
    if change.get("campaign") is not None:
        raise SpecInvalid.of("amendment", [("campaign", _BY_CAMPAIGN)])
    campaign = (await use.drops.read(drop_id)).spec.campaign
    if campaign is not None:
        problem = f"{drop_id!r} is a drop of {campaign.id!r}: amend and launch it there (`flashclaim campaign`)"
        raise SpecInvalid.of("drop", [("campaign", problem)])


async def _check_names(use: Services, operator: Session, organisation: str, eligibility: Predicate) -> None:
    """Refuse what is another organisation's, and names that stand for nothing."""
    await use.organisations.check_own(operator.organisation, organisation, f"drop of {organisation!r}")
    await use.organisations.check_known([organisation], SpecInvalid, "organisation")
    await use.members.check_named(eligibility, SpecInvalid, "eligibility")


async def _check_change(use: Services, operator: Session, change: dict[str, Any]) -> None:
    """The same for an amendment; what makes no legal drop is for the amendment to tell."""
    organisation, predicate = change.get("organisation"), Predicate()
    with suppress(PredicateInvalid):
        predicate = parsed(change.get("eligibility", {}), "eligibility")
    if isinstance(organisation, str) and ids.is_name(organisation):
        await _check_names(use, operator, organisation, predicate)
    else:
        await use.members.check_named(predicate, SpecInvalid, "eligibility")


def _answer(drop: Drop, response: Response) -> dict[str, Any]:
    response.headers["ETag"] = f'"{drop.revision}"'
    return _shown(drop)


def _shown(drop: Drop) -> dict[str, Any]:
    definition = drop.spec.model_dump(mode="json", by_alias=True)
    return {**definition, "status": str(drop.status), "revision": drop.revision}
