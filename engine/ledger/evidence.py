"""What the ledger alone says of a drop's history: when it gave nothing out, what was fenced, what could not be read."""

from dataclasses import dataclass, field, replace

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.claims import history
from engine.claims.history import RecordedClaim
from engine.claims.wire import StoredClaim
from engine.drops.model import Status, to_ms
from engine.ids import ClaimId, DropId
from engine.ledger import actions
from engine.ledger.actions import Action
from engine.ledger.promises import Fact

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


@dataclass(slots=True)
class Evidence:
    """See `engine.ledger.promises.History` for what each is."""

    limits: list[tuple[int, int, int]] = field(default_factory=list)
    shut: list[tuple[int, int]] = field(default_factory=list)
    skipped: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    fenced: list[ClaimId] = field(default_factory=list)
    buried: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)


async def gather(connection: AsyncConnection, drop_id: str, partitions: int) -> Evidence:
    """Everything that the ledger knows beside the claims themselves."""
    links = await actions.chain(connection)
    known = await of_drop(connection, drop_id, partitions)
    return replace(known, altered=actions.broken_links(links))


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
