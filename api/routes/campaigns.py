"""Campaigns: what an operator does to them, and what a member can expect of one."""

from collections.abc import Awaitable, Callable
from datetime import date
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response

from api import scope
from api.deps import JsonBody, OperatorDep, PageLimit, ServicesDep, SessionDep, only
from api.examples import CAMPAIGN, OUTLOOK, REVIEW
from api.openapi import BODY, BOUNDED, OPERATORS, SIGNED_IN, declared, shown, taken
from api.routes.drops import revision_seen
from api.scope import OwnCampaign
from engine import ids
from engine.campaigns.dryrun import Outlook
from engine.campaigns.model import Campaign
from engine.campaigns.service import Review
from engine.campaigns.spec import CampaignInvalid, changed, parse
from engine.drops.figures import LiveFigures
from engine.drops.membership import Period
from engine.drops.model import Verb
from engine.errors import Invalid, Unavailable
from engine.members.model import Session

router = APIRouter(prefix="/v1", tags=["campaigns"], responses=declared("invalid", "too-large"))
Responses = dict[int | str, dict[str, Any]]
_CAMPAIGN: Responses = {200: shown({**CAMPAIGN, "status": "launched", "revision": 2}, "The campaign")}
_DOING = ("store-unavailable", "not-ready", "stale-revision", "wrong-status")
_STEERED = (*BOUNDED, *_DOING, "no-such-campaign", "duplicate-drop", "spec-invalid")


class CopyInvalid(Invalid):
    code: ClassVar[str] = "copy-invalid"


@router.post(
    "/campaigns",
    status_code=201,
    responses={
        201: shown({**CAMPAIGN, "status": "draft", "revision": 1}, "Created as a draft, with its drops"),
        **declared(*BOUNDED, *BODY, *_DOING, "campaign-invalid", "duplicate-campaign", "duplicate-drop"),
    },
    openapi_extra=taken(CAMPAIGN),
)
async def create(operator: OperatorDep, body: JsonBody, use: ServicesDep, response: Response) -> dict[str, Any]:
    """Create a campaign with its drops, as drafts; the body is examples/mid-autumn.yaml in JSON.

    The same body again finishes what was cut off.
    """
    spec = parse(body, "body", use.settings.towns)
    await scope.check_names(use, operator, spec)
    return await _answer(use, await use.campaigns.create(spec, operator.member_id), response)


@router.get("/campaigns", responses=declared(*OPERATORS, "invalid", "id-invalid"))
async def listed(
    use: ServicesDep, operator: OperatorDep, after: str | None = None, limit: PageLimit = 100
) -> dict[str, Any]:
    """Campaigns by id, those of the operator's organisation; `after` is the `next` of the page before."""
    if after is not None:
        ids.name(after, "after")
    among = await use.organisations.within(operator.organisation)
    page = [_told(campaign) for campaign in await use.campaigns.listed(after, limit, among)]
    return {"campaigns": page, "next": page[-1]["id"] if len(page) == limit else None}


@router.get("/campaigns/{campaign_id}", responses={**_CAMPAIGN, **declared(*BOUNDED, "no-such-campaign")})
async def read(campaign_id: OwnCampaign, use: ServicesDep, response: Response) -> dict[str, Any]:
    """One campaign, with its revision as ETag, and where each of its drops stands."""
    return await _answer(use, await use.campaigns.read(campaign_id), response)


@router.post("/campaigns/{campaign_id}/launch", responses={**_CAMPAIGN, **declared(*_STEERED)})
async def launch(
    campaign_id: OwnCampaign, use: ServicesDep, operator: OperatorDep, response: Response
) -> dict[str, Any]:
    """Launch all drops, each when it knows of all others. Sent again it finishes what was cut off."""
    return await _answer(use, await use.campaigns.act(campaign_id, Verb.LAUNCH, operator.member_id), response)


@router.post("/campaigns/{campaign_id}/pause", responses={**_CAMPAIGN, **declared(*_STEERED)})
async def pause(
    campaign_id: OwnCampaign, use: ServicesDep, operator: OperatorDep, response: Response
) -> dict[str, Any]:
    """Stop giving out on all drops; tickets stay good."""
    return await _answer(use, await use.campaigns.act(campaign_id, Verb.PAUSE, operator.member_id), response)


@router.post("/campaigns/{campaign_id}/resume", responses={**_CAMPAIGN, **declared(*_STEERED)})
async def resume(
    campaign_id: OwnCampaign, use: ServicesDep, operator: OperatorDep, response: Response
) -> dict[str, Any]:
    """Go on giving out on all drops, also on one that was paused alone."""
    return await _answer(use, await use.campaigns.act(campaign_id, Verb.RESUME, operator.member_id), response)


@router.post("/campaigns/{campaign_id}/close", responses={**_CAMPAIGN, **declared(*_STEERED)})
async def close(
    campaign_id: OwnCampaign, use: ServicesDep, operator: OperatorDep, response: Response
) -> dict[str, Any]:
    """End all drops for good."""
    return await _answer(use, await use.campaigns.act(campaign_id, Verb.CLOSE, operator.member_id), response)


@router.post(
    "/campaigns/{campaign_id}/amendments",
    responses={
        200: shown(REVIEW, "With `dry_run`: what would change, and for whom. Without it: the campaign, amended"),
        **declared(*_STEERED, *BODY, "revision-required", "review-required", "campaign-invalid"),
    },
    openapi_extra=taken({"limits": {"in_all": 1}}),
)
async def amend(
    campaign_id: OwnCampaign,
    operator: OperatorDep,
    body: JsonBody,
    use: ServicesDep,
    response: Response,
    if_match: Annotated[str | None, Header(description='The ETag that you saw, such as "3"')] = None,
    *,
    dry_run: bool = False,
    review: Annotated[str | None, Query(max_length=64, description="The `review` of the dry run")] = None,
) -> dict[str, Any]:
    """Amend a campaign: the body holds the names to change, `drops` and `limits` whole. First with `?dry_run=true`."""
    seen = revision_seen(if_match)
    if not isinstance(body, dict):
        raise CampaignInvalid.of("amendment", [("", "expected names and values")])
    await _check_change(use, operator, campaign_id, body)
    if dry_run:
        return _reviewed(await use.campaigns.review(campaign_id, body, seen))
    return await _answer(use, await use.campaigns.amend(campaign_id, body, seen, review, operator.member_id), response)


@router.post(
    "/campaigns/{campaign_id}/copies",
    status_code=201,
    responses={
        201: shown({**CAMPAIGN, "id": "mid-autumn-2027", "status": "draft", "revision": 1}, "The copy, a draft"),
        **declared(
            *BOUNDED, *BODY, *_DOING, "no-such-campaign", "copy-invalid", "campaign-invalid", "id-invalid",
            "duplicate-campaign", "duplicate-drop",
        ),
    },
    openapi_extra=taken(
        {"id": "mid-autumn-2027", "opens_on": "2027-09-08"},
        {"id": {"type": "string"}, "opens_on": {"type": "string", "format": "date"}},
    ),
)  # fmt: skip
async def copy(
    campaign_id: OwnCampaign, operator: OperatorDep, body: JsonBody, use: ServicesDep, response: Response
) -> dict[str, Any]:
    """Copy a campaign to a new id: it opens on `opens_on`, and each of its times lies so many whole days off."""
    given = only(body, "id", "opens_on")
    new_id, opens_on = given.get("id"), given.get("opens_on")
    if not isinstance(new_id, str):
        raise CopyInvalid("id: say what the copy is called", field="id")
    made = await use.campaigns.copy(campaign_id, ids.name(new_id, "id"), _day(opens_on), operator.member_id)
    return await _answer(use, made, response)


_OUTLOOK: Responses = {200: shown(OUTLOOK, "Each drop, and every reason why it gives no ticket, or no claim, now")}


@router.get(
    "/campaigns/{campaign_id}/dry-run",
    responses={**_OUTLOOK, **declared(*BOUNDED, "no-such-campaign", "id-invalid", "store-unavailable", "not-ready")},
)
async def dry_run(
    campaign_id: OwnCampaign, member: str, request: Request, use: ServicesDep, operator: OperatorDep
) -> dict[str, Any]:
    """Would this member get a ticket, and if not, why? Nothing is written, no attempt is used.

    A member's attributes are those of their row; what only their identity provider says is not known here.
    """
    asked = ids.member_id(member)
    if operator.organisation is not None:
        await use.members.read(asked, operator.organisation)  # which refuses another's, and who is not known
    session = await use.members.completed(Session(asked, asked))
    campaign, found = await use.campaigns.dry_run(campaign_id, session, _figures(request, use), with_drafts=True)
    return _outlooks(campaign, session, found)


@router.get(
    "/me/campaigns/{campaign_id}",
    responses={**_OUTLOOK, **declared(*SIGNED_IN, "no-such-campaign", "store-unavailable", "not-ready")},
)
async def mine(campaign_id: str, request: Request, use: ServicesDep, session: SessionDep) -> dict[str, Any]:
    """What the session's own member can expect of each drop of a campaign at this moment."""
    campaign, found = await use.campaigns.dry_run(campaign_id, session, _figures(request, use), with_drafts=False)
    return _outlooks(campaign, session, found)


async def _check_change(use: ServicesDep, operator: Session, campaign_id: str, change: dict[str, Any]) -> None:
    """Refuse what the campaign may not become for this operator; what makes none is for the amendment to tell."""
    campaign = await use.campaigns.read(campaign_id)
    try:
        spec = changed(campaign.spec, change, draft=True, known_towns=use.settings.towns)
    except CampaignInvalid:
        return
    await scope.check_names(use, operator, spec)


def _figures(request: Request, use: ServicesDep) -> Callable[[str], Awaitable[LiveFigures]]:
    """The figures of a drop as all who look at it now share them."""

    async def found(drop_id: str) -> LiveFigures:
        figures: LiveFigures = await request.app.state.live.figures(use, drop_id)
        return figures

    return found


def _day(value: object) -> date:
    try:
        if isinstance(value, str):
            return date.fromisoformat(value)
    except ValueError:
        pass
    raise CopyInvalid(f"opens_on: {str(value)[:40]!r} is not a day: write it like 2027-09-08", field="opens_on")


async def _answer(use: ServicesDep, campaign: Campaign, response: Response) -> dict[str, Any]:
    response.headers["ETag"] = f'"{campaign.revision}"'
    standing = [
        {"drop_id": drop.id, "status": str(drop.status), "revision": drop.revision}
        for drop in await use.campaigns.drops(campaign)
    ]
    return {**_told(campaign), "standing": standing}


def _told(campaign: Campaign) -> dict[str, Any]:
    return {**campaign.spec.stated(), "status": str(campaign.status), "revision": campaign.revision}


def _reviewed(review: Review) -> dict[str, Any]:
    return {
        "review": review.token,
        "fields": [found._asdict() for found in review.differences],
        "limits": [
            {
                "limit": change.period.name.lower(),
                "before": change.before,
                "after": change.after,
                "counted_since": None if change.period is Period.IN_ALL else change.since,
                "persons_over": over.persons,
                "claims_of_theirs": over.claims,
                "units_over": over.units,
            }
            for change, over in review.limits
        ],
        "windows": review.windows,
        "eligibility": [
            {"drop_id": drop_id, "members_gaining": gaining, "members_losing": losing}
            for drop_id, gaining, losing in review.eligibility
        ],
        "drops_told": review.told,
    }


def _outlooks(campaign: Campaign, session: Session, found: list[Outlook]) -> dict[str, Any]:
    return {
        "campaign_id": campaign.id,
        "theme": campaign.spec.theme,
        "member_id": session.member_id,
        "drops": [_outlook(outlook) for outlook in found],
    }


def _outlook(outlook: Outlook) -> dict[str, Any]:
    reasons = []
    for stops, error in outlook.reasons:
        wait = {"retry_after_s": error.retry_after_s} if isinstance(error, Unavailable) else {}
        reasons.append({**error.facts, **wait, "code": error.code, "stops": stops, "detail": error.detail})
    return {
        "drop_id": outlook.drop.id,
        "title": outlook.drop.spec.title,
        "ticket": outlook.ticket,
        "claim": outlook.claim,
        "reasons": reasons,
        "gates": outlook.gates,
        "limits": outlook.limits,
        "left": outlook.left,
    }
