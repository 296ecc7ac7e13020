"""The ledger's side of campaigns: read one, list them, record an act, and count whom an amendment concerns."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, NamedTuple

from sqlalchemy import Row, and_, cast, func, literal, select, text
from sqlalchemy.dialects.postgresql import JSONB, JSONPATH, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.bounds import LEDGER_LOCK_TIMEOUT
from engine.campaigns.model import Campaign
from engine.campaigns.spec import CampaignSpec
from engine.drops.model import Status
from engine.ledger import actions, paging
from engine.ledger.actions import Action
from engine.ledger.schema import campaigns, claims, members
from engine.members.predicate import Predicate
from engine.members.selection import Named, selection


async def read(connection: AsyncConnection, campaign_id: str) -> Campaign | None:
    """A campaign, or None (primary key)."""
    row = (await connection.execute(select(campaigns).where(campaigns.c.id == campaign_id))).one_or_none()
    return None if row is None else _campaign(row)


async def held(connection: AsyncConnection, campaign_id: str) -> Campaign | None:
    """A campaign whose row is held, so that acts on it, and what they do to its drops, follow each other."""
    await connection.execute(text("select set_config('lock_timeout', :wait, true)"), {"wait": LEDGER_LOCK_TIMEOUT})
    query = select(campaigns).where(campaigns.c.id == campaign_id).with_for_update()
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else _campaign(row)


async def now(connection: AsyncConnection) -> datetime:
    """The ledger's time."""
    found: datetime = (await connection.execute(select(func.now()))).scalar_one()
    return found


async def listed(
    connection: AsyncConnection, after_id: str | None, limit: int, among: Sequence[str] | None = None
) -> list[Campaign]:
    """Campaigns in the order of their ids, from the one after `after_id` on; a page by primary key.

    Only those that are, with all their drops, some organisations', if given.
    """
    query = paging.page(campaigns, after_id, limit)
    if among is not None:
        spec = campaigns.c.spec
        of_drops = func.jsonb_path_query_array(spec, cast("$.drops[*].organisation", JSONPATH), type_=JSONB)
        query = query.where(
            func.jsonb_build_array(spec["organisation"], type_=JSONB)
            .op("||")(of_drops)
            .contained_by(literal(list(among), JSONB))
        )
    return [_campaign(row) for row in await connection.execute(query)]


async def record(
    connection: AsyncConnection,
    before: Campaign | None,
    after: Campaign,
    verb: str,
    actor: str,
    change: Mapping[str, Any],
) -> bool:
    """Write what an act made of a campaign, and the act; false where another was created under the id meanwhile."""
    at = await now(connection)
    row = {"id": after.id, "spec": after.spec.stated(), "status": str(after.status), "revision": after.revision}
    statement = insert(campaigns).values(row | {"updated_at": at})
    if before is None:
        statement = statement.on_conflict_do_nothing()
    else:
        statement = statement.on_conflict_do_update(index_elements=["id"], set_=row | {"updated_at": at})
    if (await connection.execute(statement)).rowcount == 0:
        return False
    told = None if before is None else _state(before)
    act = Action(
        f"campaign:{after.id}", verb, actor, at=at, applied_at=at, change=change, before=told, after=_state(after)
    )
    await actions.append(connection, [act])
    return True


class Over(NamedTuple):
    """Who holds more than a limit: persons, their claims, and the units beyond it."""

    persons: int
    claims: int
    units: int


async def over(
    connection: AsyncConnection, drop_ids: Sequence[str], limit: int, since: datetime, till: datetime | None
) -> Over:
    """Who holds more than `limit` units of some drops, claimed from `since` on, before `till` (primary key)."""
    units = func.sum(claims.c.quantity)
    is_then = claims.c.claimed_at >= since
    if till is not None:
        is_then &= claims.c.claimed_at < till
    holders = (
        select(func.count().label("claims"), (units - limit).label("beyond"))
        .where(claims.c.drop_id.in_(drop_ids), claims.c.released_at.is_(None), is_then)
        .group_by(claims.c.subject)
        .having(units > limit)
        .subquery()
    )
    sums = (func.coalesce(func.sum(holders.c[name]), 0) for name in ("claims", "beyond"))
    row = (await connection.execute(select(func.count(), *sums).select_from(holders))).one()
    return Over(*map(int, row))


async def claims_on(connection: AsyncConnection, drop_ids: Sequence[str]) -> dict[str, int]:
    """How many claims there are on each of some drops that were not given back (primary key)."""
    rows = await connection.execute(
        select(claims.c.drop_id, func.count().label("count"))
        .where(claims.c.drop_id.in_(drop_ids), claims.c.released_at.is_(None))
        .group_by(claims.c.drop_id)
    )
    return {drop_id: int(count) for drop_id, count in rows}


async def eligible_change(
    connection: AsyncConnection, before: Predicate, after: Predicate, today: date, named: Named
) -> tuple[int, int]:
    """How many members that the ledger knows are eligible after and were not before, and the reverse (one scan)."""
    old, new = (func.coalesce(selection(predicate, today, named), False) for predicate in (before, after))
    row = await connection.execute(
        select(func.count().filter(and_(new, ~old)), func.count().filter(and_(old, ~new))).select_from(members)
    )
    gained, lost = row.one()
    return gained, lost


def _state(campaign: Campaign) -> dict[str, Any]:
    return {"status": str(campaign.status), "revision": campaign.revision, "spec": campaign.spec.stated()}


def _campaign(row: Row[Any]) -> Campaign:
    return Campaign(CampaignSpec.model_validate(row.spec), Status(row.status), row.revision)
