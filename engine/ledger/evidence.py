"""What the ledger alone says of a drop's history: when it gave nothing out, what was fenced, what could not be read."""

from dataclasses import dataclass, field, replace

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.claims import history
from engine.claims.decide import Allotted
from engine.claims.history import RecordedClaim
from engine.claims.wire import StoredClaim
from engine.drops.membership import Period
from engine.drops.model import Drop, Status, split, to_ms
from engine.ids import ClaimId, DropId
from engine.ledger import actions
from engine.ledger.actions import Action
from engine.ledger.facts import Fact

_FOR_EVER_MS = 2**53
_NAMED_MAX = 100
# Claims that were decided under an epoch, after a rebuild had begun the next one.
_FENCED = """
    select c.drop_id, c.partition, c.serial from claims c join operator_actions a on a.drop_id = c.drop_id
    where c.drop_id = :drop and a.verb = 'rebuild'
        and c.epoch < (a.after->>'epoch')::int and c.claimed_at > a.applied_at
    order by c.partition, c.serial limit :limit
"""
_BURIED = """
    select entry_id, error from dead_letters where coalesce(fields->>'drop', :drop) = :drop order by id limit :limit
"""
# Claims past a limit of the campaign that their drop belonged to at their moment. Written without what decides (the
# store gets periods that were worked out beforehand, engine/drops/membership.py): PostgreSQL has time zones of its own.
# `held` says which limits, drops and zone held from when to when; `mine` are the claims of those who could be over one.
_OVER_CAMPAIGN = """
    with named as materialized (
        select distinct jsonb_array_elements_text(after->'spec'->'campaign'->'drops') as drop_id
        from operator_actions where drop_id = :drop and revision is not null
    ), held as materialized (
        select at as since, lead(applied_at, 1, 'infinity') over (order by revision) as until,
            after->'spec'->'campaign' as campaign
        from operator_actions where drop_id = :drop and revision is not null
    ), mine as materialized (
        select drop_id, partition, serial, subject, quantity, claimed_at,
            sum(quantity) over (partition by subject) as in_all
        from claims where drop_id in (select drop_id from named) and released_at is null
    ), judged as (
        select c.partition, c.serial, c.subject, periods.name,
            (held.campaign->'limits'->>periods.name)::int as most, sum(k.quantity) as units
        from mine c
        join held on c.claimed_at between held.since and held.until
        cross join (values ('in_all', null), ('per_day', 'day'), ('per_week', 'week'), ('per_month', 'month'))
            as periods (name, unit)
        left join mine k on k.subject = c.subject and held.campaign->'drops' ? k.drop_id
            and (k.claimed_at, k.drop_id, k.partition, k.serial) <= (c.claimed_at, c.drop_id, c.partition, c.serial)
            and (periods.unit is null
                or date_trunc(periods.unit, k.claimed_at at time zone (held.campaign->>'time_zone'))
                = date_trunc(periods.unit, c.claimed_at at time zone (held.campaign->>'time_zone')))
        where c.drop_id = :drop and c.in_all > (
            select min(most.value::int) from held, jsonb_each_text(held.campaign->'limits') most
        )
        group by c.partition, c.serial, c.subject, held.since, held.until, most, periods.name
    )
    select partition, serial, subject, name, max(units) as units, max(most) as most
    from judged group by partition, serial, subject, name
    having bool_and(coalesce(units > most, false)) order by partition, serial, name limit :limit
"""


@dataclass(slots=True)
class Evidence:
    """See `engine.ledger.promises.History` for what each is."""

    limits: list[tuple[int, int, int]] = field(default_factory=list)
    shut: list[tuple[int, int]] = field(default_factory=list)
    skipped: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    fenced: list[ClaimId] = field(default_factory=list)
    buried: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    over_campaign: list[str] = field(default_factory=list)


async def gather(connection: AsyncConnection, drop_id: str, partitions: int) -> Evidence:
    """Everything that the ledger knows beside the claims themselves."""
    links = await actions.chain(connection)
    known = await of_drop(connection, drop_id, partitions)
    over = await over_campaign(connection, drop_id)
    return replace(known, altered=actions.broken_links(links), over_campaign=over)


async def of_drop(connection: AsyncConnection, drop_id: str, partitions: int) -> Evidence:
    """What it knows of one drop, without a look at the chain of all acts."""
    acts = await actions.on_drop(connection, drop_id)
    named = {"drop": drop_id, "limit": _NAMED_MAX}
    fenced = await connection.execute(text(_FENCED), named)
    buried = await connection.execute(text(_BURIED), named | {"drop": drop_id.encode().hex()})
    return Evidence(
        limits=limits(acts),
        shut=shut(acts),
        skipped={p: await history.skipped(connection, drop_id, p) for p in range(partitions)},
        fenced=[ClaimId(DropId(row.drop_id), row.partition, row.serial) for row in fenced],
        buried=[f"{row.entry_id}: {row.error}" for row in buried],
    )


async def over_campaign(connection: AsyncConnection, drop_id: str) -> list[str]:
    """The claims past a limit over the campaign's drops that held at their moment; of several, the highest counts.

    A look at all claims of the family: half a second a million.
    """
    rows = await connection.execute(text(_OVER_CAMPAIGN), {"drop": drop_id, "limit": _NAMED_MAX})
    return [
        f"{drop_id}.{row.partition}.{row.serial}: {row.subject} holds {row.units} units"
        f" {Period[row.name.upper()].words}, the campaign's limit is {row.most}"
        for row in rows
    ]


def limits(acts: list[Action]) -> list[tuple[int, int, int]]:
    """The limits of a drop (from ms, to ms, limit), by the acts on it in order: each holds from when it was asked for
    until the next act was done, for the partitions take an act one after the other. Pure."""
    changes = [act for act in acts if act.revision is not None]
    if not changes:
        return []  # acts from before they were chained
    ends = [to_ms(act.applied_at) for act in changes[1:]]
    return [
        (to_ms(act.at), end, int(act.after["spec"]["limit_per_member"]))
        for act, end in zip(changes, [*ends, _FOR_EVER_MS], strict=True)
    ]


def releases(drop: Drop, partitions: int = 1, partition: int = 0) -> list[tuple[int, int, int]]:
    """The waves of a drop (at ms, item, quantity), in one partition its share of them."""
    return [
        (to_ms(wave.at), drop.item_index(item) or 0, split(quantity, partitions, partition))
        for wave in drop.spec.releases()
        for item, quantity in wave.stock.items()
    ]


def allotted(drop: Drop, partitions: int = 1, partition: int = 0) -> list[Allotted]:
    """What of a drop is in reserve for towns, in one partition its share of it."""
    return [
        Allotted(
            drop.item_index(part.item) or 0, part.number, split(part.stock, partitions, partition), to_ms(part.until)
        )
        for part in drop.spec.allotments
    ]


def stored_fact(drop_id: DropId, partition: int, subject: str, claim: StoredClaim) -> Fact:
    """What the store says of a claim."""
    claim_id = ClaimId(drop_id, partition, claim.serial)
    nonce, _, item, quantity, is_released, at_ms, town, slogan = claim
    return Fact(claim_id, subject, nonce, item, quantity, at_ms, town, slogan, is_released)


def recorded_fact(row: RecordedClaim) -> Fact:
    """What the ledger says of a claim."""
    is_released = row.released_at is not None
    at_ms = to_ms(row.claimed_at)
    return Fact(row.claim_id, row.subject, row.nonce, row.item, row.quantity, at_ms, row.town, row.slogan, is_released)


def shut(acts: list[Action]) -> list[tuple[int, int]]:
    """The times (from ms, to ms) in which a drop was not launched, by the acts on it in order. Pure.

    One that began while the store's clock was set back is left out: by their dates claims from before would lie in it.
    Where acts were given up nobody knows what the drop was, from the last act before to the next one.
    """
    found: list[tuple[int, int]] = []
    since: int | None = None
    last_ms = latest_ms = 0
    for act in acts:
        if act.revision is None:
            continue  # a release
        applied_ms = to_ms(act.applied_at)
        is_set_back, latest_ms = applied_ms < latest_ms, max(applied_ms, latest_ms)
        is_unknown = act.verb == actions.FORGET_ACTS
        if is_unknown or act.after["status"] == Status.LAUNCHED:
            if since is not None:
                found.append((since, last_ms if is_unknown else applied_ms))
            since = None
        elif since is None and not is_set_back:
            since = applied_ms
        last_ms = applied_ms
    return found if since is None else [*found, (since, _FOR_EVER_MS)]
