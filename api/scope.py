"""What an operator may see and act on: everything, or what is of their organisation and of those under it.

For those who are bounded there is one answer to what is another's and to what does not exist, 403
`not-your-organisation`, so that it does not tell the two apart. On routes that are anybody's they are like anybody:
a draft of another's is a drop that does not exist.
"""

from typing import Annotated

from fastapi import Depends

from api.deps import OperatorDep, Services, ServicesDep
from engine.campaigns.model import NoSuchCampaign
from engine.campaigns.spec import CampaignInvalid, CampaignSpec
from engine.drops.model import Drop, NoSuchDrop, Status
from engine.ids import ClaimId
from engine.members.model import Session
from engine.organisations.model import NotYourOrganisation
from engine.organisations.service import not_yours


async def shown(use: Services, drop_id: str, session: Session | None) -> Drop:
    """The drop as whoever asks may see it: a draft is shown to operators, each to those of its organisation."""
    is_operator = session is not None and session.role == "operator"
    drop = await use.drops.shown(drop_id, to_operator=is_operator)
    if drop.status is not Status.DRAFT or session is None:
        return drop
    if await use.organisations.covers(session.organisation, drop.spec.organisation):
        return drop
    return await use.drops.shown(drop_id, to_operator=False)  # which says that there is none


async def check_drop(use: Services, operator: Session, drop_id: str) -> None:
    """Raise `NotYourOrganisation` unless a drop is one of an operator's."""
    if operator.organisation is None:
        return
    what = f"drop {drop_id[:80]!r}"
    try:
        drop = await use.drops.read(drop_id)
    except NoSuchDrop:
        raise not_yours(operator.organisation, what) from None
    await use.organisations.check_own(operator.organisation, drop.spec.organisation, what)


async def own_drop(drop_id: str, use: ServicesDep, operator: OperatorDep) -> str:
    """The id of a drop that an operator may act on."""
    await check_drop(use, operator, drop_id)
    return drop_id


async def check_campaign(use: Services, operator: Session, campaign_id: str) -> None:
    """Raise `NotYourOrganisation` unless a campaign, with all drops in it, is an operator's."""
    if operator.organisation is None:
        return
    what = f"campaign {campaign_id[:80]!r}"
    try:
        spec = (await use.campaigns.read(campaign_id)).spec
    except NoSuchCampaign:
        raise not_yours(operator.organisation, what) from None
    for organisation in spec.organisations:
        await use.organisations.check_own(operator.organisation, organisation, what)


async def check_names(use: Services, operator: Session, spec: CampaignSpec) -> None:
    """Refuse a campaign with anything of another organisation's in it, and names that stand for nothing."""
    for organisation in spec.organisations:
        await use.organisations.check_own(operator.organisation, organisation, f"campaign of {organisation!r}")
    await use.organisations.check_known(spec.organisations, CampaignInvalid, "organisation")
    told = {spec.eligibility: "eligibility"}
    for index, drop in enumerate(spec.drops):
        told.setdefault(drop.eligibility, f"drops.{index}.eligibility")
    for eligibility, field in told.items():
        await use.members.check_named(eligibility, CampaignInvalid, field)


async def own_campaign(campaign_id: str, use: ServicesDep, operator: OperatorDep) -> str:
    """The id of a campaign that an operator may act on."""
    await check_campaign(use, operator, campaign_id)
    return campaign_id


async def own_draw(draw_id: str, use: ServicesDep, operator: OperatorDep) -> str:
    """The id of a draw that an operator may act on: it is its drop's."""
    await check_drop(use, operator, draw_id)
    return draw_id


async def own_claim(claim_id: str, use: ServicesDep, operator: OperatorDep) -> ClaimId:
    """The id of a claim on a drop that an operator may act on."""
    found = ClaimId.parse(claim_id)
    await check_drop(use, operator, found.drop_id)
    return found


async def city_operator(operator: OperatorDep) -> Session:
    """An operator who is not bounded: for what is of members everywhere."""
    if operator.organisation is not None:
        raise NotYourOrganisation(
            f"this is for operators of the whole city: you act for {operator.organisation!r}",
            organisation=operator.organisation,
        )
    return operator


OwnDrop = Annotated[str, Depends(own_drop)]
OwnCampaign = Annotated[str, Depends(own_campaign)]
OwnDraw = Annotated[str, Depends(own_draw)]
OwnClaim = Annotated[ClaimId, Depends(own_claim)]
CityDep = Annotated[Session, Depends(city_operator)]
