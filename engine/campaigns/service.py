"""What an operator does to a campaign, in order: the act is written down, then done on its drops, one by one.

An act that was cut off is finished by the same command: what is left follows from what the ledger has (model.py). Acts
on one campaign follow each other, over all processes: whoever does one holds the campaign's row meanwhile.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from engine import ids
from engine.bounds import LEDGER_LOCK_TIMEOUT
from engine.campaigns import dryrun, review, store
from engine.campaigns.dryrun import Asker, Outlook
from engine.campaigns.model import (
    Campaign,
    DuplicateCampaign,
    NoSuchCampaign,
    Step,
    acted,
    amended,
    check,
    plan,
)
from engine.campaigns.review import Difference, LimitChange
from engine.campaigns.spec import CampaignSpec, changed, copied
from engine.campaigns.store import Over
from engine.claims import keys
from engine.claims.model import StoreUnavailable
from engine.claims.wire import StoredClaim, unpack_stored
from engine.drops.figures import LiveFigures
from engine.drops.model import Drop, NoSuchDrop, Status, Verb
from engine.drops.service import Drops
from engine.ids import partition_of
from engine.ledger import migrations
from engine.members.model import Session
from engine.members.predicate import Predicate
from engine.members.service import Members
from engine.towns import Towns

FiguresOf = Callable[[str], Awaitable[LiveFigures]]


@dataclass(frozen=True, slots=True)
class Review:
    """What an amendment would change, and for whom; `token` is what the amendment itself must bring."""

    token: str
    differences: list[Difference]
    limits: list[tuple[LimitChange, Over]]
    windows: list[dict[str, Any]]
    eligibility: list[tuple[str, int, int]]  # drop, members who gain it, members who lose it
    told: list[dict[str, Any]]


class Campaigns:
    """The campaign service of one process."""

    def __init__(
        self,
        redis: "Redis",
        ledger: AsyncEngine,
        drops: Drops,
        members: Members,
        partitions: int,
        towns: Towns,
        zone: ZoneInfo,
    ) -> None:
        self._redis = redis
        self._ledger = ledger
        self._drops = drops
        self._members = members
        self._partitions = partitions
        self._towns = towns
        self._zone = zone  # says which day it is, for birthdays
        self._turn = asyncio.Lock()  # an act holds a connection and needs others: one act at a time leaves enough

    async def create(self, spec: CampaignSpec, actor: str, copied_from: str | None = None) -> Campaign:
        """A new campaign and its drops, all as drafts. The same definition again finishes what was cut off.

        Raises `DuplicateCampaign`, and `DuplicateDrop` where somebody else's drop has one of the ids.
        """
        new = Campaign(spec, Status.DRAFT, revision=1)
        plan(new, Verb.CREATE, await self._drops_of(spec))  # before anything is written
        change = {"spec": spec.stated()} | ({"copied_from": copied_from} if copied_from else {})
        async with self._ledger.begin() as connection:
            await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
            is_new = await store.record(connection, None, new, str(Verb.CREATE), actor, change)
        if not is_new and await self.read(spec.id) != new:
            raise DuplicateCampaign(f"there is a campaign {spec.id!r} already: choose another id", campaign_id=spec.id)
        return await self._finish(spec.id, Verb.CREATE, actor)

    async def act(self, campaign_id: str, verb: Verb, actor: str) -> Campaign:
        """Launch, pause, resume or close a campaign with all its drops; again, where some of them are not there yet."""
        async with self._ledger.begin() as connection:
            await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
            campaign = _found(await store.held(connection, _checked(campaign_id)), campaign_id)
            after = acted(campaign, verb)
            if after is not campaign:
                await store.record(connection, campaign, after, str(verb), actor, {})
        return await self._finish(campaign_id, verb, actor)

    async def amend(
        self, campaign_id: str, change: Mapping[str, Any], expected_revision: int, token: str | None, actor: str
    ) -> Campaign:
        """Do an amendment that was reviewed; the same again finishes what was cut off.

        Raises `ReviewRequired`, `StaleRevision`, `WrongStatus`, `CampaignInvalid`, and what a drop says to its part.
        """
        async with self._turn, self._ledger.begin() as connection:
            await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
            campaign = _found(await store.held(connection, _checked(campaign_id)), campaign_id)
            review.check(token, campaign_id, expected_revision, change)
            after = self._amended(campaign, change, expected_revision)
            if after is not campaign:
                await self._steps(after, await store.now(connection))
                await store.record(connection, campaign, after, str(Verb.AMEND), actor, {"spec": dict(change)})
        return await self._finish(campaign_id, Verb.AMEND, actor)

    async def review(self, campaign_id: str, change: Mapping[str, Any], expected_revision: int) -> Review:
        """What an amendment would change, and for whom; it raises what the amendment would raise, and does nothing."""
        async with self._ledger.connect() as connection:
            campaign = _found(await store.read(connection, _checked(campaign_id)), campaign_id)
            amending, now = self._amended(campaign, change, expected_revision), await store.now(connection)
            steps, after = await self._steps(amending, now), amending.spec
            claims = await store.claims_on(connection, [drop.id for drop in after.drops])
            limits = [
                (limit, await store.over(connection, after.counting, limit.after, limit.since, limit.till))
                for limit in review.limit_changes(campaign.spec, after, now)
            ]
            eligibility = await self._eligibility_changes(
                connection, campaign.spec, after, now.astimezone(self._zone).date()
            )
        return Review(
            token=review.token(campaign_id, expected_revision, change),
            differences=review.differences(campaign.spec, after),
            limits=limits,
            windows=review.window_changes(campaign, after, claims),
            eligibility=eligibility,
            told=review.told(steps),
        )

    async def copy(self, campaign_id: str, new_id: str, opens_on: date, actor: str) -> Campaign:
        """The same campaign under another id and on other days, as a draft."""
        campaign = await self.read(campaign_id)
        return await self.create(copied(campaign.spec, new_id, opens_on), actor, copied_from=campaign_id)

    async def read(self, campaign_id: str) -> Campaign:
        """The campaign as the ledger has it; raises `NoSuchCampaign`."""
        async with self._ledger.connect() as connection:
            return _found(await store.read(connection, _checked(campaign_id)), campaign_id)

    async def listed(self, after_id: str | None, limit: int, among: Sequence[str] | None = None) -> list[Campaign]:
        """Campaigns by id, from the one after `after_id` on; only those of some organisations, if given."""
        async with self._ledger.connect() as connection:
            return await store.listed(connection, after_id, limit, among)

    async def drops(self, campaign: Campaign) -> list[Drop]:
        """The campaign's drops that there are, in its own order."""
        found = await self._drops_of(campaign.spec)
        return [found[drop.id] for drop in campaign.spec.drops if drop.id in found]

    async def dry_run(
        self, campaign_id: str, session: Session, figures_of: FiguresOf, *, with_drafts: bool
    ) -> tuple[Campaign, list[Outlook]]:
        """What the session's member can expect of each drop at this moment; a draft is there for operators alone."""
        campaign = await self.read(campaign_id)
        if campaign.status is Status.DRAFT and not with_drafts:
            raise _no_such(campaign_id)
        drops = [drop for drop in await self._known(campaign) if with_drafts or drop.status is not Status.DRAFT]
        now, held = await self._held(session.subject, [drop.id for drop in drops])
        found = []
        for drop in drops:
            asker = Asker(session, await self._members.known(session, drop.spec.eligibility), self._zone)
            found.append(dryrun.outlook(drop, asker, held, await figures_of(drop.id), now))
        return campaign, found

    async def _known(self, campaign: Campaign) -> list[Drop]:
        """As `drops`, but as they were within the last second: members ask this in crowds."""
        found = []
        for drop in campaign.spec.drops:
            with suppress(NoSuchDrop):
                found.append(await self._drops.get(drop.id))
        return found

    async def _held(self, subject: str, drop_ids: Sequence[str]) -> tuple[int, dict[str, list[StoredClaim]]]:
        """The store's time in ms, and what it has of a subject's claims on some drops: by these it decides."""
        partition = partition_of(subject.encode(), self._partitions)
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.time()
            for drop_id in drop_ids:
                pipeline.hget(keys.claims(partition, drop_id), subject)
            try:
                (now_s, now_us), *packed = await pipeline.execute()
            except (RedisError, OSError) as error:
                raise StoreUnavailable("the store cannot be reached: try again") from error
        held = {drop_id: unpack_stored(value or b"") for drop_id, value in zip(drop_ids, packed, strict=True)}
        return now_s * 1000 + now_us // 1000, held

    def _amended(self, campaign: Campaign, change: Mapping[str, Any], expected_revision: int) -> Campaign:
        is_draft = campaign.status is Status.DRAFT
        spec = changed(campaign.spec, change, draft=is_draft, known_towns=self._towns)
        return amended(campaign, spec, expected_revision)

    async def _steps(self, after: Campaign, now: datetime) -> list[Step]:
        """What an amendment has to do; raises what a drop would say to it, before anything is written."""
        drops = await self._drops_of(after.spec)
        steps = plan(after, Verb.AMEND, drops)
        check(steps, drops, now)
        return steps

    async def _finish(self, campaign_id: str, verb: Verb, actor: str) -> Campaign:
        """Do on the drops what is left to do of the campaign's last act."""
        async with self._turn, self._ledger.begin() as connection:
            campaign = _found(await store.held(connection, campaign_id), campaign_id)
            for step in plan(campaign, verb, await self._drops_of(campaign.spec)):
                await self._do(step, campaign, actor)
        return campaign

    async def _do(self, step: Step, campaign: Campaign, actor: str) -> None:
        by, drop_id = step.actor(actor, campaign), step.drop.id
        match step.verb:
            case Verb.CREATE:
                await self._drops.create(step.drop, by)
            case Verb.AMEND:
                await self._drops.amend(drop_id, step.change, step.revision, by)
            case Verb.LAUNCH:
                await self._drops.launch(drop_id, by)
            case Verb.PAUSE:
                await self._drops.pause(drop_id, by)
            case Verb.RESUME:
                await self._drops.resume(drop_id, by)
            case _:
                await self._drops.close(drop_id, by)

    async def _drops_of(self, spec: CampaignSpec) -> dict[str, Drop]:
        return await self._drops.read_all([drop.id for drop in spec.drops])

    async def _eligibility_changes(
        self, connection: AsyncConnection, before: CampaignSpec, after: CampaignSpec, today: date
    ) -> list[tuple[str, int, int]]:
        """Members who gain and who lose each drop whose eligibility changes. What drops share is counted once."""
        counted: list[tuple[Predicate, Predicate, tuple[int, int]]] = []
        found = []
        for drop in after.drops:
            old = before.drop(drop.id)
            if old is None or old.eligibility == drop.eligibility:
                continue
            pair = old.eligibility, drop.eligibility
            known = next((change for *of, change in counted if of == [*pair]), None)
            if known is None:
                named = await self._members.named(*pair)
                known = await store.eligible_change(connection, *pair, today, named)
                counted.append((*pair, known))
            found.append((drop.id, *known))
        return found


def _checked(campaign_id: str) -> str:
    """Ask the ledger only for what can be there: PostgreSQL refuses some texts, such as one with a zero byte."""
    if not ids.is_name(campaign_id):
        raise _no_such(campaign_id)
    return campaign_id


def _found(campaign: Campaign | None, campaign_id: str) -> Campaign:
    if campaign is None:
        raise _no_such(campaign_id)
    return campaign


def _no_such(campaign_id: str) -> NoSuchCampaign:
    return NoSuchCampaign(f"there is no campaign {campaign_id[:80]!r}", campaign_id=campaign_id[:80])
